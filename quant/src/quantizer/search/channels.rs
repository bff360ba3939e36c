//! Ranges of single channels from what a sketch knows of them.

use super::least;
use crate::quantizer::cells::Cells;
use crate::quantizer::grid::Grid;
use crate::quantizer::predict::ends;
use crate::quantizer::scheme::{RangeSearch, Scheme};
use crate::stats::{CHANNEL_TAIL, ChannelStats, Ranks, Sketch};
use crate::terms::Bits;
use std::f64::consts::{PI, TAU};

/// Shares of a channel's range that are tried where an error is minimised: 1 down to 0.3.
const SHARES: [f32; 15] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3];

/// What a sketch knows of one channel: moments, range and the 8 extreme values on either side.
///
/// It does not know the shape in between. There the channel is taken as normal with its own mean and
/// deviation, with the tensor's share of exact zeros; rounding noise then follows from the characteristic
/// function (Sripad and Snyder 1977), clipping from the known extremes and beyond them from the normal tail. The
/// predicted error of a channel is within about 1 dB for shapes near normal, for GELU and for ReLU.
pub(in crate::quantizer) struct ChannelModel {
    pub(in crate::quantizer) stats: ChannelStats,
    smallest: Vec<f32>,
    largest: Vec<f32>,
    zeros: f64,
}

/// A model of every channel.
pub(in crate::quantizer) fn channel_models(sketch: &Sketch) -> Vec<ChannelModel> {
    let zeros = sketch.zeros() as f64 / (sketch.finite() as f64).max(1.0);
    sketch
        .channel_stats()
        .into_iter()
        .enumerate()
        .map(|(c, stats)| ChannelModel {
            stats,
            smallest: sketch.channel_smallest(c),
            largest: sketch.channel_largest(c),
            zeros,
        })
        .collect()
}

impl ChannelModel {
    /// The mean squared error of a uniform grid on the channel.
    pub(in crate::quantizer) fn error(&self, cells: &Cells) -> f64 {
        let n = self.stats.count as f64;
        if self.stats.count <= CHANNEL_TAIL as u64 {
            let sum: f64 =
                self.largest.iter().map(|&x| cells.mean_error(f64::from(x), f64::from(x), 2.0)).sum();
            return sum / n.max(1.0);
        }
        if self.stats.std == 0.0 {
            return cells.mean_error(self.stats.mean, self.stats.mean, 2.0);
        }
        let (lo, hi) = cells.range();
        let step = match cells {
            Cells::Uniform { step, .. } => *step,
            Cells::Steps { .. } => 0.0,
        };
        let above = self.clipped(&self.largest, hi, 1.0);
        let below = self.clipped(&self.smallest, lo, -1.0);
        self.noise(step) * (1.0 - self.zeros) + (above + below) / n
    }

    /// Mean squared rounding error of a normal variable on an unbounded grid.
    fn noise(&self, step: f64) -> f64 {
        let (mean, std) = (self.stats.mean / step, self.stats.std / step);
        let mut sum = 1.0 / 12.0;
        for k in 1..=16_i32 {
            let k = f64::from(k);
            let damping = (-2.0 * PI * PI * k * k * std * std).exp();
            if damping < 1e-6 {
                break;
            }
            let sign = if k % 2.0 == 0.0 { 1.0 } else { -1.0 };
            sum += sign / (PI * PI * k * k) * damping * (TAU * k * mean).cos();
        }
        sum.max(0.0) * step * step
    }

    /// The summed squared distance of the values beyond `end`; `side` is 1 above and −1 below.
    fn clipped(&self, extremes: &[f32], end: f64, side: f64) -> f64 {
        let beyond = |x: f32| (side * (f64::from(x) - end)).max(0.0);
        let known: f64 = extremes.iter().map(|&x| beyond(x).powi(2)).sum();
        let unknown = extremes.len() == CHANNEL_TAIL && extremes.last().is_some_and(|&x| beyond(x) > 0.0);
        if !unknown {
            return known;
        }
        let t = side * (end - self.stats.mean) / self.stats.std;
        let density = (-0.5 * t * t).exp() / TAU.sqrt();
        let tail = (1.0 + t * t) * normal_tail(t) - t * density;
        known.max(self.stats.count as f64 * self.stats.std.powi(2) * tail)
    }

