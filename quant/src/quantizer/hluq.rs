//! Hybrid log-uniform quantization of AHCPTQ (ICCV 2025; spec C §1.2, §1.5), for values after a GELU.
//!
//! Over `minimum`, a share `log_share` of the `n = 2^b` codes are powers of two below the threshold `scale`, the others
//! equal steps `uniform_scale` above it. With `u = x - minimum`, `l = n · log_share` and `v = n - l`:
//! for `u ≤ scale`, `k = round(-log2(u / scale))` gives `scale · 2^-k`, or 0 where `k ≥ l`; for larger `u`,
//! `c = clamp(round((u - scale) / uniform_scale), 0, v - 1)` gives `scale + c · uniform_scale`; and `minimum` is added.
//! Those are `n` levels. The codes count them from the lowest.
//!
//! The search tries thresholds of 0.1, 0.3 and 0.5 of the range `R` with shares of ⅛, ¼ and ½, and
//! `uniform_scale = (R - scale) / ((n - 1) · (1 - log_share))`. Each calibration batch scores the nine with the running
//! means of minimum and maximum so far, by the mean squared error of the product with the next layer's weight if that is
//! given, else of the values; the least mean wins, the first of equals, and is then made for the final minimum and
//! maximum. At 2 bits the share ⅛ is not a whole code and is left out. The largest level lies up to 6.7 % of the uniform
//! part below the maximum, in the paper as here; above 5 bits a plain uniform grid is usually better.
//!
//! Known defect, reproduced by `paper`: what says that a power is too small looks at all values once the others are codes,
//! so a value of the uniform part with `u ≥ l` (a value compared with a count) falls back to the threshold. The
//! original also takes the logarithm of at least 10^-20. Powers below 2^-126 of the threshold are 0 here.

use super::cells::Cells;
use super::distribution::{Batch, Distribution, group};
use super::error::QuantizerError;
use super::params::Params;
use super::pieces::{Pieces, levels_of, round_within, usable};
use super::scheme::{Family, Granularity, Scheme};
use super::search::{Squares, batch_cost, bucket_error, exponent, least};
use super::survey::Survey;
use super::{Quantizer, by_channel, check_family};
use crate::terms::{Bits, Layout};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Thresholds as shares of the range, each tried with all shares of codes.
const THRESHOLDS: [f64; 3] = [0.1, 0.3, 0.5];
const SHARES: [f64; 3] = [0.125, 0.25, 0.5];
const CANDIDATES: usize = 9;
/// Powers of two that an f32 ratio has as normal numbers.
const OCTAVES: u32 = 127;
/// The mantissa bits of √2, rounded up: from there on the nearer power is the upper one.
const ROOT: u32 = 0x35_04f4;
/// What the original takes the logarithm of at least.
const FLOOR: f32 = 1e-20;
const UNIFORM: &str = "uniform_scale";
const MINIMUM: &str = "minimum";
const SHARE: &str = "log_share";

/// Powers below a threshold, equal steps above.
#[derive(Debug)]
pub(super) struct Hluq;

/// The grid of one channel.
#[derive(Debug, Clone, Copy)]
struct Hybrid {
    minimum: f32,
    threshold: f32,
    step: f32,
    /// Codes of the logarithmic part.
    logs: u32,
    /// The highest code of the uniform part.
    top: f32,
    /// From here on, values of the uniform part become the threshold (as released).
    leak: f32,
    floor: f32,
}

/// What was found for one group of values.
#[derive(Debug, Clone, Copy)]
struct Found {
    minimum: f32,
    range: f32,
    candidate: usize,
}

impl Hybrid {
    fn new([minimum, threshold, step, share]: [f32; 4], bits: Bits, paper: bool) -> Self {
        let n = bits.levels().unwrap_or(1 << 16);
        let logs = ((n as f32 * share).round_ties_even() as u32).clamp(1, n - 1);
        let (leak, floor) = if paper { (logs as f32, FLOOR) } else { (f32::INFINITY, 0.0) };
        Self { minimum, threshold, step, logs, top: (n - logs - 1) as f32, leak, floor }
    }

