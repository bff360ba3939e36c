//! The screen, a file for each part. Everything here reads the state and paints; nothing is computed that
//! [`App::prepare`] could have made ready.

mod answer;
mod bits;
mod compare;
mod diff;
mod figures;
mod finder;
mod front;
mod header;
mod hints;
mod histogram;
mod layers;
mod messages;
mod methods;
mod popup;
mod presets;
mod quantizers;
mod quit;
mod replace;
mod rewrites;
mod samples;
mod scrollbar;
mod siblings;
mod snapshots;
mod tabs;
mod text;
mod why;

pub use bits::bits_offered;
pub use histogram::plot_area as histogram_area;
pub use layers::page as layers_page;
pub use popup::List;
pub use quantizers::page as choices_page;
pub use samples::{picture_areas, picture_beside};

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Widget, Wrap};

use crate::app::overlay::Overlay;
use crate::app::{App, Level, Pane};
use crate::layout::{SMALLEST, Screen};
use crate::theme::Ladder;

/// Paints a frame; [`App::prepare`] must have seen its size. Gives the place of the text cursor, if there is one.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) -> Option<(u16, u16)> {
    let area = area.intersection(buffer.area);
    let screen = Screen::of(area, app.focus, app.tab, app.zoomed);
    if screen.panes.is_empty() {
        too_small(area, buffer);
        return None;
    }
    header::draw(app, screen.header, buffer);
    if app.ended && app.model.is_none() {
        not_open(app, Rect { y: area.y + 2, height: area.height.saturating_sub(3), ..area }, buffer);
    } else {
        tabs::draw(app, &screen, buffer);
        for (pane, rect) in &screen.panes {
            match pane {
                Pane::Layers => layers::draw(app, *rect, buffer),
                Pane::Histogram => histogram::draw(app, *rect, buffer),
                Pane::Quantizers => quantizers::draw(app, *rect, buffer),
                Pane::Why => why::draw(app, *rect, buffer),
                Pane::Samples => samples::draw(app, *rect, buffer),
            }
        }
    }
    let mut cursor = hints::draw(app, screen.hints, buffer);
    for overlay in &app.overlays {
        match overlay {
            Overlay::Help(finder) => cursor = Some(finder::help(app, finder, area, buffer)),
            Overlay::Palette(finder) => cursor = Some(finder::palette(app, finder, area, buffer)),
            Overlay::Methods(form) => methods::draw(app, form, area, buffer),
            Overlay::Rewrites(place) => rewrites::draw(app, *place, area, buffer),
            Overlay::ConfirmQuit => quit::draw(app, area, buffer),
            Overlay::Replace { files, .. } => replace::draw(app, files, area, buffer),
            Overlay::Messages(scroll) => messages::draw(app, *scroll, area, buffer),
            Overlay::Filter { .. } | Overlay::Sentence(_) | Overlay::Budget(_) | Overlay::Name { .. } => {}
            other => {
                if let Some(list) = list_of(app, other) {
                    list.draw(app, area, buffer);
                }
            }
        }
    }
    Ladder { depth: app.theme.depth, ascii: app.theme.is_ascii() }.apply(buffer);
    cursor
}

/// An overlay that is a list with a cursor.
pub fn list_of(app: &App, overlay: &Overlay) -> Option<List> {
    Some(match overlay {
        Overlay::Bits(place) => bits::list(app, *place),
        Overlay::Presets(place) => presets::list(app, *place),
        Overlay::Snapshots(place) => snapshots::list(app, *place),
        Overlay::Compare(place) => compare::list(app, *place),
        Overlay::Siblings(place) => siblings::list(app, *place),
        Overlay::Front { cursor, .. } => front::list(app, *cursor),
        Overlay::Diff { with, cursor } => diff::list(app, with, *cursor),
        _ => return None,
    })
}

/// Why the model could not be opened, in full.
fn not_open(app: &App, area: Rect, buffer: &mut Buffer) {
    let why = app.notes.iter().rfind(|note| note.level == Level::Error).map_or("", |note| note.text.as_str());
    let lines = vec![
        Line::styled("The model could not be opened.", app.theme.strong()),
        Line::default(),
        Line::styled(why, app.theme.bad()),
        Line::default(),
        Line::styled("q leaves.", app.theme.dim()),
    ];
    let inner = Rect { x: area.x + 2, width: area.width.saturating_sub(4).min(100), ..area };
    Paragraph::new(lines).wrap(Wrap { trim: true }).render(inner, buffer);
}

fn too_small(area: Rect, buffer: &mut Buffer) {
    let (width, height) = SMALLEST;
    let text = format!("terminal too small: {}x{}, need {width}x{height}", area.width, area.height);
    Paragraph::new(text).wrap(Wrap { trim: true }).render(area, buffer);
}

/// The frame of a pane.
fn frame<'a>(app: &App, pane: Pane) -> Block<'a> {
    let focused = app.focus == pane && app.overlays.is_empty();
    let set = if focused { app.theme.glyphs.border_focused } else { app.theme.glyphs.border };
    Block::bordered().border_set(set).border_style(app.theme.border(focused))
}
