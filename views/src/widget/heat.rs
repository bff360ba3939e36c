//! Channels of a site as a heat map: a row for each channel (or group), a column for each range of values.

use ratatui::layout::Rect;
use ratatui::style::Color;

use super::axis::Axis;
use super::{Raster, Spot};
use crate::theme::Theme;

/// A channel is marked when it reaches this many times further than the median channel.
const OUTLIER: f32 = 4.0;

/// Cells left of the drawing, for figures.
const MARGIN: u16 = 6;

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Heat<'a> {
    /// Shares, `rows × columns`.
    pub shares: &'a [f32],
    /// Rows of `shares`.
    pub rows: usize,
    /// Columns of `shares`.
    pub columns: usize,
    /// Range of every channel.
    pub channels: &'a [(f32, f32)],
    /// Range of the columns.
    pub range: (f32, f32),
}

impl Heat<'_> {
    /// Draws into cells of the size of `area`.
    pub fn raster(&self, area: Rect, theme: &Theme) -> Raster {
        let mut raster = Raster::new(area.width, area.height);
        let width = area.width.saturating_sub(MARGIN + 2);
        let height = area.height.saturating_sub(1);
        if width < 4 || height == 0 || self.rows == 0 || self.columns == 0 {
            return raster;
        }
        let peaks = self.peaks(width, height);
        for y in 0..height {
            for x in 0..width {
                raster.set(MARGIN + x, y, spot(&peaks, x, y, width, theme));
            }
        }
        self.rows_axis(&mut raster, height, MARGIN + width, theme);
        let axis = Axis::new(f64::from(self.range.0), f64::from(self.range.1), false, width);
        for (x, text) in axis.ticks() {
            raster.text(MARGIN + x, height, &text, theme.dim());
        }
        raster.text_right(5, height, "x", theme.dim());
        raster
    }

    /// The largest share under each cell, so that a lone outlier channel never averages away.
    fn peaks(&self, width: u16, height: u16) -> Vec<f32> {
        let mut peaks = vec![0.0f32; usize::from(width) * usize::from(height)];
        for (y, line) in peaks.chunks_mut(usize::from(width)).enumerate() {
            let (first, last) = span(y, usize::from(height), self.rows);
            for (x, peak) in line.iter_mut().enumerate() {
                let (left, right) = span(x, usize::from(width), self.columns);
                for row in first..last {
                    let start = row * self.columns;
                    let shares = self.shares.get(start + left..start + right).unwrap_or_default();
                    *peak = shares.iter().copied().fold(*peak, f32::max);
                }
            }
        }
        peaks
    }

    fn rows_axis(&self, raster: &mut Raster, height: u16, right: u16, theme: &Theme) {
        let channels = self.channels.len().max(self.rows);
        let limit = outlier_limit(self.channels);
        for y in 0..height {
            let (first, last) = span(usize::from(y), usize::from(height), channels);
            if y % 3 == 0 || y + 1 == height {
                raster.text_right(5, y, &first.to_string(), theme.dim());
            }
            let reach = self.channels.get(first..last).unwrap_or_default().iter().map(|range| reach(*range));
            if limit.is_some_and(|limit| reach.fold(0.0, f32::max) >= limit) {
                raster.set(right, y, Spot::new(theme.glyphs.outlier, theme.warn()));
            }
        }
    }
}

fn spot(peaks: &[f32], x: u16, y: u16, width: u16, theme: &Theme) -> Spot {
    let share = peaks.get(usize::from(y) * usize::from(width) + usize::from(x)).copied().unwrap_or_default();
    // The square root keeps thin tails visible beside the bulk.
    let heat = share.clamp(0.0, 1.0).sqrt();
    if heat <= 0.0 {
        return Spot::BLANK;
    }
    if theme.has_shades() {
        return Spot::new(' ', ratatui::style::Style::new().bg(ramp(heat)));
    }
    let step = (heat * 4.0).ceil().clamp(1.0, 4.0) as usize;
    Spot::new(theme.glyphs.shades.get(step).copied().unwrap_or('#'), theme.float())
}

/// The channels that reach far beyond the median, furthest first.
pub fn outliers(channels: &[(f32, f32)]) -> Vec<(usize, f32)> {
    let Some(limit) = outlier_limit(channels) else { return Vec::new() };
    let mut found: Vec<(usize, f32)> =
        channels.iter().map(|range| reach(*range)).enumerate().filter(|(_, reach)| *reach >= limit).collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    found
}

fn reach((low, high): (f32, f32)) -> f32 {
    low.abs().max(high.abs())
}

fn outlier_limit(channels: &[(f32, f32)]) -> Option<f32> {
    let mut reaches: Vec<f32> =
        channels.iter().map(|range| reach(*range)).filter(|r| r.is_finite()).collect();
    reaches.sort_by(f32::total_cmp);
    reaches.get(reaches.len() / 2).filter(|median| **median > 0.0).map(|median| median * OUTLIER)
}

/// The sources that fall on one of `cells` targets; never empty while there are sources.
fn span(index: usize, cells: usize, sources: usize) -> (usize, usize) {
    let first = (index * sources / cells.max(1)).min(sources.saturating_sub(1));
    let last = ((index + 1) * sources / cells.max(1)).clamp(first + 1, sources.max(first + 1));
    (first, last)
}

/// Dark blue over magenta to yellow.
fn ramp(heat: f32) -> Color {
    const STOPS: [(f32, [f32; 3]); 5] = [
        (0.0, [30.0, 30.0, 70.0]),
        (0.25, [80.0, 40.0, 140.0]),
        (0.5, [180.0, 55.0, 120.0]),
        (0.75, [245.0, 125.0, 60.0]),
        (1.0, [252.0, 230.0, 120.0]),
    ];
    let heat = heat.clamp(0.0, 1.0);
    for pair in STOPS.windows(2) {
        let [(from, a), (to, b)] = pair else { continue };
        if heat <= *to {
            let t = (heat - from) / (to - from);
            let mix = |i: usize| {
                let (a, b) = (a.get(i).copied().unwrap_or(0.0), b.get(i).copied().unwrap_or(0.0));
                (a + (b - a) * t).round() as u8
            };
            return Color::Rgb(mix(0), mix(1), mix(2));
        }
    }
    Color::Rgb(252, 230, 120)
}

#[cfg(test)]
mod tests {
    use super::{outliers, span};

    #[test]
    fn every_source_is_seen() {
        for (cells, sources) in [(3, 10), (10, 3), (7, 7), (1, 96)] {
            assert_eq!(span(0, cells, sources).0, 0);
            let (first, last) = span(cells - 1, cells, sources);
            assert!(first < last && last == sources);
        }
    }

    #[test]
    fn outliers_come_furthest_first() {
        let mut channels = vec![(-1.0f32, 1.0f32); 30];
        channels[4] = (-9.0, 0.0);
        channels[20] = (0.0, 38.0);
        assert_eq!(outliers(&channels), vec![(20, 38.0), (4, 9.0)]);
        assert!(outliers(&[]).is_empty());
    }
}
