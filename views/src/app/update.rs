//! Where messages come in.

use crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use ratatui::layout::Position;

use super::overlay::Overlay;
use super::{App, Effect, Level, Msg, Pane};
use crate::command::{Action, Key};
use crate::layout::Screen;
use crate::view::list_of;

impl App {
    /// Takes a message; the state changes here and nowhere else.
    pub fn update(&mut self, msg: Msg) -> Vec<Effect> {
        match msg {
            Msg::Key(key) => self.key(key),
            Msg::Paste(text) => self.paste(&text),
            Msg::Mouse(mouse) => self.mouse(mouse),
            // A window that shrinks and grows back between two frames has lost cells, though its size is the same.
            Msg::Resize => vec![Effect::Wipe],
            Msg::Session(event) => self.answer(event),
            Msg::SessionEnded(panic) => self.session_ended(panic),
            Msg::Tick => {
                self.tick = self.tick.wrapping_add(1);
                Vec::new()
            }
            Msg::Wake => self.evaluate_when_idle(),
            Msg::Suspend => vec![Effect::Suspend],
            Msg::Continue => vec![Effect::Repaint],
            Msg::Terminate => vec![Effect::Quit],
        }
    }

    fn key(&mut self, event: KeyEvent) -> Vec<Effect> {
        if event.kind == KeyEventKind::Release {
            return Vec::new();
        }
        let key = Key::from(event);
        let action = self.keymap.action(key);
        // These work whatever lies over the panes.
        if let Some(action @ (Action::Leave | Action::Suspend | Action::Repaint)) = action {
            return self.act(action, Some(key));
        }
        if !self.overlays.is_empty() {
            return self.overlay_key(event);
        }
        let Some(action) = action else { return Vec::new() };
        // A message goes with the next key; Esc only takes the message away.
        if action != Action::Back {
            self.note_shown = false;
        }
        self.act(action, Some(key))
    }

    fn session_ended(&mut self, panic: Option<String>) -> Vec<Effect> {
        if self.ended {
            return Vec::new();
        }
        self.ended = true;
        self.jobs.clear();
        // What failed last is most likely the reason; it must not be pushed off the line by "it stopped".
        let failure =
            || self.notes.back().filter(|note| note.level == Level::Error).map(|note| note.text.clone());
        let why = panic.or_else(failure).unwrap_or_else(|| "it ended without a message".to_owned());
        let next =
            if self.model.is_some() { "; the plan is in the journal, start again to go on" } else { "" };
        self.note(Level::Error, format!("the engine has stopped: {why}{next}"));
        Vec::new()
    }

    fn mouse(&mut self, mouse: MouseEvent) -> Vec<Effect> {
        let wheel = match mouse.kind {
            MouseEventKind::ScrollUp => Some(-1),
            MouseEventKind::ScrollDown => Some(1),
            MouseEventKind::Down(MouseButton::Left | MouseButton::Right) => None,
            _ => return Vec::new(),
        };
        if let Some(effects) = self.mouse_on_list(mouse, wheel) {
            return effects;
        }
        if let Some(overlay) = self.overlays.last_mut() {
            match (overlay, wheel) {
                (Overlay::Help(finder) | Overlay::Palette(finder), Some(by)) => finder.step(by),
                (Overlay::Methods(form), Some(by)) => {
                    let last = self.model.as_ref().map_or(0, |model| model.methods.len()).saturating_sub(1);
                    form.cursor = form.cursor.saturating_add_signed(by).min(last);
                }
                (Overlay::Messages(scroll), Some(by)) => {
                    *scroll = scroll.saturating_add_signed(-by).min(self.notes.len().saturating_sub(1));
                }
                _ => {}
            }
            return Vec::new();
        }
        let screen = Screen::of(self.area, self.focus, self.tab, self.zoomed);
        let at = Position::new(mouse.column, mouse.row);
        if wheel.is_none() && screen.header.contains(at) && self.compare.is_some() {
            return self.act(Action::SwitchSide, None);
        }
        if wheel.is_none()
            && let Some(pane) = screen.tab_at(at)
        {
            self.set_focus(pane);
            return Vec::new();
        }
        let Some((pane, rect)) = screen.pane_at(at) else { return Vec::new() };
        if let Some(by) = wheel {
            let focus = std::mem::replace(&mut self.focus, pane);
            let effects = self.step(by);
            self.focus = focus;
            return effects;
        }
        let row = usize::from(at.y.saturating_sub(rect.y));
        let range = mouse.modifiers.contains(KeyModifiers::CONTROL);
        if pane == Pane::Layers && (mouse.kind == MouseEventKind::Down(MouseButton::Right) || range) {
            return self.click_mark(row, range);
        }
        self.click(pane, row)
    }

    /// Wheel and click on an overlay that is a list: a click takes the cursor to a line, a second one takes the line, one
    /// beside the box closes it.
    fn mouse_on_list(&mut self, mouse: MouseEvent, wheel: Option<isize>) -> Option<Vec<Effect>> {
        let list = list_of(self, self.overlays.last()?)?;
        let at = Position::new(mouse.column, mouse.row);
        let code = match wheel {
            Some(by) => {
                if by < 0 {
                    KeyCode::Up
                } else {
                    KeyCode::Down
                }
            }
            None if !list.holds(self.area, at) => KeyCode::Esc,
            None => {
                let line = list.line_at(self.area, at)?;
                if line != list.cursor {
                    self.overlays.last_mut()?.set_cursor(line);
                    return Some(Vec::new());
                }
                KeyCode::Enter
            }
        };
        Some(self.overlay_key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    /// The right button marks a line, with Ctrl everything up to it.
    fn click_mark(&mut self, row: usize, range: bool) -> Vec<Effect> {
        let line = self.layers.offset + row.saturating_sub(2);
        if row < 2 || line >= self.layers.rows().len() {
            return Vec::new();
        }
        self.set_focus(Pane::Layers);
        let effects = self.step(line as isize - self.layers.cursor as isize);
        if range {
            self.act(Action::MarkRange, None);
        } else {
            self.layers.toggle_mark();
        }
        effects
    }

    /// A click focuses the pane; on a line it takes the cursor there, and a second one enters it.
    fn click(&mut self, pane: Pane, row: usize) -> Vec<Effect> {
        let focused = self.focus == pane;
        self.set_focus(pane);
        match pane {
            Pane::Layers if row >= 2 => {
                let line = self.layers.offset + row - 2;
                if line >= self.layers.rows().len() {
                    return Vec::new();
                }
                if focused && line == self.layers.cursor {
                    return self.act(Action::Enter, None);
                }
                self.step(line as isize - self.layers.cursor as isize)
            }
            Pane::Quantizers if row >= 2 && self.choice_offset + row - 2 < self.choices().len() => {
                let place = self.choice_offset + row - 2;
                if focused && place == self.choice {
                    return self.act(Action::Enter, None);
                }
                self.choice = place;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}
