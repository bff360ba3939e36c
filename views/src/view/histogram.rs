//! The distribution of the shown site.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::{frame, text};
use crate::app::{App, Pane};
use crate::widget::axis::figure;
use crate::widget::heat::outliers;

/// The place of the plot in its pane: one line above it says what is seen.
pub fn plot_area(rect: Rect) -> Rect {
    Rect {
        x: rect.x.saturating_add(1),
        y: rect.y.saturating_add(2),
        width: rect.width.saturating_sub(2),
        height: rect.height.saturating_sub(3),
    }
}

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    let block = frame(app, Pane::Histogram).title(title(app, usize::from(area.width)));
    let inner = block.inner(area);
    block.render(area, buffer);
    let first = Rect { height: inner.height.min(1), ..inner };
    let Some(detail) = app.site_detail() else {
        let waiting = if app.calibration.samples == 0 {
            " waiting for the first calibration sample"
        } else {
            " fitting"
        };
        let text = if app.site_id().is_none() { " no layer is selected" } else { waiting };
        Line::styled(text, theme.dim()).render(first, buffer);
        return;
    };
    let legend = if app.plot.channels {
        channel_legend(app, &detail.channels)
    } else {
        plot_legend(app, usize::from(inner.width))
    };
    legend.render(first, buffer);
    if let Some(raster) = &app.rasters.plot {
        raster.render(plot_area(area).intersection(area), buffer);
    }
}

fn title(app: &App, room: usize) -> Line<'static> {
    let theme = &app.theme;
    let Some(site) = app.site() else { return Line::styled(" Distribution ", theme.strong()) };
    let role = format!(" {} ", site.role);
    let shape: Vec<String> = site.shape.iter().map(ToString::to_string).collect();
    let shape = format!("{} ", shape.join(theme.glyphs.times));
    let name_room = room.saturating_sub(text::width(&role) + 5);
    let mut line = Line::from(Span::styled(
        format!(" {} ", text::tail(&site.site.to_string(), name_room, theme.glyphs)),
        theme.strong(),
    ));
    line.push_span(Span::styled(role, theme.accent()));
    if line.width() + text::width(&shape) + 4 < room {
        line.push_span(Span::styled(shape, theme.dim()));
    }
    line
}

/// What the signs mean and where the grid ends; what does not fit is left out from the end on.
fn plot_legend(app: &App, room: usize) -> Line<'static> {
    let theme = &app.theme;
    let glyphs = theme.glyphs;
    let bar = glyphs.bars.get(5).copied().unwrap_or('#');
    let Some(detail) = app.site_detail() else { return Line::default() };
    let mut parts = vec![vec![Span::styled(format!("{bar}"), theme.float()), Span::raw(" fp")]];
    if detail.dequantized.is_some() && app.plot.dequantized {
        parts.push(if app.plot.log_values {
            vec![Span::styled("de-quantized only on the linear axis (l)", theme.dim())]
        } else {
            vec![Span::styled(glyphs.stem.to_string(), theme.quantized()), Span::raw(" de-quantized")]
        });
    }
    if let Some((low, high)) = detail.clip {
        let (below, above) = app.rasters.clipped;
        let lost = below + above;
        let style = if lost > 0.001 { theme.bad() } else { Style::new() };
        let clipped = format!("{}{} {} % clipped", glyphs.clip_left, glyphs.clip_right, figure(lost * 100.0));
        parts.push(vec![Span::styled(clipped, style)]);
        let ends = format!("at {} and {}", figure(f64::from(low)), figure(f64::from(high)));
        parts.push(vec![Span::styled(ends, theme.dim())]);
    }
    if !detail.levels.is_empty() {
        let levels = format!(" {} levels", detail.levels.len());
        parts.push(vec![Span::styled(glyphs.level.to_string(), theme.quantized()), Span::raw(levels)]);
    }
    if let Some(summary) = app.summary() {
        let (min, max) = (figure(f64::from(summary.min)), figure(f64::from(summary.max)));
        let figures = format!("{} min {min} max {max} std {}", glyphs.dot, figure(summary.std));
        parts.push(vec![Span::styled(figures, theme.dim())]);
    }
    let mut line = Line::from(" ");
    for part in parts {
        let width: usize = part.iter().map(|span| text::width(&span.content)).sum();
        if line.width() + width <= room {
            line.spans.extend(part);
            line.push_span("  ");
        }
    }
    line
}

fn channel_legend(app: &App, channels: &[(f32, f32)]) -> Line<'static> {
    let theme = &app.theme;
    let mut line = Line::from(format!(" {} channels by value", channels.len()));
    let found = outliers(channels);
    if found.is_empty() {
        line.push_span(Span::styled(format!("  {} none stands out", theme.glyphs.dot), theme.dim()));
        return line;
    }
    line.push_span(Span::styled(format!("  {}", theme.glyphs.outlier), theme.warn()));
    let named: Vec<String> = found
        .iter()
        .take(4)
        .map(|(channel, reach)| format!("{channel} {}{}", theme.glyphs.plus_minus, figure(f64::from(*reach))))
        .collect();
    line.push_span(format!(" {} outliers: {}", found.len(), named.join(", ")));
    line
}
