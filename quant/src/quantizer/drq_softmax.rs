//! Dual-region quantization of values after a softmax: PTQ4RIS's DRQ, which is the twin uniform quantizer of PTQ4ViT
//! (Yuan et al., ECCV 2022, §3.2; spec A §3.1, spec B §6).
//!
//! One of the `b` bits says the region. With `n = 2^(b-1) - 1` and a split `t = 2^-i`: a value below `t` goes to
//! `clamp(round(x / (t/n)), 0, n) · t/n`, any other to `clamp(round(x · n), 0, n) / n`. `scale` is the step `1/n` of the
//! upper region, `split` is `t`. The codes count the steps; those of the upper region have the highest bit set.
//!
//! Known defect, reproduced by `paper`: the released code adds both regions, `upper(clamp(x, t, 1)) + lower(clamp(x, 0,
//! t))`, so the output is about `t` too high everywhere and the search hides that with a tiny split.
//!
//! With a split below `½/n` the two regions do not meet: values from `t` to `½/n` become 0 while those just below `t`
//! keep their value. The search therefore only tries splits for which larger values never get smaller levels
//! (`2^-i ≥ ½/n`); `paper` tries all 20. The error is squared, or that of the product where it is given (both weighted
//! by a gradient in the original, see `drq-gelu`).

use super::cells::Cells;
use super::distribution::{Distribution, group};
use super::error::QuantizerError;
use super::params::Params;
use super::pieces::{Pieces, levels_of, round_within};
use super::scheme::{Family, Granularity, Scheme};
use super::search::{Cost, Squares, bucket_error, exponent, least, value_error};
use super::survey::Survey;
use super::{Quantizer, by_channel, check_family};
use crate::terms::{Bits, Layout};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Splits that are tried: 1 down to 2^-19.
const SPLITS: i32 = 20;
const SPLIT: &str = "split";

/// A fine step below a split.
#[derive(Debug)]
pub(super) struct DrqSoftmax;

/// Both regions of one channel.
#[derive(Debug, Clone, Copy)]
struct Regions {
    split: f32,
    /// Step of the lower region.
    fine: f32,
    /// Steps per unit of the upper region.
    per_unit: f32,
    /// Highest code of either region.
    most: f32,
    /// What is added to the levels of the lower and of the upper region.
    offset: [f32; 2],
}

impl Regions {
    fn new(scale: f32, split: f32, bits: Bits, paper: bool) -> Self {
        let most = most(bits);
        // The original multiplies by n: no reciprocal of a rounded reciprocal.
        let per_unit = if scale == 1.0 / most { most } else { 1.0 / scale };
        let mut regions = Self { split, fine: split / most, per_unit, most, offset: [0.0; 2] };
        if paper {
            // Each region also quantizes what was clamped to the split.
            let [lower, upper] = [regions.value(most, false), regions.value(regions.upper(split), true)];
            regions.offset = [upper, lower];
        }
        regions
    }

    fn of(params: &Params, c: usize) -> Self {
        let split = params.numbers(SPLIT);
        let at = if split.len() == 1 { 0 } else { c };
        let split = split.get(at).copied().unwrap_or(1.0);
        Self::new(params.scale_of(c), split, params.bits, params.scheme.paper)
    }

    #[inline(always)]
    fn upper(&self, x: f32) -> f32 {
        round_within(x * self.per_unit, 0.0, self.most)
    }

    #[inline(always)]
    fn lower(&self, x: f32) -> f32 {
        round_within(x / self.fine, 0.0, self.most)
    }

    #[inline(always)]
    fn value(&self, code: f32, upper: bool) -> f32 {
        if upper { code / self.per_unit + self.offset[1] } else { code * self.fine + self.offset[0] }
    }

    #[inline(always)]
    fn apply(&self, x: f32) -> f32 {
        let (lower, upper) = (self.value(self.lower(x), false), self.value(self.upper(x), true));
        if x < self.split { lower } else { upper }
    }

    fn cells(&self) -> Cells {
        let mut pieces = Pieces::default();
        let (split, n) = (f64::from(self.split), self.most as u32);
        for k in 0..=n {
            let from = (f64::from(k) - 0.5) * f64::from(self.fine);
            if from < split {
                pieces.push(from, f64::from(self.value(k as f32, false)));
            }
        }
        for k in self.upper(self.split) as u32..=n {
            let from = (f64::from(k) - 0.5) / f64::from(self.per_unit);
            pieces.push(from.max(split), f64::from(self.value(k as f32, true)));
        }
        pieces.into_cells()
    }

    /// Whether no larger value gets a smaller level.
    fn is_monotone(&self) -> bool {
        self.value(self.upper(self.split), true) >= self.value(self.most, false)
    }
}

/// The highest code of either region.
fn most(bits: Bits) -> f32 {
    (bits.levels().unwrap_or(1 << 16) / 2 - 1) as f32
}

/// The parameters with a split that was found.
pub(crate) fn params(scheme: &Scheme, bits: Bits, split: f32) -> Params {
    let extra = BTreeMap::from([(SPLIT.to_owned(), vec![split])]);
    Params { scheme: scheme.clone(), bits, scale: vec![1.0 / most(bits)], zero_point: Vec::new(), extra }
}