    fn of(params: &Params, c: usize) -> Self {
        let number = |name: &str, default: f32| {
            let numbers = params.numbers(name);
            numbers.get(if numbers.len() == 1 { 0 } else { c }).copied().unwrap_or(default)
        };
        let all = [number(MINIMUM, 0.0), params.scale_of(c), number(UNIFORM, 1.0), number(SHARE, 0.5)];
        Self::new(all, params.bits, params.scheme.paper)
    }

    fn candidate(candidate: usize, minimum: f32, range: f32, bits: Bits, paper: bool) -> Self {
        let n = f64::from(bits.levels().unwrap_or(1 << 16));
        let (at, share) = (THRESHOLDS[candidate / 3], SHARES[candidate % 3]);
        let step = f64::from(range) * (1.0 - at) / ((n - 1.0) * (1.0 - share));
        let (threshold, step) = ((f64::from(range) * at) as f32, step as f32);
        Self::new([minimum, usable(threshold, 1.0), usable(step, 1.0), share as f32], bits, paper)
    }

    /// How many powers below the threshold; the last code is that of zero.
    #[inline(always)]
    fn power(&self, u: f32) -> u32 {
        let from = if u < self.floor { self.floor } else { u };
        // Without the sign, which zero may have.
        let ratio = (from / self.threshold).to_bits() & 0x7fff_ffff;
        let nearer = u32::from((ratio & 0x7f_ffff) >= ROOT);
        // Zero and denormal ratios have no exponent and end above all octaves; ratios above 1 are not asked for.
        (OCTAVES - (ratio >> 23).min(OCTAVES)).saturating_sub(nearer)
    }

    #[inline(always)]
    fn log_level(&self, power: u32) -> f32 {
        let level = self.threshold * f32::from_bits((OCTAVES - power.min(OCTAVES - 1)) << 23);
        if power >= self.logs.min(OCTAVES - 1) { 0.0 } else { level }
    }

    #[inline(always)]
    fn step_code(&self, u: f32) -> f32 {
        let code = round_within((u - self.threshold) / self.step, 0.0, self.top);
        let leaks = u >= self.leak && self.leak < f32::INFINITY;
        if leaks { 0.0 } else { code }
    }

    #[inline(always)]
    fn apply(&self, x: f32) -> f32 {
        let u = x - self.minimum;
        let low = self.log_level(self.power(u));
        let high = self.step_code(u) * self.step + self.threshold;
        (if u <= self.threshold { low } else { high }) + self.minimum
    }

    fn code(&self, x: f32) -> u32 {
        let u = (if x.is_nan() { 0.0 } else { x }) - self.minimum;
        if u > self.threshold {
            return self.logs + self.step_code(u) as u32;
        }
        let power = self.power(u);
        if power >= self.logs.min(OCTAVES - 1) { 0 } else { self.logs - power }
    }

    fn value(&self, code: u32) -> f32 {
        let level = match code {
            0 => 0.0,
            code if code <= self.logs => self.log_level(self.logs - code),
            code => (code - self.logs) as f32 * self.step + self.threshold,
        };
        level + self.minimum
    }

    fn cells(&self) -> Cells {
        let mut pieces = Pieces::default();
        let (minimum, threshold) = (f64::from(self.minimum), f64::from(self.threshold));
        let level = |code: u32| f64::from(self.value(code));
        pieces.push(f64::NEG_INFINITY, level(0));
        for power in (0..self.logs.min(OCTAVES - 1)).rev() {
            let from = threshold * (-(f64::from(power) + 0.5)).exp2();
            pieces.push(minimum + from, level(self.logs - power));
        }
        let leak = f64::from(self.leak).max(threshold);
        for code in 1..=self.top as u32 {
            let from = threshold + (f64::from(code) - 0.5) * f64::from(self.step);
            if from < leak {
                pieces.push(minimum + from, level(self.logs + code));
            }
        }
        if self.leak.is_finite() {
            pieces.push(minimum + leak, level(self.logs));
        }
        pieces.into_cells()
    }
}

