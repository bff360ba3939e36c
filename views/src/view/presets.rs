//! The list of ready-made plans.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::popup;
use crate::app::App;

pub(super) fn draw(app: &App, cursor: usize, area: Rect, buffer: &mut Buffer) {
    let Some(model) = &app.model else { return };
    let lines: Vec<Line> = model
        .presets
        .iter()
        .enumerate()
        .map(|(place, (name, _))| {
            let number = if place < 9 { (place + 1).to_string() } else { " ".to_owned() };
            Line::from(vec![
                Span::styled(format!(" {number}  "), app.theme.key()),
                Span::raw(format!("{name}  ")),
            ])
        })
        .collect();
    popup::list(app, " Start from (u takes it back) ", &lines, cursor, area, buffer);
}
