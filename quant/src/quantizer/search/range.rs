//! The range of least mean error among all of a fixed set.

use super::Squares;
use super::error::{raw_error, raw_error_upto};
use super::sums::{Beyond, Sums};
use crate::quantizer::cells::{Cells, power};
use crate::quantizer::grid::{Grid, LARGEST};
use crate::stats::Bucket;
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

/// What candidates are compared on.
trait Source {
    /// How many values there are.
    fn count(&self) -> f64;
    /// The sum of their squares.
    fn signal(&self) -> f64;
    /// Those below a bound.
    fn below(&self, bound: f64) -> Beyond;
    /// Those above a bound.
    fn above(&self, bound: f64) -> Beyond;
    /// `Σ (x - q(x))²`.
    fn squares(&self, grid: &Grid) -> f64;
    /// `Σ |x - q(x)|^p`, or something beyond `limit` if it is.
    fn error(&self, grid: &Grid, p: f64, limit: f64) -> f64;
    /// Whether the error costs no more than the squares.
    fn is_cheap(&self, p: f64) -> bool;
    /// A lower bound of the error for `p > 2` that is nearer to it than that from the squares, if there is one.
    fn floor(&self, _grid: &Grid, _p: f64) -> f64 {
        0.0
    }
    /// Whether it is a sketch, of which answers are wanted in milliseconds.
    fn is_sketch(&self) -> bool {
        false
    }
}

/// Values in memory.
struct Values<'a> {
    all: &'a [f32],
    sums: Sums,
    /// Whether a look-up per level is cheaper than going through the values.
    many: bool,
}

impl Source for Values<'_> {
    fn count(&self) -> f64 {
        self.all.len() as f64
    }

    fn signal(&self) -> f64 {
        self.sums.signal()
    }

    fn below(&self, bound: f64) -> Beyond {
        self.sums.below(bound)
    }

    fn above(&self, bound: f64) -> Beyond {
        self.sums.above(bound)
    }

    fn squares(&self, grid: &Grid) -> f64 {
        if self.many { self.sums.error(grid) } else { raw_error(self.all, grid, 2.0) }
    }

    fn error(&self, grid: &Grid, p: f64, limit: f64) -> f64 {
        raw_error_upto(self.all, grid, p, limit)
    }

    fn is_cheap(&self, p: f64) -> bool {
        p == 2.0 && !self.many
    }

    fn floor(&self, grid: &Grid, p: f64) -> f64 {
        if self.many && p > 2.0 { self.sums.floor(grid, p) * (1.0 - SLACK) } else { 0.0 }
    }
}

/// Buckets of a sketch: all of them for squares, fewer and wider ones for other powers.
struct Buckets<'a> {
    squares: Squares<'a>,
    coarse: &'a [Bucket],
    all: [f64; 3],
}

impl Source for Buckets<'_> {
    fn count(&self) -> f64 {
        self.all[0]
    }

    fn signal(&self) -> f64 {
        self.all[2]
    }

    fn below(&self, bound: f64) -> Beyond {
        let [n, s, q] = self.squares.upto(bound);
        Beyond::new(n, s, q, bound)
    }

    fn above(&self, bound: f64) -> Beyond {
        let ([n, s, q], all) = (self.squares.upto(bound), self.all);
        Beyond::new(all[0] - n, all[1] - s, all[2] - q, bound)
    }

    fn squares(&self, grid: &Grid) -> f64 {
        self.squares.error(&Cells::uniform(grid))
    }

    fn error(&self, grid: &Grid, p: f64, _limit: f64) -> f64 {
        if p == 2.0 { self.squares(grid) } else { super::bucket_error(self.coarse, &Cells::uniform(grid), p) }
    }

    fn is_cheap(&self, p: f64) -> bool {
        p == 2.0
    }

    fn is_sketch(&self) -> bool {
        true
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
    let end = |pick: fn(f32, f32) -> f32| values.iter().copied().fold(0.0, pick);
    let levels = bits.levels().map_or(usize::MAX, |levels| levels as usize);
    let many = levels.saturating_mul(8) < values.len();
    let source = Values { all: values, sums: Sums::new(values), many };
    search(source, end(f32::min), end(f32::max), side, p, bits)
}

