//! What a sketch knows of one channel, and the error of a grid on it.

use crate::quantizer::cells::Cells;
use crate::quantizer::predict::ends;
use crate::stats::{CHANNEL_TAIL, ChannelStats, Ranks, Sketch};
use std::f64::consts::{PI, TAU};

/// Probabilities between which the pooled shape is taken as uniform; finer towards the ends.
const CUTS: [f64; 32] = [
    0.0, 0.0002, 0.001, 0.003, 0.008, 0.02, 0.04, 0.07, 0.11, 0.16, 0.22, 0.28, 0.34, 0.4, 0.45, 0.48, 0.52,
    0.55, 0.6, 0.66, 0.72, 0.78, 0.84, 0.89, 0.93, 0.96, 0.98, 0.992, 0.997, 0.999, 0.9998, 1.0,
];

/// Deviation in steps below which a normal variable is taken to have one level.
const NARROW: f64 = 1.0 / 512.0;
/// Terms of the series for wider ones; from this one on the damping of the narrowest is below 10⁻⁶.
const TERMS: i32 = 429;

/// The models of all channels of a tensor.
///
/// A sketch knows the moments, the range and the 8 extreme values on either side of a channel, but not the shape
/// in between. That is taken either from the whole tensor (moved and scaled to the channel's mean and
/// deviation; only scaled where no value is negative) or as normal, whichever puts the channel's 8th most
/// extreme values closer to where they are: the tensor's shape is right where channels are alike, and wrong
/// where it is a mixture of very different ones.
pub(in crate::quantizer) struct ChannelModels {
    pub(in crate::quantizer) channels: Vec<ChannelModel>,
    shape: Shape,
}

/// The whole tensor's shape.
struct Shape {
    /// Quantiles at [`CUTS`].
    cuts: Vec<f64>,
    mean: f64,
    std: f64,
    /// Whether values keep their sign, so that channels differ by a factor.
    factor: bool,
    zeros: f64,
}

/// One channel.
pub(in crate::quantizer) struct ChannelModel {
    pub(in crate::quantizer) stats: ChannelStats,
    smallest: Vec<f32>,
    largest: Vec<f32>,
    /// Value of the channel for a value `x` of the tensor: `offset + factor · x`.
    offset: f64,
    factor: f64,
    normal: bool,
}

impl ChannelModels {
    pub(in crate::quantizer) fn new(sketch: &Sketch, ranks: &Ranks) -> Self {
        let shape = Shape {
            cuts: CUTS.iter().map(|&p| if ranks.is_empty() { 0.0 } else { ranks.percentile(p) }).collect(),
            mean: sketch.mean(),
            std: sketch.std_of(ranks.buckets()),
            factor: sketch.min() >= 0.0 || sketch.max() <= 0.0,
            zeros: sketch.zeros() as f64 / (sketch.finite() as f64).max(1.0),
        };
        let channels = sketch
            .channel_stats()
            .into_iter()
            .enumerate()
            .map(|(c, stats)| {
                ChannelModel::new(stats, sketch.channel_smallest(c), sketch.channel_largest(c), &shape, ranks)
            })
            .collect();
        Self { channels, shape }
    }

    /// The mean squared error of a grid on channel `c`.
    pub(in crate::quantizer) fn error(&self, c: usize, cells: &Cells) -> f64 {
        self.channels.get(c).map_or(0.0, |channel| channel.error(cells, &self.shape))
    }
}

impl ChannelModel {
    fn new(stats: ChannelStats, smallest: Vec<f32>, largest: Vec<f32>, shape: &Shape, ranks: &Ranks) -> Self {
        let (offset, factor) = if shape.factor {
            let rms = |mean: f64, std: f64| (mean * mean + std * std).sqrt();
            let pooled = rms(shape.mean, shape.std);
            (0.0, if pooled > 0.0 { rms(stats.mean, stats.std) / pooled } else { 1.0 })
        } else {
            let factor = if shape.std > 0.0 { stats.std / shape.std } else { 1.0 };
            (stats.mean - factor * shape.mean, factor)
        };
        // Where the 8th values of each side should be under either shape; half a rank, as they are one of many.
        let p = (CHANNEL_TAIL as f64 - 0.5) / (stats.count as f64).max(1.0);
        let normal = p < 0.5 && !ranks.is_empty() && {
            let z = normal_quantile(p);
            let off = |value: Option<&f32>, p: f64, z: f64| {
                value.map_or((0.0, 0.0), |&x| {
                    let x = f64::from(x);
                    (
                        (x - offset - factor * ranks.percentile(p)).abs(),
                        (x - stats.mean - z * stats.std).abs(),
                    )
                })
            };
            let (low, high) = (off(smallest.last(), p, z), off(largest.last(), 1.0 - p, -z));
            low.1 + high.1 < low.0 + high.0
        };
        Self { stats, smallest, largest, offset, factor, normal }
    }

