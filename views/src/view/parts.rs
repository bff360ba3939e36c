//! What groups of sites cost.

use bitloupe_quant::session::messages::{Job, PartEffect};
use ratatui::text::{Line, Span};

use super::popup::{List, keys};
use super::text;
use crate::app::App;

/// Columns of a name.
const NAME: usize = 40;

pub(super) fn list(app: &App, cursor: usize) -> List {
    let theme = &app.theme;
    let narrow = app.area.width < 76;
    let room = if narrow { 16 } else { NAME };
    let (of, view) = (app.parts.of, app.parts.view.as_ref());
    let metric = view.map_or_else(|| app.effects.metric.name(), |view| view.metric.name());
    let shown = view.filter(|view| view.of == of);
    let samples = shown.map_or(0, |view| view.samples);
    let mut head = vec![Line::styled(
        if app.jobs.runs(Job::Parts) {
            format!(" measuring by {}; x stops", of.by)
        } else if shown.is_some() && !app.parts_are_current() {
            " measured under an earlier plan; b, a or c measure this one".to_owned()
        } else {
            format!(" change of {metric} by {} on {samples} samples", of.by)
        },
        theme.accent(),
    )];
    let mut columns = format!("  {:<room$} {:>9}", of.by.to_string(), "only it");
    if of.all_but {
        columns.push_str(&format!(" {:>9}", "without"));
    }
    if of.calibration {
        columns.push_str(&format!(" {:>9}", "calibr."));
    }
    head.push(Line::styled(columns, theme.dim()));
    let mut pairs = vec![("b", "groups by"), ("a", "all but"), ("c", "calibration"), ("Esc", "closes")];
    if narrow {
        pairs.truncate(3);
    }
    List {
        title: " What parts cost ".to_owned(),
        head,
        lines: shown.map_or_else(Vec::new, |view| {
            view.parts.iter().map(|part| line(app, part, room, (of.all_but, of.calibration))).collect()
        }),
        foot: Some(keys(app, &pairs)),
        cursor,
    }
}

fn line(app: &App, part: &PartEffect, room: usize, (all_but, calibration): (bool, bool)) -> Line<'static> {
    let theme = &app.theme;
    let figure = |value: Option<f64>| {
        value.map_or_else(|| theme.glyphs.none.to_owned(), |value| text::change(value, theme.glyphs))
    };
    let style = if part.only <= -0.01 { theme.bad() } else { theme.strong() };
    let name = text::tail(&part.name, room, theme.glyphs);
    let pad = " ".repeat(room.saturating_sub(text::width(&name)));
    let mut line = Line::from(vec![
        Span::raw(format!("  {name}{pad} ")),
        Span::styled(format!("{:>9}", figure(Some(part.only))), style),
    ]);
    if all_but {
        line.push_span(format!(" {:>9}", figure(part.all_but)));
    }
    if calibration {
        line.push_span(format!(" {:>9}", figure(part.calibration)));
    }
    line
}
