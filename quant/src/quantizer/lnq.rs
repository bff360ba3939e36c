//! Logarithmic non-linear quantization of post-softmax values (LNQ of AHCQ-SAM, arXiv 2503.03088 v4; spec C §2.1).
//!
//! Equal steps of `ln(1 + alpha · x)`: with `D = ln(1 + alpha · scale)` and `M = 2^b - 1`,
//! `k = round(M · ln(1 + alpha · x) / D)` for `x` clamped to `0..=scale`, and the value is
//! `(exp(D · k / M) - 1) / alpha`. A large `alpha` is a logarithm, a small one equal steps.
//!
//! For each of nine `alpha` and each calibration batch the scale is the bounded minimum, between a tenth of the largest
//! value and all of it, of `mean |Q(A)·V - A·V|^p`, `V` the value tensor and `p` the exponent of the range search (2.4
//! as published); scales are averaged over batches, errors summed, and the `alpha` of least error wins. Without `V`, or from
//! a sketch, the error is as if `V` were white noise, and the search is over shares of the largest value.
//!
//! The release searches with `M = 2^b - 1` and quantizes with `M = 2^b`, one code more than `b` bits hold; only
//! [`Scheme::paper`] does that here. It also computes `1 + alpha · x` and `exp(…) - 1` in f32, which at `alpha` 0.001
//! leaves only three or four digits; here all is computed in f64 without that cancellation.

use super::distribution::Distribution;
use super::error::QuantizerError;
use super::params::Params;
use super::scheme::{Family, RangeSearch, Scheme};
use super::search::{self, Candidate, ScaleSearch, Target};
use super::staircase::{Staircase, Stepped, check_setting, setting};
use crate::terms::Bits;
use std::collections::BTreeMap;

/// The curvatures tried, in the order that decides between equals.
const ALPHAS: [f32; 9] = [0.001, 0.1, 1.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];
/// Steps beyond which more of them change no choice: errors all fall with their square.
const MOST_SEARCHED: u32 = 1023;
/// Values between two exponentials; the ones in between are products of theirs.
const BLOCK: usize = 256;

/// LNQ.
#[derive(Debug)]
pub(super) struct Lnq;

/// `steps + 1` levels.
fn stairs(alpha: f32, scale: f32, steps: u32) -> Staircase {
    let alpha = f64::from(alpha);
    let half = (alpha * f64::from(scale)).ln_1p() / (2.0 * f64::from(steps));
    // exp(a + b) - 1 = (exp(a) - 1) · exp(b) + (exp(b) - 1), without cancellation.
    let within: Vec<(f64, f64)> = (0..BLOCK)
        .map(|i| (i as f64 * half).exp_m1())
        .map(|minus_one| (minus_one + 1.0, minus_one))
        .collect();
    let mut blocks = (0_u32..).map(|block| (f64::from(block) * BLOCK as f64 * half).exp_m1());
    let mut start = blocks.next().unwrap_or(0.0);
    let mut at = 0;
    let mut next = || {
        at += 1;
        if at == BLOCK {
            at = 0;
            start = blocks.next().unwrap_or(0.0);
        }
        (start * within[at].0 + within[at].1) / alpha
    };
    // Half steps are bounds, whole ones levels.
    Staircase::rising((0..steps).map(|_| (next(), next() as f32)))
}

/// What the search of LNQ compares: every `alpha` with its scale and error. For the tensor, whatever the granularity.
///
/// # Errors
/// If there is nothing to fit on, or the search is none for this family.
pub fn lnq_candidates(
    data: &Distribution<'_>,
    scheme: &Scheme,
    bits: Bits,
) -> Result<Vec<Candidate>, QuantizerError> {
    super::check_family(scheme, Family::Lnq, bits)?;
    data.check()?;
    search::tensor_candidates(data, |targets| candidates(targets, &scheme.range, bits))
}

fn candidates(targets: &[Target<'_>], range: &RangeSearch, bits: Bits) -> Vec<Candidate> {
    let steps = bits.levels().map_or(MOST_SEARCHED, |levels| (levels - 1).min(MOST_SEARCHED));
    let search = ScaleSearch {
        lowest: |most| (0.1 * most).max(1e-4),
        shares: (1..=10).rev().map(|tenths| f64::from(tenths) / 10.0).collect(),
    };
    search::candidates(targets, &ALPHAS, range, &search, |alpha, scale| stairs(alpha, scale, steps))
}

impl Stepped for Lnq {
    const FAMILY: Family = Family::Lnq;

    /// From a sketch with a scale per channel, `alpha · scale` is the same in all channels, and with it the shape.
    fn fit(&self, data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
        let one = |targets: &[Target<'_>]| search::best(&candidates(targets, &scheme.range, bits));
        let rescaled = |found: Candidate, scale: f32| {
            let alpha = f64::from(found.setting) * f64::from(found.scale) / f64::from(scale);
            let setting = (alpha as f32).clamp(f32::MIN_POSITIVE, f32::MAX);
            Candidate { setting, scale, ..found }
        };
        let found = search::fit_shape(data, scheme.granularity, one, rescaled)?;
        Ok(Params {
            scheme: scheme.clone(),
            bits,
            scale: found.iter().map(|best| best.scale).collect(),
            zero_point: Vec::new(),
            extra: BTreeMap::from([("alpha".to_owned(), found.iter().map(|best| best.setting).collect())]),
        })
    }

    fn check(&self, params: &Params) -> Result<(), QuantizerError> {
        check_setting(params, "alpha", |alpha| alpha > 0.0, "a positive number")
    }

    fn staircase(&self, params: &Params, c: usize) -> Staircase {
        let levels = params.bits.levels().unwrap_or(2);
        let steps = if params.scheme.paper { levels } else { levels - 1 };
        let alpha = setting(params, "alpha", c, 1.0);
        let alpha = if alpha > 0.0 && alpha.is_finite() { alpha } else { 1.0 };
        stairs(alpha, params.scale_of(c), steps)
    }
}
