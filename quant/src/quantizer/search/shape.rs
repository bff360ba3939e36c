//! The best scale and one further setting of a staircase.

use super::{Target, bounded_minimum, least};
use crate::quantizer::distribution::Distribution;
use crate::quantizer::error::QuantizerError;
use crate::quantizer::scheme::{Granularity, RangeSearch};
use crate::quantizer::staircase::Staircase;
use crate::quantizer::survey::Survey;
use rayon::prelude::*;

/// Settings whose scale is refined, best first.
const REFINED: usize = 3;
/// Parts that the interval between the neighbours of a share is cut into.
const BETWEEN: u32 = 10;

/// A setting with its best scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The setting: `tau` of AGQ, `alpha` of LNQ.
    pub setting: f32,
    /// Its scale, the mean over calibration batches.
    pub scale: f32,
    /// The mean error with it, summed over calibration batches.
    pub error: f64,
}

/// How scales are looked for.
pub(in crate::quantizer) struct ScaleSearch {
    /// The lower bound of the published search, given the largest value; the largest value is the upper one.
    pub(in crate::quantizer) lowest: fn(f64) -> f64,
    /// Shares of the largest value tried without a product, descending from 1.
    pub(in crate::quantizer) shares: Vec<f64>,
}

/// The best scale of each setting.
///
/// With a product the search is that of PTQ4SAM: a bounded minimum of its error per batch, scales averaged and errors
/// summed over batches. The error has many local minima, and that search finds one of them. Without a product all
/// `shares` of the largest value are tried and the best settings refined between neighbours.
pub(in crate::quantizer) fn candidates(
    targets: &[Target<'_>],
    settings: &[f32],
    range: &RangeSearch,
    search: &ScaleSearch,
    stairs: impl Fn(f32, f32) -> Staircase,
) -> Vec<Candidate> {
    let p = super::exponent(range);
    let most = targets.iter().map(|target| target.range().1).fold(0.0, f32::max);
    let error = |setting, scale| targets.iter().map(|t| t.error(&stairs(setting, scale), p)).sum::<f64>();
    let best_of = |scales: &[f32]| -> Vec<Candidate> {
        let best = |&setting: &f32| {
            let scored = scales.iter().map(|&scale| (scale, error(setting, scale)));
            let (scale, error) = least(scored, |(_, error)| *error).unwrap_or((usable(most), f64::INFINITY));
            Candidate { setting, scale, error }
        };
        settings.iter().map(best).collect()
    };
    match range {
        RangeSearch::Mse { .. } if most <= 0.0 => best_of(&[1.0]),
        RangeSearch::Mse { .. } if targets.iter().any(Target::is_output) => {
            let of = |&setting: &f32| published(targets, setting, p, search.lowest, &stairs);
            settings.iter().map(of).collect()
        }
        RangeSearch::Mse { .. } => {
            let scales: Vec<f32> =
                search.shares.iter().map(|share| usable((f64::from(most) * share) as f32)).collect();
            let mut found = best_of(&scales);
            let mut order: Vec<usize> = (0..found.len()).collect();
            order.sort_by(|&a, &b| found[a].error.total_cmp(&found[b].error));
            for &at in order.iter().take(REFINED) {
                refine(&mut found[at], f64::from(most), &search.shares, error);
            }
            found
        }
        RangeSearch::Percentile(levels) => {
            let positive = |scale: &f32| *scale > 0.0;
            let mut scales: Vec<f32> =
                Target::percentiles(targets, levels).into_iter().filter(positive).map(usable).collect();
            if scales.is_empty() {
                scales.push(usable(most));
            }
            best_of(&scales)
        }
        // Min–max; others are refused before.
        _ => best_of(&[usable(most)]),
    }
}

/// Bounded minimum per batch.
fn published(
    targets: &[Target<'_>],
    setting: f32,
    p: f64,
    lowest: fn(f64) -> f64,
    stairs: &impl Fn(f32, f32) -> Staircase,
) -> Candidate {
    let (mut scales, mut errors, mut batches) = (0.0, 0.0, 0.0_f64);
    for target in targets {
        let most = f64::from(target.range().1);
        if most <= 0.0 {
            continue;
        }
        let low = lowest(most).min(most);
        let (scale, error) =
            bounded_minimum(low, most, |scale| target.error(&stairs(setting, usable(scale as f32)), p));
        (scales, errors, batches) = (scales + scale, errors + error, batches + 1.0);
    }
    Candidate { setting, scale: usable((scales / batches.max(1.0)) as f32), error: errors }
}

/// The scale and setting of every channel or of the tensor; `one` finds them for some targets. From a sketch, the
/// scale of a channel is the same share of its maximum as the tensor's scale is of the tensor's, and `rescaled` says
/// which setting goes with it.
pub(in crate::quantizer) fn fit_shape(
    data: &Distribution<'_>,
    granularity: Granularity,
    one: impl Fn(&[Target<'_>]) -> Candidate + Sync,
    rescaled: impl Fn(Candidate, f32) -> Candidate,
) -> Result<Vec<Candidate>, QuantizerError> {
    let of_survey = |survey: &Survey<'_>| {
        let found = one(&[Target::of_sketch(survey)]);
        if granularity == Granularity::Tensor {
            return vec![found];
        }
        let most = survey.sketch().max();
        let share = if most > 0.0 { found.scale / most } else { 1.0 };
        let channels = survey.sketch().channel_stats().into_iter();
        channels.map(|channel| rescaled(found, usable(channel.max * share))).collect()
    };
    match *data {
        Distribution::Sketch(sketch) => Ok(of_survey(&Survey::new(sketch))),
        Distribution::Survey(survey) => Ok(of_survey(survey)),
        Distribution::Raw { .. } | Distribution::Batches(_) => {
            let batches = data.batches().ok_or(QuantizerError::NoData)?;
            let first = batches.first().ok_or(QuantizerError::NoData)?;
            let groups = if granularity == Granularity::Tensor { 1 } else { first.layout.channels };
            let of = |c| one(&Target::of_batches(&batches, granularity, c));
            Ok((0..groups).into_par_iter().map(of).collect())
        }
    }
}

/// What `all` finds for the whole tensor.
pub(in crate::quantizer) fn tensor_candidates(
    data: &Distribution<'_>,
    all: impl Fn(&[Target<'_>]) -> Vec<Candidate>,
) -> Result<Vec<Candidate>, QuantizerError> {
    match *data {
        Distribution::Sketch(sketch) => Ok(all(&[Target::of_sketch(&Survey::new(sketch))])),
        Distribution::Survey(survey) => Ok(all(&[Target::of_sketch(survey)])),
        Distribution::Raw { .. } | Distribution::Batches(_) => {
            let batches = data.batches().ok_or(QuantizerError::NoData)?;
            Ok(all(&Target::of_batches(&batches, Granularity::Tensor, 0)))
        }
    }
}

/// Looks for a better scale between the neighbours of the best share.
fn refine(found: &mut Candidate, most: f64, shares: &[f64], error: impl Fn(f32, f32) -> f64) {
    let share = f64::from(found.scale) / most;
    let near = |a: &f64| (a / share - 1.0).abs();
    let at = least(0..shares.len(), |&at| near(&shares[at])).unwrap_or(0);
    let (Some(&low), Some(&high)) = (shares.get(at + 1).or(shares.get(at)), shares.get(at.saturating_sub(1)))
    else {
        return;
    };
    let error = |share: &f64| error(found.setting, usable((share * most) as f32));
    let step = (high - low) / f64::from(BETWEEN);
    let between = (1..BETWEEN).map(|i| low + f64::from(i) * step);
    let Some(middle) = least(between, error) else { return };
    let (share, least) = bounded_minimum(middle - step, middle + step, |share| error(&share));
    if least < found.error {
        (found.scale, found.error) = (usable((share * most) as f32), least);
    }
}

/// The first candidate of least error.
pub(in crate::quantizer) fn best(candidates: &[Candidate]) -> Candidate {
    let none = Candidate { setting: 1.0, scale: 1.0, error: f64::INFINITY };
    least(candidates.iter().copied(), |candidate| candidate.error).unwrap_or(none)
}

/// Shares that fall by a constant factor, from 1 to not below `least`.
pub(in crate::quantizer) fn falling_shares(factor: f64, least: f64) -> Vec<f64> {
    std::iter::successors(Some(1.0), |share| Some(share * factor))
        .take_while(|share| *share >= least)
        .collect()
}

/// A scale must be a positive normal number; any will do where no value is positive.
pub(in crate::quantizer) fn usable(scale: f32) -> f32 {
    if scale > 0.0 { scale.clamp(f32::MIN_POSITIVE, f32::MAX) } else { 1.0 }
}
