//! Keys as they are written in the command table.

use std::collections::HashMap;
use std::fmt;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Action, COMMANDS};
use crate::theme::Glyphs;

/// A key with its modifiers. Shift is part of a character and so is left out for those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    code: KeyCode,
    modifiers: KeyModifiers,
}

/// Names of the keys that are no characters.
const NAMES: &[(&str, KeyCode)] = &[
    ("up", KeyCode::Up),
    ("down", KeyCode::Down),
    ("left", KeyCode::Left),
    ("right", KeyCode::Right),
    ("pageup", KeyCode::PageUp),
    ("pagedown", KeyCode::PageDown),
    ("home", KeyCode::Home),
    ("end", KeyCode::End),
    ("tab", KeyCode::Tab),
    ("backtab", KeyCode::BackTab),
    ("enter", KeyCode::Enter),
    ("esc", KeyCode::Esc),
    ("space", KeyCode::Char(' ')),
    ("f1", KeyCode::F(1)),
    ("f2", KeyCode::F(2)),
    ("f5", KeyCode::F(5)),
];

impl Key {
    /// Reads `ctrl-r`, `tab`, `?`, `A`.
    pub fn parse(text: &str) -> Option<Self> {
        let (modifiers, rest) = match text.strip_prefix("ctrl-") {
            Some(rest) => (KeyModifiers::CONTROL, rest),
            None => (KeyModifiers::NONE, text),
        };
        if let Some((_, code)) = NAMES.iter().find(|(name, _)| *name == rest) {
            return Some(Self { code: *code, modifiers });
        }
        let mut characters = rest.chars();
        match (characters.next(), characters.next()) {
            (Some(ch), None) => Some(Self { code: KeyCode::Char(ch), modifiers }),
            _ => None,
        }
    }

    /// The digit of a digit key.
    pub const fn digit(self) -> Option<usize> {
        match self.code {
            KeyCode::Char(ch @ '0'..='9') if self.modifiers.is_empty() => Some(ch as usize - '0' as usize),
            _ => None,
        }
    }

    /// How it is shown, with arrows where the terminal has them.
    pub fn label(self, glyphs: &Glyphs) -> String {
        let arrow = |unicode: &'static str, ascii: &'static str| if glyphs.ascii { ascii } else { unicode };
        let name = match self.code {
            KeyCode::Up => arrow("↑", "up"),
            KeyCode::Down => arrow("↓", "down"),
            KeyCode::Left => arrow("←", "left"),
            KeyCode::Right => arrow("→", "right"),
            _ => return self.to_string(),
        };
        name.to_owned()
    }
}

impl From<KeyEvent> for Key {
    fn from(event: KeyEvent) -> Self {
        let mut modifiers = event.modifiers & (KeyModifiers::CONTROL | KeyModifiers::ALT);
        let code = match event.code {
            // Some terminals report Ctrl-letters in upper case.
            KeyCode::Char(ch) if modifiers.contains(KeyModifiers::CONTROL) => {
                KeyCode::Char(ch.to_ascii_lowercase())
            }
            KeyCode::Tab if event.modifiers.contains(KeyModifiers::SHIFT) => KeyCode::BackTab,
            code => code,
        };
        if code == KeyCode::BackTab {
            modifiers = KeyModifiers::NONE;
        }
        Self { code, modifiers }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.modifiers.contains(KeyModifiers::CONTROL) {
            f.write_str("Ctrl-")?;
        }
        match self.code {
            KeyCode::Char(' ') => f.write_str("Space"),
            KeyCode::Char(ch) if self.modifiers.contains(KeyModifiers::CONTROL) => {
                write!(f, "{}", ch.to_ascii_uppercase())
            }
            KeyCode::Char(ch) => write!(f, "{ch}"),
            KeyCode::F(number) => write!(f, "F{number}"),
            KeyCode::BackTab => f.write_str("Shift-Tab"),
            KeyCode::PageUp => f.write_str("PgUp"),
            KeyCode::PageDown => f.write_str("PgDn"),
            code => write!(f, "{code:?}"),
        }
    }
}

/// From keys to actions.
#[derive(Debug, Clone)]
pub struct Keymap {
    actions: HashMap<Key, Action>,
}

impl Default for Keymap {
    fn default() -> Self {
        let pairs = COMMANDS.iter().flat_map(|command| {
            command.keys.iter().filter_map(|key| Some((Key::parse(key)?, command.action)))
        });
        Self { actions: pairs.collect() }
    }
}

impl Keymap {
    /// What a key does.
    pub fn action(&self, key: Key) -> Option<Action> {
        self.actions.get(&key).copied()
    }
}
