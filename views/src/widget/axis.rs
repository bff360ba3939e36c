//! Where values fall on a row of cells, and the figures written under it.

/// A horizontal axis of `width` cells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    width: u16,
}

impl Axis {
    /// An axis from `low` to `high`; a logarithmic one needs positive ends.
    pub fn new(low: f64, high: f64, logarithmic: bool, width: u16) -> Self {
        let usable = low.is_finite() && high.is_finite();
        let (low, high) = if usable { (low.min(high), low.max(high)) } else { (0.0, 1.0) };
        let (low, high) = if logarithmic {
            let high = if high > 0.0 { high } else { 1.0 };
            (if low > 0.0 { low } else { high * 1e-6 }, high)
        } else {
            (low, high)
        };
        // A constant still needs some width to stand in.
        let (low, high) = match (high > low, logarithmic) {
            (true, _) => (low, high),
            (false, true) => (low / 2.0, high * 2.0),
            (false, false) => {
                let room = low.abs().max(1e-12);
                (low - room, high + room)
            }
        };
        Self { low, high, logarithmic, width }
    }

    /// Position in cells from the left; outside the axis it is below 0 or above the width.
    pub fn position(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.abs().max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share * f64::from(self.width)
    }

    /// The cell a value falls into, if it is on the axis (its right end included).
    pub fn cell(&self, value: f64) -> Option<u16> {
        let position = self.position(value);
        let tolerance = 1e-6 * f64::from(self.width);
        if self.width == 0 || !position.is_finite() || position < -tolerance {
            return None;
        }
        if position > f64::from(self.width) + tolerance {
            return None;
        }
        Some((position.max(0.0).floor() as u16).min(self.width - 1))
    }

    /// Figures to write under the axis: cell and text, left to right, never overlapping.
    pub fn ticks(&self) -> Vec<(u16, String)> {
        let candidates: Vec<f64> = if self.logarithmic { self.decades() } else { self.steps() };
        let mut ticks: Vec<(u16, String)> = Vec::new();
        let mut free = 0;
        for value in candidates {
            let Some(cell) = self.cell(value) else { continue };
            let text = figure(value);
            let length = text.chars().count() as u16;
            let start = cell.saturating_sub(length / 2).min(self.width.saturating_sub(length));
            if start >= free && length <= self.width {
                free = start + length + 2;
                ticks.push((start, text));
            }
        }
        ticks
    }

    fn decades(&self) -> Vec<f64> {
        let (first, last) = (self.low.log10().ceil() as i32, self.high.log10().floor() as i32);
        let stride = 1 + (last - first).max(0) / i32::from((self.width / 7).max(1));
        (first..=last).step_by(stride.max(1) as usize).map(|exponent| 10f64.powi(exponent)).collect()
    }

    fn steps(&self) -> Vec<f64> {
        let wanted = f64::from((self.width / 9).clamp(1, 12));
        let raw = (self.high - self.low) / wanted;
        let magnitude = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * magnitude)
            .find(|step| *step >= raw)
            .unwrap_or(10.0 * magnitude);
        if !step.is_finite() || step <= 0.0 {
            return Vec::new();
        }
        let first = (self.low / step).ceil();
        (0..64)
            .map(|index| (first + f64::from(index)) * step)
            .take_while(|value| *value <= self.high)
            .collect()
    }
}

/// A value in at most seven characters: `0`, `0.25`, `-38`, `1.2e-4`.
pub fn figure(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude < 1e-30 {
        return "0".to_owned();
    }
    if !(1e-3..1e5).contains(&magnitude) {
        let text = format!("{value:.1e}");
        return text.replace(".0e", "e");
    }
    let digits = (2 - magnitude.log10().floor() as i32).clamp(0, 4) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::{Axis, figure};

    #[test]
    fn figures_are_short() {
        let cases =
            [(0.0, "0"), (0.25, "0.25"), (-38.0, "-38"), (0.00012, "1.2e-4"), (1e6, "1e6"), (123.4, "123")];
        for (value, text) in cases {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn ends_are_on_the_axis() {
        for logarithmic in [false, true] {
            let axis = Axis::new(0.5, 8.0, logarithmic, 40);
            assert_eq!(axis.cell(0.5), Some(0));
            assert_eq!(axis.cell(8.0), Some(39));
            assert_eq!(axis.cell(9.0), None);
        }
    }

    #[test]
    fn ticks_never_overlap_whatever_the_range() {
        for (low, high) in [(0.0, 0.0), (-1.0, 1.0), (1e-9, 1e9), (f64::NAN, 2.0), (-3e38, 3e38), (5.0, 5.0)]
        {
            for width in [0, 1, 5, 12, 80, 300] {
                for logarithmic in [false, true] {
                    let ticks = Axis::new(low, high, logarithmic, width).ticks();
                    for pair in ticks.windows(2) {
                        assert!(pair[0].0 as usize + pair[0].1.len() < pair[1].0 as usize, "{ticks:?}");
                    }
                    assert!(ticks.iter().all(|(x, text)| *x as usize + text.len() <= width as usize));
                }
            }
        }
    }
}
