//! The interface without a terminal: keys in, requests out, answers from the made-up session, frames as text.
#![allow(dead_code, reason = "shared by tests")]

use std::sync::Arc;

use bitloupe_quant::session::messages::{Event, ModelView, Request};
use bitloupe_views::{App, ColorDepth, Effect, Msg, Setup, Theme, view};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::fake;

pub struct Harness {
    pub app: App,
    pub model: Arc<ModelView>,
    pub sent: Vec<Request>,
    pub effects: Vec<Effect>,
}

impl Harness {
    /// Before the model is open.
    pub fn opening(depth: ColorDepth, ascii: bool) -> Self {
        let setup = Setup {
            opening: "lavt-mini".into(),
            plan_path: "plan.json".into(),
            export_folder: "export".into(),
            ..Setup::default()
        };
        let app = App::new(setup, Theme::new(depth, ascii));
        Self { app, model: Arc::new(fake::model()), sent: Vec::new(), effects: Vec::new() }
    }

    /// Open, calibrated, evaluated.
    pub fn ready(depth: ColorDepth, ascii: bool) -> Self {
        let mut harness = Self::opening(depth, ascii);
        harness.app.prepare(Rect::new(0, 0, 120, 40));
        harness.open();
        harness
    }

    pub fn open(&mut self) {
        self.update(Msg::Session(Event::Opened(Arc::clone(&self.model))));
        self.settle();
        self.update(Msg::Wake);
        self.settle();
    }

    /// Sends a message; keeps what follows from it.
    pub fn update(&mut self, msg: Msg) {
        for effect in self.app.update(msg) {
            match effect {
                Effect::Send(request) => self.sent.push(request),
                other => self.effects.push(other),
            }
        }
    }

    /// Answers everything that was asked until nothing is asked any more.
    pub fn settle(&mut self) {
        while !self.sent.is_empty() {
            for request in std::mem::take(&mut self.sent) {
                for event in fake::respond(&self.model, &request) {
                    self.update(Msg::Session(event));
                }
            }
        }
    }

    /// Presses keys without answering.
    pub fn keys(&mut self, keys: &[&str]) {
        for key in keys {
            let event = key_event(key);
            self.update(Msg::Key(event));
        }
    }

    /// Presses keys and answers.
    pub fn press(&mut self, keys: &[&str]) {
        self.keys(keys);
        self.settle();
    }

    pub fn frame(&mut self, width: u16, height: u16) -> Buffer {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        self.app.prepare(area);
        view::draw(&self.app, area, &mut buffer);
        buffer
    }

    pub fn text(&mut self, width: u16, height: u16) -> String {
        let buffer = self.frame(width, height);
        let mut text = String::new();
        for y in 0..height {
            let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

pub fn key_event(name: &str) -> KeyEvent {
    let (modifiers, rest) = match name.strip_prefix("ctrl-") {
        Some(rest) => (KeyModifiers::CONTROL, rest),
        None => (KeyModifiers::NONE, name),
    };
    let code = match rest {
        "up" => KeyCode::Up,
        "down" => KeyCode::Down,
        "left" => KeyCode::Left,
        "right" => KeyCode::Right,
        "tab" => KeyCode::Tab,
        "backtab" => KeyCode::BackTab,
        "enter" => KeyCode::Enter,
        "esc" => KeyCode::Esc,
        "end" => KeyCode::End,
        "home" => KeyCode::Home,
        "pagedown" => KeyCode::PageDown,
        "pageup" => KeyCode::PageUp,
        "backspace" => KeyCode::Backspace,
        _ => KeyCode::Char(rest.chars().next().unwrap_or(' ')),
    };
    KeyEvent::new(code, modifiers)
}
