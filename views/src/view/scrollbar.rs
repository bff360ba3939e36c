//! How far a list is scrolled, on the right border of its pane below a line of headings.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::{Scrollbar, ScrollbarOrientation, ScrollbarState, StatefulWidget};

use crate::app::App;

pub(super) fn draw(app: &App, lines: usize, page: usize, offset: usize, area: Rect, buffer: &mut Buffer) {
    if lines <= page || area.height < 5 {
        return;
    }
    let track = Rect { x: area.right().saturating_sub(1), y: area.y + 2, width: 1, height: area.height - 3 };
    let (thumb, line) = if app.theme.is_ascii() { ("#", "|") } else { ("┃", "│") };
    let mut state = ScrollbarState::new(lines.saturating_sub(page)).position(offset);
    Scrollbar::new(ScrollbarOrientation::VerticalRight)
        .begin_symbol(None)
        .end_symbol(None)
        .track_symbol(Some(line))
        .thumb_symbol(thumb)
        .style(app.theme.dim())
        .render(track, buffer, &mut state);
}
