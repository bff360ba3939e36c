//! Ranges of single channels from what a sketch knows of them.

use super::least;
use crate::quantizer::cells::Cells;
use crate::quantizer::grid::Grid;
use crate::quantizer::scheme::{RangeSearch, Scheme};
use crate::quantizer::survey::Survey;
use crate::terms::Bits;
use rayon::prelude::*;

/// Shares of a channel's range that are tried where an error is minimised.
const SHARES: [f32; 12] = [1.0, 0.94, 0.88, 0.82, 0.76, 0.7, 0.64, 0.58, 0.52, 0.46, 0.4, 0.32];

/// The grid of every channel. Min–max is exact, and percentiles are while they lie within the 8 extremes; the
/// errors that choose between candidates come from [`ChannelModels`](super::ChannelModels). There is no histogram per channel, so KL
/// and every exponent of MSE become the least squared error over shares of the range.
pub(in crate::quantizer) fn of_channels(survey: &Survey<'_>, scheme: &Scheme, bits: Bits) -> Vec<Grid> {
    let (models, ranks) = (survey.models(), survey.ranks());
    let pooled = |p: f64| if ranks.is_empty() { 0.0 } else { ranks.percentile(p) };
    let range = scheme.range.on_values();
    let levels: Vec<(f64, f64, f64)> = match &range {
        RangeSearch::Percentile(levels) => levels.iter().map(|&p| (p, pooled(1.0 - p), pooled(p))).collect(),
        _ => Vec::new(),
    };
    let fit = |c: usize| {
        let model = &models.channels[c];
        let (lo, hi) = (model.stats.min, model.stats.max);
        let score = |grid: &Grid| models.error(c, &Cells::uniform(grid));
        let best = match &range {
            RangeSearch::MinMax | RangeSearch::AverageMinMax | RangeSearch::Ema { p: None, .. } => {
                Some(Grid::containing_zero(lo, hi, bits, scheme.symmetric))
            }
            RangeSearch::Percentile(_) => {
                let candidates = levels.iter().map(|&(p, low, high)| {
                    let (lo, hi) = (model.percentile(1.0 - p, low), model.percentile(p, high));
                    if scheme.symmetric {
                        Grid::containing_zero(lo, hi, bits, true)
                    } else {
                        Grid::over(lo, hi, bits)
                    }
                });
                least(candidates, score)
            }
            RangeSearch::Shrink => {
                let narrowed = |share: &f32| {
                    let (lo, hi) = (lo * share, hi * share);
                    if scheme.symmetric {
                        Grid::containing_zero(lo, hi, bits, true)
                    } else {
                        Grid::over(lo, hi, bits)
                    }
                };
                least(SHARES.iter().map(narrowed), score)
            }
            RangeSearch::Mse { .. }
            | RangeSearch::Kl
            | RangeSearch::Ema { p: Some(_), .. }
            | RangeSearch::Bounded { .. }
            | RangeSearch::Omse
            | RangeSearch::Hessian
            | RangeSearch::Output
            | RangeSearch::Overlap => {
                let narrowed =
                    |share: &f32| Grid::containing_zero(lo * share, hi * share, bits, scheme.symmetric);
                least(SHARES.iter().map(narrowed), score)
            }
        };
        best.unwrap_or_else(|| Grid::constant(0.0, bits))
    };
    (0..models.channels.len()).into_par_iter().map(fit).collect()
}
