//! The question before an unsaved plan is left.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::popup;
use crate::app::App;

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let hidden = app.compare.as_ref().filter(|compare| compare.hidden.plan.is_dirty());
    let height = 7 + 2 * u16::from(hidden.is_some());
    let inner = popup::open(app, " The plan is not saved ", (58, height), area, buffer);
    let key = |key: &'static str| Span::styled(key, app.theme.key());
    let path = app.setup.plan_path.display().to_string();
    let mut lines = vec![
        Line::default(),
        Line::from(vec![Span::raw("  "), key("s"), Span::raw(format!(" save {path} and leave"))]),
        Line::from(vec![Span::raw("  "), key("y"), Span::raw(" leave; the journal keeps the plan")]),
        Line::from(vec![Span::raw("  "), key("Esc"), Span::raw(" stay")]),
    ];
    if let Some(compare) = hidden {
        let (side, shown) = (compare.hidden_side().letter(), compare.shown.letter());
        lines.push(Line::default());
        let text = format!("  {side} has edits too: s saves {shown}, the journal keeps {side}");
        lines.push(Line::styled(text, app.theme.warn()));
    }
    Paragraph::new(lines).wrap(Wrap { trim: false }).render(inner, buffer);
}
