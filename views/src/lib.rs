//! The terminal interface of bitloupe.
//!
//! [`run`] takes the terminal, talks to a session over two channels and gives the terminal back. Inside, every
//! key and every event of the session is a [`Msg`]; [`App::update`] turns it into new state and [`Effect`]s;
//! [`view::draw`] paints the state. Nothing else changes anything:
//!
//! ```text
//! input thread ──┐
//! session events ├─► Msg ─► App::update ─► Effects ─► session, clipboard, shell
//! signals ───────┘               └─► App::prepare ─► view::draw
//! ```
//!
//! A frame can be had without a terminal:
//!
//! ```
//! use bitloupe_views::{App, ColorDepth, Setup, Theme, view};
//! use ratatui::{buffer::Buffer, layout::Rect};
//!
//! let setup = Setup { opening: "model.safetensors".to_owned(), ..Setup::default() };
//! let mut app = App::new(setup, Theme::new(ColorDepth::None, false));
//! let area = Rect::new(0, 0, 80, 24);
//! let mut buffer = Buffer::empty(area);
//! app.prepare(area);
//! view::draw(&app, area, &mut buffer);
//! let first: String = (0..80).map(|x| buffer[(x, 0)].symbol().to_owned()).collect();
//! assert!(first.contains("opening model.safetensors"));
//! ```

pub mod app;
pub mod command;
pub mod layout;
mod run;
pub mod terminal;
pub mod theme;
pub mod view;
pub mod widget;

pub use app::{App, Effect, Msg, Setup};
pub use command::key_table;
pub use run::{Error, Exit, Options, SessionHandle, run};
pub use theme::{ColorChoice, ColorDepth, Theme};
