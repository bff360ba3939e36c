//! Pictures and masks of the shown sample, its sentence and its figures.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::{answer, frame, text};
use crate::app::compare::Side;
use crate::app::{App, MaskView, Pane};
use crate::widget::mask::{Tint, legend, uses_letters};
use crate::widget::picture::fit;

/// Cells that a picture among others must be wide.
const READABLE: u16 = 16;
/// Width over height from which a picture is one of a line of text.
const FLAT: usize = 3;

/// Where the picture goes beside an answer that is no mask: on the left, with at least half of the width for the answer;
/// or above it with at least half of the height, if the picture is as flat as a line of text.
pub fn picture_beside(rect: Rect, picture: (usize, usize)) -> Rect {
    let flat = picture.0 >= FLAT * picture.1;
    let (width, height) = (rect.width.saturating_sub(4), rect.height.saturating_sub(3));
    let (width, height) = if flat { (width, height / 2) } else { (width / 2, height) };
    let (width, _) = fit(picture, width, height.saturating_mul(2));
    Rect { x: rect.x.saturating_add(2), y: rect.y.saturating_add(2), width, height }
}

/// Where the pictures of a view go in the pane (each above its caption).
pub fn picture_areas(rect: Rect, view: MaskView, picture: (usize, usize)) -> Vec<(MaskView, Rect)> {
    let inner = Rect {
        x: rect.x.saturating_add(1),
        y: rect.y.saturating_add(2),
        width: rect.width.saturating_sub(2),
        height: rect.height.saturating_sub(3),
    };
    // The arrangement that shows the pictures largest.
    let width = |columns: u16, count: usize| {
        let (cell_width, cell_height) = cell(inner, columns, count);
        fit(picture, cell_width, cell_height.saturating_mul(2)).0
    };
    let widest = |count: usize| {
        (1..=count as u16).map(|columns| (width(columns, count), columns)).max().unwrap_or((0, 1))
    };
    // Fewer views where all of them would be too small to read.
    let all: [&[MaskView]; 4] = [
        &MaskView::SINGLE,
        &[MaskView::Truth, MaskView::Float, MaskView::Quantized],
        &[MaskView::Truth, MaskView::Quantized],
        &[MaskView::Quantized],
    ];
    let views: &[MaskView] = if view == MaskView::All {
        all.into_iter().find(|views| widest(views.len()).0 >= READABLE).unwrap_or(&[MaskView::Quantized])
    } else {
        std::slice::from_ref(&view)
    };
    let columns = widest(views.len()).1;
    let (cell_width, cell_height) = cell(inner, columns, views.len());
    views
        .iter()
        .enumerate()
        .map(|(place, view)| {
            let (column, row) = (place as u16 % columns, place as u16 / columns);
            let area = Rect {
                x: inner.x + column * (cell_width + 1),
                y: inner.y + row * (cell_height + 1),
                width: cell_width,
                height: cell_height,
            };
            (*view, area)
        })
        .collect()
}

/// Size of one picture's place when they stand in so many columns; a caption goes below each.
fn cell(inner: Rect, columns: u16, count: usize) -> (u16, u16) {
    let rows = (count as u16).div_ceil(columns.max(1)).max(1);
    let width = (inner.width + 1) / columns.max(1);
    (width.saturating_sub(1), (inner.height / rows).saturating_sub(1))
}

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    let block = frame(app, Pane::Samples).title(title(app, usize::from(area.width)));
    let inner = block.inner(area);
    block.render(area, buffer);
    let first = Rect { height: inner.height.min(1), ..inner };
    if let Some(failure) = &app.sample_failure {
        let text = Text::from(vec![
            Line::styled("This sample could not be run.", theme.strong()),
            Line::styled(failure.as_str(), theme.bad()),
        ]);
        let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
        Paragraph::new(text).wrap(Wrap { trim: true }).render(inner, buffer);
        return;
    }
    let Some(shown) = &app.shown else {
        let text = if app.sample_count() == 0 && app.model.is_some() {
            " no samples"
        } else {
            " waiting for the first run"
        };
        Line::styled(text, theme.dim()).render(first, buffer);
        return;
    };
    figures(app, usize::from(first.width)).render(first, buffer);
    let current = app.sample_is_current();
    if shown.full_precision.mask().is_none() {
        let picture = app.rasters.masks.first();
        if let Some((_, place, raster)) = picture {
            raster.render(place.intersection(inner), buffer);
        }
        let flat = shown.picture.as_ref().is_some_and(|picture| picture.width >= FLAT * picture.height);
        let (left, top) = match picture {
            Some((_, _, raster)) if flat => (1, raster.height() + 1),
            Some((_, place, raster)) => (raster.width() + 2 + place.x - inner.x, 1),
            None => (1, 1),
        };
        let beside = Rect {
            x: inner.x + left.min(inner.width),
            y: inner.y + top.min(inner.height),
            width: inner.width.saturating_sub(left),
            height: inner.height.saturating_sub(top),
        }
        .intersection(inner);
        answer::draw(app, shown, beside, buffer);
        return;
    }
    for (view, place, raster) in &app.rasters.masks {
        let place = place.intersection(inner);
        let left = place.x + place.width.saturating_sub(raster.width()) / 2;
        let target =
            Rect { x: left, width: place.width.saturating_sub(left - place.x), ..place }.intersection(inner);
        raster.render(target, buffer);
        let below =
            Rect { y: target.y + raster.height().min(place.height), height: 1, ..place }.intersection(inner);
        caption(app, *view, shown.truth.is_some(), current, place.width).render(below, buffer);
    }
}

