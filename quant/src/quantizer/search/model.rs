//! What a sketch knows of one channel, and the error of a grid on it.

use super::error::{raw_error, weighted_error};
use crate::quantizer::cells::Cells;
use crate::quantizer::grid::Grid;
use crate::quantizer::predict::ends;
use crate::stats::{CHANNEL_TAIL, ChannelStats, Ranks, Sketch};
use std::f64::consts::{PI, TAU};

/// Probabilities between which the pooled shape is taken as uniform; finer towards the ends.
const CUTS: [f64; 32] = [
    0.0, 0.0002, 0.001, 0.003, 0.008, 0.02, 0.04, 0.07, 0.11, 0.16, 0.22, 0.28, 0.34, 0.4, 0.45, 0.48, 0.52,
    0.55, 0.6, 0.66, 0.72, 0.78, 0.84, 0.89, 0.93, 0.96, 0.98, 0.992, 0.997, 0.999, 0.9998, 1.0,
];

/// Fewer values are not weighted.
const FEWEST: usize = 16;
/// Nor are such of fewer shapes: of two values alone, squares go with the values themselves.
const LEAST_SHAPE: f64 = 1e-3;

/// Deviation in steps below which a normal variable is taken to have one level.
const NARROW: f64 = 1.0 / 512.0;
/// Terms of the series for wider ones; from this one on the damping of the narrowest is below 10⁻⁶.
const TERMS: i32 = 429;

/// The models of all channels of a tensor.
///
/// A sketch knows the moments, the range and the 8 extreme values on either side of a channel. The shape in between is
/// that of the channel's sampled values if there are any (their relative error is about one in the root of their number,
/// nearly the same for all grids). Else it is taken either from the whole tensor (moved and scaled to the channel's mean and
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
    sample: Option<Sample>,
}

/// Values drawn from a channel.
struct Sample {
    /// All of them if they are few, else those between the extremes.
    values: Vec<f32>,
    /// How many values each one stands for, as far as they differ in that: 1 on average.
    weights: Vec<f32>,
    /// Whether no value is left out.
    whole: bool,
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
        let (samples, whole) = sketch.channel_samples().unzip();
        let mut samples = samples.unwrap_or_default().into_iter();
        let channels = sketch
            .channel_stats()
            .into_iter()
            .enumerate()
            .map(|(c, stats)| {
                let ends = (sketch.channel_smallest(c), sketch.channel_largest(c));
                let sample = samples.next().zip(whole);
                ChannelModel::new(stats, ends, sample, &shape, ranks)
            })
            .collect();
        Self { channels, shape }
    }

    /// The mean squared error of a grid on channel `c`.
    pub(in crate::quantizer) fn error(&self, c: usize, cells: &Cells) -> f64 {
        self.channels.get(c).map_or(0.0, |channel| channel.error(cells, &self.shape))
    }

    /// The mean squared error of a grid on channel `c` from its values alone; `None` where too few are known.
    pub(in crate::quantizer) fn sampled_error(&self, c: usize, grid: &Grid) -> Option<f64> {
        self.channels.get(c)?.sampled(
            |values| raw_error(values, grid, 2.0),
            |values, weights| weighted_error(values, weights, *grid),
        )
    }
}

impl ChannelModel {
    fn new(
        stats: ChannelStats,
        (smallest, largest): (Vec<f32>, Vec<f32>),
        sample: Option<(Vec<f32>, bool)>,
        shape: &Shape,
        ranks: &Ranks,
    ) -> Self {
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
        let sample = sample.and_then(|sample| Sample::new(sample, &stats, &smallest, &largest));
        Self { stats, smallest, largest, offset, factor, normal, sample }
    }

    /// The mean over all values of a sum that is known for the extremes and for the sample.
    fn sampled(&self, sum: impl Fn(&[f32]) -> f64, weighted: impl Fn(&[f32], &[f32]) -> f64) -> Option<f64> {
        let sample = self.sample.as_ref()?;
        let (n, drawn) = (self.stats.count as f64, sample.values.len() as f64);
        if sample.whole {
            return Some(sum(&sample.values) / n.max(1.0));
        }
        let between = n - (self.smallest.len() + self.largest.len()) as f64;
        let inside = between * (weighted(&sample.values, &sample.weights) / drawn).max(0.0);
        Some((sum(&self.smallest) + sum(&self.largest) + inside) / n)
    }

