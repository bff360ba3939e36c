//! Dual-region quantization of values after a GELU: PTQ4RIS's DRQ, which is the twin uniform quantizer of PTQ4ViT
//! (Yuan et al., ECCV 2022, §3.2; spec A §3.1, spec B §6).
//!
//! One of the `b` bits says the sign. With `q = 2^(b-1)`: negative values go to `clamp(round(x / negative_scale), -q, 0)`
//! steps of the fixed size `0.16997124254703522 / q`, which spans GELU's minimum; the others to
//! `clamp(round(x / scale), 0, q - 1)` steps of the searched size `scale`. The codes are those whole numbers plus `q`.
//!
//! The search tries `f · max / (q - ½)` for the 100 factors `f = 0.01 + 0.0119 k` and keeps the first of least squared
//! error, or of least error of the product where that is given. PTQ4ViT and PTQ4RIS weight the error of the product
//! with a gradient that is zero but for rounding at the point where they take it; here every output counts the same
//! (see [`search_linear`](super::output::search_linear) for the search with gradients).
//! The power-of-two ratio between both steps that the paper asks for is not in the released code, and not here.

use super::cells::Cells;
use super::distribution::{Distribution, group};
use super::error::QuantizerError;
use super::params::Params;
use super::pieces::{Pieces, levels_of, round_within, usable};
use super::scheme::{Family, Granularity, Scheme};
use super::search::{Cost, Squares, bucket_error, exponent, least, value_error};
use super::survey::Survey;
use super::{Quantizer, by_channel, check_family};
use crate::terms::{Bits, Layout};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// The depth of GELU's minimum, as the original writes it.
const DEPTH: f64 = 0.169_971_242_547_035_22;
/// Factors of the first scale that are tried; the original builds one more and never tries it.
const FACTORS: u32 = 100;
const NEGATIVE: &str = "negative_scale";

/// A step for either sign.
#[derive(Debug)]
pub(super) struct DrqGelu;

/// Both regions of one channel.
#[derive(Debug, Clone, Copy)]
struct Twin {
    positive: f32,
    negative: f32,
    /// Codes of either region, 2^(b-1).
    half: f32,
}

impl Twin {
    fn of(params: &Params, c: usize) -> Self {
        let half = half(params.bits);
        let negative = params.numbers(NEGATIVE);
        let at = if negative.len() == 1 { 0 } else { c };
        let negative = negative.get(at).copied().unwrap_or_else(|| negative_scale(half));
        Self { positive: params.scale_of(c), negative, half }
    }

    /// The signed code of a value.
    #[inline(always)]
    fn code(&self, x: f32) -> f32 {
        let step = if x < 0.0 { self.negative } else { self.positive };
        round_within(x / step, -self.half, self.half - 1.0)
    }

    #[inline(always)]
    fn value(&self, code: f32) -> f32 {
        // Negative zero becomes zero.
        code * if code < 0.0 { self.negative } else { self.positive } + 0.0
    }

    fn cells(&self) -> Cells {
        let mut pieces = Pieces::default();
        for code in -(self.half as i32)..self.half as i32 {
            let step = f64::from(if code <= 0 { self.negative } else { self.positive });
            pieces.push((f64::from(code) - 0.5) * step, f64::from(self.value(code as f32)));
        }
        pieces.into_cells()
    }
}

fn half(bits: Bits) -> f32 {
    (bits.levels().unwrap_or(1 << 16) / 2) as f32
}

fn negative_scale(half: f32) -> f32 {
    (DEPTH / f64::from(half)) as f32
}

/// The parameters with a scale that was found.
pub(crate) fn params(scheme: &Scheme, bits: Bits, scale: f32) -> Params {
    let half = half(bits);
    let extra = BTreeMap::from([(NEGATIVE.to_owned(), vec![negative_scale(half)])]);
    Params { scheme: scheme.clone(), bits, scale: vec![usable(scale, half)], zero_point: Vec::new(), extra }
}

/// The scale from which the search starts.
fn first_scale(max: f32, half: f32) -> f32 {
    max / (half - 0.5)
}

fn factors() -> impl Iterator<Item = f32> {
    (0..FACTORS).map(|k| (0.01 + f64::from(k) * (1.2 - 0.01) / f64::from(FACTORS)) as f32)
}

/// The least cost among the factors of the first scale.
fn search(max: f32, half: f32, cost: impl Fn(&Twin) -> f64) -> f32 {
    let first = first_scale(max, half);
    if max.is_nan() || max <= 0.0 {
        return usable(0.0, half);
    }
    let twin = |positive: f32| Twin { positive, negative: negative_scale(half), half };
    least(factors().map(|factor| usable(factor * first, half)), |scale| cost(&twin(*scale)))
        .unwrap_or_else(|| usable(first, half))
}

fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.filter(|x| x.is_finite()).fold(0.0, f32::max)
}

