//! The range of least mean error among all of a fixed set.

use super::error::raw_error_upto;
use super::sums::{Beyond, Sums};
use crate::quantizer::cells::power;
use crate::quantizer::grid::{Grid, LARGEST};
use crate::terms::Bits;

/// Steps of the range.
const STEPS: u32 = 100;
/// Bounds are compared with this much slack, for they are computed in another way than errors.
const SLACK: f64 = 1e-3;
/// Part of the signal that the sums may be off.
const CANCELLATION: f64 = 1e-13;

/// On which side of zero the values of a tensor lie. PTQ4SAM decides it once for all channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::quantizer) enum Side {
    /// None is negative.
    Positive,
    /// None is positive, some are negative.
    Negative,
    /// Some are, some are.
    Both,
}

impl Side {
    pub(in crate::quantizer) fn of(lo: f32, hi: f32) -> Self {
        if lo >= 0.0 {
            Self::Positive
        } else if hi <= 0.0 {
            Self::Negative
        } else {
            Self::Both
        }
    }
}

/// The range of least mean `|x - q(x)|^p` of an asymmetric grid: the search "MSE-2.4" of PTQ4SAM and PTQ4RIS
/// (`MSEObserver`; spec of PTQ4SAM §0.1).
///
/// For values of both signs 100 widths of the range times all 2^b zero points are candidates, for values of one sign
/// 100 widths. Of equal candidates the first counts, widths ascending outside, zero points ascending inside. The result
/// is that of trying every one, but most are ruled out: values beyond an end have at least the distance to it as their
/// error, and by Jensen's inequality `Σ e^p ≥ n (Σ e² / n)^(p/2)` for `p ≥ 2`, where the sums of squares
/// are look-ups in sorted values.
pub(in crate::quantizer) fn least_range(values: &[f32], side: Side, p: f64, bits: Bits) -> (f32, f32) {
    let end = |pick: fn(f32, f32) -> f32| values.iter().copied().fold(0.0, pick).clamp(-LARGEST, LARGEST);
    let (lo, hi) = (end(f32::min), end(f32::max));
    if lo == hi {
        return (lo, hi);
    }
    let mut search = Search {
        values,
        sums: Sums::new(values),
        p,
        bits,
        most: bits.levels().map_or(0, |levels| levels - 1),
        margin: 1e-6 * f64::from(hi - lo),
        best: (f64::INFINITY, 0),
        range: (lo, hi),
    };
    match side {
        Side::Both => search.both(lo, hi),
        Side::Positive => search.one(lo.abs().max(hi), |end| (0.0, end)),
        Side::Negative => search.one(lo.abs().max(hi), |end| (-end, 0.0)),
    }
    search.range
}

struct Search<'a> {
    values: &'a [f32],
    sums: Sums,
    p: f64,
    bits: Bits,
    /// The highest code.
    most: u32,
    /// How far f32 arithmetic may move an end.
    margin: f64,
    /// Least error and the number of its candidate.
    best: (f64, u64),
    range: (f32, f32),
}

