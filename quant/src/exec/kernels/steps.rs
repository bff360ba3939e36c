//! Any monotone step function of positive thresholds, by table.
//!
//! A value's interval comes from the top bits of the float, as in [`log_grid`](super::log_grid); the table holds the
//! one threshold that lies in it and the levels on its two sides. Where an interval would hold two thresholds, or for a
//! few values, thresholds are found by bisection instead; both give the same levels.

use super::parallel;

/// Most intervals of a table: together they stay in the second-level cache.
const MOST_INTERVALS: i32 = 4096;
/// Coarsest intervals are octaves.
const COARSEST: u32 = f32::MANTISSA_DIGITS - 1;
/// Values from which on making a table pays.
const ENOUGH: usize = 8192;

/// A step function of `x + offset`.
#[derive(Debug)]
pub struct Steps<'a> {
    offset: f32,
    bounds: &'a [f32],
    levels: &'a [f32],
    table: Option<Table>,
}

/// Levels by intervals of the value's bits.
#[derive(Debug)]
struct Table {
    shift: u32,
    first: i32,
    intervals: Vec<Interval>,
}

/// `low` below the threshold, `high` from it on.
#[derive(Clone, Copy, Debug)]
struct Interval {
    threshold: f32,
    low: f32,
    high: f32,
}

impl<'a> Steps<'a> {
    /// The function that is `levels[i]` from `bounds[i - 1]` up to below `bounds[i]`: bounds ascend and are positive,
    /// and there is one level more. `len` is how many values will be looked up in all.
    pub fn new(offset: f32, bounds: &'a [f32], levels: &'a [f32], len: usize) -> Self {
        assert_eq!(bounds.len() + 1, levels.len(), "one level more than bounds");
        let table = if len < ENOUGH { None } else { Table::new(bounds, levels) };
        Self { offset, bounds, levels, table }
    }

    /// Replaces every value by its level, in parallel; NaN stays NaN.
    pub fn apply(&self, x: &mut [f32]) {
        parallel::for_chunks(x, 4, |_, chunk| self.apply_serial(chunk));
    }

    /// The same on this thread.
    pub fn apply_serial(&self, x: &mut [f32]) {
        if let Some(table) = &self.table {
            table.look_up(x, self.offset);
            return;
        }
        for v in x.iter_mut().filter(|v| !v.is_nan()) {
            *v = self.levels[cell(self.bounds, *v + self.offset)];
        }
    }
}

/// The index of the level of `x`.
pub fn cell(bounds: &[f32], x: f32) -> usize {
    bounds.partition_point(|bound| *bound <= x)
}

/// Number of the interval; negative values come before all others.
#[inline(always)]
fn key(x: f32, shift: u32) -> i32 {
    (x.to_bits() as i32) >> shift
}

impl Table {
    /// `None` where two thresholds fall into one interval.
    fn new(bounds: &[f32], levels: &[f32]) -> Option<Self> {
        let (lowest, highest) = (*bounds.first()?, *bounds.last()?);
        let span = |shift: u32| key(highest, shift) - key(lowest, shift) + 1;
        let shift = (0..=COARSEST).find(|&shift| span(shift) <= MOST_INTERVALS)?;
        let first = key(lowest, shift);
        let mut intervals = Vec::with_capacity(span(shift) as usize);
        let mut at = 0;
        for number in first..=key(highest, shift) {
            let own = bounds.get(at).copied().filter(|&bound| key(bound, shift) == number);
            let low = levels[at];
            at += usize::from(own.is_some());
            // A comparison with NaN is false.
            intervals.push(Interval { threshold: own.unwrap_or(f32::NAN), low, high: levels[at] });
        }
        // With a second one in an interval, the rest is never reached.
        (at == bounds.len()).then_some(Self { shift, first, intervals })
    }

    fn look_up(&self, x: &mut [f32], offset: f32) {
        let last = self.intervals.len() as i32 - 1;
        for v in x {
            let y = *v + offset;
            let number = (key(y, self.shift) - self.first).clamp(0, last);
            let interval = self.intervals[number as usize];
            let level = if y >= interval.threshold { interval.high } else { interval.low };
            *v = if v.is_nan() { *v } else { level };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Steps, Table, cell};

    fn check(offset: f32, bounds: &[f32], table: bool) {
        let levels: Vec<f32> = (0..=bounds.len()).map(|i| i as f32).collect();
        assert_eq!(Table::new(bounds, &levels).is_some(), table);
        let mut x: Vec<f32> = (0..=u32::MAX).step_by(65_521).map(f32::from_bits).collect();
        for bound in bounds {
            x.extend((0..9).map(|i| f32::from_bits((bound.to_bits() + i).saturating_sub(4)) - offset));
        }
        let mut got = x.clone();
        Steps::new(offset, bounds, &levels, x.len()).apply(&mut got);
        for (x, got) in x.iter().zip(got) {
            let expected = cell(bounds, x + offset) as f32;
            assert!(got == expected || (x.is_nan() && got.is_nan()), "{x:e}: {got}, expected {expected}");
        }
    }

    #[test]
    fn the_table_and_the_bisection_agree() {
        let powers = |per_octave: f32, n: i32| -> Vec<f32> {
            (-n..0).map(|k| 0.7 * (k as f32 / per_octave).exp2()).collect()
        };
        check(0.0, &powers(1.0, 126), true);
        check(0.0, &powers(4.0, 255), true);
        check(0.17, &powers(3.7, 255), true);
        check(0.0, &(1..256).map(|k| k as f32 / 255.0).collect::<Vec<_>>(), true);
        // Too fine for a table, nothing at all, and subnormal thresholds close together.
        check(0.0, &(1..65_536).map(|k| k as f32 / 65_535.0).collect::<Vec<_>>(), false);
        check(0.0, &[], false);
        check(0.0, &[1e-45, 3e-45, 1e-40], false);
    }
}
