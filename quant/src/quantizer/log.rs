//! Logarithmic quantization.
//!
//! With `m` levels per octave (1: log2, 2: log-√2; RepQ-ViT, `LogSqrt2Quantizer`):
//! `k = round(-m · log2(x / scale))`, and the value is `scale · 2^(-k/m)` for `k` clamped to `0..2^b`, or 0
//! where `k ≥ 2^b` or `x ≤ 0`. So there are `2^b` powers and an exact zero, one level more than `b` bits hold:
//! zero has the code `2^b`. For log-√2 the power is computed as the original does, through
//! `2^(-⌈k/2⌉) · (1 + (k mod 2)(√2 - 1))`, which is what a shift and a second scale can do.
//!
//! The code is found from the exponent of `x / scale` and exact thresholds on its mantissa, so it is the
//! correctly rounded one; a logarithm in f32 may differ where `-m · log2` falls within an ulp of a tie.

use super::cells::{Cells, power};
use super::distribution::{Distribution, group};
use super::error::QuantizerError;
use super::params::Params;
use super::quantile::Sorted;
use super::scheme::{Family, Granularity, RangeSearch, Scheme};
use super::search::{Squares, bucket_error, least};
use super::survey::Survey;
use super::{Quantizer, check_family};
use crate::exec::kernels::powers as kernel;
use crate::terms::{Bits, Layout};
use rayon::prelude::*;

/// Beyond this code every power of an f32 ratio is zero: 2 levels in each of 277 octaves.
const MOST_LEVELS: u32 = 600;
/// Shares of the maximum tried for the least error.
const SHARES: u32 = 100;

/// `2^(-1/4)`, `2^(-1/2)` and `2^(-3/4)` times 2: where the rounded code of a mantissa changes.
const QUARTER: f64 = 1.189_207_115_002_721;
const HALF: f64 = std::f64::consts::SQRT_2;
const THREE_QUARTERS: f64 = 1.681_792_830_507_429;

/// Powers below a scale.
#[derive(Debug)]
pub(super) struct Log {
    family: Family,
    per_octave: u32,
}

/// Log2.
pub(super) static LOG2: Log = Log { family: Family::Log2, per_octave: 1 };
/// Log-√2.
pub(super) static LOG_SQRT2: Log = Log { family: Family::LogSqrt2, per_octave: 2 };

/// The powers of one scale by code.
struct Powers {
    scale: f32,
    per_octave: u32,
    values: Vec<f32>,
    zero: u32,
}

impl Log {
    fn powers(&self, scale: f32, bits: Bits) -> Powers {
        let zero = bits.levels().unwrap_or(u32::MAX);
        let value = |k: u32| {
            // As in the original: the power, then the odd factor, then the scale.
            let power = 2_f64.powi(-(k.div_ceil(self.per_octave) as i32)) as f32;
            let odd =
                if k % self.per_octave == 1 { 1.0 + (std::f64::consts::SQRT_2 - 1.0) as f32 } else { 1.0 };
            power * odd * scale
        };
        Powers {
            scale,
            per_octave: self.per_octave,
            values: (0..zero.min(MOST_LEVELS)).map(value).collect(),
            zero,
        }
    }

    fn of_channels(&self, params: &Params, channels: usize) -> Vec<Powers> {
        let n = if params.scale.len() == 1 { 1 } else { channels.max(1) };
        (0..n).map(|c| self.powers(params.scale_of(c), params.bits)).collect()
    }

    fn fit_raw(&self, values: &[f32], scheme: &Scheme, bits: Bits) -> f32 {
        let max = values.iter().copied().reduce(f32::max).unwrap_or(0.0);
        let score = |scale: &f32| {
            let powers = self.powers(*scale, bits);
            let p = exponent(&scheme.range);
            values.iter().map(|&x| power(f64::from((x - powers.apply(x)).abs()), p)).sum()
        };
        let best = match &scheme.range {
            RangeSearch::Percentile(levels) => {
                let sorted = Sorted::new(values);
                // A percentile that is not positive is no scale; without any, the maximum is (as below).
                let positive = levels.iter().map(|&p| sorted.quantile(p)).filter(|scale| *scale > 0.0);
                least(positive.map(usable), score)
            }
            RangeSearch::Mse { .. } => least(shares(max), score),
            _ => None,
        };
        best.unwrap_or_else(|| usable(max))
    }

