//! The layers as a foldable table.

use bitloupe_quant::terms::Bits;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::{frame, scrollbar, text};
use crate::app::layers::Sort;
use crate::app::tree::{Row, RowKind};
use crate::app::{App, Pane};

/// Lines of the table in a pane of this size.
pub fn page(rect: Rect) -> usize {
    usize::from(rect.height.saturating_sub(3))
}

/// Which columns have room.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each column stands for itself")]
struct Columns {
    name: usize,
    op: bool,
    class: bool,
    share: bool,
    effect: bool,
}

impl Columns {
    const BITS: usize = 3;
    const CLASS: usize = 16;
    const DECIBELS: usize = 7;
    const EFFECT: usize = 7;
    const OP: usize = 11;
    const SHARE: usize = 6;

    fn of(width: usize, effects: bool) -> Self {
        let fixed = Self::BITS + Self::BITS + 2 + Self::DECIBELS;
        let mut columns =
            Self { name: width.saturating_sub(fixed), op: false, class: false, share: false, effect: false };
        columns.effect = effects && columns.name >= 12 + Self::EFFECT;
        if columns.effect {
            columns.name -= Self::EFFECT;
        }
        columns.class = columns.name >= 12 + Self::CLASS;
        if columns.class {
            columns.name -= Self::CLASS;
        }
        columns.op = columns.name >= 34 + Self::OP;
        if columns.op {
            columns.name -= Self::OP;
        }
        columns.share = columns.name >= 34 + Self::SHARE;
        if columns.share {
            columns.name -= Self::SHARE;
        }
        columns
    }
}

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    let block = frame(app, Pane::Layers).title(title(app));
    let inner = block.inner(area);
    block.render(area, buffer);
    let columns = Columns::of(usize::from(inner.width), !app.effects.is_empty());
    let header = Rect { height: inner.height.min(1), ..inner };
    head(app, columns).render(header, buffer);
    let total_macs = app.model.as_ref().map_or(0, |model| model.macs);
    for (line, (place, row)) in
        app.layers.rows().iter().enumerate().skip(app.layers.offset).take(page(area)).enumerate()
    {
        let rect = Rect { y: inner.y + 1 + line as u16, height: 1, ..inner };
        let selected = place == app.layers.cursor;
        draw_row(app, row, columns, total_macs, rect, buffer);
        if selected {
            buffer.set_style(rect, theme.selected(app.focus == Pane::Layers));
        }
    }
    if app.layers.rows().is_empty() {
        let text = if app.model.is_none() {
            " opening the model"
        } else {
            " no layer has these words; Esc clears the filter"
        };
        Line::styled(text, theme.dim())
            .render(Rect { y: inner.y + 1, height: 1, ..inner }.intersection(inner), buffer);
    }
    scrollbar::draw(app, app.layers.rows().len(), page(area), app.layers.offset, area, buffer);
}

fn title(app: &App) -> Line<'static> {
    let count = app.model.as_ref().map_or(0, |model| model.layers.len());
    let mut spans = vec![Span::styled(format!(" Layers {count}"), app.theme.strong())];
    if !app.layers.filter.is_empty() {
        let matches = format!(" /{} {}", app.layers.filter, app.layers.matches());
        spans.push(Span::styled(text::head(&matches, 24, app.theme.glyphs), app.theme.warn()));
    }
    let marked = app.layers.marked().len();
    if marked > 0 {
        let text = format!(" {} {marked} marked", app.theme.glyphs.marked);
        spans.push(Span::styled(text, app.theme.warn().patch(app.theme.strong())));
    }
    if app.layers.sort != Sort::Order || app.layers.reversed {
        let arrow = if app.layers.reversed { app.theme.glyphs.up } else { app.theme.glyphs.down };
        spans.push(Span::styled(format!(" by {} {arrow}", app.layers.sort.word()), app.theme.accent()));
    }
    spans.push(Span::raw(" "));
    Line::from(spans)
}

fn head(app: &App, columns: Columns) -> Line<'static> {
    let mut parts = vec![format!(" {:<width$}", "name", width = columns.name.saturating_sub(1))];
    if columns.op {
        parts.push(format!("{:<width$}", "op", width = Columns::OP));
    }
    if columns.share {
        parts.push(format!("{:>width$} ", "MACs", width = Columns::SHARE - 1));
    }
    parts.push("  W  A  ".to_owned());
    if columns.class {
        parts.push(format!("{:<width$}", "class", width = Columns::CLASS));
    }
    parts.push(format!("{:>width$} ", "dB", width = Columns::DECIBELS - 2));
    if columns.effect {
        let name = format!("{}{}", app.theme.glyphs.delta, app.effects.metric.of_one());
        parts.push(format!("{name:>width$}", width = Columns::EFFECT));
    }
    Line::styled(parts.concat(), app.theme.dim())
}

