//! Outcomes added up over samples.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Judged, Mode, Noise, Outcome, Unit};
use crate::eval::answer::Sheet;
use crate::eval::metrics::Scores;

/// What quantizing a part does to the answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Effect {
    /// The task's figure: with the truth if there is one, else with full precision.
    pub metric: f64,
    /// Only this part quantized: the figure minus that of full precision, so a loss is negative. All but this part: the
    /// figure minus that with this part quantized too, so what it would give back is positive.
    pub delta: f64,
    /// The same of the agreement with full precision.
    pub agreement: f64,
    /// Mean distance from the results of full precision; none if one is not finite.
    pub loss: Option<f64>,
}

/// All about one part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Its name.
    pub unit: String,
    /// Its sites, by their places.
    #[serde(skip)]
    pub sites: Vec<usize>,
    /// SQNR in dB of its layer's output when only it is quantized; of one layer.
    pub isolated_sqnr_db: Option<f64>,
    /// SQNR in dB of its layer's output under the whole plan; of one layer.
    pub cumulative_sqnr_db: Option<f64>,
    /// Only it quantized.
    pub only: Option<Effect>,
    /// All but it quantized.
    pub all_but: Option<Effect>,
    /// Samples that the figures are of.
    pub samples: usize,
}

impl Finding {
    /// The change that it is ranked by.
    pub fn delta(&self) -> Option<f64> {
        self.only.map(|effect| effect.delta).or_else(|| self.all_but.map(|effect| -effect.delta))
    }

    fn loss(&self) -> f64 {
        let of = |effect: &Effect| effect.loss.unwrap_or(f64::INFINITY);
        self.only.as_ref().map(of).or_else(|| self.all_but.as_ref().map(|e| -of(e))).unwrap_or(0.0)
    }
}

/// Sorts findings: the most harmful part first, of equally harmful ones that which moves the results most. Parts without
/// figures come last.
pub fn rank(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        let delta = |finding: &Finding| finding.delta().unwrap_or(f64::INFINITY);
        delta(a).total_cmp(&delta(b)).then_with(|| b.loss().total_cmp(&a.loss()))
    });
}

/// What a sweep has found so far: outcomes by sample, and what they are compared with.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// By sample: full precision, everything quantized, and the errors of the layers under the whole plan (by their
    /// places among the layers).
    pub bases: BTreeMap<usize, Base>,
    /// By mode and unit: outcomes by sample.
    pub outcomes: BTreeMap<(Mode, usize), BTreeMap<usize, Outcome>>,
}

/// What the runs of a sample are compared with.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Base {
    /// In full precision.
    pub full: Judged,
    /// Under the whole plan.
    pub quantized: Judged,
    /// Under the whole plan: by layer, the error of its output.
    pub cumulative: Vec<Noise>,
}

impl Findings {
    /// One finding per unit, in their order, over the samples below `end`; `layer` gives the place of a unit's layer among
    /// the layers.
    pub fn of(&self, end: usize, units: &[Unit], layer: impl Fn(&Unit) -> Option<usize>) -> Vec<Finding> {
        units
            .iter()
            .enumerate()
            .map(|(at, unit)| {
                let (only, isolated, samples) = self.effect(Mode::Only, at, end);
                let (all_but, _, others) = self.effect(Mode::AllBut, at, end);
                let mut cumulative = None;
                if let Some(layer) = layer(unit) {
                    let bases = self.bases.range(..end).map(|(_, base)| base);
                    for noise in bases.filter_map(|base| base.cumulative.get(layer)) {
                        cumulative.get_or_insert_with(Noise::default).add(*noise);
                    }
                }
                Finding {
                    unit: unit.name.clone(),
                    sites: unit.sites.clone(),
                    isolated_sqnr_db: isolated.map(Noise::sqnr_db),
                    cumulative_sqnr_db: cumulative.map(Noise::sqnr_db),
                    only,
                    all_but,
                    samples: samples.max(others),
                }
            })
            .collect()
    }

    /// The effect of a unit over the samples that were run, its isolated error, and how many samples that are.
    fn effect(&self, mode: Mode, unit: usize, end: usize) -> (Option<Effect>, Option<Noise>, usize) {
        let Some(outcomes) = self.outcomes.get(&(mode, unit)) else { return (None, None, 0) };
        let mut samples = 0;
        let (mut ours, mut base) = (Sheets::default(), Sheets::default());
        let mut isolated: Option<Noise> = None;
        for (sample, outcome) in outcomes.range(..end) {
            samples += 1;
            let Some(known) = self.bases.get(sample) else { continue };
            ours.add(&outcome.judged);
            base.add(match mode {
                Mode::Only => &known.full,
                Mode::AllBut => &known.quantized,
            });
            if let Some(noise) = outcome.isolated {
                isolated.get_or_insert_with(Noise::default).add(noise);
            }
        }
        (ours.effect(&base), isolated, samples)
    }
}

