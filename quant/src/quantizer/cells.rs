//! A grid as a piecewise constant function, and the exact error of it over an interval.

use super::grid::Grid;
use crate::exec::kernels::dispatch::multiversion;
use crate::stats::Bucket;

/// Which level every value is rounded to.
#[derive(Debug, Clone, PartialEq)]
pub enum Cells {
    /// Whole multiples of `step` between `lowest` and `highest`, in units of the step; both ends are levels too
    /// and need not be whole.
    Uniform {
        /// Distance of two levels.
        step: f64,
        /// Lowest level in steps.
        lowest: f64,
        /// Highest level in steps.
        highest: f64,
    },
    /// Any levels: values below `bounds[i]` and not below `bounds[i - 1]` go to `levels[i]`.
    Steps {
        /// Ascending; one less than the levels.
        bounds: Vec<f64>,
        /// The level of every cell.
        levels: Vec<f64>,
    },
}

impl Cells {
    pub(super) fn uniform(grid: &Grid) -> Self {
        let zero = f64::from(grid.zero);
        Self::Uniform {
            step: f64::from(grid.step),
            lowest: f64::from(grid.low) - zero,
            highest: f64::from(grid.high) - zero,
        }
    }

    /// The lowest and the highest level.
    pub fn range(&self) -> (f64, f64) {
        match self {
            Self::Uniform { step, lowest, highest } => (lowest * step, highest * step),
            Self::Steps { levels, .. } => {
                (levels.first().copied().unwrap_or(0.0), levels.last().copied().unwrap_or(0.0))
            }
        }
    }

    /// The mean of `|x - q(x)|^p` over `x` uniform in `[lo, hi]`, in closed form; at a point if `lo == hi`.
    pub fn mean_error(&self, lo: f64, hi: f64, p: f64) -> f64 {
        match self {
            Self::Uniform { step, lowest, highest } => {
                uniform_error(lo / step, hi / step, *lowest, *highest, p) * power(*step, p)
            }
            Self::Steps { bounds, levels } => {
                let first = bounds.partition_point(|&bound| bound <= lo);
                steps_error((bounds, levels), first, (lo, hi), p)
            }
        }
    }

    /// The sum of `|x - q(x)|^p` over buckets, their values spread evenly. Quickest if they ascend.
    pub(super) fn total_error(&self, buckets: &[Bucket], p: f64) -> f64 {
        match self {
            Self::Uniform { step, lowest, highest } => uniform_total(buckets, *step, (*lowest, *highest), p),
            Self::Steps { bounds, levels } => {
                let mut first = 0;
                let error = |bucket: &Bucket| {
                    if first > 0 && bounds[first - 1] > bucket.lo {
                        first = bounds.partition_point(|&bound| bound <= bucket.lo);
                    }
                    while bounds.get(first).is_some_and(|&bound| bound <= bucket.lo) {
                        first += 1;
                    }
                    bucket.count as f64 * steps_error((bounds, levels), first, (bucket.lo, bucket.hi), p)
                };
                buckets.iter().map(error).sum()
            }
        }
    }

    /// How many cells the values of ascending buckets fall into; of a bucket with few values, at most as many.
    pub(super) fn used(&self, buckets: &[Bucket]) -> u64 {
        match self {
            Self::Uniform { step, lowest, highest } => {
                uniform_used(buckets, *step, (lowest.floor(), highest.ceil()))
            }
            Self::Steps { bounds, .. } => {
                let mut upto = 0;
                let mut cell = |x: f64| {
                    while bounds.get(upto).is_some_and(|&bound| bound <= x) {
                        upto += 1;
                    }
                    upto as i64
                };
                used(buckets.iter().map(|bucket| (cell(bucket.lo), cell(bucket.hi), bucket.count)))
            }
        }
    }

