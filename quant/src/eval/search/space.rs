//! What a search chooses from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::SearchError;
use crate::plan::{
    Budget, CalibrationRef, FLOAT_BITS, FLOAT_BYTES, LayerCost, ModelRef, Plan, Rewrite, SitePlan, budget,
    fitted_bytes,
};
use crate::quantizer::Params;
use crate::terms::{Bits, SiteId, Slot};

/// Candidates of a group at most.
const MOST_CANDIDATES: usize = 256;
/// The largest loss that is told apart; what is not finite counts as this.
const WORST: f64 = 1e12;

/// One way to quantize the sites of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The width.
    pub bits: Bits,
    /// Parameters of every site; empty in full precision.
    #[serde(with = "shared")]
    pub params: Vec<Arc<Params>>,
    /// Mean distance of the results from those of full precision when only this group is quantized, so
    /// (see [`between_outputs`](crate::eval::output_loss::between_outputs)).
    pub loss: f64,
}

/// Sites that are decided together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// All weights, or all activations.
    pub sites: Vec<SiteId>,
    /// What they can be given.
    pub candidates: Vec<Candidate>,
}

impl Group {
    /// Its first site stands for it.
    pub fn name(&self) -> String {
        self.sites.first().map(ToString::to_string).unwrap_or_default()
    }

    /// Whether its sites are weights.
    pub fn is_weight(&self) -> bool {
        self.sites.first().is_some_and(|site| site.slot == Slot::Weight)
    }
}

/// Everything that a plan is chosen from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// The model.
    pub model: ModelRef,
    /// What the candidates were fitted on.
    pub calibration: Option<CalibrationRef>,
    /// Rewrites that all plans have, with their numbers.
    pub rewrites: Vec<Rewrite>,
    /// Sizes of the layers.
    pub layers: Vec<LayerCost>,
    /// Every site of every layer is in one of them.
    pub groups: Vec<Group>,
}

impl Space {
    /// The plan of one choice per group.
    pub fn plan(&self, choices: &[usize]) -> Plan {
        let mut plan = Plan::new(self.model.clone());
        plan.calibration.clone_from(&self.calibration);
        plan.rewrites.clone_from(&self.rewrites);
        "search".clone_into(&mut plan.method);
        for (group, &choice) in self.groups.iter().zip(choices) {
            let params = group.candidates.get(choice).map(|candidate| candidate.params.as_slice());
            for (at, site) in group.sites.iter().enumerate() {
                let fitted = params.and_then(|params| params.get(at));
                let to = fitted.map_or(SitePlan::Float, |p| SitePlan::fitted(p.as_ref().clone()));
                plan.set(site, Some(to));
            }
        }
        plan
    }

    /// What a plan over these layers costs.
    pub fn budget(&self, plan: &Plan) -> Budget {
        budget(plan, &self.layers)
    }

    /// Losses of the candidates by group.
    pub fn losses(&self) -> Vec<Vec<f64>> {
        self.groups.iter().map(|g| g.candidates.iter().map(|c| c.loss).collect()).collect()
    }

    /// A loss as it is kept: finite and not negative.
    pub fn kept_loss(loss: f64) -> f64 {
        if loss.is_nan() { WORST } else { loss.clamp(0.0, WORST) }
    }

    /// The layers by name.
    pub(super) fn by_name(&self) -> BTreeMap<&str, &LayerCost> {
        self.layers.iter().map(|layer| (layer.layer.as_str(), layer)).collect()
    }

    /// An error unless it is whole: every site of every layer once, candidates that fit, numbers that can be added up.
    /// `path` is for messages.
    pub fn check(&self, path: &str) -> Result<(), SearchError> {
        let wrong = |reason: String| {
            let reason = format!("{reason}; make the search again");
            Err(SearchError::File { path: path.to_owned(), reason })
        };
        let layers = self.by_name();
        if layers.len() != self.layers.len() {
            return wrong("a layer comes twice".to_owned());
        }
        // Bits are at most 16, and both operands of a product count.
        let numbers = self.layers.iter().try_fold(0_u64, |sum, layer| {
            let most = layer.macs.checked_add(layer.weights)?.checked_add(layer.rows)?;
            sum.checked_add(most.checked_mul(2 * 16 * 16)?)
        });
        if numbers.is_none() {
            return wrong("its layers are too large to be added up".to_owned());
        }
        let mut left: BTreeSet<SiteId> = self.layers.iter().flat_map(sites_of).collect();
        for group in &self.groups {
            for site in &group.sites {
                if !left.remove(site) {
                    return wrong(format!("{site} is in two groups, or its layer is missing"));
                }
            }
            let name = group.name();
            let weights = group.sites.iter().filter(|site| site.slot == Slot::Weight).count();
            if group.sites.is_empty() || (weights > 0 && weights < group.sites.len()) {
                return wrong(format!("group `{name}` is not all weights or all activations"));
            }
            if group.candidates.is_empty() || group.candidates.len() > MOST_CANDIDATES {
                return wrong(format!("{name}: expected 1 to {MOST_CANDIDATES} candidates"));
            }
            for candidate in &group.candidates {
                let expected = if candidate.bits.is_float() { 0 } else { group.sites.len() };
                let fits = candidate.params.len() == expected
                    && candidate.params.iter().all(|params| params.bits == candidate.bits);
                if !fits {
                    return wrong(format!("{name}: a candidate's parameters do not fit its sites and bits"));
                }
                if !(0.0..=WORST).contains(&candidate.loss) {
                    return wrong(format!("{name}: a loss of {} is none", candidate.loss));
                }
            }
        }
        match left.first() {
            Some(site) => wrong(format!("{site} is in no group")),
            None => Ok(()),
        }
    }
}

/// The two sites of a layer.
fn sites_of(layer: &LayerCost) -> [SiteId; 2] {
    let slots = if layer.weights > 0 { [Slot::Input, Slot::Weight] } else { [Slot::Lhs, Slot::Rhs] };
    slots.map(|slot| SiteId::new(layer.layer.clone(), slot))
}

/// A width as it counts in averages.
pub(super) fn counted(bits: Bits) -> u64 {
    bits.get().map_or(FLOAT_BITS as u64, u64::from)
}

/// Bytes of a candidate of one weight.
pub(super) fn bytes(candidate: &Candidate, at: usize, cost: &LayerCost) -> u64 {
    match candidate.params.get(at) {
        Some(params) => fitted_bytes(params, cost),
        None => cost.weights.saturating_mul(FLOAT_BYTES),
    }
}

/// Parameters are shared in memory and written out in files.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::quantizer::Params;

    pub(super) fn serialize<S: Serializer>(params: &[Arc<Params>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(params.iter().map(AsRef::as_ref))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Arc<Params>>, D::Error> {
        Ok(Vec::<Params>::deserialize(deserializer)?.into_iter().map(Arc::new).collect())
    }
}