/// The split of least cost.
fn search(bits: Bits, paper: bool, cost: impl Fn(&Regions) -> f64) -> f32 {
    let scale = 1.0 / most(bits);
    let regions = (0..SPLITS).map(|i| Regions::new(scale, 2_f32.powi(-i), bits, paper));
    let sound = regions.filter(|regions| paper || regions.is_monotone());
    least(sound, cost).map_or(1.0, |regions| regions.split)
}

fn of_survey(survey: &Survey<'_>, scheme: &Scheme, bits: Bits) -> f32 {
    let buckets = survey.coarse();
    let squares = Squares::new(survey.buckets());
    let p = exponent(&scheme.range);
    search(bits, scheme.paper, |regions| {
        let cells = regions.cells();
        if p == 2.0 { squares.error(&cells) } else { bucket_error(buckets, &cells, p) }
    })
}

impl Quantizer for DrqSoftmax {
    fn name(&self) -> &'static str {
        "drq-softmax"
    }

    /// The scheme's range gives the exponent of the error (2 unless it is an error with another one). From a sketch
    /// all channels get the split that is best for the tensor. With a split per channel the product is not looked at.
    fn fit(&self, data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
        check_family(scheme, Family::DrqSoftmax, bits)?;
        data.check()?;
        let scheme = &scheme.on_values();
        let p = exponent(&scheme.range);
        let shared = scheme.granularity == Granularity::Tensor;
        let groups = if shared { 1 } else { data.channels() };
        let split = match *data {
            Distribution::Sketch(sketch) => vec![of_survey(&Survey::new(sketch), scheme, bits); groups],
            Distribution::Survey(survey) => vec![of_survey(survey, scheme, bits); groups],
            Distribution::Raw { .. } | Distribution::Batches(_) if shared => {
                let batches = data.batches().ok_or(QuantizerError::NoData)?;
                let cost = Cost::new(&batches, p);
                vec![search(bits, scheme.paper, |regions| cost.of(|x| regions.apply(x)))]
            }
            Distribution::Raw { .. } | Distribution::Batches(_) => {
                let (values, layout) = data.joined().ok_or(QuantizerError::NoData)?;
                let of_channel = |c| {
                    let values = group(&values, layout, scheme.granularity, c);
                    search(bits, scheme.paper, |regions| value_error(&values, p, |x| regions.apply(x)))
                };
                (0..groups).into_par_iter().map(of_channel).collect()
            }
        };
        let scale = vec![1.0 / most(bits); groups];
        let extra = BTreeMap::from([(SPLIT.to_owned(), split)]);
        Ok(Params { scheme: scheme.clone(), bits, scale, zero_point: Vec::new(), extra })
    }

    fn check(&self, params: &Params, layout: Layout) -> Result<(), QuantizerError> {
        params.check_scales(layout)?;
        let split = params.numbers(SPLIT);
        if !(split.len() == 1 || split.len() == params.scale.len()) {
            return Err(params.problem("`split` must be one number or one per scale"));
        }
        let most = most(params.bits);
        if !split.iter().all(|split| split / most >= f32::MIN_POSITIVE && (2.0 * split).is_finite()) {
            return Err(params.problem("`split` must be positive and its steps normal numbers"));
        }
        // Steps per unit must be finite, and so must the sum of both regions.
        if !params.scale.iter().all(|scale| *scale >= f32::MIN_POSITIVE && (scale * 4.0 * most).is_finite()) {
            return Err(params.problem("the outermost levels must be finite and the steps normal numbers"));
        }
        Ok(())
    }

    fn fake_quantize(&self, x: &mut [f32], layout: Layout, params: &Params) {
        by_channel(x, layout, params, |values, c| {
            let regions = Regions::of(params, c);
            for x in values {
                *x = regions.apply(*x);
            }
        });
    }

    fn codes(&self, x: &[f32], layout: Layout, params: &Params) -> Vec<u32> {
        let regions: Vec<Regions> = (0..layout.channels.max(1)).map(|c| Regions::of(params, c)).collect();
        let code = |(at, &x): (usize, &f32)| {
            let (of, x) = (&regions[layout.channel_of(at)], if x.is_nan() { 0.0 } else { x });
            if x < of.split { of.lower(x) as u32 } else { of.upper(x) as u32 + of.most as u32 + 1 }
        };
        x.iter().enumerate().map(code).collect()
    }

    fn dequantize(&self, codes: &[u32], layout: Layout, params: &Params) -> Vec<f32> {
        let regions: Vec<Regions> = (0..layout.channels.max(1)).map(|c| Regions::of(params, c)).collect();
        let value = |(at, &code): (usize, &u32)| {
            let of = &regions[layout.channel_of(at)];
            let half = of.most as u32 + 1;
            of.value((code % half) as f32, code >= half)
        };
        codes.iter().enumerate().map(value).collect()
    }

    fn levels(&self, params: &Params, c: usize) -> Vec<f32> {
        levels_of(&self.cells(params, c))
    }

    fn cells(&self, params: &Params, c: usize) -> Cells {
        Regions::of(params, c).cells()
    }
}
