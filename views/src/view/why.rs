//! What the distribution means for a grid, and what would help.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::{frame, text};
use crate::app::{App, Pane, decibels};
use crate::widget::axis::figure;

/// A remedy is named from this gain on.
const WORTH: f64 = 1.0;

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    let mut title = Line::styled(" Why ", theme.strong());
    if let Some(summary) = app.summary() {
        title.push_span(Span::styled(format!("{} ", summary.class), theme.accent()));
    }
    let block = frame(app, Pane::Why).title(title);
    let inner = block.inner(area);
    block.render(area, buffer);
    let inner = Rect { x: inner.x.saturating_add(1), width: inner.width.saturating_sub(2), ..inner };
    Paragraph::new(lines(app)).wrap(Wrap { trim: true }).scroll((app.why_scroll, 0)).render(inner, buffer);
}

fn lines(app: &App) -> Vec<Line<'_>> {
    let theme = &app.theme;
    let Some(summary) = app.summary() else {
        let text = if app.site_id().is_some() { "not calibrated yet" } else { "" };
        return vec![Line::styled(text, theme.dim())];
    };
    let mut lines = vec![Line::from(summary.sentence.as_str())];
    lines.extend(remedy(app));
    let facts: Vec<String> = summary.evidence.iter().map(|(name, value)| format!("{name} {value}")).collect();
    if !facts.is_empty() {
        lines.push(Line::styled(facts.join(&format!("  {}  ", theme.glyphs.dot)), theme.dim()));
    }
    let zeros = summary.zeros as f64 / summary.count.max(1) as f64 * 100.0;
    let counts = format!("{} values, {} % zeros", text::count(summary.count), figure(zeros));
    lines.push(Line::styled(counts, theme.dim()));
    if summary.nan + summary.inf > 0 {
        let text = format!("{} {} NaN, {} infinite values", theme.glyphs.warning, summary.nan, summary.inf);
        lines.push(Line::styled(text, theme.bad()));
    }
    lines
}

/// The better choice, if it is worth a key.
fn remedy(app: &App) -> Option<Line<'static>> {
    let theme = &app.theme;
    if app.bits().is_float() {
        return None;
    }
    let (place, best) = app.best_choice()?;
    let current = app.current_choice()?;
    let now = decibels(app.choices().get(current)?, app.compared_bits())?;
    if place == current || best < now + WORTH {
        return None;
    }
    let label = app.choices().get(place)?.label.clone();
    let mut line = Line::from(vec![Span::styled(
        format!("{label} would give {} dB more", text::decibels(best - now)),
        theme.good(),
    )]);
    if place < 9 {
        line.push_span(": press ");
        line.push_span(Span::styled((place + 1).to_string(), theme.key()));
    }
    Some(line)
}
