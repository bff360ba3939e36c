//! The front of a plan search: one plan per budget, the one under the cursor loaded.

use bitloupe_quant::session::messages::{FrontPoint, Job};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::popup::{List, keys};
use super::text;
use crate::app::App;

pub(super) fn list(app: &App, cursor: usize) -> List {
    let theme = &app.theme;
    let narrow = app.area.width < 76;
    let points = app.front.as_ref().map_or(&[][..], |front| &front.points);
    let searching = app.jobs.runs(Job::Search);
    let mut head = Vec::new();
    let doing = app.front.as_ref().and_then(|front| front.doing);
    if searching {
        let text = format!(
            " {}; points appear and improve, x stops and keeps them",
            doing.unwrap_or("fitting and measuring candidates")
        );
        head.push(Line::styled(text, theme.accent()));
    } else if points.is_empty() {
        head.push(Line::styled(" nothing found yet; s searches", theme.dim()));
    }
    if !points.is_empty() {
        let metric = app.front.as_ref().map(|front| front.metric.name()).unwrap_or_default();
        let text = if narrow {
            format!(" {metric} on calibration samples held back")
        } else {
            format!(
                " figures are {metric} on calibration samples that no choice was made on, and the agreement there"
            )
        };
        head.push(Line::styled(text, theme.dim()));
    }
    let mut pairs =
        vec![("\u{2191}\u{2193}", "loads"), ("Enter", "keeps"), ("Esc", "back"), ("t", "other budget")];
    if theme.is_ascii() {
        pairs[0].0 = "Up/Down";
    }
    if !narrow {
        pairs.extend([("b", "A/B"), ("s", "searches again")]);
    }
    List {
        title: " Plans for budgets ".to_owned(),
        head,
        lines: points.iter().map(|point| line(app, point, narrow)).collect(),
        foot: Some(keys(app, &pairs)),
        cursor,
    }
}

fn line(app: &App, point: &FrontPoint, narrow: bool) -> Line<'static> {
    let theme = &app.theme;
    let now = app.plan.current();
    let is_now = point.plan.layers == now.layers && point.plan.rewrites == now.rewrites;
    let figure = |value: Option<f64>| value.map_or_else(|| theme.glyphs.none.to_owned(), text::share);
    let mut line = Line::from(vec![
        Span::styled(if is_now { theme.glyphs.cursor } else { " " }, theme.accent()),
        Span::styled(
            format!("{:<18}", text::head(&point.limit, 18, theme.glyphs)),
            if is_now { theme.strong() } else { Style::new() },
        ),
        Span::raw(format!("W{:>5.2} A{:>5.2}  ", point.weight_bits, point.activation_bits)),
    ]);
    if !narrow {
        line.push_span(Span::raw(format!("{:>9}  ", text::bytes(point.weight_bytes))));
    }
    line.push_span(Span::styled(figure(point.figure), theme.strong()));
    line.push_span(Span::raw(format!("  {}  ", figure(point.agreement))));
    if !narrow {
        line.push_span(Span::styled(text::head(&point.origin, 22, theme.glyphs), theme.dim()));
    }
    line
}
