//! A box over the panes.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Widget};

use super::text;
use crate::app::App;

/// Clears a box in the middle and draws its frame; gives the inside.
pub fn open(app: &App, title: &str, size: (u16, u16), area: Rect, buffer: &mut Buffer) -> Rect {
    let width = size.0.min(area.width.saturating_sub(2));
    let height = size.1.min(area.height.saturating_sub(2));
    let rect =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    Clear.render(rect, buffer);
    let title = text::head(title, usize::from(width.saturating_sub(4)), app.theme.glyphs);
    let block = Block::bordered()
        .border_set(app.theme.glyphs.border_focused)
        .border_style(app.theme.border(true))
        .title(Line::styled(title, app.theme.strong()));
    let inner = block.inner(rect);
    block.render(rect, buffer);
    inner
}

/// A list with a cursor, as wide as its lines.
pub fn list(app: &App, title: &str, lines: &[Line], cursor: usize, area: Rect, buffer: &mut Buffer) {
    let widest = lines.iter().map(Line::width).max().unwrap_or(0).max(text::width(title)) as u16;
    let inner = open(app, title, (widest.saturating_add(4), lines.len() as u16 + 2), area, buffer);
    let page = usize::from(inner.height);
    let first = (cursor + 1).saturating_sub(page);
    for (row, (place, line)) in lines.iter().enumerate().skip(first).take(page).enumerate() {
        let rect = Rect { y: inner.y + row as u16, height: 1, ..inner };
        line.render(rect, buffer);
        if place == cursor {
            buffer.set_style(rect, app.theme.selected(true));
        }
    }
}
