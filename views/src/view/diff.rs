//! Two plans side by side: their figures, then every site that they treat differently.

use bitloupe_quant::plan::Figures;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::popup::{List, keys};
use super::{figures, text};
use crate::app::App;
use crate::app::diff::{Column, Differences};
use crate::app::overlay::DiffWith;

/// Cells of the box at most.
const WIDEST: usize = 140;

/// Cells of the three columns.
#[derive(Clone, Copy)]
struct Widths {
    what: usize,
    plan: usize,
}

pub(super) fn list(app: &App, with: &DiffWith, cursor: usize) -> List {
    let Some(found) = app.differences(with) else { return List::default() };
    let theme = &app.theme;
    let room = usize::from(app.area.width).saturating_sub(6).min(WIDEST);
    let longest = |of: fn(&crate::app::diff::Row) -> &str| {
        found.rows.iter().map(|row| text::width(of(row))).max().unwrap_or(0)
    };
    let plan = longest(|row| &row.left).max(longest(|row| &row.right)).clamp(20, 34).min((room / 4).max(20));
    let what = longest(|row| &row.what).clamp(14, room.saturating_sub(2 * plan + 4).max(14));
    let widths = Widths { what, plan };
    let lines: Vec<Line> = found
        .rows
        .iter()
        .map(|row| {
            let mut line = Line::from(format!(" {}", pad(&text::tail(&row.what, what, theme.glyphs), what)));
            for side in [&row.left, &row.right] {
                line.push_span("  ");
                line.push_span(pad(&text::head(side, plan, theme.glyphs), plan));
            }
            line
        })
        .collect();
    let switch = if *with == DiffWith::Side { ("B", "switches") } else { ("Esc", "back") };
    List {
        title: " Differences ".to_owned(),
        head: head(app, &found, widths),
        lines,
        foot: Some(keys(
            app,
            &[("Enter", "goes to the layer"), switch, ("Esc", "closes")]
                [..2 + usize::from(*with == DiffWith::Side)],
        )),
        cursor,
    }
}

fn head(app: &App, found: &Differences, widths: Widths) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let row = |word: &str, cells: [Vec<Span<'static>>; 2]| {
        let mut line = Line::from(Span::styled(
            format!(" {}", pad(&text::head(word, widths.what, theme.glyphs), widths.what)),
            theme.dim(),
        ));
        for spans in cells {
            let used: usize = spans.iter().map(|span| text::width(&span.content)).sum();
            line.push_span("  ");
            line.spans.extend(spans);
            line.push_span(" ".repeat(widths.plan.saturating_sub(used)));
        }
        line
    };
    let none = || vec![Span::styled(theme.glyphs.none.to_owned(), theme.dim())];
    let each = |cell: &dyn Fn(&Column) -> Option<Vec<Span<'static>>>| {
        [cell(&found.columns[0]).unwrap_or_else(none), cell(&found.columns[1]).unwrap_or_else(none)]
    };
    let of = |cell: &dyn Fn(&Figures) -> Option<Vec<Span<'static>>>| each(&|column| cell(&column.figures));
    let name = |column: &Column| {
        let letter = match (column.letter, column.shown) {
            ("", _) => String::new(),
            (letter, true) => format!("[{letter}] "),
            (letter, false) => format!(" {letter}  "),
        };
        let style = if column.shown { theme.accent().patch(theme.strong()) } else { Style::new() };
        let name = text::head(&column.name, widths.plan.saturating_sub(letter.len()), theme.glyphs);
        Some(vec![Span::styled(format!("{letter}{name}"), style)])
    };
    let metric = found.columns.iter().find_map(|column| column.figures.accuracy.as_ref());
    let metric = metric.map_or("accuracy", |accuracy| accuracy.metric.as_str()).to_owned();
    let rewrites = found.rows.len() - found.sites;
    let mut count = match found.sites {
        0 => " no site differs".to_owned(),
        1 => " 1 site differs".to_owned(),
        sites => format!(" {sites} sites differ"),
    };
    if rewrites > 0 {
        count += &format!(", {rewrites} {}", if rewrites == 1 { "rewrite" } else { "rewrites" });
    }
    vec![
        row("", each(&name)),
        row("average bits", of(&|f| Some(vec![Span::raw(figures::bits(f.cost.as_ref()?))]))),
        row("weights", of(&|f| Some(vec![Span::raw(text::bytes(f.cost?.weight_bytes))]))),
        row(
            &format!("{metric}, all samples"),
            of(&|f| {
                let found = f.accuracy.as_ref()?;
                let value = found.quantized.unwrap_or(found.agreement);
                let mut spans = vec![Span::styled(text::share(value), theme.strong())];
                if let (Some(float), Some(quantized)) = (found.full_precision, found.quantized) {
                    spans.push(figures::loss(app, float - quantized));
                }
                Some(spans)
            }),
        ),
        row("this sample", each(&|column| Some(vec![Span::raw(text::share(column.sample?))]))),
        Line::styled(count, theme.strong()),
    ]
}

fn pad(text: &str, cells: usize) -> String {
    format!("{text}{}", " ".repeat(cells.saturating_sub(text::width(text))))
}
