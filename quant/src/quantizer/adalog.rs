//! Adaptive logarithm quantization (AdaLog, Wu et al., ECCV 2024; spec B §6).
//!
//! A logarithmic grid of base `2^(q / 37)` with a whole `q`: `k = round(-log2(x / scale) · 37 / q)`, half to even; the
//! value is `scale · 2^(-⌊kq / 37⌋) · T(kq mod 37)` for `k` clamped to `0..2^b`, and 0 where `k ≥ 2^b` or `x ≤ 0`. The
//! fraction `T(m) = round(2^(-m / 37) · n) / n` with `n = 2^(b + 1) - 2` comes from a table, so that an integer kernel needs
//! a look-up and a shift. As with log2, zero is one code more than `b` bits hold: `2^b`.
//!
//! * Values in `0..=1` (post-softmax): `scale` is 1 and only `q` is searched, 10 to 137.
//! * Values of both signs (post-GELU): the grid is that of `x + shift`, and the shift is subtracted from the result
//!   (an integer kernel leaves that to the next bias). The shift is the minimum of GELU, 0.16997124254703522; data clearly below
//!   that are of another function, and their own minimum is the shift. [`Scheme::paper`] shifts by GELU's even then.
//! * Otherwise scale and `q` are searched without a shift.
//!
//! The release alternates between the candidates of `q` and of the scale (those in the upper tenth of the positive values)
//! by the error of the layer's output, from coarse to fine. Here the least squared error is looked for, coarse to
//! fine over both together, and with the right operand of the product the `q` of least output error (for a searched
//! scale: the best of the sixteen candidates of least squared error). The result has the same form.

use super::distribution::{Batch, Distribution};
use super::error::QuantizerError;
use super::params::Params;
use super::scheme::{Family, Granularity, RangeSearch, Scheme};
use super::search::{self, Candidate, Target, bounded_minimum, usable};
use super::staircase::{Staircase, Stepped, above, check_setting, setting};
use super::survey::Survey;
use crate::terms::Bits;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Denominator of the exponent.
const R: u64 = 37;
/// The `q` that are searched.
const QS: std::ops::RangeInclusive<u64> = 10..=137;
/// The largest `q` taken from a file.
const MOST_Q: f32 = 1023.0;
/// Minus the minimum of GELU.
const GELU_SHIFT: f32 = 0.169_971_24;
/// What GELU does not fall below, however it is computed: its approximation by tanh reaches −0.17004.
const GELU_LEAST: f32 = -0.1701;
/// Octaves of the normal f32 below 1.
const OCTAVES: u64 = 126;
/// Candidates that are compared by the error of the output.
const SHORTLIST: usize = 16;

/// AdaLog.
#[derive(Debug)]
pub(super) struct Adalog;

/// The grid of one `q` for a scale of 1: powers with the bounds below them.
struct Powers {
    q: u64,
    steps: Vec<(f64, f32)>,
    zero: u32,
}

impl Powers {
    fn new(q: u64, bits: Bits) -> Self {
        let zero = bits.levels().unwrap_or(u32::MAX);
        let root = |numerator: u64, denominator: u64| (-(numerator as f64) / denominator as f64).exp2();
        let n = 2.0 * f64::from(zero) - 2.0;
        let fractions: Vec<f32> = (0..R).map(|m| ((root(m, R) * n).round_ties_even() / n) as f32).collect();
        // Bounds lie at half codes.
        let halves: Vec<f64> = (0..2 * R).map(|m| root(m, 2 * R)).collect();
        let step = |k: u64| {
            let (octaves, rest) = (k * q / R, (k * q % R) as usize);
            let level = fractions[rest] * octave(octaves) as f32;
            let half = (2 * k + 1) * q;
            let bound = halves[(half % (2 * R)) as usize] * octave(half / (2 * R));
            // A tie is a power of two, and goes to the even code.
            let tie_below = half.is_multiple_of(2 * R) && k % 2 == 1;
            (if tie_below { above(bound) } else { bound }, level)
        };
        let most = u64::from(zero).min(OCTAVES * R / q.max(1) + 1);
        Self { q, steps: (0..most).map(step).collect(), zero }
    }