fn draw_row(app: &App, row: &Row, columns: Columns, total_macs: u64, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    let glyphs = theme.glyphs;
    let indent = usize::from(row.depth.min(12)) * 2;
    let (sign, style) = match &row.kind {
        RowKind::Group { folded: true, .. } => (glyphs.folded, theme.strong()),
        RowKind::Group { folded: false, .. } => (glyphs.open, theme.strong()),
        RowKind::Layer(layer) => {
            let rewritten = app.facts.layer(*layer).is_some_and(|facts| facts.rewritten);
            (if rewritten { glyphs.rewritten } else { " " }, Style::new())
        }
    };
    let sign_style = if matches!(row.kind, RowKind::Layer(_)) { theme.quantized() } else { Style::new() };
    let room = columns.name.saturating_sub(indent + 4);
    let label = match &row.kind {
        RowKind::Group { layers, folded: true, .. } => format!("{} ({})", row.label, layers.len()),
        _ => row.label.clone(),
    };
    let label = text::tail(&label, room, glyphs);
    let pad = room.saturating_sub(text::width(&label)) + 1;
    let mut line = Line::from(Span::styled(mark(app, &row.kind), theme.warn().patch(theme.strong())));
    line.push_span(" ".repeat(indent.min(columns.name.saturating_sub(4))));
    line.push_span(Span::styled(format!("{sign} "), sign_style));
    line.push_span(Span::styled(label, style));
    line.push_span(" ".repeat(pad));
    match &row.kind {
        RowKind::Layer(layer) => layer_cells(app, *layer, columns, total_macs, &mut line),
        RowKind::Group { layers, folded, .. } => group_cells(app, layers, *folded, columns, &mut line),
    }
    line.render(area, buffer);
}

/// The sign of a marked line.
fn mark(app: &App, kind: &RowKind) -> &'static str {
    let marked = app.layers.marked();
    let glyphs = app.theme.glyphs;
    match kind {
        RowKind::Layer(layer) if marked.contains(layer) => glyphs.marked,
        RowKind::Group { layers, .. } if layers.iter().all(|layer| marked.contains(layer)) => glyphs.marked,
        RowKind::Group { layers, .. } if layers.iter().any(|layer| marked.contains(layer)) => {
            glyphs.some_marked
        }
        _ => " ",
    }
}

fn layer_cells(app: &App, layer: usize, columns: Columns, total_macs: u64, line: &mut Line<'static>) {
    let theme = &app.theme;
    let glyphs = theme.glyphs;
    let view = app.model.as_ref().and_then(|model| model.layers.get(layer));
    let Some((facts, view)) = app.facts.layer(layer).zip(view) else { return };
    if columns.op {
        line.push_span(Span::styled(format!("{:<width$}", view.op, width = Columns::OP), theme.dim()));
    }
    if columns.share {
        let share = view.macs as f64 / total_macs.max(1) as f64 * 100.0;
        line.push_span(Span::styled(format!("{share:>width$.1}%", width = Columns::SHARE - 2), theme.dim()));
        line.push_span(" ");
    }
    let shown = |bits: Option<Bits>| bits.map_or_else(|| glyphs.none.to_owned(), |bits| bits.to_string());
    line.push_span(Span::styled(format!("{:>3}", shown(facts.weight)), bits_style(app, facts.weight)));
    // The operands of a product may differ; the narrower one tells more.
    let activation = facts.activations.iter().copied().min();
    let differs = facts.activations.iter().any(|bits| Some(*bits) != activation);
    line.push_span(Span::styled(format!("{:>3}", shown(activation)), bits_style(app, activation)));
    line.push_span(if differs { "+ " } else { "  " });
    if columns.class {
        let class = match facts.class {
            _ if !view.used => "not used".to_owned(),
            Some(class) => class.to_string(),
            None => glyphs.none.to_owned(),
        };
        line.push_span(format!("{:<width$}", class, width = Columns::CLASS));
    }
    decibel_cell(app, facts.decibels.filter(|_| view.used), line);
    if columns.effect {
        effect_cell(app, facts.effect, line);
    }
}

fn group_cells(app: &App, layers: &[usize], folded: bool, columns: Columns, line: &mut Line<'static>) {
    let glyphs = app.theme.glyphs;
    let (weight, activation) = app.facts.shared(layers);
    let shown = |bits: Option<Option<Bits>>| match bits {
        None => glyphs.none.to_owned(),
        Some(None) => "*".to_owned(),
        Some(Some(bits)) => bits.to_string(),
    };
    if columns.op {
        line.push_span(" ".repeat(Columns::OP));
    }
    if columns.share {
        line.push_span(" ".repeat(Columns::SHARE));
    }
    line.push_span(Span::styled(format!("{:>3}{:>3}  ", shown(weight), shown(activation)), app.theme.dim()));
    if columns.class {
        line.push_span(" ".repeat(Columns::CLASS));
    }
    if folded {
        decibel_cell(app, app.facts.least(layers), line);
        if columns.effect {
            effect_cell(app, app.facts.worst(layers), line);
        }
    }
}

fn decibel_cell(app: &App, value: Option<f64>, line: &mut Line<'static>) {
    match value {
        Some(value) => {
            // The sign says the same as the colour.
            let sign = if value < 10.0 { app.theme.glyphs.warning } else { " " };
            line.push_span(Span::styled(
                format!("{:>5}{sign}", text::decibels(value)),
                app.theme.decibels(value),
            ));
        }
        None => line.push_span(Span::styled(format!("{:>5} ", app.theme.glyphs.none), app.theme.dim())),
    }
}

/// The change of the figure; a hundredth is worth a colour.
fn effect_cell(app: &App, value: Option<f64>, line: &mut Line<'static>) {
    let theme = &app.theme;
    let (text, style) = match value {
        None => (theme.glyphs.none.to_owned(), theme.dim()),
        Some(value) if value <= -0.01 => (text::change(value, theme.glyphs), theme.bad()),
        Some(value) if value <= -0.002 => (text::change(value, theme.glyphs), theme.warn()),
        Some(value) => (text::change(value, theme.glyphs), theme.dim()),
    };
    line.push_span(Span::styled(format!("{text:>width$}", width = Columns::EFFECT), style));
}

fn bits_style(app: &App, bits: Option<Bits>) -> Style {
    match bits {
        Some(bits) if bits.is_float() => app.theme.dim(),
        Some(_) => app.theme.strong(),
        None => app.theme.dim(),
    }
}
