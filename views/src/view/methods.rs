//! The list of published methods: what each does, its bits, and what it is applied to.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::{popup, text};
use crate::app::methods::{WIDTHS, exception_choices, width_word};
use crate::app::{App, Field, MethodForm, Scope};
use bitloupe_quant::method::{PaperBits, PaperLayers};
use bitloupe_quant::session::messages::{MethodView, ModelView};
use bitloupe_quant::terms::Bits;

/// Names fit here.
const NAMES: u16 = 14;
/// From this width on there is room to say what a method does.
const WIDE: u16 = 56;
/// Words before the fields.
const LABEL: usize = 12;
/// From this height on all fields have room below the names.
const TALL: u16 = 14;
/// Fields that are shown where there is less; the one with the cursor is among them.
const FEW_FIELDS: usize = 3;

pub(super) fn draw(app: &App, form: &MethodForm, area: Rect, buffer: &mut Buffer) {
    let Some(model) = &app.model else { return };
    let form = &MethodForm { cursor: form.cursor.min(model.methods.len().saturating_sub(1)), ..*form };
    let Some(method) = model.methods.get(form.cursor) else { return };
    let wide = area.width.saturating_sub(2) >= WIDE;
    let width = area.width.saturating_sub(2).min(104);
    let told = told(app, method);
    let inside = width.saturating_sub(NAMES + 3);
    let lines = if wide { most_lines(app, inside) } else { 0 }.max(model.methods.len()) as u16;
    let title = " Methods (u takes one back) ";
    let all = Field::ALL.len();
    let inner = popup::open(app, title, (width, lines + 4 + all as u16), area, buffer);
    let shown = if inner.height >= TALL { all } else { FEW_FIELDS };
    let [top, _, fields, hints] = Layout::vertical([
        Constraint::Min(1),
        Constraint::Length(u16::from(inner.height > 8)),
        Constraint::Length(shown as u16),
        Constraint::Length(1),
    ])
    .areas(inner);
    let [names, mut about] =
        Layout::horizontal([Constraint::Length(if wide { NAMES } else { top.width }), Constraint::Min(0)])
            .areas(top);
    name_list(app, model, form.cursor, names, buffer);
    if wide {
        about.width = about.width.saturating_sub(1);
        Paragraph::new(told).wrap(Wrap { trim: false }).render(about, buffer);
    }
    let place = Field::ALL.iter().position(|field| *field == form.field).unwrap_or(0);
    let first = (place + 1).saturating_sub(shown);
    let lines = field_lines(app, form, method, wide);
    for (row, line) in lines.into_iter().skip(first).take(usize::from(fields.height)).enumerate() {
        line.render(Rect { y: fields.y + row as u16, height: 1, ..fields }, buffer);
    }
    hint_line(app, form, method, usize::from(hints.width)).render(hints, buffer);
}

fn name_list(app: &App, model: &ModelView, cursor: usize, area: Rect, buffer: &mut Buffer) {
    let page = usize::from(area.height);
    let first = (cursor + 1).saturating_sub(page);
    let current = app.plan.current();
    for (row, (place, method)) in model.methods.iter().enumerate().skip(first).take(page).enumerate() {
        let rect = Rect { y: area.y + row as u16, height: 1, width: area.width.min(NAMES - 1), ..area };
        // The plan's own method carries the sign that marks the current choice elsewhere.
        let sign = if method.name == current.method { app.theme.glyphs.cursor } else { " " };
        Line::from(vec![
            Span::styled(format!(" {sign}"), app.theme.accent()),
            Span::raw(text::head(method.name, usize::from(NAMES) - 4, app.theme.glyphs)),
        ])
        .render(rect, buffer);
        if place == cursor {
            buffer.set_style(rect, app.theme.selected(true));
        }
    }
}

/// What a method is and which roles it treats how.
fn told(app: &App, method: &MethodView) -> Vec<Line<'static>> {
    let mut lines = vec![Line::styled(method.source, app.theme.dim())];
    lines.extend(method.treatment.iter().map(|(role, how)| {
        Line::from(vec![Span::styled(format!("{role}: "), app.theme.strong()), Span::raw(*how)])
    }));
    lines
}

/// Lines of the longest description: the box keeps its size while the cursor moves.
fn most_lines(app: &App, width: u16) -> usize {
    let methods = app.model.as_ref().map_or(&[][..], |model| &model.methods);
    let wrapped = |line: &Line| text::lines(&line.to_string(), usize::from(width));
    let lines = |method: &MethodView| told(app, method).iter().map(wrapped).sum::<usize>();
    methods.iter().map(lines).max().unwrap_or(0)
}

/// In the order of [`Field::ALL`].
fn field_lines(app: &App, form: &MethodForm, method: &MethodView, wide: bool) -> Vec<Line<'static>> {
    let paper = &method.exceptions;
    let exception = |(word, key), field, bits, paper: PaperLayers| {
        exception_line(app, (word, key), bits, paper, form.field == field, wide)
    };
    vec![
        widths(app, "weights", form.weights, form.field == Field::Weights),
        widths(app, "activations", form.activations, form.field == Field::Activations),
        exception(("patch", 'p'), Field::Patches, form.patches, paper.patch_embedding),
        exception(("last", 't'), Field::Last, form.last, paper.last),
        exception(("softmax", 'x'), Field::Softmax, form.softmax, paper.softmax),
        scopes(app, form, wide),
    ]
}

