//! The range of least mean error.

use super::power::positive_power;
use super::{Data, Squares, bucket_error, least};
use crate::exec::kernels::dispatch::multiversion;
use crate::quantizer::cells::Cells;
use crate::quantizer::grid::Grid;
use crate::terms::Bits;

/// Steps of the joint search, as in the "MSE-2.4" search of PTQ4SAM.
const STEPS: u32 = 100;
/// Values between two looks at the limit; a multiple of 8.
const BLOCK: usize = 1024;
/// Ends are then moved one by one by these shares of the range, coarse to fine.
const MOVES: [f32; 4] = [0.08, 0.04, 0.02, 0.01];

/// The sum of `|x - q(x)|^p` over values.
pub(in crate::quantizer) fn raw_error(values: &[f32], grid: &Grid, p: f64) -> f64 {
    raw_error_upto(values, grid, p, f64::INFINITY)
}

/// The same, or something beyond `limit` as soon as the sum is.
pub(in crate::quantizer) fn raw_error_upto(values: &[f32], grid: &Grid, p: f64, limit: f64) -> f64 {
    // A fixed number of partial sums: vectorises, and the result does not depend on the machine.
    let mut sums = [0.0_f64; 8];
    for block in values.chunks(BLOCK) {
        if p == 2.0 {
            add_squares(block, *grid, &mut sums);
        } else {
            add_powers(block, *grid, p, &mut sums);
        }
        if sums.iter().sum::<f64>() > limit {
            break;
        }
    }
    sums.iter().sum()
}

multiversion! {
    /// Adds `(x - q(x))²` of every eighth value to one of the sums.
    fn add_squares(values: &[f32], grid: Grid, sums: &mut [f64; 8]) {
        let (whole, rest) = values.as_chunks::<8>();
        for chunk in whole {
            for lane in 0..8 {
                let error = f64::from((chunk[lane] - grid.apply(chunk[lane])).abs());
                sums[lane] += error * error;
            }
        }
        for (sum, &x) in sums.iter_mut().zip(rest) {
            let error = f64::from((x - grid.apply(x)).abs());
            *sum += error * error;
        }
    }

    /// The same with `|x - q(x)|^p`.
    fn add_powers(values: &[f32], grid: Grid, p: f64, sums: &mut [f64; 8]) {
        let (whole, rest) = values.as_chunks::<8>();
        for chunk in whole {
            for lane in 0..8 {
                let error = f64::from((chunk[lane] - grid.apply(chunk[lane])).abs());
                sums[lane] += positive_power(error, p);
            }
        }
        for (sum, &x) in sums.iter_mut().zip(rest) {
            *sum += positive_power(f64::from((x - grid.apply(x)).abs()), p);
        }
    }

    /// The sum of `weight · (x - q(x))²`, of as many weights as values.
    pub(in crate::quantizer) fn weighted_error(values: &[f32], weights: &[f32], grid: Grid) -> f64 {
        let mut sums = [0.0_f64; 8];
        let (whole, rest) = values.as_chunks::<8>();
        let (weights, last) = weights.as_chunks::<8>();
        for (chunk, weights) in whole.iter().zip(weights) {
            for lane in 0..8 {
                let error = f64::from((chunk[lane] - grid.apply(chunk[lane])).abs());
                sums[lane] += f64::from(weights[lane]) * (error * error);
            }
        }
        for ((sum, &x), &weight) in sums.iter_mut().zip(rest).zip(last) {
            let error = f64::from((x - grid.apply(x)).abs());
            *sum += f64::from(weight) * (error * error);
        }
        sums.iter().sum()
    }
}

/// The grid whose range has the least mean `|x - q(x)|^p`.
///
/// 100 shares of `[lo, hi]` (zero included) are tried with both ends together; if the values have both signs
/// and the grid is asymmetric, each end is then moved by itself by 8 % down to 1 % of the range while that helps.
/// Against the full search over range and zero point (100 · 2^b candidates) this needs about 120 to 150.
/// The search of symmetric grids, and of more than 8 bits from a sketch; for others see
/// [`least_range`](super::least_range).
pub(in crate::quantizer) fn least_error(
    data: Data<'_>,
    lo: f32,
    hi: f32,
    p: f64,
    bits: Bits,
    symmetric: bool,
) -> Grid {
    let squares = match data {
        Data::Buckets(buckets) if p == 2.0 => Some(Squares::new(buckets)),
        _ => None,
    };
    let score = |range: &(f32, f32)| {
        let grid = Grid::containing_zero(range.0, range.1, bits, symmetric);
        if let Some(squares) = &squares {
            return squares.error(&Cells::uniform(&grid));
        }
        match data {
            Data::Values(values) => raw_error(values, &grid, p),
            Data::Buckets(buckets) => bucket_error(buckets, &Cells::uniform(&grid), p),
        }
    };
    let (lo, hi) = (lo.min(0.0), hi.max(0.0));
    // From the widest down, so that of equals the range without clipping wins.
    let shares = (1..=STEPS).rev().map(|i| i as f32 / STEPS as f32);
    let mut best = least(shares.map(|share| (lo * share, hi * share)), score).unwrap_or((lo, hi));
    if !symmetric && lo < 0.0 && hi > 0.0 {
        let range = hi - lo;
        let mut error = score(&best);
        for share in MOVES {
            let by = range * share;
            for (left, right) in [(-by, 0.0), (by, 0.0), (0.0, -by), (0.0, by)] {
                loop {
                    let moved = ((best.0 + left).clamp(lo, 0.0), (best.1 + right).clamp(0.0, hi));
                    let new = score(&moved);
                    if new.is_nan() || new >= error {
                        break;
                    }
                    (best, error) = (moved, new);
                }
            }
        }
    }
    Grid::containing_zero(best.0, best.1, bits, symmetric)
}
