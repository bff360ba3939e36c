//! What was reported so far, newest first.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::popup;
use crate::app::{App, Level};

pub(super) fn draw(app: &App, scroll: usize, area: Rect, buffer: &mut Buffer) {
    let inner = popup::open(app, " Messages ", (area.width.min(110), area.height.min(30)), area, buffer);
    if app.notes.is_empty() {
        Line::styled(" nothing so far", app.theme.dim())
            .render(Rect { height: inner.height.min(1), ..inner }, buffer);
        return;
    }
    let shown = app.notes.len().saturating_sub(scroll);
    let lines: Vec<Line> = app
        .notes
        .iter()
        .take(shown)
        .rev()
        .take(usize::from(inner.height))
        .map(|note| {
            let (word, style) = match note.level {
                Level::Info => ("info    ", app.theme.good()),
                Level::Warning => ("warning ", app.theme.warn()),
                Level::Error => ("error   ", app.theme.bad()),
            };
            Line::from(vec![Span::styled(format!(" {word}"), style), Span::raw(note.text.as_str())])
        })
        .collect();
    // Newest first, so that a long message is read in full where it begins.
    Paragraph::new(lines).wrap(Wrap { trim: false }).render(inner, buffer);
}
