//! Keys while something lies over the panes.

use std::sync::Arc;

use bitloupe_quant::session::messages::{Job, Request};
use crossterm::event::{Event as TerminalEvent, KeyCode, KeyEvent, KeyModifiers};
use tui_input::Input;
use tui_input::backend::crossterm::EventHandler;

use super::overlay::{Finder, Overlay};
use super::{App, Effect, Level};
use crate::command::{Action, COMMANDS};
use crate::view::bits_offered;

/// What a key does to the innermost overlay.
pub(super) enum Outcome {
    /// It stays.
    Keep,
    /// It closes.
    Close,
    /// It closes and a command runs.
    Run(Action),
    /// It stays, below the one that it has opened.
    Under,
}

impl App {
    /// Gives a key to the innermost overlay.
    pub(super) fn overlay_key(&mut self, key: KeyEvent) -> Vec<Effect> {
        let Some(mut overlay) = self.overlays.pop() else { return Vec::new() };
        let mut effects = Vec::new();
        let outcome = match &mut overlay {
            Overlay::Help(finder) | Overlay::Palette(finder) => finder_key(finder, key),
            Overlay::Bits(cursor) => self.bits_key(cursor, key, &mut effects),
            Overlay::Presets(cursor) => self.presets_key(cursor, key, &mut effects),
            Overlay::Methods(form) => self.methods_key(form, key, &mut effects),
            Overlay::Snapshots(cursor) => self.snapshots_key(cursor, key, &mut effects),
            Overlay::Name { input, of } => self.name_key(input, of, key, &mut effects),
            Overlay::Compare(cursor) => self.compare_key(cursor, key, &mut effects),
            Overlay::Siblings(cursor) => self.siblings_key(cursor, key, &mut effects),
            Overlay::Diff { with, cursor } => self.diff_key(with, cursor, key, &mut effects),
            Overlay::Front { cursor, before } => {
                let before = Arc::clone(before);
                self.front_key(cursor, &before, key, &mut effects)
            }
            Overlay::Budget(input) => self.budget_key(input, key, &mut effects),
            Overlay::Rewrites(cursor) => self.rewrites_key(cursor, key, &mut effects),
            Overlay::Filter { input, before } => self.filter_key(input, before, key, &mut effects),
            Overlay::Sentence(input) => self.sentence_key(input, key, &mut effects),
            Overlay::ConfirmQuit => self.quit_key(key, &mut effects),
            Overlay::Replace { request, .. } => self.replace_key(request, key, &mut effects),
            Overlay::Messages(scroll) => messages_key(scroll, key, self.notes.len()),
        };
        match outcome {
            Outcome::Keep => self.overlays.push(overlay),
            Outcome::Under => self.overlays.insert(self.overlays.len().saturating_sub(1), overlay),
            Outcome::Close => {}
            Outcome::Run(action) => effects.extend(self.act(action, None)),
        }
        effects
    }

    fn bits_key(&mut self, cursor: &mut usize, key: KeyEvent, effects: &mut Vec<Effect>) -> Outcome {
        let offered = bits_offered(self);
        let take = match key.code {
            KeyCode::Char('f') => offered.iter().position(|bits| bits.is_float()),
            KeyCode::Char('1') => offered.iter().position(|bits| bits.get() == Some(16)),
            KeyCode::Char(digit @ '2'..='9') => {
                offered.iter().position(|bits| bits.get() == Some(digit as u8 - b'0'))
            }
            KeyCode::Enter => Some(*cursor),
            _ => None,
        };
        if let Some(bits) = take.and_then(|place| offered.get(place)) {
            effects.extend(self.set_bits(*bits));
            return Outcome::Close;
        }
        list_key(cursor, key, offered.len())
    }

    fn presets_key(&mut self, cursor: &mut usize, key: KeyEvent, effects: &mut Vec<Effect>) -> Outcome {
        let Some(model) = self.model.clone() else { return Outcome::Close };
        let digit = match key.code {
            KeyCode::Char(digit @ '1'..='9') => Some(digit as usize - '1' as usize),
            KeyCode::Enter => Some(*cursor),
            _ => None,
        };
        if let Some((name, plan)) = digit.and_then(|place| model.presets.get(place)) {
            effects.extend(self.take_preset(name, plan));
            return Outcome::Close;
        }
        list_key(cursor, key, model.presets.len())
    }

    fn filter_key(
        &mut self,
        input: &mut Input,
        before: &str,
        key: KeyEvent,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        match key.code {
            KeyCode::Enter => return Outcome::Close,
            KeyCode::Esc => {
                before.clone_into(&mut self.layers.filter);
                self.rebuild_layers();
                effects.extend(self.ask_site());
                return Outcome::Close;
            }
            KeyCode::Up | KeyCode::Down => {
                self.layers.step(if key.code == KeyCode::Up { -1 } else { 1 });
            }
            _ => {
                edit(input, key);
                input.value().clone_into(&mut self.layers.filter);
                self.rebuild_layers();
            }
        }
        effects.extend(self.ask_site());
        Outcome::Keep
    }

