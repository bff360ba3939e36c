//! Adaptive granularity quantization of post-softmax values (PTQ4SAM, Lv et al., CVPR 2024, §3.3; spec A §2.4).
//!
//! A logarithmic grid with `tau` levels per octave, `tau` one of 1, 2 and 4:
//! `k = round(-tau · log2(x / scale))`, the value is `scale · 2^(-k / tau)` for `k` clamped to `0..2^b`, and 0 where
//! `k ≥ 2^b` or `x ≤ 0`. As with log2, zero is one code more than `b` bits hold: `2^b`.
//!
//! For each `tau` and calibration batch the scale is the bounded minimum, between 1 % of the largest value (at most
//! 0.1) and all of it, of `mean |Q(A)·V - A·V|^p`, `V` the value tensor and `p` the exponent of the range search (2.4
//! as published). Scales are averaged over batches, errors summed, and the `tau` of least error wins. Without `V`, or from
//! a sketch, the error is as if `V` were white noise, that is squared error, and the search is a global one.
//!
//! The release takes values below 10⁻²⁰ as 10⁻²⁰, so that at 8 bits zeros become some 10⁻²⁰; here they are 0.

use super::distribution::Distribution;
use super::error::QuantizerError;
use super::params::Params;
use super::scheme::{Family, RangeSearch, Scheme};
use super::search::{self, Candidate, ScaleSearch, Target};
use super::staircase::{Staircase, Stepped, check_setting, setting};
use crate::terms::Bits;
use std::collections::BTreeMap;

/// Levels per octave, in the order that decides between equals.
const TAUS: [f32; 3] = [1.0, 2.0, 4.0];
/// A level below this share of the largest is zero: octaves of the normal f32 below 1.
const OCTAVES: u32 = 126;

/// A search needs no levels below this many octaves: their errors are less than 10⁻²⁴ of the largest squares.
const SEARCHED_OCTAVES: u32 = 40;

/// AGQ.
#[derive(Debug)]
pub(super) struct Agq;

/// Powers of one `tau` with the bounds below them, for a scale of 1.
struct Powers {
    tau: f32,
    steps: Vec<(f64, f32)>,
    zero: u32,
}

impl Powers {
    fn new(tau: f32, bits: Bits, octaves: u32) -> Self {
        let zero = bits.levels().unwrap_or(u32::MAX);
        let per_octave = f64::from(tau);
        let step = |k: u32| {
            let k = f64::from(k);
            ((-(k + 0.5) / per_octave).exp2(), (-k / per_octave).exp2() as f32)
        };
        let most = octaves * tau as u32 + 1;
        Self { tau, steps: (0..zero.min(most)).map(step).collect(), zero }
    }

    fn stairs(&self, scale: f32) -> Staircase {
        let steps = self.steps.iter().map(|&(bound, power)| (bound * f64::from(scale), power * scale));
        Staircase::powers(steps, self.zero)
    }
}

/// What the search of AGQ compares: every `tau` with its scale and error. For the tensor, whatever the granularity.
///
/// # Errors
/// If there is nothing to fit on, or the search is none for this family.
pub fn agq_candidates(
    data: &Distribution<'_>,
    scheme: &Scheme,
    bits: Bits,
) -> Result<Vec<Candidate>, QuantizerError> {
    super::check_family(scheme, Family::Agq, bits)?;
    data.check()?;
    search::tensor_candidates(data, |targets| candidates(targets, &scheme.range, bits))
}

fn candidates(targets: &[Target<'_>], range: &RangeSearch, bits: Bits) -> Vec<Candidate> {
    let powers = TAUS.map(|tau| Powers::new(tau, bits, SEARCHED_OCTAVES));
    let search = ScaleSearch {
        lowest: |most| (0.01 * most).min(0.1),
        // Four to an octave of the finest grid, whose error repeats with the scale.
        shares: search::falling_shares((-1.0_f64 / 16.0).exp2(), 0.05),
    };
    search::candidates(targets, &TAUS, range, &search, |tau, scale| {
        let own = powers.iter().find(|powers| powers.tau == tau).unwrap_or(&powers[0]);
        own.stairs(scale)
    })
}

impl Stepped for Agq {
    const FAMILY: Family = Family::Agq;

    fn fit(&self, data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
        let one = |targets: &[Target<'_>]| search::best(&candidates(targets, &scheme.range, bits));
        let rescaled = |found, scale| Candidate { scale, ..found };
        let found = search::fit_shape(data, scheme.granularity, one, rescaled)?;
        Ok(Params {
            scheme: scheme.clone(),
            bits,
            scale: found.iter().map(|best| best.scale).collect(),
            zero_point: Vec::new(),
            extra: BTreeMap::from([("tau".to_owned(), found.iter().map(|best| best.setting).collect())]),
        })
    }

    fn check(&self, params: &Params) -> Result<(), QuantizerError> {
        check_setting(params, "tau", |tau| TAUS.contains(&tau), "1, 2 or 4")
    }

    fn staircase(&self, params: &Params, c: usize) -> Staircase {
        let tau = setting(params, "tau", c, 1.0);
        let tau = if TAUS.contains(&tau) { tau } else { 1.0 };
        Powers::new(tau, params.bits, OCTAVES).stairs(params.scale_of(c))
    }
}