impl Search<'_> {
    fn one(&mut self, reach: f32, range: impl Fn(f32) -> (f32, f32)) {
        // From the widest down: good candidates come early and rule out the rest.
        for i in (1..=STEPS).rev() {
            self.consider(u64::from(i), range(reach / STEPS as f32 * i as f32));
        }
    }

    fn both(&mut self, lo: f32, hi: f32) {
        let most = self.most;
        let width = |i: u32| (hi - lo) / STEPS as f32 * i as f32;
        let range = |i: u32, z: u32| {
            let (width, shift) = (width(i), z as f32 * (width(i) / most as f32));
            (0.0 - shift, width - shift)
        };
        let number = |i: u32, z: u32| (u64::from(i) << 32) | u64::from(z);
        // A good one to start with: all ends moved together.
        let joint = |i: u32| {
            let z = (-lo / (hi - lo) * most as f32).round_ties_even().clamp(0.0, most as f32) as u32;
            (i, z)
        };
        let start = super::least((1..=STEPS).map(joint), |&(i, z)| {
            let (lo, hi) = range(i, z);
            self.squares(&Grid::containing_zero(lo, hi, self.bits, false))
        });
        if let Some((i, z)) = start {
            self.consider(number(i, z), range(i, z));
        }
        for i in (1..=STEPS).rev() {
            // Values above the range only get more with the zero point, those below only less.
            let first = partition(most, |z| self.beyond_all(self.below(range(i, z).0)) > self.best.0);
            let end = partition(most, |z| self.beyond_all(self.above(range(i, z).1)) <= self.best.0);
            for z in first..end {
                self.consider(number(i, z), range(i, z));
            }
        }
    }

    fn below(&self, lo: f32) -> Beyond {
        self.sums.below(f64::from(lo) - self.margin)
    }

    fn above(&self, hi: f32) -> Beyond {
        self.sums.above(f64::from(hi) + self.margin)
    }

    /// A lower bound of `Σ e^p` over values with the squares `Σ e²`, none above `most`.
    fn bound(&self, count: f64, squares: f64, most: f64) -> f64 {
        let squares = (squares * (1.0 - SLACK) - CANCELLATION * self.sums.signal()).max(0.0);
        if count == 0.0 || squares == 0.0 {
            0.0
        } else if self.p >= 2.0 {
            count * power(squares / count, 0.5 * self.p)
        } else {
            squares * most.powf(self.p - 2.0)
        }
    }

    /// The bound from values beyond an end, which never falls as the end moves inwards.
    fn beyond_all(&self, beyond: Beyond) -> f64 {
        self.bound(self.sums.len() as f64, beyond.squares, 1e6 * self.margin)
    }

    /// The squared error, the cheaper way.
    fn squares(&self, grid: &Grid) -> f64 {
        if (self.most as usize).saturating_mul(8) < self.values.len() {
            self.sums.error(grid)
        } else {
            super::raw_error(self.values, grid, 2.0)
        }
    }

    /// Keeps the candidate if it is better than the best so far, or as good and before it.
    fn consider(&mut self, number: u64, range: (f32, f32)) {
        let least = self.best.0;
        let (below, above) = (self.below(range.0), self.above(range.1));
        let reach = 1e6 * self.margin;
        let outside =
            self.bound(below.count, below.squares, reach) + self.bound(above.count, above.squares, reach);
        if outside > least {
            return;
        }
        let grid = Grid::containing_zero(range.0, range.1, self.bits, false);
        let worth = self.p == 2.0 && (self.most as usize).saturating_mul(8) >= self.values.len()
            || self.bound(self.values.len() as f64, self.squares(&grid), reach) <= least;
        if !worth {
            return;
        }
        let error = raw_error_upto(self.values, &grid, self.p, least);
        if error < least || error == least && number < self.best.1 {
            self.best = (error, number);
            self.range = range;
        }
    }
}

/// The first of `0..=most` for which `holds` does not hold; `most + 1` if it always does.
fn partition(most: u32, holds: impl Fn(u32) -> bool) -> u32 {
    let (mut from, mut upto) = (0, most + 1);
    while from < upto {
        let middle = from + (upto - from) / 2;
        if holds(middle) {
            from = middle + 1;
        } else {
            upto = middle;
        }
    }
    from
}

#[cfg(test)]
mod tests {
    use super::{STEPS, Side, least_range};
    use crate::quantizer::grid::Grid;
    use crate::quantizer::search::raw_error;
    use crate::stats::tests::shapes::Random;
    use crate::terms::Bits;
    use proptest::prelude::*;

    /// Every candidate in order.
    fn all(lo: f32, hi: f32, side: Side, bits: Bits) -> Vec<(f32, f32)> {
        let most = bits.levels().unwrap() - 1;
        let mut ranges = Vec::new();
        for i in 1..=STEPS {
            let width = (hi - lo) / 100.0 * i as f32;
            let end = lo.abs().max(hi) / 100.0 * i as f32;
            match side {
                Side::Positive => ranges.push((0.0, end)),
                Side::Negative => ranges.push((-end, 0.0)),
                Side::Both => {
                    for z in 0..=most {
                        let shift = z as f32 * (width / most as f32);
                        ranges.push((0.0 - shift, width - shift));
                    }
                }
            }
        }
        ranges
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn it_is_the_first_best_of_all_candidates(
            seed in 0_u64..100_000, len in 1_usize..400, bits in 2_u8..=6, p in prop_oneof![Just(2.0), Just(2.4), Just(1.0), 0.5_f64..5.0],
        ) {
            let mut random = Random::new(seed);
            let offset = [0.0, 0.5, -2.0, 5.0][seed as usize % 4];
            let values: Vec<f32> = (0..len)
                .map(|i| (random.normal() * if i % 50 == 7 { 6.0 } else { 1.0 } + offset) as f32)
                .collect();
            let (lo, hi) = values.iter().fold((0.0_f32, 0.0_f32), |(lo, hi), x| (lo.min(*x), hi.max(*x)));
            let side = Side::of(values.iter().copied().fold(f32::INFINITY, f32::min), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let bits = Bits::new(bits).unwrap();
            let mut best = (f64::INFINITY, (0.0, 0.0));
            for range in all(lo, hi, side, bits) {
                let error = raw_error(&values, &Grid::containing_zero(range.0, range.1, bits, false), p);
                if error < best.0 {
                    best = (error, range);
                }
            }
            prop_assert_eq!(least_range(&values, side, p, bits), best.1);
        }
    }
}
