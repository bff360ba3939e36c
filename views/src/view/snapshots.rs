//! The list of snapshots with the figures that each had when it was run last.

use bitloupe_quant::plan::Snapshot;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::popup::{List, keys};
use super::{figures, text};
use crate::app::App;

/// Cells of a name in a narrow, a usual and a wide terminal.
const NAMES: (usize, usize, usize) = (12, 20, 44);

pub(super) fn list(app: &App, cursor: usize) -> List {
    let snapshots = app.snapshots.list();
    let wide = app.area.width >= 110;
    let narrow = app.area.width < 70;
    let longest = if wide {
        NAMES.2
    } else if narrow {
        NAMES.0
    } else {
        NAMES.1
    };
    let names = snapshots.iter().map(|s| text::width(&s.name)).max().unwrap_or(0).clamp(8, longest);
    let now = app.plan.current();
    let lines: Vec<Line> = snapshots
        .iter()
        .enumerate()
        .map(|(place, snapshot)| line(app, place, snapshot, snapshot.plan == now, names))
        .collect();
    let mut pairs =
        vec![("Enter", "loads"), ("b", "A/B"), ("D", "differs"), ("r", "renames"), ("d", "deletes")];
    if wide {
        pairs.extend([("e", "exports"), ("n", "keeps a new one"), ("u", "undoes"), ("Esc", "closes")]);
    } else {
        pairs.extend([("e", "exports"), ("u", "undo")]);
    }
    if narrow {
        pairs.truncate(3);
    }
    let empty = vec![Line::styled(" none; n keeps the plan as it is", app.theme.dim())];
    List {
        title: " Snapshots ".to_owned(),
        head: if lines.is_empty() { empty } else { Vec::new() },
        lines,
        foot: Some(keys(app, &pairs)),
        cursor,
    }
}

fn line(app: &App, place: usize, snapshot: &Snapshot, is_now: bool, names: usize) -> Line<'static> {
    let theme = &app.theme;
    let number = if place < 9 { (place + 1).to_string() } else { " ".to_owned() };
    let name = text::head(&snapshot.name, names, theme.glyphs);
    let pad = names.saturating_sub(text::width(&name));
    let sign = if is_now { theme.glyphs.cursor } else { " " };
    let mut line = Line::from(vec![
        Span::styled(sign.to_owned(), theme.accent()),
        Span::styled(format!("{number} "), theme.key()),
        Span::styled(name, if is_now { theme.strong() } else { Style::new() }),
        Span::raw(" ".repeat(pad + 2)),
    ]);
    if app.area.width < 70 {
        let bits = snapshot
            .figures
            .cost
            .map(|cost| format!("W{:.1} A{:.1}  ", cost.weight_bits, cost.activation_bits));
        line.push_span(Span::raw(bits.unwrap_or_default()));
        let value =
            snapshot.figures.accuracy.as_ref().map(|found| found.quantized.unwrap_or(found.agreement));
        line.push_span(Span::raw(value.map(text::share).unwrap_or_default()));
        return line;
    }
    match &snapshot.figures.cost {
        Some(cost) => {
            line.push_span(Span::raw(format!(
                "W {:>4.1} A {:>4.1} bits {:>8}  ",
                cost.weight_bits,
                cost.activation_bits,
                text::bytes(cost.weight_bytes)
            )));
        }
        None => line.push_span(Span::styled(format!("{:<29}", "not fitted yet"), theme.dim())),
    }
    match &snapshot.figures.accuracy {
        Some(found) => line.spans.extend(figures::accuracy(app, found)),
        None => line.push_span(Span::styled("not evaluated", theme.dim())),
    }
    line
}