    fn scales(&self, survey: &Survey<'_>, scheme: &Scheme, bits: Bits) -> Vec<f32> {
        let (sketch, scale) = (survey.sketch(), self.fit_survey(survey, scheme, bits));
        if scheme.granularity == Granularity::Tensor {
            return vec![scale];
        }
        let share = if sketch.max() > 0.0 { scale / sketch.max() } else { 1.0 };
        sketch.channel_stats().iter().map(|channel| usable(channel.max * share)).collect()
    }

    fn fit_survey(&self, survey: &Survey<'_>, scheme: &Scheme, bits: Bits) -> f32 {
        let (sketch, ranks) = (survey.sketch(), survey.ranks());
        let score = |scale: &f32, buckets: &[_]| {
            bucket_error(buckets, &self.powers(*scale, bits).cells(), exponent(&scheme.range))
        };
        let best = match &scheme.range {
            RangeSearch::Percentile(levels) if !ranks.is_empty() => {
                let positive =
                    levels.iter().map(|&p| ranks.percentile(p) as f32).filter(|scale| *scale > 0.0);
                let candidates = positive.map(usable);
                least(candidates, |scale| score(scale, ranks.buckets()))
            }
            RangeSearch::Mse { .. } => {
                let buckets = survey.coarse();
                let squares = Squares::new(buckets);
                least(shares(sketch.max()), |scale| {
                    if exponent(&scheme.range) == 2.0 {
                        squares.error(&self.powers(*scale, bits).cells())
                    } else {
                        score(scale, buckets)
                    }
                })
            }
            _ => None,
        };
        best.unwrap_or_else(|| usable(sketch.max()))
    }
}

impl Quantizer for Log {
    fn name(&self) -> &'static str {
        self.family.as_str()
    }

    /// From a sketch, the scale of a channel is the same share of its maximum as the tensor's scale is of the
    /// tensor's maximum.
    fn fit(&self, data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
        check_family(scheme, self.family, bits)?;
        data.check()?;
        let scale = match *data {
            Distribution::Raw { .. } | Distribution::Batches(_) => {
                let (values, layout) = data.joined().ok_or(QuantizerError::NoData)?;
                let groups = if scheme.granularity == Granularity::Tensor { 1 } else { layout.channels };
                let fit = |c| self.fit_raw(&group(&values, layout, scheme.granularity, c), scheme, bits);
                (0..groups).into_par_iter().map(fit).collect()
            }
            Distribution::Sketch(sketch) => self.scales(&Survey::new(sketch), scheme, bits),
            Distribution::Survey(survey) => self.scales(survey, scheme, bits),
        };
        let extra = std::collections::BTreeMap::new();
        Ok(Params { scheme: scheme.clone(), bits, scale, zero_point: Vec::new(), extra })
    }

    fn fake_quantize(&self, x: &mut [f32], layout: Layout, params: &Params) {
        let powers = self.of_channels(params, layout.channels);
        super::by_channel(x, layout, params, |values, c| {
            let of = &powers[c];
            let grid = kernel::Powers { scale: of.scale, halves: of.per_octave == 2, levels: of.zero };
            kernel::powers(values, grid, |x| of.apply(x));
        });
    }

    fn codes(&self, x: &[f32], layout: Layout, params: &Params) -> Vec<u32> {
        let powers = self.of_channels(params, layout.channels);
        let of = |at: usize| &powers[if powers.len() == 1 { 0 } else { layout.channel_of(at) }];
        x.iter().enumerate().map(|(at, &x)| of(at).code(x)).collect()
    }

    fn dequantize(&self, codes: &[u32], layout: Layout, params: &Params) -> Vec<f32> {
        let powers = self.of_channels(params, layout.channels);
        let of = |at: usize| &powers[if powers.len() == 1 { 0 } else { layout.channel_of(at) }];
        codes.iter().enumerate().map(|(at, &code)| of(at).value(code)).collect()
    }

    fn levels(&self, params: &Params, c: usize) -> Vec<f32> {
        let mut levels = self.powers(params.scale_of(c), params.bits).values;
        levels.push(0.0);
        levels.reverse();
        levels.dedup();
        levels
    }

    fn cells(&self, params: &Params, c: usize) -> Cells {
        self.powers(params.scale_of(c), params.bits).cells()
    }
}