    fn error(&self, cells: &Cells, shape: &Shape) -> f64 {
        let n = self.stats.count as f64;
        if self.stats.count <= CHANNEL_TAIL as u64 {
            let sum: f64 =
                self.largest.iter().map(|&x| cells.mean_error(f64::from(x), f64::from(x), 2.0)).sum();
            return sum / n.max(1.0);
        }
        let points = |values: &[f32]| values.iter().map(|&x| cells.error(f64::from(x))).sum();
        let weighted = |values: &[f32], weights: &[f32]| {
            let pairs = values.iter().zip(weights);
            pairs.map(|(&x, &weight)| f64::from(weight) * cells.error(f64::from(x))).sum()
        };
        if let Some(error) = self.sampled(points, weighted) {
            return error;
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

impl Sample {
    /// Of a channel with these extremes; `None` if that leaves nothing between them to go by.
    fn new(
        (mut values, whole): (Vec<f32>, bool),
        stats: &ChannelStats,
        smallest: &[f32],
        largest: &[f32],
    ) -> Option<Self> {
        if whole {
            let weights = vec![1.0; values.len()];
            return Some(Self { values, weights, whole });
        }
        let (&low, &high) = (smallest.last()?, largest.last()?);
        let n = stats.count as f64;
        let between = n - (smallest.len() + largest.len()) as f64;
        values.retain(|x| (low..=high).contains(x));
        // Fewer values than both ends show are counted twice in them.
        if values.is_empty() || between <= 0.0 {
            return None;
        }
        let known = smallest.iter().chain(largest).map(|&x| f64::from(x));
        let (sum, squares) = known.fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
        let mean = (stats.mean * n - sum) / between;
        let square = ((stats.mean * stats.mean + stats.std * stats.std) * n - squares) / between;
        Some(Self { weights: calibrated(&values, mean, square), values, whole })
    }
}

/// Weights that give a sample the mean and the mean square of all values that it was drawn from (regression estimation;
/// Cochran, *Sampling Techniques*, chapter 7): most of what clipping costs, and all that rounding to zero costs, goes with
/// the square of a value, and is then known instead of estimated. All 1 for a sample that has too little shape for that.
fn calibrated(values: &[f32], mean: f64, square: f64) -> Vec<f32> {
    let m = values.len() as f64;
    let average = |of: &dyn Fn(f64) -> f64| values.iter().map(|&x| of(f64::from(x))).sum::<f64>() / m;
    let own = average(&|x| x);
    let deviation = average(&|x| (x - own).powi(2)).sqrt();
    let unit = |x: f64| (x - own) / deviation;
    let skewness = average(&|x| unit(x).powi(3));
    let spread = average(&|x| unit(x).powi(4)) - 1.0;
    // Of the two functions u and u² - 1, whose means over the sample are zero.
    let determinant = spread - skewness * skewness;
    let means = [unit(mean), (square - 2.0 * own * mean + own * own) / (deviation * deviation) - 1.0];
    let by = [
        (spread * means[0] - skewness * means[1]) / determinant,
        (means[1] - skewness * means[0]) / determinant,
    ];
    if !(values.len() >= FEWEST && deviation > 0.0 && determinant > LEAST_SHAPE)
        || by.iter().any(|b| !b.is_finite())
    {
        return vec![1.0; values.len()];
    }
    let weight = |&x: &f32| {
        let u = unit(f64::from(x));
        (1.0 + by[0] * u + by[1] * (u * u - 1.0)) as f32
    };
    values.iter().map(weight).collect()
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

#[cfg(test)]
mod tests {
    use super::calibrated;
    use crate::stats::tests::shapes::Random;

    #[test]
    fn a_weighted_sample_has_the_moments_of_all() {
        let mut random = Random::new(9);
        let all: Vec<f32> = (0..6000).map(|_| (random.laplace() + 0.3 * random.uniform()) as f32).collect();
        let sample: Vec<f32> = all.iter().step_by(37).copied().collect();
        let mean = |of: &dyn Fn(f64) -> f64, values: &[f32], weights: &[f32]| {
            let sum: f64 = values.iter().zip(weights).map(|(&x, &w)| f64::from(w) * of(f64::from(x))).sum();
            sum / values.len() as f64
        };
        let even = vec![1.0; all.len()];
        let moments = [|x: f64| x, |x: f64| x * x].map(|of| mean(&of, &all, &even));
        let weights = calibrated(&sample, moments[0], moments[1]);
        for (found, expected) in [(mean(&|_| 1.0, &sample, &weights), 1.0)].into_iter().chain([
            (mean(&|x| x, &sample, &weights), moments[0]),
            (mean(&|x| x * x, &sample, &weights), moments[1]),
        ]) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        // The cost of clipping at 1 is nearer to the truth with the weights than without.
        let clipped = |x: f64| (x.abs() - 1.0).max(0.0).powi(2);
        let truth = mean(&clipped, &all, &even);
        let off = |weights: &[f32]| (mean(&clipped, &sample, weights) / truth - 1.0).abs();
        assert!(off(&weights) < 0.5 * off(&vec![1.0; sample.len()]), "{} {}", off(&weights), off(&even));
        // Two values alone have no shape.
        assert_eq!(calibrated(&[1.0, -1.0].repeat(20), 0.5, 1.0), vec![1.0; 40]);
    }
}