    fn error(&self, cells: &Cells, shape: &Shape) -> f64 {
        let n = self.stats.count as f64;
        if self.stats.count <= CHANNEL_TAIL as u64 {
            let sum: f64 =
                self.largest.iter().map(|&x| cells.mean_error(f64::from(x), f64::from(x), 2.0)).sum();
            return sum / n.max(1.0);
        }
        if self.stats.std == 0.0 {
            return cells.mean_error(self.stats.mean, self.stats.mean, 2.0);
        }
        let Cells::Uniform { step, lowest, highest } = *cells else {
            // As below: what the extremes show is exact, so the shape ends where they begin.
            let known = clipped(&self.largest, cells, 1.0);
            let end = if known.is_some() { ends(cells).1 } else { f64::INFINITY };
            return self.shaped(cells, shape, end) + known.unwrap_or(0.0) / n;
        };
        // Where the extremes show all that is clipped, they are exact; the rest of the side only rounds.
        let (above, below) = (clipped(&self.largest, cells, 1.0), clipped(&self.smallest, cells, -1.0));
        let open = Cells::Uniform {
            step,
            lowest: if below.is_some() { f64::NEG_INFINITY } else { lowest },
            highest: if above.is_some() { f64::INFINITY } else { highest },
        };
        let known = (above.unwrap_or(0.0) + below.unwrap_or(0.0)) / n;
        if !self.normal {
            return self.shaped(&open, shape, f64::INFINITY) + known;
        }
        let side = |known: Option<f64>, end: f64, side: f64| {
            if known.is_some() { 0.0 } else { self.normal_clip(end, side) }
        };
        let unknown = side(above, highest * step, 1.0) + side(below, lowest * step, -1.0);
        self.normal_noise(step) * (1.0 - shape.zeros) + known + unknown
    }

    /// The error under the tensor's shape; values above `end` count as `end` with no error of their own.
    fn shaped(&self, cells: &Cells, shape: &Shape, end: f64) -> f64 {
        let (min, max) = (f64::from(self.stats.min), f64::from(self.stats.max).min(end));
        let min = min.min(max);
        let place = |x: f64| (self.offset + self.factor * x).clamp(min, max);
        let pieces = CUTS.windows(2).zip(shape.cuts.windows(2));
        pieces
            .map(|(p, x)| {
                // Exact zeros are zeros in every channel.
                let (lo, hi) =
                    if x[0] == 0.0 && x[1] == 0.0 { (0.0, 0.0) } else { (place(x[0]), place(x[1])) };
                (p[1] - p[0]) * cells.mean_error(lo, hi, 2.0)
            })
            .sum()
    }

    /// Mean squared rounding error of a normal variable on an unbounded grid, from its characteristic
    /// function (Sripad and Snyder, 1977).
    fn normal_noise(&self, step: f64) -> f64 {
        let (mean, std) = (self.stats.mean / step, self.stats.std / step);
        if std < NARROW {
            // All at one level: the series would need thousands of terms.
            let off = mean - mean.round_ties_even();
            return (off * off + std * std) * step * step;
        }
        let mut sum = 1.0 / 12.0;
        for k in 1..=TERMS {
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

    /// The mean squared distance of a normal variable beyond `end`.
    fn normal_clip(&self, end: f64, side: f64) -> f64 {
        let t = side * (end - self.stats.mean) / self.stats.std;
        let density = (-0.5 * t * t).exp() / TAU.sqrt();
        self.stats.std.powi(2) * ((1.0 + t * t) * normal_tail(t) - t * density).max(0.0)
    }

    /// How many values are known to be clipped: exact up to 8 on either side, a lower bound beyond.
    pub(in crate::quantizer) fn clipped_count(&self, cells: &Cells) -> f64 {
        let (lo, hi) = ends(cells);
        let above = self.largest.iter().filter(|x| f64::from(**x) > hi).count();
        let below = self.smallest.iter().filter(|x| f64::from(**x) < lo).count();
        (above + below) as f64
    }

    /// The channel's quantile: exact while the 8 extremes reach, otherwise that of its shape, given the tensor's.
    pub(in crate::quantizer) fn percentile(&self, p: f64, pooled: f64) -> f32 {
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
            let guess = if self.normal && p > 0.0 && p < 1.0 {
                let z = if p < 0.5 { normal_quantile(p) } else { -normal_quantile(1.0 - p) };
                self.stats.mean + self.stats.std * z
            } else {
                self.offset + self.factor * pooled
            } as f32;
            let lo = self.smallest.last().copied().unwrap_or(self.stats.min);
            let hi = self.largest.last().copied().unwrap_or(self.stats.max);
            if lo <= hi { guess.clamp(lo, hi) } else { guess }
        })
    }
}

/// The summed squared distance of the values that are clipped on one side, or `None` if there are more of them
/// than the extremes show. Values within half a step of the end are rounded like any other.
fn clipped(extremes: &[f32], cells: &Cells, side: f64) -> Option<f64> {
    let ((lo, hi), (lo_edge, hi_edge)) = (cells.range(), ends(cells));
    let (end, edge) = if side > 0.0 { (hi, hi_edge) } else { (lo, lo_edge) };
    let is_out = |x: f32| side * (f64::from(x) - edge) > 0.0;
    if extremes.last().is_some_and(|&x| is_out(x)) {
        return None;
    }
    Some(extremes.iter().filter(|x| is_out(**x)).map(|&x| (f64::from(x) - end).powi(2)).sum())
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

/// The quantile of a standard normal variable for `0 < p ≤ ½`, by Abramowitz and Stegun 26.2.23 (error 5·10⁻⁴).
fn normal_quantile(p: f64) -> f64 {
    let t = (-2.0 * p.ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    -(t - above / below)
}
