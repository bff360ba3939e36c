//! The list of ready-made plans.

use ratatui::text::{Line, Span};

use super::popup::List;
use crate::app::App;

pub(super) fn list(app: &App, cursor: usize) -> List {
    let Some(model) = &app.model else { return List::default() };
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
    List { title: " Start from (u takes it back) ".to_owned(), lines, cursor, ..List::default() }
}