impl Powers {
    /// The code of a value; `zero` for what becomes 0, NaN included.
    fn code(&self, x: f32) -> u32 {
        let ratio = x / self.scale;
        if ratio.is_nan() || ratio <= 0.0 {
            return self.zero;
        }
        if ratio >= 1.0 {
            return 0;
        }
        // Denormals have no leading one.
        let (ratio, shift) = if ratio < f32::MIN_POSITIVE { (ratio * 16_777_216.0, 24) } else { (ratio, 0) };
        let bits = ratio.to_bits();
        let octaves = 127 - (bits >> 23) + shift;
        let mantissa = f64::from(f32::from_bits((bits & 0x7f_ffff) | 0x3f80_0000));
        let below = if self.per_octave == 1 {
            u32::from(mantissa >= HALF)
        } else {
            u32::from(mantissa >= QUARTER) + u32::from(mantissa >= THREE_QUARTERS)
        };
        (octaves * self.per_octave - below).min(self.zero)
    }

    fn value(&self, code: u32) -> f32 {
        if code >= self.zero { 0.0 } else { self.values.get(code as usize).copied().unwrap_or(0.0) }
    }

    /// Quantizes and dequantizes; NaN stays NaN, negative values become 0.
    fn apply(&self, x: f32) -> f32 {
        if x.is_nan() { x } else { self.value(self.code(x)) }
    }

    fn cells(&self) -> Cells {
        let scale = f64::from(self.scale);
        let n = self.values.len();
        let bound = |k: usize| scale * (-(k as f64 + 0.5) / f64::from(self.per_octave)).exp2();
        let mut levels = vec![0.0];
        levels.extend(self.values.iter().rev().map(|&level| f64::from(level)));
        Cells::Steps { bounds: (0..n).rev().map(bound).collect(), levels }
    }
}

fn exponent(range: &RangeSearch) -> f64 {
    if let RangeSearch::Mse { p } = range { *p } else { 2.0 }
}

fn shares(max: f32) -> impl Iterator<Item = f32> {
    (1..=SHARES).rev().map(move |i| usable(max * (i as f32 / SHARES as f32)))
}

/// A scale must be a positive finite number; any will do where no value is positive.
fn usable(scale: f32) -> f32 {
    if scale > 0.0 { scale.clamp(f32::MIN_POSITIVE, f32::MAX) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_gives_the_defined_levels_bit_for_bit() {
        for log in [&LOG2, &LOG_SQRT2] {
            for (scale, bits) in [(1.0, 2), (0.37, 4), (0.9, 8), (1e-30, 6), (3e7, 8)] {
                let bits = Bits::new(bits).unwrap();
                let powers = log.powers(scale, bits);
                let mut x: Vec<f32> = (0..0x7f80_0000_u32).step_by(65_521).map(f32::from_bits).collect();
                // Around every threshold.
                for k in 0..300 {
                    let near =
                        (scale as f64 * (-(f64::from(k) + 0.5) / f64::from(log.per_octave)).exp2()) as f32;
                    x.extend((0..9).map(|i| f32::from_bits((near.to_bits() + i).saturating_sub(4))));
                }
                x.extend([0.0, -0.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, scale]);
                // Tiny ratios among others and by themselves go different ways.
                for piece in [x.len(), 1] {
                    let mut got = x.clone();
                    for values in got.chunks_mut(piece) {
                        let grid = kernel::Powers { scale, halves: log.per_octave == 2, levels: powers.zero };
                        kernel::powers(values, grid, |x| powers.apply(x));
                    }
                    for (&x, &got) in x.iter().zip(&got) {
                        assert_eq!(got.to_bits(), powers.apply(x).to_bits(), "{x:e} of {scale} at {bits:?}");
                    }
                }
            }
        }
    }
}
