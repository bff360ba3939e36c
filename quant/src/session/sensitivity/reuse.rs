//! Outcomes of earlier sweeps of a session that hold for later ones.
//!
//! With only one part quantized an outcome depends on nothing but the sample, the rewrites and the parameters of that
//! part's own sites. After an edit those of all other parts are what they were, bit for bit.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::On;
use crate::eval::sensitivity::{Findings, Mode, Outcome, Unit};
use crate::quantizer::Params;
use crate::session::{FittedPlan, lock};

/// Choices remembered for each part: enough to go back and forth between a few.
const CHOICES: usize = 4;
/// Samples remembered at most, because outcomes of all parts on each of them are.
const SAMPLES: usize = 256;

/// Where a part was measured: which samples, after which rewrites, which sites.
type Place = (On, u64, Vec<usize>);
/// Parameters of the part's sites, and what came of them by sample.
type Choice = (Vec<Arc<Params>>, BTreeMap<usize, Outcome>);

/// Outcomes of "only this part quantized".
#[derive(Debug, Default)]
pub(in crate::session) struct Outcomes(Mutex<HashMap<Place, VecDeque<Choice>>>);

impl Outcomes {
    /// Forgets everything: the samples are others.
    pub(in crate::session) fn forget(&self) {
        lock(&self.0).clear();
    }

    /// What is known of the first `count` samples under this plan and not among what was found: part, sample, outcome.
    pub(super) fn known(
        &self,
        (fitted, on): (&FittedPlan, On),
        units: &[Unit],
        count: usize,
        found: &Findings,
    ) -> Vec<(usize, usize, Outcome)> {
        let all = lock(&self.0);
        let mut known = Vec::new();
        for (at, unit) in units.iter().enumerate() {
            let Some(params) = params(fitted, unit) else { continue };
            let choices = all.get(&place(fitted, on, unit));
            let same = |choice: &&Choice| choice.0 == params;
            let Some((_, outcomes)) = choices.and_then(|choices| choices.iter().find(same)) else { continue };
            let there = found.outcomes.get(&(Mode::Only, at));
            let new =
                outcomes.range(..count).filter(|(sample, _)| !there.is_some_and(|o| o.contains_key(sample)));
            known.extend(new.map(|(sample, outcome)| (at, *sample, outcome.clone())));
        }
        known
    }

    /// Remembers what was found.
    pub(super) fn remember(&self, (fitted, on): (&FittedPlan, On), units: &[Unit], mut found: Findings) {
        let mut all = lock(&self.0);
        for (at, unit) in units.iter().enumerate() {
            let (Some(params), Some(mut outcomes)) =
                (params(fitted, unit), found.outcomes.remove(&(Mode::Only, at)))
            else {
                continue;
            };
            drop(outcomes.split_off(&SAMPLES));
            let choices = all.entry(place(fitted, on, unit)).or_default();
            let before = choices.iter().position(|(known, _)| *known == params);
            let mut choice = before.and_then(|at| choices.remove(at)).unwrap_or((params, BTreeMap::new()));
            choice.1.append(&mut outcomes);
            choices.push_front(choice);
            choices.truncate(CHOICES);
        }
    }
}

fn place(fitted: &FittedPlan, on: On, unit: &Unit) -> Place {
    (on, fitted.variant.identity, unit.sites.clone())
}

/// The parameters of a part; none if one of its sites is not quantized.
fn params(fitted: &FittedPlan, unit: &Unit) -> Option<Vec<Arc<Params>>> {
    unit.sites.iter().map(|&site| fitted.params.get(site).cloned().flatten()).collect()
}