/// The same from the buckets of a sketch with the smallest and the largest value. For other exponents than 2 only the
/// zero point of least squared error is tried for every width: going through the buckets takes long. From 7 bits on
/// every second width and every fourth zero point are tried, then the neighbours of the best.
pub(in crate::quantizer) fn least_range_of_buckets(
    (fine, coarse): (&[Bucket], &[Bucket]),
    (lo, hi): (f32, f32),
    p: f64,
    bits: Bits,
) -> (f32, f32) {
    let squares = Squares::new(fine);
    let all = squares.upto(f64::INFINITY);
    search(Buckets { squares, coarse, all }, lo.min(0.0), hi.max(0.0), Side::of(lo, hi), p, bits)
}

fn search(source: impl Source, lo: f32, hi: f32, side: Side, p: f64, bits: Bits) -> (f32, f32) {
    let (lo, hi) = (lo.max(-LARGEST), hi.min(LARGEST));
    if lo == hi {
        return (lo, hi);
    }
    let mut search = Search {
        source,
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

struct Search<S> {
    source: S,
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

impl<S: Source> Search<S> {
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
            self.source.squares(&Grid::containing_zero(lo, hi, self.bits, false))
        });
        if let Some((i, z)) = start {
            self.consider(number(i, z), range(i, z));
        }
        // With many levels neighbours are nearly equal, and every error a look-up per level.
        let skips = self.source.is_sketch() && most >= 127;
        let (step, stride) = if skips { (2, 4) } else { (1, 1) };
        for i in (1..=STEPS).rev().step_by(step) {
            // Values above the range only get more with the zero point, those below only less.
            let first = partition(most, |z| self.beyond_all(self.below(range(i, z).0)) > self.best.0);
            let end = partition(most, |z| self.beyond_all(self.above(range(i, z).1)) <= self.best.0);
            let zeros = (first..end).step_by(stride);
            if self.p != 2.0 && self.source.is_sketch() {
                let squares = |z: &u32| {
                    let (lo, hi) = range(i, *z);
                    self.source.squares(&Grid::containing_zero(lo, hi, self.bits, false))
                };
                if let Some(z) = super::least(zeros, squares) {
                    self.consider(number(i, z), range(i, z));
                }
            } else {
                zeros.for_each(|z| self.consider(number(i, z), range(i, z)));
            }
        }
        if skips {
            let (width, zero) = ((self.best.1 >> 32) as u32, self.best.1 as u32);
            for i in width.saturating_sub(2).max(1)..=(width + 2).min(STEPS) {
                for z in zero.saturating_sub(4)..=(zero + 4).min(most) {
                    self.consider(number(i, z), range(i, z));
                }
            }
        }
    }

    fn below(&self, lo: f32) -> Beyond {
        self.source.below(f64::from(lo) - self.margin)
    }

    fn above(&self, hi: f32) -> Beyond {
        self.source.above(f64::from(hi) + self.margin)
    }

    /// A lower bound of `Σ e^p` over values with the squares `Σ e²`, none above `most`.
    fn bound(&self, count: f64, squares: f64, most: f64) -> f64 {
        let squares = (squares * (1.0 - SLACK) - CANCELLATION * self.source.signal()).max(0.0);
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
        self.bound(self.source.count(), beyond.squares, 1e6 * self.margin)
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
        if !self.source.is_cheap(self.p)
            && self.bound(self.source.count(), self.source.squares(&grid), reach) > least
        {
            return;
        }
        if self.source.floor(&grid, self.p) > least {
            return;
        }
        let error = self.source.error(&grid, self.p, least);
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
