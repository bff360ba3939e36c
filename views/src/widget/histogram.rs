//! The distribution of a site: bars of the full-precision values, stems of the de-quantized ones, the grid and
//! the clip borders on the axis below.

use ratatui::layout::Rect;

use super::axis::{Axis, figure};
use super::{Raster, Spot};
use crate::theme::Theme;

/// Decades of a logarithmic count axis.
const DECADES: f64 = 5.0;

/// Cells left of the drawing, for figures.
const MARGIN: u16 = 6;

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Histogram<'a> {
    /// Ascending borders of the intervals.
    pub edges: &'a [f32],
    /// Values per interval.
    pub counts: &'a [f64],
    /// Values per interval after quantization, if they are to be drawn.
    pub dequantized: Option<&'a [f64]>,
    /// The grid, ascending.
    pub levels: &'a [f32],
    /// Where the grid ends.
    pub clip: Option<(f32, f32)>,
    /// Share of all values outside `clip`.
    pub clipped: (f64, f64),
    /// Whether the values' axis is logarithmic (magnitudes).
    pub log_values: bool,
    /// Whether the counts' axis is logarithmic.
    pub log_counts: bool,
}

impl Histogram<'_> {
    /// Draws into cells of the size of `area`.
    pub fn raster(&self, area: Rect, theme: &Theme) -> Raster {
        let mut raster = Raster::new(area.width, area.height);
        let width = area.width.saturating_sub(MARGIN);
        let height = area.height.saturating_sub(2);
        let (Some(low), Some(high)) = (self.edges.first(), self.edges.last()) else { return raster };
        if width < 4 || height == 0 {
            return raster;
        }
        let axis = Axis::new(f64::from(*low), f64::from(*high), self.log_values, width);
        let total: f64 = self.counts.iter().sum();
        let bars = columns(self.edges, self.counts, &axis, width);
        let peak = bars.iter().copied().fold(0.0, f64::max);
        self.counts_axis(&mut raster, height, peak, total, theme);
        for (x, count) in bars.iter().enumerate() {
            bar(&mut raster, MARGIN + x as u16, height, self.rise(*count, peak), theme);
        }
        if let Some(dequantized) = self.dequantized {
            let stems = columns(self.edges, dequantized, &axis, width);
            let peak = stems.iter().copied().fold(0.0, f64::max);
            for (x, count) in stems.iter().enumerate() {
                stem(&mut raster, MARGIN + x as u16, height, self.rise(*count, peak), theme);
            }
        }
        self.values_axis(&mut raster, MARGIN, height, &axis, width, theme);
        raster
    }

    /// Height of a count as a share of the whole.
    fn rise(&self, count: f64, peak: f64) -> f64 {
        if count <= 0.0 || peak <= 0.0 {
            0.0
        } else if self.log_counts {
            (1.0 + (count / peak).log10() / DECADES).clamp(0.0, 1.0)
        } else {
            (count / peak).clamp(0.0, 1.0)
        }
    }

    fn counts_axis(&self, raster: &mut Raster, height: u16, peak: f64, total: f64, theme: &Theme) {
        let share = if total > 0.0 { peak / total } else { 0.0 };
        raster.text_right(5, 0, &percent(share), theme.dim());
        if height >= 3 {
            raster.text_right(5, height / 2, if self.log_counts { "log" } else { "lin" }, theme.dim());
            let bottom =
                if self.log_counts { percent(share * 10f64.powf(-DECADES)) } else { "0 %".to_owned() };
            raster.text_right(5, height - 1, &bottom, theme.dim());
        }
    }

    fn values_axis(&self, raster: &mut Raster, margin: u16, y: u16, axis: &Axis, width: u16, theme: &Theme) {
        for x in 0..width {
            raster.set(margin + x, y, Spot::new(theme.glyphs.axis, theme.dim()));
        }
        let mut last = None;
        for cell in self.levels.iter().filter_map(|level| axis.cell(f64::from(*level))) {
            let ch = if last == Some(cell) { theme.glyphs.levels } else { theme.glyphs.level };
            last = Some(cell);
            raster.set(margin + cell, y, Spot::new(ch, theme.quantized()));
        }
        if let Some((low, high)) = self.clip {
            let ends = [
                (low, self.clipped.0, theme.glyphs.clip_left),
                (high, self.clipped.1, theme.glyphs.clip_right),
            ];
            for (value, lost, ch) in ends {
                if lost > 0.0
                    && let Some(cell) = axis.cell(f64::from(value))
                {
                    raster.set(margin + cell, y, Spot::new(ch, theme.bad()));
                }
            }
        }
        for (x, text) in axis.ticks() {
            raster.text(margin + x, y + 1, &text, theme.dim());
        }
        raster.text_right(5, y + 1, if self.log_values { "|x|" } else { "x" }, theme.dim());
    }
}

