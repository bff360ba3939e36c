//! Searches for the range of a uniform grid.

mod batches;
mod bounded;
mod channels;
mod cost;
mod divergence;
mod error;
mod model;
mod power;
mod range;
mod shape;
mod shrink;
mod squares;
mod sums;
mod target;

pub(super) use batches::{batch_range, joint_range};
pub(super) use bounded::bounded_minimum;
pub(super) use channels::of_channels;
pub(super) use cost::{Cost, batch_cost, exponent, value_error};
pub(super) use divergence::kl_range;
pub(super) use error::{least_error, raw_error};
pub(super) use model::{ChannelModel, ChannelModels};
pub(super) use range::{Side, least_range, least_range_of_buckets};
pub use shape::Candidate;
pub(super) use shape::{ScaleSearch, best, candidates, falling_shares, fit_shape, tensor_candidates, usable};
pub(super) use shrink::shrunk_least;
pub(super) use squares::Squares;
pub(super) use target::Target;

use super::cells::Cells;
use super::grid::Grid;
use super::scheme::{RangeSearch, Scheme};
use super::survey::Survey;
use crate::stats::Bucket;
use crate::terms::Bits;

/// Buckets that a search over many candidates looks at.
const BUCKETS: usize = 512;

/// What an error is measured on.
#[derive(Clone, Copy)]
pub(super) enum Data<'a> {
    /// Finite values.
    Values(&'a [f32]),
    /// Their buckets.
    Buckets(&'a [Bucket]),
}

/// The first of the candidates with the least score; NaN never wins.
pub(super) fn least<T>(
    candidates: impl IntoIterator<Item = T>,
    mut score: impl FnMut(&T) -> f64,
) -> Option<T> {
    let mut best: Option<(f64, T)> = None;
    for candidate in candidates {
        let error = score(&candidate);
        // Strictly less: RepQ-ViT keeps the first of equals.
        if best.as_ref().is_none_or(|(least, _)| error < *least) {
            best = Some((error, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The sum of `|x - q(x)|^p` over buckets.
pub(super) fn bucket_error(buckets: &[Bucket], cells: &Cells, p: f64) -> f64 {
    cells.total_error(buckets, p)
}

/// The grid for a whole tensor from its sketch. Of batches it knows the overall range alone: averages of their ranges
/// become that range, averages of their ranges of least error the range of least error. Shrunk ranges are
/// compared by their squared error.
pub(super) fn of_sketch(survey: &Survey<'_>, scheme: &Scheme, bits: Bits) -> Grid {
    let sketch = survey.sketch();
    let (lo, hi) = (sketch.min(), sketch.max());
    match &scheme.range {
        RangeSearch::MinMax | RangeSearch::AverageMinMax | RangeSearch::Ema { p: None, .. } => {
            Grid::containing_zero(lo, hi, bits, scheme.symmetric)
        }
        RangeSearch::Percentile(levels) => {
            let (ranks, squares) = (survey.ranks(), Squares::new(survey.buckets()));
            let candidates = levels.iter().map(|&p| {
                let at = |p| if ranks.is_empty() { 0.0 } else { ranks.percentile(p) as f32 };
                let (lo, hi) = (at(1.0 - p), at(p));
                if scheme.symmetric {
                    Grid::containing_zero(lo, hi, bits, true)
                } else {
                    Grid::over(lo, hi, bits)
                }
            });
            least(candidates, |grid| squares.error(&Cells::uniform(grid)))
                .unwrap_or_else(|| Grid::constant(0.0, bits))
        }
        RangeSearch::Mse { p } | RangeSearch::Ema { p: Some(p), .. } | RangeSearch::Bounded { p } => {
            // Beyond 8 bits a look-up per level costs more than the finer grid of candidates is worth.
            if scheme.symmetric || bits.levels().is_none_or(|levels| levels > 256) {
                // A step of 8 bits is about as wide as a coarse bucket.
                let buckets = if *p == 2.0 { survey.buckets() } else { survey.coarse() };
                return least_error(Data::Buckets(buckets), lo, hi, *p, bits, scheme.symmetric);
            }
            let buckets = (survey.buckets(), survey.coarse());
            let (lo, hi) = least_range_of_buckets(buckets, (lo, hi), *p, bits);
            Grid::containing_zero(lo, hi, bits, false)
        }
        RangeSearch::Kl => {
            let (lo, hi) = kl_range(survey.buckets(), lo, hi, bits);
            Grid::containing_zero(lo, hi, bits, scheme.symmetric)
        }
        RangeSearch::Shrink | RangeSearch::Omse => {
            let squares = Squares::new(survey.buckets());
            shrunk_least(lo, hi, scheme, bits, |grid, _| squares.error(&Cells::uniform(grid)))
        }
        RangeSearch::Hessian | RangeSearch::Output | RangeSearch::Overlap => {
            of_sketch(survey, &scheme.on_values(), bits)
        }
    }
}

/// Whether it holds zeros and nothing else.
fn is_zero(bucket: &Bucket) -> bool {
    bucket.lo == 0.0 && bucket.hi == 0.0
}

/// At most about 512 buckets plus one per gap: neighbours are joined while together they are narrower than 1/512
/// of the range. Near zero the buckets of a sketch are far narrower than any step of a grid.
pub(super) fn coarse(buckets: &[Bucket]) -> Vec<Bucket> {
    let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else { return Vec::new() };
    if buckets.len() <= BUCKETS {
        return buckets.to_vec();
    }
    let widest = (last.hi - first.lo) / BUCKETS as f64;
    let mut joined: Vec<Bucket> = Vec::with_capacity(2 * BUCKETS);
    for bucket in buckets {
        match joined.last_mut() {
            // Exact zeros stay by themselves: they have no error.
            Some(open) if !is_zero(bucket) && !is_zero(open) && bucket.hi - open.lo <= widest => {
                open.hi = bucket.hi;
                open.count += bucket.count;
            }
            _ => joined.push(*bucket),
        }
    }
    joined
}
