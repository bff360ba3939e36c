//! What every candidate of every group loses alone, measured.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bases::Base;
use super::field::{Change, Field, Stop, mean};
use super::offers::{Offer, from_four};
use crate::eval::search::{Candidate, Effort, Group, Share, Space};
use crate::plan::CalibrationRef;
use crate::session::{Session, SessionError};
use crate::terms::Bits;

/// Samples that all offers are measured on.
const FIRST: usize = 4;
/// Samples that those are measured on that are kept.
const ALL: usize = 16;
/// Quantizers kept for each width of a group.
const KEPT: usize = 2;

impl Session {
    /// Measures the offers of a base: all on a few samples, the two best of each width of a group on more, those being the
    /// candidates. What time does not suffice for is estimated from the noise that sketches predict, in proportion
    /// to what was measured of the same group, or of all. Widths near four bits are measured first.
    pub(super) fn scored(
        &self,
        field: &Field<'_>,
        groups: &[Vec<usize>],
        base: &Base,
        (stop, effort): (&Stop, &mut Effort),
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Space, SessionError> {
        let mut order: Vec<(usize, usize)> = Vec::new();
        for (group, offers) in base.offers.iter().enumerate() {
            order.extend((0..offers.len()).map(|offer| (group, offer)));
        }
        order.sort_by_key(|&(group, offer)| (from_four(base.offers[group][offer].bits), offer, group));
        let float = vec![None; self.model.graph.sites().len()];
        let mut measure = |order: &[(usize, usize)], samples: &[usize], done: usize, total: usize| {
            let change = |&(group, offer): &(usize, usize)| Change {
                sites: &groups[group],
                params: &base.offers[group][offer].params,
            };
            let changes: Vec<Change<'_>> = order.iter().map(change).collect();
            field.measure(&base.variant, &float, &changes, samples, stop, |at, _| progress(done + at, total))
        };
        let most = field.fit.len().min(ALL);
        let (few, more) = field.fit[..most].split_at(most.min(FIRST));
        let kept_at_most = order.len().min(order.len() * KEPT / 3);
        let total = order.len() * few.len() + kept_at_most * more.len();
        let first = measure(&order, few, 0, total)?;
        let mut losses: BTreeMap<(usize, usize), Vec<Option<f64>>> =
            order.iter().copied().zip(first).collect();
        let kept = best_of_each_width(base, &losses);
        let left: Vec<(usize, usize)> = order.iter().copied().filter(|key| kept.contains(key)).collect();
        let done = order.len() * few.len();
        let total = done + left.len() * more.len();
        for (key, found) in left.iter().zip(measure(&left, more, done, total)?) {
            losses.entry(*key).or_default().extend(found);
        }
        // Only samples on which everything that is kept was run are compared with each other.
        let whole =
            (0..most).filter(|&at| kept.iter().all(|key| losses[key].get(at).is_some_and(Option::is_some)));
        let whole: Vec<usize> = whole.collect();
        let measured = |key: &(usize, usize)| -> Option<f64> {
            let of = &losses[key];
            if whole.is_empty() {
                return of.first().copied().flatten();
            }
            Some(mean(whole.iter().filter_map(|&at| of[at])))
        };
        let known: BTreeMap<(usize, usize), Option<f64>> =
            kept.iter().map(|key| (*key, measured(key))).collect();
        effort.candidates = Share { done: known.values().flatten().count(), of: known.len() };
        effort.score_samples = Share { done: whole.len(), of: most };
        for (at, sites) in groups.iter().enumerate() {
            let mut of = known.range((at, 0)..(at + 1, 0));
            let all = of.all(|(_, loss)| loss.is_some());
            effort.scores.expect(sites.len());
            effort.scores.done += if all { sites.len() } else { 0 };
        }
        Ok(self.space(groups, base, &known))
    }

    /// The space of what is kept.
    fn space(
        &self,
        groups: &[Vec<usize>],
        base: &Base,
        known: &BTreeMap<(usize, usize), Option<f64>>,
    ) -> Space {
        let sites = self.model.graph.sites();
        let ratio = |keys: &mut dyn Iterator<Item = (&(usize, usize), &Option<f64>)>| {
            let mut ratios: Vec<f64> = keys
                .filter_map(|(&(group, offer), loss)| Some((*loss)? / base.offers[group][offer].noise))
                .filter(|ratio| ratio.is_finite())
                .collect();
            ratios.sort_by(f64::total_cmp);
            ratios.get(ratios.len() / 2).copied()
        };
        let usual = ratio(&mut known.iter()).unwrap_or(1.0);
        let group = |(at, members): (usize, &Vec<usize>)| {
            let own = ratio(&mut known.range((at, 0)..(at + 1, 0))).unwrap_or(usual);
            let mut candidates: Vec<Candidate> = known
                .range((at, 0)..(at + 1, 0))
                .map(|(&(_, offer), loss)| {
                    let Offer { bits, params, noise } = &base.offers[at][offer];
                    let loss = Space::kept_loss(loss.unwrap_or(own * noise));
                    Candidate { bits: *bits, params: params.clone(), loss }
                })
                .collect();
            candidates.sort_by(|a, b| a.bits.cmp(&b.bits).then(a.loss.total_cmp(&b.loss)));
            if candidates.is_empty() {
                candidates.push(Candidate { bits: Bits::FLOAT, params: Vec::new(), loss: 0.0 });
            }
            Group { sites: members.iter().map(|&site| sites[site].id.clone()).collect(), candidates }
        };
        Space {
            model: self.model_ref(),
            calibration: self.stats().map(|stats| CalibrationRef {
                fingerprint: stats.fingerprint.clone(),
                samples: stats.samples.len() as u64,
                seed: 0,
            }),
            rewrites: base.rewrites.clone(),
            layers: self.layer_costs(),
            groups: groups.iter().enumerate().map(group).collect(),
        }
    }
}

/// The offers of each width of each group that lose least on the samples where all of them were run; by the predicted
/// noise where there are none.
fn best_of_each_width(
    base: &Base,
    losses: &BTreeMap<(usize, usize), Vec<Option<f64>>>,
) -> Vec<(usize, usize)> {
    let mut kept = Vec::new();
    for (group, offers) in base.offers.iter().enumerate() {
        let mut by_bits: BTreeMap<Bits, Vec<usize>> = BTreeMap::new();
        for (at, offer) in offers.iter().enumerate() {
            by_bits.entry(offer.bits).or_default().push(at);
        }
        for mut of_width in by_bits.into_values() {
            let of = |offer: &usize| &losses[&(group, *offer)];
            let count = of_width.iter().map(|offer| of(offer).len()).min().unwrap_or(0);
            let whole: Vec<usize> =
                (0..count).filter(|&at| of_width.iter().all(|offer| of(offer)[at].is_some())).collect();
            let loss = |offer: &usize| {
                if whole.is_empty() {
                    offers[*offer].noise
                } else {
                    mean(whole.iter().filter_map(|&at| of(offer)[at]))
                }
            };
            of_width.sort_by(|a, b| loss(a).total_cmp(&loss(b)).then(a.cmp(b)));
            kept.extend(of_width.into_iter().take(KEPT).map(|offer| (group, offer)));
        }
    }
    kept.sort_unstable();
    kept
}

/// Parameters by site of one choice per group.
pub(super) fn params_of(
    groups: &[Vec<usize>],
    space: &Space,
    choices: &[usize],
) -> Vec<Option<Arc<crate::quantizer::Params>>> {
    let sites = groups.iter().flatten().max().map_or(0, |&most| most + 1);
    let mut params = vec![None; sites];
    for ((members, group), &choice) in groups.iter().zip(&space.groups).zip(choices) {
        for (&site, one) in members.iter().zip(&group.candidates[choice].params) {
            params[site] = Some(Arc::clone(one));
        }
    }
    params
}
