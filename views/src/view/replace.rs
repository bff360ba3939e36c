//! The question before files of others are written over.

use std::path::PathBuf;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget};

use super::{popup, text};
use crate::app::App;

pub(super) fn draw(app: &App, files: &[PathBuf], area: Rect, buffer: &mut Buffer) {
    let size = (64, files.len() as u16 + 6);
    let inner = popup::open(app, " These files are there already ", size, area, buffer);
    let room = usize::from(inner.width).saturating_sub(3);
    let mut lines = vec![Line::default()];
    for file in files {
        let name: String = file.display().to_string().chars().filter(|ch| !ch.is_control()).collect();
        lines.push(Line::from(format!("  {}", text::tail(&name, room, app.theme.glyphs))));
    }
    let key = |key: &'static str| Span::styled(key, app.theme.key());
    lines.push(Line::default());
    lines.push(Line::from(vec![Span::raw("  "), key("y"), Span::raw(" write over them")]));
    lines.push(Line::from(vec![Span::raw("  "), key("Esc"), Span::raw(" leave them as they are")]));
    Paragraph::new(lines).render(inner, buffer);
}
