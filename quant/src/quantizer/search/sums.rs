//! Squared errors of many grids on the same values.

use crate::quantizer::cells::{Cells, power};
use crate::quantizer::grid::Grid;

/// Where a cell is divided, in steps from its level.
const PARTS: [f64; 8] = [-0.375, -0.25, -0.125, 0.0, 0.125, 0.25, 0.375, 0.5];

/// Sorted values with the running sums of `x` and `x²`: how far values lie beyond a bound costs a look-up, and the
/// squared error of a grid a look-up per level.
pub(in crate::quantizer) struct Sums {
    sorted: Vec<f32>,
    /// Sums over the values before each, and over all.
    before: Vec<[f64; 2]>,
}

/// The values beyond a bound.
#[derive(Debug, Clone, Copy)]
pub(in crate::quantizer) struct Beyond {
    pub(in crate::quantizer) count: f64,
    /// Sum of their squared distances to the bound.
    pub(in crate::quantizer) squares: f64,
}

impl Sums {
    /// Of finite values.
    pub(in crate::quantizer) fn new(values: &[f32]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        let mut sums = [0.0; 2];
        let mut before = Vec::with_capacity(sorted.len() + 1);
        before.push(sums);
        for &x in &sorted {
            let x = f64::from(x);
            sums = [sums[0] + x, sums[1] + x * x];
            before.push(sums);
        }
        Self { sorted, before }
    }

    /// The sum of the squares.
    pub(in crate::quantizer) fn signal(&self) -> f64 {
        self.all()[1]
    }

    fn all(&self) -> [f64; 2] {
        self.before.last().copied().unwrap_or_default()
    }

    /// How many values are at most `x`.
    fn rank(&self, x: f64) -> usize {
        self.sorted.partition_point(|value| f64::from(*value) <= x)
    }

    /// The values above `bound`.
    pub(in crate::quantizer) fn above(&self, bound: f64) -> Beyond {
        let at = self.rank(bound);
        let ([s, q], [all_s, all_q]) = (self.before[at], self.all());
        Beyond::new((self.sorted.len() - at) as f64, all_s - s, all_q - q, bound)
    }

    /// The values of at most `bound`.
    pub(in crate::quantizer) fn below(&self, bound: f64) -> Beyond {
        let at = self.rank(bound);
        let [s, q] = self.before[at];
        Beyond::new(at as f64, s, q, bound)
    }

    /// The sum of `(x - q(x))²`, up to rounding errors of about 10⁻¹⁵ of the signal.
    pub(in crate::quantizer) fn error(&self, grid: &Grid) -> f64 {
        let Cells::Uniform { step, lowest, highest } = Cells::uniform(grid) else { return 0.0 };
        let (first, last) = (lowest.ceil() as i64, highest.floor() as i64);
        let mut sum = 0.0;
        let mut from = 0;
        for n in first..=last {
            let upto = if n == last { self.sorted.len() } else { self.rank((n as f64 + 0.5) * step) };
            if upto > from {
                let ([s0, q0], [s1, q1]) = (self.before[from], self.before[upto]);
                sum += Beyond::new((upto - from) as f64, s1 - s0, q1 - q0, n as f64 * step).squares;
                from = upto;
            }
        }
        sum
    }
}

impl Sums {
    /// A lower bound of the sum of `|x - q(x)|^p` for `p ≥ 2`: Jensen's inequality `Σ e^p ≥ n (Σ e² / n)^(p/2)` in parts of
    /// a cell where errors are alike.
    pub(in crate::quantizer) fn floor(&self, grid: &Grid, p: f64) -> f64 {
        let Cells::Uniform { step, lowest, highest } = Cells::uniform(grid) else { return 0.0 };
        let (first, last) = (lowest.ceil() as i64, highest.floor() as i64);
        let mut sum = 0.0;
        let mut from = 0;
        for n in first..=last {
            let level = n as f64 * step;
            for part in PARTS {
                let end = n == last && part == 0.5;
                let upto = if end { self.sorted.len() } else { self.rank(level + part * step) };
                if upto > from {
                    let ([s0, q0], [s1, q1]) = (self.before[from], self.before[upto]);
                    let count = (upto - from) as f64;
                    let squares = Beyond::new(count, s1 - s0, q1 - q0, level).squares;
                    sum += count * power(squares / count, 0.5 * p);
                    from = upto;
                }
            }
        }
        sum
    }
}

impl Beyond {
    /// Of `count` values with the sums `s` of them and `q` of their squares.
    pub(in crate::quantizer) fn new(count: f64, s: f64, q: f64, bound: f64) -> Self {
        Self { count, squares: (q - bound * (2.0 * s - bound * count)).max(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::Sums;
    use crate::quantizer::grid::Grid;
    use crate::quantizer::search::raw_error;
    use crate::terms::Bits;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_those_of_the_values(
            values in prop::collection::vec(-3.0_f32..5.0, 1..200), bound in -4.0_f64..6.0,
            lo in -3.0_f32..0.0, hi in 0.1_f32..5.0, bits in 2_u8..=8,
        ) {
            let sums = Sums::new(&values);
            let beyond = |side: f64| {
                let away = values.iter().map(|x| side * (f64::from(*x) - bound)).filter(|away| *away > 0.0);
                away.map(|away| away * away).sum::<f64>()
            };
            prop_assert!((sums.above(bound).squares - beyond(1.0)).abs() < 1e-9);
            prop_assert!((sums.below(bound).squares - beyond(-1.0)).abs() < 1e-9);
            let grid = Grid::containing_zero(lo, hi, Bits::new(bits).unwrap(), false);
            let direct = raw_error(&values, &grid, 2.0);
            prop_assert!((sums.error(&grid) - direct).abs() <= 1e-4 * direct + 1e-9);
            let (floor, direct) = (sums.floor(&grid, 2.4), raw_error(&values, &grid, 2.4));
            prop_assert!(floor <= direct * 1.0001 + 1e-9, "{floor} {direct}");
            // And not far off where nothing is clipped.
            let clipped = values.iter().any(|x| *x < lo || *x > hi);
            prop_assert!(clipped || floor >= 0.5 * direct - 1e-9, "{floor} {direct}");
        }
    }
}