    fn sentence_key(&mut self, input: &mut Input, key: KeyEvent, effects: &mut Vec<Effect>) -> Outcome {
        match key.code {
            KeyCode::Esc => Outcome::Close,
            KeyCode::Enter => {
                let text = input.value().trim().to_owned();
                effects.extend(self.take_sentence(text));
                Outcome::Close
            }
            _ => {
                edit(input, key);
                Outcome::Keep
            }
        }
    }

    fn quit_key(&mut self, key: KeyEvent, effects: &mut Vec<Effect>) -> Outcome {
        match key.code {
            KeyCode::Char('y' | 'q') => effects.push(Effect::Quit),
            KeyCode::Char('s') => {
                self.leaving = true;
                effects.extend(self.save());
            }
            KeyCode::Char('n') | KeyCode::Esc => {}
            _ => return Outcome::Keep,
        }
        Outcome::Close
    }

    fn replace_key(&mut self, request: &Request, key: KeyEvent, effects: &mut Vec<Effect>) -> Outcome {
        let save = matches!(request, Request::Save { .. });
        match key.code {
            KeyCode::Char('y') => {
                self.jobs.start(if save { Job::Save } else { Job::Export });
                if save {
                    self.plan.mark_saving();
                }
                effects.push(Effect::Send(request.clone()));
            }
            KeyCode::Char('n' | 'q') | KeyCode::Esc => {
                self.leaving = false;
                let option = if save { "--plan" } else { "--export" };
                let text = format!("nothing was written; start with {option} to name another place");
                self.note(Level::Info, text);
            }
            _ => return Outcome::Keep,
        }
        Outcome::Close
    }

    /// Gives pasted text to the innermost text field.
    pub(super) fn paste(&mut self, text: &str) -> Vec<Effect> {
        let clean: String = text.chars().map(|ch| if ch.is_control() { ' ' } else { ch }).collect();
        let joined = |input: &Input| {
            let (head, tail): (String, String) = (
                input.value().chars().take(input.cursor()).collect(),
                input.value().chars().skip(input.cursor()).collect(),
            );
            let cursor = head.chars().count() + clean.chars().count();
            Input::new(format!("{head}{clean}{tail}")).with_cursor(cursor)
        };
        match self.overlays.last_mut() {
            Some(Overlay::Help(finder) | Overlay::Palette(finder)) => {
                finder.input = joined(&finder.input);
                finder.search();
            }
            Some(Overlay::Sentence(input) | Overlay::Budget(input) | Overlay::Name { input, .. }) => {
                *input = joined(input);
            }
            Some(Overlay::Filter { input, .. }) => {
                *input = joined(input);
                input.value().clone_into(&mut self.layers.filter);
                self.rebuild_layers();
                return self.ask_site();
            }
            _ => {}
        }
        Vec::new()
    }
}

pub(super) fn edit(input: &mut Input, key: KeyEvent) {
    // A stranger's terminal may send anything; a field takes no more than a line.
    const LONGEST: usize = 400;
    if input.value().chars().count() < LONGEST || !matches!(key.code, KeyCode::Char(_)) {
        let _ = input.handle_event(&TerminalEvent::Key(key));
    }
}

fn finder_key(finder: &mut Finder, key: KeyEvent) -> Outcome {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Esc => return Outcome::Close,
        KeyCode::Enter => {
            let Some(command) = finder.chosen().and_then(|place| COMMANDS.get(place)) else {
                return Outcome::Keep;
            };
            return Outcome::Run(command.action);
        }
        KeyCode::Up => finder.step(-1),
        KeyCode::Down => finder.step(1),
        KeyCode::Char('p') if control => finder.step(-1),
        KeyCode::Char('n') if control => finder.step(1),
        KeyCode::PageUp => finder.step(-10),
        KeyCode::PageDown => finder.step(10),
        _ => {
            let before = finder.input.value().to_owned();
            edit(&mut finder.input, key);
            if finder.input.value() != before {
                finder.search();
            }
        }
    }
    Outcome::Keep
}

/// Keys of a list with a cursor.
pub(super) fn list_key(cursor: &mut usize, key: KeyEvent, length: usize) -> Outcome {
    let last = length.saturating_sub(1);
    match key.code {
        KeyCode::Esc | KeyCode::Char('q') => return Outcome::Close,
        KeyCode::Up | KeyCode::Char('k') | KeyCode::Left => *cursor = cursor.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') | KeyCode::Right => *cursor = (*cursor + 1).min(last),
        KeyCode::Home | KeyCode::Char('g') => *cursor = 0,
        KeyCode::End | KeyCode::Char('G') => *cursor = last,
        _ => {}
    }
    Outcome::Keep
}

fn messages_key(scroll: &mut usize, key: KeyEvent, length: usize) -> Outcome {
    let last = length.saturating_sub(1);
    match key.code {
        KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q' | 'M') => return Outcome::Close,
        KeyCode::Up | KeyCode::Char('k') => *scroll = (*scroll + 1).min(last),
        KeyCode::Down | KeyCode::Char('j') => *scroll = scroll.saturating_sub(1),
        KeyCode::PageUp => *scroll = (*scroll + 10).min(last),
        KeyCode::PageDown => *scroll = scroll.saturating_sub(10),
        _ => {}
    }
    Outcome::Keep
}