    /// How many values are known to be clipped: exact up to 8 on either side, a lower bound beyond.
    pub(in crate::quantizer) fn clipped_count(&self, cells: &Cells) -> f64 {
        let (lo, hi) = ends(cells);
        let above = self.largest.iter().filter(|x| f64::from(**x) > hi).count();
        let below = self.smallest.iter().filter(|x| f64::from(**x) < lo).count();
        (above + below) as f64
    }

    /// The channel's quantile: exact while the 8 extremes reach, otherwise that of the tensor, standardised.
    fn percentile(&self, p: f64, pooled: f64) -> f32 {
        let n = self.stats.count;
        if n == 0 {
            return 0.0;
        }
        let rank = p * (n - 1) as f64;
        let from_top = (n - 1) as f64 - rank;
        let interpolate = |values: &[f32], rank: f64| {
            let (a, b) = (values.get(rank.floor() as usize)?, values.get(rank.ceil() as usize)?);
            Some(a + (b - a) * rank.fract() as f32)
        };
        let exact = if from_top < rank {
            interpolate(&self.largest, from_top)
        } else {
            interpolate(&self.smallest, rank)
        };
        exact.unwrap_or_else(|| {
            let guess = (self.stats.mean + self.stats.std * pooled) as f32;
            let lo = self.smallest.last().copied().unwrap_or(self.stats.min);
            let hi = self.largest.last().copied().unwrap_or(self.stats.max);
            if lo <= hi { guess.clamp(lo, hi) } else { guess }
        })
    }
}

/// The grid of every channel.
pub(in crate::quantizer) fn of_channels(sketch: &Sketch, scheme: &Scheme, bits: Bits) -> Vec<Grid> {
    let models = channel_models(sketch);
    let ranks = Ranks::new(sketch);
    let (mean, std) = (sketch.mean(), sketch.std().max(f64::MIN_POSITIVE));
    let pooled = |p: f64| if ranks.is_empty() { 0.0 } else { (ranks.percentile(p) - mean) / std };
    let levels: Vec<(f64, f64, f64)> = match &scheme.range {
        RangeSearch::Percentile(levels) => levels.iter().map(|&p| (p, pooled(1.0 - p), pooled(p))).collect(),
        _ => Vec::new(),
    };
    models
        .iter()
        .map(|model| {
            let (lo, hi) = (model.stats.min, model.stats.max);
            let score = |grid: &Grid| model.error(&Cells::uniform(grid));
            match &scheme.range {
                RangeSearch::MinMax => Grid::containing_zero(lo, hi, bits, scheme.symmetric),
                RangeSearch::Percentile(_) => {
                    let candidates = levels.iter().map(|&(p, low, high)| {
                        let (lo, hi) = (model.percentile(1.0 - p, low), model.percentile(p, high));
                        if scheme.symmetric {
                            Grid::containing_zero(lo, hi, bits, true)
                        } else {
                            Grid::over(lo, hi, bits)
                        }
                    });
                    least(candidates, score).unwrap_or_else(|| Grid::constant(0.0, bits))
                }
                RangeSearch::Mse { .. } | RangeSearch::Kl => {
                    let candidates = SHARES
                        .iter()
                        .map(|share| Grid::containing_zero(lo * share, hi * share, bits, scheme.symmetric));
                    least(candidates, score).unwrap_or_else(|| Grid::constant(0.0, bits))
                }
            }
        })
        .collect()
}

/// P(X > t) of a standard normal variable, by Abramowitz and Stegun 26.2.17 (error below 10⁻⁷).
fn normal_tail(t: f64) -> f64 {
    let k = 1.0 / (1.0 + 0.231_641_9 * t.abs());
    let series = k
        * (0.319_381_530
            + k * (-0.356_563_782 + k * (1.781_477_937 + k * (-1.821_255_978 + k * 1.330_274_429))));
    let tail = (-0.5 * t * t).exp() / TAU.sqrt() * series;
    if t >= 0.0 { tail } else { 1.0 - tail }
}
