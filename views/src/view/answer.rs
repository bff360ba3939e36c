//! Answers that are no masks, in words and numbers: full precision and the plan side by side.

use bitloupe_quant::eval::answer::{Answer, Ranked};
use bitloupe_quant::session::messages::SampleView;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget};

use super::text;
use crate::app::App;

/// Classes shown.
const PLACES: usize = 5;
/// Cells from which two lists of classes stand side by side.
const WIDE: usize = 40;

pub(super) fn draw(app: &App, shown: &SampleView, area: Rect, buffer: &mut Buffer) {
    let room = usize::from(area.width);
    let lines = match (&shown.full_precision, &shown.quantized) {
        (Answer::Classes(float), Answer::Classes(plan)) => classes(app, shown, float, plan, room),
        (Answer::Letters(float), Answer::Letters(plan)) => letters(app, shown, float, plan, room),
        (Answer::Vectors(_), Answer::Vectors(_)) => vectors(app, shown, room),
        _ => Vec::new(),
    };
    Paragraph::new(lines).render(area, buffer);
}

/// The most probable classes; what the plan ranks otherwise stands out.
fn classes(
    app: &App,
    shown: &SampleView,
    float: &[Ranked],
    plan: &[Ranked],
    room: usize,
) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let mut lines = Vec::new();
    if let Some(Answer::Classes(truth)) = &shown.truth {
        let label = truth.first().map(|ranked| ranked.label.clone()).unwrap_or_default();
        lines.push(Line::from(vec![
            Span::styled("truth ", theme.dim()),
            Span::styled(text::head(&label, room.saturating_sub(6), theme.glyphs), theme.strong()),
        ]));
    }
    // Two columns where both have room for a label, else one list below the other.
    let beside = room >= WIDE;
    let column = if beside { room / 2 } else { room };
    let cell = |ranked: Option<&Ranked>, style: Style| {
        let Some(ranked) = ranked else { return Span::raw(" ".repeat(column)) };
        let share = text::share(ranked.probability);
        // A share, its gap, and one before the next column.
        let label = text::head(&ranked.label, column.saturating_sub(7), theme.glyphs);
        let padding = " ".repeat(column.saturating_sub(text::width(&label) + 6));
        Span::styled(format!("{share:<5} {label}{padding}"), style)
    };
    let head = |name: &str| {
        Span::styled(format!("{:<column$}", text::head(name, column, theme.glyphs)), theme.dim())
    };
    let places = || {
        (0..PLACES.min(float.len().max(plan.len()))).map(|place| (place, float.get(place), plan.get(place)))
    };
    let of_plan = |(place, before, after): (usize, Option<&Ranked>, Option<&Ranked>)| {
        let same = before.map(|ranked| ranked.class) == after.map(|ranked| ranked.class);
        let style = match (same, place) {
            (true, _) => Style::new(),
            (false, 0) => theme.bad(),
            (false, _) => theme.warn(),
        };
        cell(after, style)
    };
    let (before, after) = (head("full precision"), head("this plan"));
    if beside {
        lines.push(Line::from(vec![before, after]));
        lines.extend(places().map(|row| Line::from(vec![cell(row.1, Style::new()), of_plan(row)])));
    } else {
        lines.push(Line::from(before));
        lines.extend(places().map(|row| Line::from(cell(row.1, Style::new()))));
        lines.push(Line::from(after));
        lines.extend(places().map(|row| Line::from(of_plan(row))));
    }
    lines
}

/// The lines that were read.
fn letters(app: &App, shown: &SampleView, float: &str, plan: &str, room: usize) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let line = |name: &'static str, words: &str, style: Style| {
        let clean: String = words.chars().map(|ch| if ch.is_control() { ' ' } else { ch }).collect();
        Line::from(vec![
            Span::styled(format!("{name:<15}"), theme.dim()),
            Span::styled(text::head(&clean, room.saturating_sub(15), theme.glyphs), style),
        ])
    };
    let mut lines = Vec::new();
    if let Some(Answer::Letters(truth)) = &shown.truth {
        lines.push(line("truth", truth, theme.strong()));
    }
    lines.push(line("full precision", float, Style::new()));
    lines.push(line("this plan", plan, if plan == float { theme.good() } else { theme.bad() }));
    lines
}

/// Every output: its length, and how far the plan turned and moved it.
fn vectors(app: &App, shown: &SampleView, room: usize) -> Vec<Line<'static>> {
    let theme = &app.theme;
    // The count goes first where there is little room.
    let counted = if room < 36 { 0 } else { 8 };
    let name_room = room.saturating_sub(18 + counted).max(6);
    let numbers = |text: &str| if counted > 0 { format!("{text:>counted$}") } else { String::new() };
    let header = format!("{:<name_room$}{}{:>9}{:>9}", "output", numbers("numbers"), "cosine", "SQNR dB");
    let mut lines = vec![Line::styled(header, theme.dim())];
    for output in &shown.outputs {
        let style = match output.cosine {
            0.99.. => theme.good(),
            0.9.. => theme.warn(),
            _ => theme.bad(),
        };
        let name = text::head(&output.name, name_room.saturating_sub(1), theme.glyphs);
        let noise = text::decibels(output.sqnr_db);
        lines.push(Line::from(vec![
            Span::raw(format!("{name:<name_room$}{}", numbers(&output.numbers.to_string()))),
            Span::styled(format!("{:>9.4}", output.cosine), style),
            Span::raw(format!("{noise:>9}")),
        ]));
    }
    lines
}