fn title(app: &App, room: usize) -> Line<'static> {
    let theme = &app.theme;
    let count = app.sample_count();
    let number =
        if count == 0 { " Samples ".to_owned() } else { format!(" Samples {}/{count} ", app.sample + 1) };
    let mut line = Line::styled(number, theme.strong());
    let typed = app.typed_sentence().is_some();
    let mark = if typed { " typed, T back " } else { "" };
    let left = room.saturating_sub(line.width() + text::width(mark) + 5);
    if count > 0 && left > 4 {
        let clean: String = app.sentence().chars().map(|ch| if ch.is_control() { ' ' } else { ch }).collect();
        let style = if typed { theme.warn() } else { Style::new() };
        let name = app.model.as_ref().and_then(|model| model.samples.get(app.sample)).map(|info| &info.id);
        // A model that reads no sentences has samples with a name.
        let quoted = match name {
            Some(name) if clean.is_empty() => format!("{} ", text::head(name, left, theme.glyphs)),
            _ => format!("\"{}\" ", text::head(&clean, left, theme.glyphs)),
        };
        line.push_span(Span::styled(quoted, style));
        line.push_span(Span::styled(mark, theme.dim()));
    }
    line
}

/// Agreement with truth and full precision, and how much had to run.
fn figures(app: &App, room: usize) -> Line<'static> {
    let theme = &app.theme;
    let Some(shown) = &app.shown else { return Line::default() };
    let current = app.sample_is_current();
    let base = if current { Style::new() } else { theme.dim() };
    let name = shown.full_precision.metric().of_one();
    let mut line = Line::from(Span::styled(format!(" {name}:"), theme.dim()));
    let mut float_iou = None;
    if let (Some(float), Some(quantized)) = (shown.full_precision_score, shown.quantized_score) {
        line.push_span(Span::styled(
            format!(" truth {}", text::share(quantized)),
            base.patch(theme.strong()),
        ));
        let loss = float - quantized;
        let (sign, style) = match loss {
            0.02.. => (theme.glyphs.down, theme.bad()),
            0.0005.. => (theme.glyphs.down, theme.warn()),
            -0.0005.. => ("=", theme.good()),
            _ => (theme.glyphs.up, theme.good()),
        };
        line.push_span(Span::styled(
            format!(" {sign}{}", text::share(loss.abs())),
            if current { style } else { base },
        ));
        float_iou = Some(float);
    }
    line.push_span(Span::styled(format!("  full precision {}", text::share(shown.agreement)), base));
    if !current {
        line.push_span(Span::styled("  running", theme.warn()));
        return line;
    }
    if let Some(float) = float_iou {
        let text = format!("  {} fp with truth {}", theme.glyphs.dot, text::share(float));
        if line.width() + text::width(&text) <= room {
            line.push_span(Span::styled(text, theme.dim()));
        }
    }
    let cost = format!(
        "  {} {:.0} ms, {} of {} nodes",
        theme.glyphs.dot, shown.milliseconds, shown.nodes_run, shown.nodes
    );
    if line.width() + text::width(&cost) <= room {
        line.push_span(Span::styled(cost, theme.dim()));
    }
    line
}

/// What the answer under a plan is called.
fn plan_word(app: &App, current: bool) -> &'static str {
    match app.side() {
        _ if !current => "plan before",
        Some(Side::A) => "plan A",
        Some(Side::B) => "plan B",
        None => "this plan",
    }
}

fn caption(app: &App, view: MaskView, has_truth: bool, current: bool, room: u16) -> Line<'static> {
    let theme = &app.theme;
    let named = |tint: Tint, name: &'static str| {
        let mut line = Line::default();
        if uses_letters(theme) {
            line.push_span(Span::styled(format!("{} ", tint.letter()), tint.style(theme)));
        }
        line.push_span(Span::styled(name, tint.style(theme)));
        line
    };
    let line = match view {
        MaskView::Truth | MaskView::All if has_truth => named(Tint::Truth, "truth"),
        MaskView::Truth | MaskView::All => Line::styled("picture (no truth)", theme.dim()),
        MaskView::Float => named(Tint::Float, if room < 20 { "fp" } else { "full precision" }),
        MaskView::Quantized => named(Tint::Quantized, plan_word(app, current)),
        MaskView::Difference if room < 20 => Line::styled("difference", theme.dim()),
        MaskView::Difference => {
            let mut line = Line::default();
            for (ch, style, word) in legend(theme) {
                line.push_span(Span::styled(ch.to_string(), style.patch(theme.strong())));
                line.push_span(Span::styled(format!("{word} "), style));
            }
            line
        }
    };
    line.centered()
}