fn stem(raster: &mut Raster, x: u16, height: u16, rise: f64, theme: &Theme) {
    if rise <= 0.0 {
        return;
    }
    let cells = ((rise * f64::from(height)).round() as u16).clamp(1, height);
    for row in 0..cells {
        let ch = if row + 1 == cells { theme.glyphs.stem_top } else { theme.glyphs.stem };
        raster.set(x, height - 1 - row, Spot::new(ch, theme.quantized()));
    }
}

fn bar(raster: &mut Raster, x: u16, height: u16, rise: f64, theme: &Theme) {
    if rise <= 0.0 {
        return;
    }
    let eighths = ((rise * f64::from(height) * 8.0).round() as u16).max(1);
    for row in 0..height {
        let filled = eighths.saturating_sub(row * 8).min(8);
        if let (true, Some(ch)) = (filled > 0, theme.glyphs.bars.get(usize::from(filled))) {
            raster.set(x, height - 1 - row, Spot::new(*ch, theme.float()));
        }
    }
}

/// Sums intervals into columns, each interval spread evenly over the columns it spans.
fn columns(edges: &[f32], counts: &[f64], axis: &Axis, width: u16) -> Vec<f64> {
    let mut columns = vec![0.0; usize::from(width)];
    let limit = f64::from(width);
    for (pair, count) in edges.windows(2).zip(counts) {
        let [left, right] = pair else { continue };
        let (from, to) = (axis.position(f64::from(*left)), axis.position(f64::from(*right)));
        if *count <= 0.0 || !from.is_finite() || !to.is_finite() {
            continue;
        }
        let (from, to) = (from.clamp(0.0, limit), to.clamp(0.0, limit));
        let span = to - from;
        let first = (from.floor() as usize).min(columns.len().saturating_sub(1));
        if span <= 1e-9 {
            if let Some(column) = columns.get_mut(first) {
                *column += count;
            }
            continue;
        }
        let last = (to.ceil() as usize).min(columns.len());
        for (offset, column) in columns.get_mut(first..last).unwrap_or_default().iter_mut().enumerate() {
            let start = (first + offset) as f64;
            let overlap = (to.min(start + 1.0) - from.max(start)).max(0.0);
            *column += count * overlap / span;
        }
    }
    columns
}

/// A share in percent in at most five characters.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value > 0.0 && value < 0.01 {
        let text = figure(value);
        return if text.len() <= 4 { format!("{text}%") } else { "<.01%".to_owned() };
    }
    if value >= 10.0 { format!("{value:.0} %") } else { format!("{}%", figure(value)) }
}

#[cfg(test)]
mod tests {
    use super::{Axis, columns};

    #[test]
    fn columns_keep_the_sum() {
        let edges: Vec<f32> = (0..=256u16).map(|i| f32::from(i) / 256.0).collect();
        let counts: Vec<f64> = (0..256u16).map(f64::from).collect();
        for width in [1, 7, 60, 256, 500] {
            let axis = Axis::new(0.0, 1.0, false, width);
            let sum: f64 = columns(&edges, &counts, &axis, width).iter().sum();
            assert!((sum - counts.iter().sum::<f64>()).abs() < 1e-6, "{width}: {sum}");
        }
    }
}