/// From a sketch a channel gets the factor that is best for the tensor.
fn of_survey(survey: &Survey<'_>, scheme: &Scheme, half: f32) -> Vec<f32> {
    let (sketch, buckets) = (survey.sketch(), survey.coarse());
    let squares = Squares::new(survey.buckets());
    let p = exponent(&scheme.range);
    let scale = search(sketch.max(), half, |twin| {
        // Negative values cost every candidate the same.
        let step = f64::from(twin.positive);
        let cells = Cells::Uniform { step, lowest: 0.0, highest: f64::from(half) - 1.0 };
        if p == 2.0 { squares.error(&cells) } else { bucket_error(buckets, &cells, p) }
    });
    if scheme.granularity == Granularity::Tensor {
        return vec![scale];
    }
    let share = if sketch.max() > 0.0 { scale / sketch.max() } else { 1.0 };
    sketch.channel_stats().iter().map(|channel| usable(channel.max * share, half)).collect()
}

impl Quantizer for DrqGelu {
    fn name(&self) -> &'static str {
        "drq-gelu"
    }

    /// The scheme's range gives the exponent of the error (2 unless it is an error with another one); the rest of
    /// the search is the family's own. With a scale per channel the product is not looked at.
    fn fit(&self, data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
        check_family(scheme, Family::DrqGelu, bits)?;
        data.check()?;
        let scheme = &scheme.on_values();
        let (half, p) = (half(bits), exponent(&scheme.range));
        let scale = match *data {
            Distribution::Sketch(sketch) => of_survey(&Survey::new(sketch), scheme, half),
            Distribution::Survey(survey) => of_survey(survey, scheme, half),
            Distribution::Raw { .. } | Distribution::Batches(_)
                if scheme.granularity == Granularity::Tensor =>
            {
                let batches = data.batches().ok_or(QuantizerError::NoData)?;
                let max = largest(batches.iter().flat_map(|batch| batch.values).copied());
                let cost = Cost::new(&batches, p);
                vec![search(max, half, |twin| cost.of(|x| twin.value(twin.code(x))))]
            }
            Distribution::Raw { .. } | Distribution::Batches(_) => {
                let (values, layout) = data.joined().ok_or(QuantizerError::NoData)?;
                let of_channel = |c| {
                    let values = group(&values, layout, scheme.granularity, c);
                    let max = largest(values.iter().copied());
                    search(max, half, |twin| value_error(&values, p, |x| twin.value(twin.code(x))))
                };
                (0..layout.channels).into_par_iter().map(of_channel).collect()
            }
        };
        let extra = BTreeMap::from([(NEGATIVE.to_owned(), vec![negative_scale(half)])]);
        Ok(Params { scheme: scheme.clone(), bits, scale, zero_point: Vec::new(), extra })
    }

    fn check(&self, params: &Params, layout: Layout) -> Result<(), QuantizerError> {
        params.check_scales(layout)?;
        let negative = params.numbers(NEGATIVE);
        if !(negative.len() <= 1 || negative.len() == params.scale.len()) {
            return Err(params.problem("`negative_scale` must be one number or one per scale"));
        }
        if !negative.iter().all(|scale| *scale > 0.0) {
            return Err(params.problem("`negative_scale` must be positive"));
        }
        let half = half(params.bits);
        if !params.scale.iter().chain(negative).all(|scale| (scale * half).is_finite()) {
            return Err(params.problem("the outermost levels must be finite"));
        }
        Ok(())
    }

    fn fake_quantize(&self, x: &mut [f32], layout: Layout, params: &Params) {
        by_channel(x, layout, params, |values, c| {
            let twin = Twin::of(params, c);
            for x in values {
                *x = twin.value(twin.code(*x));
            }
        });
    }

    fn codes(&self, x: &[f32], layout: Layout, params: &Params) -> Vec<u32> {
        let twins: Vec<Twin> = (0..layout.channels.max(1)).map(|c| Twin::of(params, c)).collect();
        let code = |(at, &x): (usize, &f32)| {
            let twin = twins[layout.channel_of(at)];
            (twin.code(if x.is_nan() { 0.0 } else { x }) + twin.half) as u32
        };
        x.iter().enumerate().map(code).collect()
    }

    fn dequantize(&self, codes: &[u32], layout: Layout, params: &Params) -> Vec<f32> {
        let twins: Vec<Twin> = (0..layout.channels.max(1)).map(|c| Twin::of(params, c)).collect();
        let value = |(at, &code): (usize, &u32)| {
            let twin = twins[layout.channel_of(at)];
            twin.value(code as f32 - twin.half)
        };
        codes.iter().enumerate().map(value).collect()
    }

    fn levels(&self, params: &Params, c: usize) -> Vec<f32> {
        levels_of(&self.cells(params, c))
    }

    fn cells(&self, params: &Params, c: usize) -> Cells {
        Twin::of(params, c).cells()
    }
}