/// The candidates that have whole numbers of codes.
fn candidates(bits: Bits) -> impl Iterator<Item = usize> {
    let n = f64::from(bits.levels().unwrap_or(1 << 16));
    (0..CANDIDATES).filter(move |candidate| n * SHARES[candidate % 3] >= 1.0)
}

fn range(lo: f64, hi: f64) -> f32 {
    (hi - lo).clamp(0.0, f64::from(f32::MAX) / 4.0) as f32
}

/// The losses of the nine candidates of `hluq` for every calibration batch, in the order of the paper's search
/// (thresholds of 0.1, 0.3, 0.5 of the range; for each ⅛, ¼, ½ of the codes); infinite for those that the width does not
/// allow.
pub fn hluq_losses(batches: &[Batch<'_>], bits: Bits, paper: bool) -> Vec<[f64; 9]> {
    calibrate(batches, 2.0, bits, paper).0
}

/// Losses per batch, and the means of minimum and maximum.
fn calibrate(batches: &[Batch<'_>], p: f64, bits: Bits, paper: bool) -> (Vec<[f64; 9]>, f64, f64) {
    let (mut lo, mut hi, mut count) = (0.0, 0.0, 0.0);
    let mut losses = Vec::new();
    for batch in batches {
        let finite = || batch.values.iter().copied().filter(|x| x.is_finite());
        let (Some(least), Some(most)) = (finite().reduce(f32::min), finite().reduce(f32::max)) else {
            continue;
        };
        count += 1.0;
        lo += (f64::from(least) - lo) / count;
        hi += (f64::from(most) - hi) / count;
        let mut of_batch = [f64::INFINITY; CANDIDATES];
        for candidate in candidates(bits) {
            let hybrid = Hybrid::candidate(candidate, lo as f32, range(lo, hi), bits, paper);
            of_batch[candidate] = batch_cost(batch, p, |x| hybrid.apply(x));
        }
        losses.push(of_batch);
    }
    (losses, lo, hi)
}

fn of_batches(batches: &[Batch<'_>], p: f64, bits: Bits, paper: bool) -> Found {
    let (losses, lo, hi) = calibrate(batches, p, bits, paper);
    let total = |candidate: &usize| losses.iter().map(|of_batch| of_batch[*candidate]).sum();
    let candidate = least(candidates(bits), total).unwrap_or(CANDIDATES - 1);
    Found { minimum: lo as f32, range: range(lo, hi), candidate }
}

/// From a sketch all channels get the candidate that is best for the tensor, with their own minimum and range.
fn of_survey(survey: &Survey<'_>, scheme: &Scheme, bits: Bits) -> Vec<Found> {
    let (sketch, buckets) = (survey.sketch(), survey.coarse());
    let (squares, p) = (Squares::new(buckets), exponent(&scheme.range));
    let of = |lo: f32, hi: f32, candidate| Found {
        minimum: lo,
        range: range(f64::from(lo), f64::from(hi)),
        candidate,
    };
    let tensor = of(sketch.min(), sketch.max(), 0);
    let cost = |candidate: &usize| {
        let cells = Hybrid::candidate(*candidate, tensor.minimum, tensor.range, bits, scheme.paper).cells();
        if p == 2.0 { squares.error(&cells) } else { bucket_error(buckets, &cells, p) }
    };
    let candidate = least(candidates(bits), cost).unwrap_or(CANDIDATES - 1);
    if scheme.granularity == Granularity::Tensor {
        return vec![Found { candidate, ..tensor }];
    }
    sketch.channel_stats().iter().map(|channel| of(channel.min, channel.max, candidate)).collect()
}

impl Quantizer for Hluq {
    fn name(&self) -> &'static str {
        "hluq"
    }

    /// The scheme's range gives the exponent of the error of values (2 unless it is an error with another one). Per
    /// channel, which is not in the paper, the batches are one and the product is not looked at.
    fn fit(&self, data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
        check_family(scheme, Family::Hluq, bits)?;
        data.check()?;
        let p = exponent(&scheme.range);
        let found: Vec<Found> = match *data {
            Distribution::Sketch(sketch) => of_survey(&Survey::new(sketch), scheme, bits),
            Distribution::Survey(survey) => of_survey(survey, scheme, bits),
            Distribution::Raw { .. } | Distribution::Batches(_)
                if scheme.granularity == Granularity::Tensor =>
            {
                let batches = data.batches().ok_or(QuantizerError::NoData)?;
                vec![of_batches(&batches, p, bits, scheme.paper)]
            }
            Distribution::Raw { .. } | Distribution::Batches(_) => {
                let (values, layout) = data.joined().ok_or(QuantizerError::NoData)?;
                let of_channel = |c| {
                    let values = group(&values, layout, scheme.granularity, c);
                    let batch = Batch::new(&values, Layout::tensor(values.len()));
                    of_batches(&[batch], p, bits, scheme.paper)
                };
                (0..layout.channels).into_par_iter().map(of_channel).collect()
            }
        };
        let hybrids: Vec<Hybrid> = found
            .iter()
            .map(|found| Hybrid::candidate(found.candidate, found.minimum, found.range, bits, scheme.paper))
            .collect();
        let shares = found.iter().map(|found| SHARES[found.candidate % 3] as f32).collect();
        Ok(Params {
            scheme: scheme.clone(),
            bits,
            scale: hybrids.iter().map(|hybrid| hybrid.threshold).collect(),
            zero_point: Vec::new(),
            extra: BTreeMap::from([
                (MINIMUM.to_owned(), hybrids.iter().map(|hybrid| hybrid.minimum).collect()),
                (UNIFORM.to_owned(), hybrids.iter().map(|hybrid| hybrid.step).collect()),
                (SHARE.to_owned(), shares),
            ]),
        })
    }

    fn check(&self, params: &Params, layout: Layout) -> Result<(), QuantizerError> {
        params.check_scales(layout)?;
        let counts = [1, params.scale.len()];
        for name in [UNIFORM, MINIMUM, SHARE] {
            if !counts.contains(&params.numbers(name).len()) {
                return Err(params.problem(&format!("`{name}` must be one number or one per scale")));
            }
        }
        if !params.numbers(UNIFORM).iter().all(|step| *step > 0.0) {
            return Err(params.problem("`uniform_scale` must be positive"));
        }
        if !params.numbers(SHARE).iter().all(|share| *share > 0.0 && *share < 1.0) {
            return Err(params.problem("`log_share` must lie between 0 and 1"));
        }
        let outermost = |c: usize| {
            let hybrid = Hybrid::of(params, c);
            hybrid.value(hybrid.logs + hybrid.top as u32)
        };
        if !(0..params.scale.len()).all(|c| outermost(c).is_finite()) {
            return Err(params.problem("the outermost levels must be finite"));
        }
        Ok(())
    }

    fn fake_quantize(&self, x: &mut [f32], layout: Layout, params: &Params) {
        by_channel(x, layout, params, |values, c| {
            let hybrid = Hybrid::of(params, c);
            for x in values {
                *x = hybrid.apply(*x);
            }
        });
    }

    fn codes(&self, x: &[f32], layout: Layout, params: &Params) -> Vec<u32> {
        let hybrids: Vec<Hybrid> = (0..layout.channels.max(1)).map(|c| Hybrid::of(params, c)).collect();
        x.iter().enumerate().map(|(at, &x)| hybrids[layout.channel_of(at)].code(x)).collect()
    }

    fn dequantize(&self, codes: &[u32], layout: Layout, params: &Params) -> Vec<f32> {
        let hybrids: Vec<Hybrid> = (0..layout.channels.max(1)).map(|c| Hybrid::of(params, c)).collect();
        codes.iter().enumerate().map(|(at, &code)| hybrids[layout.channel_of(at)].value(code)).collect()
    }

    fn levels(&self, params: &Params, c: usize) -> Vec<f32> {
        levels_of(&self.cells(params, c))
    }

    fn cells(&self, params: &Params, c: usize) -> Cells {
        Hybrid::of(params, c).cells()
    }
}