    fn stairs(&self, scale: f32, shift: f32) -> Staircase {
        let steps = self.steps.iter().map(|&(bound, power)| (bound * f64::from(scale), power * scale));
        Staircase::powers(steps, self.zero).shifted(shift)
    }
}

/// `2^-n`.
fn octave(n: u64) -> f64 {
    (-(n as f64)).exp2()
}

/// What is searched, given the data.
struct Search {
    powers: Vec<Powers>,
    shift: f32,
    /// Values in `0..=1`.
    probabilities: bool,
    range: RangeSearch,
}

impl Search {
    fn new((lo, hi): (f32, f32), scheme: &Scheme, bits: Bits) -> Self {
        let shift = match lo {
            _ if lo >= 0.0 => 0.0,
            _ if scheme.paper || lo >= GELU_LEAST => GELU_SHIFT,
            _ => -lo,
        };
        let powers = QS.map(|q| Powers::new(q, bits)).collect();
        Self { powers, shift, probabilities: lo >= 0.0 && hi <= 1.0, range: scheme.range.clone() }
    }

    fn error(&self, targets: &[Target<'_>], at: usize, scale: f32) -> f64 {
        let stairs = self.powers[at].stairs(scale, self.shift);
        let p = search::exponent(&self.range);
        targets.iter().map(|target| target.error(&stairs, p)).sum()
    }

    fn candidate(&self, targets: &[Target<'_>], at: usize, scale: f32) -> Candidate {
        Candidate { setting: self.powers[at].q as f32, scale, error: self.error(targets, at, scale) }
    }

    /// Every `q` with its best of the scales.
    fn all(&self, targets: &[Target<'_>], scales: &[f32]) -> Vec<Candidate> {
        let one = |at| scales.iter().map(move |&scale| self.candidate(targets, at, scale));
        (0..self.powers.len()).flat_map(one).collect()
    }

    /// The best `q` and scale; `white` are the targets without what they are multiplied by.
    fn best(&self, targets: &[Target<'_>], white: &[Target<'_>]) -> Candidate {
        let most =
            targets.iter().map(|target| target.range().1).fold(f32::NEG_INFINITY, f32::max) + self.shift;
        if self.probabilities || most.is_nan() || most <= 0.0 {
            return search::best(&self.all(targets, &[1.0]));
        }
        match &self.range {
            RangeSearch::Percentile(levels) => {
                let scales = Target::percentiles(targets, levels).into_iter().map(|x| x + self.shift);
                let mut scales: Vec<f32> = scales.filter(|scale| *scale > 0.0).map(usable).collect();
                if scales.is_empty() {
                    scales.push(usable(most));
                }
                search::best(&self.all(targets, &scales))
            }
            RangeSearch::Mse { .. } => {
                let mut found = self.coarse_to_fine(white, f64::from(most));
                if targets.iter().any(Target::is_output) {
                    found.truncate(SHORTLIST);
                    for candidate in &mut found {
                        candidate.error = self.error(targets, self.at(*candidate), candidate.scale);
                    }
                }
                search::best(&found)
            }
            // Min–max; others are refused before.
            _ => search::best(&self.all(targets, &[usable(most)])),
        }
    }

    fn at(&self, candidate: Candidate) -> usize {
        (candidate.setting as usize).saturating_sub(*QS.start() as usize).min(self.powers.len() - 1)
    }

    /// Candidates in the order of their squared errors: every fourth `q` with quarters of octaves below the largest
    /// value, then what lies around the best four, then the scale of the very best between its neighbours.
    fn coarse_to_fine(&self, white: &[Target<'_>], most: f64) -> Vec<Candidate> {
        let scale = |share: f64| usable((most * share) as f32);
        let sort = |found: &mut Vec<Candidate>| found.sort_by(|a, b| a.error.total_cmp(&b.error));
        let shares = search::falling_shares((-0.25_f64).exp2(), 0.14);
        let coarse = (0..self.powers.len()).step_by(4);
        let mut found: Vec<Candidate> = coarse
            .flat_map(|at| shares.iter().map(move |&share| self.candidate(white, at, scale(share))))
            .collect();
        sort(&mut found);
        let centres: Vec<Candidate> = found.iter().take(4).copied().collect();
        for best in centres {
            let at = self.at(best);
            for at in at.saturating_sub(3)..(at + 4).min(self.powers.len()) {
                for sixteenths in -2..=2 {
                    let near =
                        usable(best.scale * (f32::from(i8::try_from(sixteenths).unwrap_or(0)) / 16.0).exp2());
                    found.push(self.candidate(white, at, near));
                }
            }
        }
        sort(&mut found);
        if let Some(&best) = found.first() {
            let (at, centre) = (self.at(best), f64::from(best.scale));
            let error = |factor: f64| self.error(white, at, usable((centre * factor) as f32));
            let (factor, least) = bounded_minimum((-1.0_f64 / 16.0).exp2(), (1.0_f64 / 16.0).exp2(), error);
            if least < best.error {
                found.insert(0, Candidate { scale: usable((centre * factor) as f32), error: least, ..best });
            }
        }
        found
    }
}

fn of_survey(survey: &Survey<'_>, scheme: &Scheme, bits: Bits) -> (f32, Vec<Candidate>) {
    let targets = [Target::of_sketch(survey)];
    let search = Search::new(targets[0].range(), scheme, bits);
    let found = search.best(&targets, &targets);
    if scheme.granularity == Granularity::Tensor {
        return (search.shift, vec![found]);
    }
    let most = survey.sketch().max() + search.shift;
    let share = if most > 0.0 { found.scale / most } else { 1.0 };
    let one = |max: f32| {
        let scale = if search.probabilities { found.scale } else { usable((max + search.shift) * share) };
        Candidate { scale, ..found }
    };
    (search.shift, survey.sketch().channel_stats().iter().map(|channel| one(channel.max)).collect())
}

fn of_batches(
    batches: &[Batch<'_>],
    scheme: &Scheme,
    bits: Bits,
) -> Result<(f32, Vec<Candidate>), QuantizerError> {
    let first = batches.first().ok_or(QuantizerError::NoData)?;
    let white: Vec<Batch<'_>> = batches.iter().map(|batch| Batch::new(batch.values, batch.layout)).collect();
    let ranges =
        Target::of_batches(&white, Granularity::Tensor, 0).iter().map(Target::range).collect::<Vec<_>>();
    let lo = ranges.iter().map(|range| range.0).fold(0.0, f32::min);
    let hi = ranges.iter().map(|range| range.1).fold(0.0, f32::max);
    let search = Search::new((lo, hi), scheme, bits);
    let groups = if scheme.granularity == Granularity::Tensor { 1 } else { first.layout.channels };
    let fit = |c| {
        let of = |batches| Target::of_batches(batches, scheme.granularity, c);
        search.best(&of(batches), &of(&white))
    };
    Ok((search.shift, (0..groups).into_par_iter().map(fit).collect()))
}

impl Stepped for Adalog {
    const FAMILY: Family = Family::Adalog;

    /// From a sketch with a scale per channel, the scale of a channel is the same share of its maximum as the tensor's
    /// is of the tensor's, with the same `q`.
    fn fit(&self, data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
        let (shift, found) = match *data {
            Distribution::Sketch(sketch) => of_survey(&Survey::new(sketch), scheme, bits),
            Distribution::Survey(survey) => of_survey(survey, scheme, bits),
            Distribution::Raw { .. } | Distribution::Batches(_) => {
                of_batches(&data.batches().ok_or(QuantizerError::NoData)?, scheme, bits)?
            }
        };
        let qs = found.iter().map(|best| best.setting).collect();
        Ok(Params {
            scheme: scheme.clone(),
            bits,
            scale: found.iter().map(|best| best.scale).collect(),
            zero_point: Vec::new(),
            extra: BTreeMap::from([("q".to_owned(), qs), ("shift".to_owned(), vec![shift])]),
        })
    }

    fn check(&self, params: &Params) -> Result<(), QuantizerError> {
        let whole = |q: f32| (1.0..=MOST_Q).contains(&q) && q.fract() == 0.0;
        check_setting(params, "q", whole, "a whole number from 1 to 1023")?;
        check_setting(params, "shift", |shift| shift >= 0.0, "zero or more")
    }

    fn staircase(&self, params: &Params, c: usize) -> Staircase {
        let q = setting(params, "q", c, R as f32).clamp(1.0, MOST_Q) as u64;
        let shift = setting(params, "shift", c, 0.0);
        Powers::new(q.max(1), params.bits).stairs(params.scale_of(c), shift)
    }
}