    /// Numbers of the cells that `lo` and `hi` fall into; consecutive cells have consecutive numbers.
    pub fn cell_range(&self, lo: f64, hi: f64) -> (i64, i64) {
        let cell = |x: f64| match self {
            Self::Uniform { step, lowest, highest } => {
                (x / step).round_ties_even().clamp(lowest.floor(), highest.ceil()) as i64
            }
            Self::Steps { bounds, .. } => bounds.partition_point(|&bound| bound <= x) as i64,
        };
        (cell(lo), cell(hi))
    }
}

/// How many cells the buckets' cells, from one to another with a count, are together.
#[inline(always)]
fn used(cells: impl Iterator<Item = (i64, i64, u64)>) -> u64 {
    let (mut used, mut next) = (0_u64, i64::MIN);
    for (first, last, count) in cells {
        let first = first.max(next);
        if last >= first {
            // A few values cannot fill all the cells that a wide bucket spans.
            used = used.saturating_add(((last - first + 1) as u64).min(count));
            next = last + 1;
        }
    }
    used
}

multiversion! {
    // Rounding is a call of a function without the wider instruction sets.
    fn uniform_total(buckets: &[Bucket], step: f64, ends: (f64, f64), p: f64) -> f64 {
        let scale = power(step, p);
        let error = |bucket: &Bucket| {
            let mean = uniform_error(bucket.lo / step, bucket.hi / step, ends.0, ends.1, p) * scale;
            bucket.count as f64 * mean
        };
        buckets.iter().map(error).sum()
    }

    fn uniform_used(buckets: &[Bucket], step: f64, ends: (f64, f64)) -> u64 {
        let cell = |x: f64| (x / step).round_ties_even().clamp(ends.0, ends.1) as i64;
        used(buckets.iter().map(|bucket| (cell(bucket.lo), cell(bucket.hi), bucket.count)))
    }
}

/// The mean of `|x - q(x)|^p` over `[lo, hi]`, `lo` in the cell `first`.
fn steps_error((bounds, levels): (&[f64], &[f64]), first: usize, (lo, hi): (f64, f64), p: f64) -> f64 {
    let mut sum = 0.0;
    let mut from = lo;
    for (cell, &level) in levels.iter().enumerate().skip(first) {
        let upto = bounds.get(cell).map_or(hi, |bound| bound.min(hi));
        if lo == hi {
            return power((lo - level).abs(), p);
        }
        sum += primitive(upto - level, p) - primitive(from - level, p);
        from = upto;
        if upto >= hi {
            break;
        }
    }
    (sum / (hi - lo)).max(0.0)
}

/// `x^p`; the square is by far the most common, and a general power as slow as everything else together.
#[inline(always)]
pub(super) fn power(x: f64, p: f64) -> f64 {
    if p == 2.0 { x * x } else { x.powf(p) }
}

/// Antiderivative of `|u|^p`.
#[inline(always)]
fn primitive(u: f64, p: f64) -> f64 {
    if p == 2.0 { u * u * u / 3.0 } else { u.abs().powf(p + 1.0).copysign(u) / (p + 1.0) }
}

