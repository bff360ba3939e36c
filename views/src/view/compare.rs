//! The list of plans that the current one can be compared with.

use ratatui::text::{Line, Span};

use super::popup::{List, keys};
use super::text;
use crate::app::App;

pub(super) fn list(app: &App, cursor: usize) -> List {
    let theme = &app.theme;
    let row = |key: String, label: &str| {
        Line::from(vec![
            Span::styled(format!(" {key}  "), theme.key()),
            Span::raw(format!("{}  ", text::head(label, 60, theme.glyphs))),
        ])
    };
    let partners = app.partners();
    let mut lines: Vec<Line> = partners
        .iter()
        .enumerate()
        .map(|(place, partner)| {
            row(if place < 9 { (place + 1).to_string() } else { " ".to_owned() }, &partner.label)
        })
        .collect();
    let title = match app.side() {
        Some(side) => {
            lines.push(row("x".to_owned(), &format!("end the comparison; {} stays", side.letter())));
            format!(" Compare {} with ", side.letter())
        }
        None => " Compare the plan (A) with ".to_owned(),
    };
    let foot = Some(keys(app, &[("Enter", "shows it as the other plan"), ("Esc", "closes")]));
    List { title, lines, foot, cursor, ..List::default() }
}