/// The name of a field; the letter `key` of it goes there.
fn label(app: &App, word: &str, key: char, focused: bool) -> Vec<Span<'static>> {
    let theme = &app.theme;
    let sign = if focused { theme.glyphs.folded } else { " " };
    let style = if focused { theme.strong() } else { theme.dim() };
    let (before, after) = word.split_once(key).unwrap_or((word, ""));
    let room = LABEL.saturating_sub(before.len() + 1);
    vec![
        Span::styled(format!(" {sign} "), theme.accent()),
        Span::styled(before.to_owned(), style),
        Span::styled(key.to_string(), theme.key()),
        Span::styled(format!("{after:<room$}"), style),
    ]
}

/// What the paper says about some layers, in few words.
fn of_paper(paper: PaperLayers) -> String {
    let word = |bits: PaperBits| match bits {
        PaperBits::AsAsked => "as all".to_owned(),
        PaperBits::Always(bits) => width_word(bits),
        PaperBits::Varies => "varies".to_owned(),
    };
    match (paper.weights, paper.activations) {
        (Some(w), Some(a)) if w != a => format!("W {}, A {}", word(w), word(a)),
        (Some(bits), _) | (None, Some(bits)) => word(bits),
        (None, None) => "none here".to_owned(),
    }
}

/// Bits of layers that the paper may treat apart.
fn exception_line(
    app: &App,
    (word, key): (&str, char),
    bits: Option<Bits>,
    paper: PaperLayers,
    focused: bool,
    wide: bool,
) -> Line<'static> {
    let mut spans = label(app, word, key, focused);
    // In a narrow box only the chosen one has room; the keys go through them all the same.
    for offered in exception_choices().filter(|offered| wide || *offered == bits) {
        let word = match offered {
            None => format!("paper: {}", of_paper(paper)),
            Some(bits) => width_word(bits),
        };
        spans.push(choice(app, &word, offered == bits, focused));
    }
    Line::from(spans)
}

fn choice(app: &App, word: &str, chosen: bool, focused: bool) -> Span<'static> {
    // The brackets say what is chosen where neither colour nor reversed cells do.
    match (chosen, focused) {
        (true, true) => Span::styled(format!("[{word}]"), app.theme.selected(true)),
        (true, false) => Span::styled(format!("[{word}]"), app.theme.strong()),
        (false, _) => Span::styled(format!(" {word} "), app.theme.dim()),
    }
}

fn widths(app: &App, word: &str, width: u8, focused: bool) -> Line<'static> {
    let mut spans = label(app, word, word.chars().next().unwrap_or(' '), focused);
    spans.extend(WIDTHS.map(|other| choice(app, &other.to_string(), other == width, focused)));
    spans.push(Span::styled(" bits", app.theme.dim()));
    Line::from(spans)
}

fn scopes(app: &App, form: &MethodForm, wide: bool) -> Line<'static> {
    let focused = form.field == Field::Scope;
    let mut spans = label(app, "scope", 's', focused);
    let offered = app.scopes();
    // In a narrow box only the chosen one has room; the key goes through them all the same.
    for scope in offered.iter().copied().filter(|scope| wide || *scope == form.scope) {
        let count = app.layers_in(scope).len();
        let word = match scope {
            Scope::Everything => "everything".to_owned(),
            Scope::Filtered => format!("filtered: {count}"),
            Scope::Marked => format!("marked: {count}"),
        };
        spans.push(choice(app, &word, scope == form.scope, focused));
    }
    let note = match offered.len() {
        1 if wide => " or filtered (/) or marked (Space) layers",
        1 => "",
        _ => " layers",
    };
    spans.push(Span::styled(note, app.theme.dim()));
    Line::from(spans)
}

/// What Enter would do, and as many other keys as have room.
fn hint_line(app: &App, form: &MethodForm, method: &MethodView, width: usize) -> Line<'static> {
    let theme = &app.theme;
    let part = match form.scope {
        Scope::Everything => String::new(),
        scope => format!(" to {} layers", app.layers_in(scope).len()),
    };
    let mut what = format!("{}{part}", form.named(method.name));
    // What was asked for apart stands in the fields anyway.
    if text::width(&what) + 16 > width {
        what = format!("{} {}{part}", method.name, form.bits());
    }
    let widths = match form.field {
        Field::Patches | Field::Last | Field::Softmax => format!("{} 2-8 f Del", theme.glyphs.left_right),
        _ => format!("{} 2-8", theme.glyphs.left_right),
    };
    let applies = if width < usize::from(WIDE) { what } else { format!("applies {what}") };
    let parts = [("Enter", applies.as_str()), ("Esc", "closes"), ("Tab", "field"), (&widths, "bits")];
    let mut line = Line::default();
    for (key, word) in parts {
        if line.width() + text::width(key) + text::width(word) + 3 <= width {
            line.push_span(Span::styled(format!(" {key} "), theme.key()));
            line.push_span(format!("{word} "));
        }
    }
    line
}