/// Sums over samples.
#[derive(Default)]
struct Sheets {
    truth: Sheet,
    agreement: Sheet,
    loss: Option<f64>,
    samples: usize,
    broken: bool,
}

impl Sheets {
    fn add(&mut self, judged: &Judged) {
        judged.truth.iter().for_each(|found| self.truth.add(found));
        judged.agreement.iter().for_each(|found| self.agreement.add(found));
        match judged.loss {
            Some(loss) => self.loss = Some(self.loss.unwrap_or(0.0) + loss),
            None => self.broken = true,
        }
        self.samples += 1;
    }

    fn effect(&self, base: &Self) -> Option<Effect> {
        let standing = |sheet: &Sheet| sheet.scores().as_ref().map(Scores::standing);
        let agreement = standing(&self.agreement);
        let (metric, before) = match (standing(&self.truth), standing(&base.truth)) {
            (Some(metric), Some(before)) => (metric, before),
            _ => (agreement?, standing(&base.agreement)?),
        };
        let loss = if self.broken { None } else { self.loss.map(|sum| sum / self.samples as f64) };
        Some(Effect { metric, delta: metric - before, agreement: agreement.unwrap_or(0.0), loss })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::answer::Match;
    use crate::eval::metrics::Overlap;

    fn judged(truth: Option<u64>, agreement: u64, loss: f64) -> Judged {
        let of = |intersection| Match::Overlap(Overlap { intersection, union: 100 });
        Judged { truth: truth.map(of), agreement: Some(of(agreement)), loss: Some(loss) }
    }

    fn unit(name: &str) -> Unit {
        Unit { name: name.to_owned(), sites: vec![0], node: None }
    }

    fn findings(truth: bool, samples: &[usize]) -> Vec<Finding> {
        let said = |share| truth.then_some(share);
        let mut found = Findings::default();
        for &sample in samples {
            let noise = Noise { signal: 100.0, noise: 1.0 + sample as f64 };
            let base = Base {
                full: judged(said(80), 100, 0.0),
                quantized: judged(said(40), 50, 2.0),
                cumulative: vec![noise],
            };
            found.bases.insert(sample, base);
            for (at, share) in [(0, 75), (1, 60)] {
                let isolated = Some(Noise { signal: 10.0, noise: 0.1 });
                let one = Outcome { judged: judged(said(share), share + 10, 0.5), isolated };
                found.outcomes.entry((Mode::Only, at)).or_default().insert(sample, one);
            }
            let one = Outcome { judged: judged(said(55), 60, 1.0), isolated: None };
            found.outcomes.entry((Mode::AllBut, 1)).or_default().insert(sample, one);
        }
        // One beyond the end is left out.
        let odd = Outcome { judged: judged(said(1), 1, 9.0), isolated: None };
        found.outcomes.entry((Mode::Only, 0)).or_default().insert(9, odd);
        found
            .bases
            .insert(9, Base { cumulative: vec![Noise { signal: 1.0, noise: 9.0 }], ..Base::default() });
        found.of(9, &[unit("a"), unit("b"), unit("c")], |_| Some(0))
    }

    #[test]
    fn effects_are_differences_of_the_set_and_do_not_depend_on_the_order_of_samples() {
        let mut found = findings(true, &[0, 1]);
        assert_eq!(found, findings(true, &[1, 0]));
        let only = found[1].only.unwrap();
        assert!((only.delta + 0.2).abs() < 1e-12 && (only.agreement - 0.7).abs() < 1e-12, "{only:?}");
        let back = found[1].all_but.unwrap();
        assert!((back.delta - 0.15).abs() < 1e-12, "{back:?}");
        assert_eq!(found[0].isolated_sqnr_db, Some(20.0));
        assert!((found[0].cumulative_sqnr_db.unwrap() - 10.0 * (200.0_f64 / 3.0).log10()).abs() < 1e-12);
        rank(&mut found);
        let names: Vec<&str> = found.iter().map(|finding| finding.unit.as_str()).collect();
        assert_eq!(names, ["b", "a", "c"], "what was not measured comes last");
    }

    #[test]
    fn without_truth_agreement_counts() {
        let found = findings(false, &[3]);
        let only = found[0].only.unwrap();
        assert!((only.metric - 0.85).abs() < 1e-12 && (only.delta + 0.15).abs() < 1e-12, "{only:?}");
    }

    #[test]
    fn of_equal_changes_that_with_the_larger_loss_comes_first() {
        let mut found = findings(true, &[0]);
        let effect = Effect { metric: 0.8, delta: 0.0, agreement: 1.0, loss: Some(0.1) };
        found[0].only = Some(effect);
        found[1].only = Some(Effect { loss: Some(0.2), ..effect });
        found[2].only = Some(Effect { loss: None, ..effect });
        rank(&mut found);
        let names: Vec<&str> = found.iter().map(|finding| finding.unit.as_str()).collect();
        assert_eq!(names, ["c", "b", "a"], "what is not finite is worst");
    }
}
