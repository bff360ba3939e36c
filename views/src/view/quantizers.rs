//! What the site can be given, with the predicted SQNR of every choice, and of every width for one choice.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::bits::bits_offered;
use super::{frame, scrollbar, text};
use crate::app::decibels;
use crate::app::{App, Pane};

/// Lines of the list in a pane of this size.
pub fn page(rect: Rect) -> usize {
    usize::from(rect.height.saturating_sub(3))
}

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    let block = frame(app, Pane::Quantizers).title(title(app));
    let inner = block.inner(area);
    block.render(area, buffer);
    if app.choices().is_empty() {
        let text = if app.site_id().is_none() { "" } else { " fitting" };
        Line::styled(text, theme.dim()).render(Rect { height: inner.height.min(1), ..inner }, buffer);
        return;
    }
    let ladder = Rect { height: inner.height.min(1), ..inner };
    bits_row(app, usize::from(inner.width)).render(ladder, buffer);
    let page = page(area);
    let current = app.current_choice();
    let best = app.best_choice().map(|(place, _)| place);
    let shown = app.choices().iter().enumerate().skip(app.choice_offset).take(page);
    for (line, (place, choice)) in shown.enumerate() {
        let rect = Rect { y: inner.y + 1 + line as u16, height: 1, ..inner };
        let value = decibels(choice, app.compared_bits());
        let marks =
            Marks { current: current == Some(place) && !app.bits().is_float(), best: best == Some(place) };
        row(app, place, &choice.label, value, marks, usize::from(rect.width)).render(rect, buffer);
        if place == app.choice && app.focus == Pane::Quantizers {
            buffer.set_style(rect, theme.selected(true));
        }
    }
    let below = app.choices().len().saturating_sub(app.choice_offset);
    if let Some((label, value)) = unlisted(app)
        && below < page
    {
        let rect = Rect { y: inner.y + 1 + below as u16, height: 1, ..inner };
        let marks = Marks { current: true, best: false };
        row(app, usize::MAX, &label, value, marks, usize::from(rect.width)).render(rect, buffer);
    }
    scrollbar::draw(app, app.choices().len(), page, app.choice_offset, area, buffer);
}

/// The plan's choice with its predicted SQNR where the list lacks it: methods give schemes that are not offered.
fn unlisted(app: &App) -> Option<(String, Option<f64>)> {
    let site = app.site_id()?;
    let scheme = app.plan.scheme(site)?;
    let listed = app.current_choice().is_some() || app.bits().is_float();
    (!listed).then(|| (scheme.to_string(), app.facts.decibels(site)))
}

#[derive(Clone, Copy)]
struct Marks {
    current: bool,
    best: bool,
}

fn title(app: &App) -> Line<'static> {
    let bits = app.bits();
    let text = if bits.is_float() {
        format!(" Quantizers (site is float; at {} bits) ", app.compared_bits())
    } else {
        format!(" Quantizers at {bits} bits ")
    };
    let mut line = Line::styled(text, app.theme.strong());
    if app.edits_many() {
        let marked = if app.layers.marked().is_empty() { "" } else { "marked " };
        let count = app.targets().len();
        let sites = if count == 1 { "site" } else { "sites" };
        line.push_span(Span::styled(
            format!("{} {count} {marked}{sites} ", app.theme.glyphs.arrow),
            app.theme.warn(),
        ));
    }
    line
}

fn row(
    app: &App,
    place: usize,
    label: &str,
    value: Option<f64>,
    marks: Marks,
    width: usize,
) -> Line<'static> {
    let theme = &app.theme;
    let glyphs = theme.glyphs;
    let cursor = if marks.current { glyphs.cursor } else { " " };
    let number = if place < 9 { (place + 1).to_string() } else { " ".to_owned() };
    // In a narrow pane the cursor sign alone says which one is current.
    let wide = width >= 50;
    let mark = match (marks.current, marks.best) {
        (true, true) if wide => "current best",
        (true, false) if wide => "current",
        (_, true) => "best",
        _ => "",
    };
    let room = width.saturating_sub(3 + 9 + if wide { 14 } else { 6 });
    let label = text::head(label, room, glyphs);
    let pad = room.saturating_sub(text::width(&label));
    let (figure, style) = match value {
        Some(value) => (format!("{:>6} dB", text::decibels(value)), theme.decibels(value)),
        None => (format!("{:>6}   ", glyphs.none), theme.dim()),
    };
    let weight = if marks.current { theme.strong() } else { Style::new() };
    let mark_style = if marks.best { theme.good().patch(theme.strong()) } else { theme.dim() };
    Line::from(vec![
        Span::styled(cursor.to_owned(), theme.accent()),
        Span::styled(format!("{number} "), theme.key()),
        Span::styled(label, weight),
        Span::raw(" ".repeat(pad)),
        Span::styled(figure, style),
        Span::styled(format!(" {mark}"), mark_style),
    ])
}

/// Every width with the predicted SQNR of the plan's choice (else of the best one).
fn bits_row(app: &App, width: usize) -> Line<'static> {
    let theme = &app.theme;
    let place = app.current_choice().or(app.best_choice().map(|(place, _)| place)).unwrap_or(0);
    let Some(choice) = app.choices().get(place) else { return Line::default() };
    let now = app.bits();
    let offered = bits_offered(app);
    // Decibels beside each width where there is room for them.
    let cell = if width >= offered.len() * 9 { 9 } else { 5 };
    let mut line = Line::from(Span::styled(" b ", theme.key()));
    for bits in offered {
        let value = decibels(choice, bits);
        let figure = if bits.is_float() || cell < 9 {
            String::new()
        } else {
            value.map_or(String::new(), |value| format!(" {value:.0}dB"))
        };
        let text = format!("{bits}{figure}");
        let style = if bits == now {
            theme.selected(true)
        } else if let Some(value) = value {
            theme.decibels(value)
        } else {
            theme.dim()
        };
        let pad = usize::from(cell >= 9) + 1;
        line.push_span(Span::styled(
            if bits == now { format!("[{text}]") } else { format!(" {text} ") },
            style,
        ));
        line.push_span(" ".repeat(pad - 1));
    }
    line
}