/// The mean error over `[a, b]` in units of the step.
#[inline(always)]
fn uniform_error(a: f64, b: f64, lowest: f64, highest: f64, p: f64) -> f64 {
    // Outside these, values are clamped to an end.
    let (left, right) = (lowest.ceil() - 0.5, highest.floor() + 0.5);
    if a >= b {
        let level = if a < left {
            lowest
        } else if a > right {
            highest
        } else {
            a.round_ties_even()
        };
        return power((a - level).abs(), p);
    }
    let mut sum = 0.0;
    if a < left {
        let end = b.min(left);
        sum += primitive(end - lowest, p) - primitive(a - lowest, p);
    }
    if b > right {
        let start = a.max(right);
        sum += primitive(b - highest, p) - primitive(start - highest, p);
    }
    let (start, end) = (a.max(left), b.min(right));
    if start < end {
        // Sawtooth: whole periods have mean 2·primitive(½).
        let whole = 2.0 * primitive(0.5, p);
        let upto = |u: f64| {
            let n = (u + 0.5).floor();
            (n, primitive(u - n, p))
        };
        let ((n0, f0), (n1, f1)) = (upto(start), upto(end));
        sum += (n1 - n0) * whole + f1 - f0;
    }
    (sum / (b - a)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::Cells;
    use crate::exec::kernels::dispatch::with_each_isa;
    use crate::stats::Bucket;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_closed_form_is_the_integral(
            step in 0.01_f64..3.0, lowest in -20.0_f64..5.0, width in 1.0_f64..40.0,
            lo in -30.0_f64..30.0, span in 0.0_f64..20.0, p in prop_oneof![Just(2.0), 1.0_f64..4.0],
        ) {
            let highest = lowest + width;
            let cells = Cells::Uniform { step, lowest, highest };
            let value = |x: f64| {
                let n = (x / step).round_ties_even();
                n.clamp(lowest, highest) * step
            };
            let steps = 20_000;
            let sum: f64 = (0..steps)
                .map(|i| lo + span * (f64::from(i) + 0.5) / f64::from(steps))
                .map(|x| (x - value(x)).abs().powf(p))
                .sum();
            let numeric = sum / f64::from(steps);
            let closed = cells.mean_error(lo, lo + span, p);
            prop_assert!((closed - numeric).abs() <= 1e-4 * (numeric + step.powf(p)), "{closed} {numeric}");
        }
    }

    proptest! {
        #[test]
        fn many_buckets_are_as_each_alone(
            widths in prop::collection::vec((0.0_f64..0.6, 0.0_f64..0.5, 1_u64..9), 0..40),
            step in 0.05_f64..2.0, lowest in -9.5_f64..0.0, width in 0.0_f64..20.0, p in prop_oneof![Just(2.0), 1.0_f64..4.0],
        ) {
            let mut at = -6.0;
            let bucket = |(gap, width, count)| {
                let lo = at + gap;
                // Some are points.
                at = if width < 0.1 { lo } else { lo + width };
                Bucket { lo, hi: at, count }
            };
            let buckets: Vec<Bucket> = widths.into_iter().map(bucket).collect();
            let uniform = Cells::Uniform { step, lowest, highest: lowest + width };
            let steps = Cells::Steps { bounds: vec![-4.0, -1.0, 0.5, 3.0], levels: vec![-5.0, -2.0, 0.0, 1.0, 4.0] };
            for cells in [uniform, steps] {
                let each: f64 =
                    buckets.iter().map(|b| b.count as f64 * cells.mean_error(b.lo, b.hi, p)).sum();
                with_each_isa(|_| assert_eq!(cells.total_error(&buckets, p), each));
                // A set of cells, filled from below.
                let mut filled = std::collections::BTreeSet::new();
                for b in &buckets {
                    let (first, last) = cells.cell_range(b.lo, b.hi);
                    let next = filled.last().map_or(i64::MIN, |&cell: &i64| cell + 1);
                    let all: Vec<i64> = (first.max(next)..=last).collect();
                    let counted = all.len().min(b.count as usize);
                    // The last cell counts as passed even if the values were too few.
                    filled.extend(all.iter().rev().take(counted));
                }
                with_each_isa(|_| assert_eq!(cells.used(&buckets), filled.len() as u64));
            }
        }
    }

    #[test]
    fn steps_integrate_each_cell() {
        let cells = Cells::Steps { bounds: vec![0.5, 1.5], levels: vec![0.0, 1.0, 2.0] };
        assert!((cells.mean_error(-0.5, 0.5, 2.0) - 1.0 / 12.0).abs() < 1e-12);
        assert!((cells.mean_error(0.0, 2.0, 2.0) - 1.0 / 12.0).abs() < 1e-12);
        assert!((cells.mean_error(2.0, 4.0, 2.0) - 4.0 / 3.0).abs() < 1e-12);
        assert_eq!(cells.mean_error(1.2, 1.2, 1.0), (1.2_f64 - 1.0).abs());
    }
}
