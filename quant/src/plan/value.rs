//! The plan itself.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::file::FORMAT;
use super::{PlanError, SitePlan, nearest};
use crate::quantizer::Scheme;
use crate::terms::{Bits, SiteId, Slot};

/// The model that a plan is for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRef {
    /// The name a person knows it by.
    pub name: String,
    /// Architecture, as `info` prints it.
    pub architecture: String,
    /// Fingerprint of graph and weights.
    pub fingerprint: String,
}

/// The calibration set that a plan was fitted on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationRef {
    /// Fingerprint of the contents.
    pub fingerprint: String,
    /// Number of samples.
    pub samples: u64,
    /// Seed of every random choice.
    pub seed: u64,
}

/// An exact change of the graph that the plan's parameters count on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// Which rewrite, e.g. `layernorm-reparameterization`.
    pub rewrite: String,
    /// The layer (or other node) that it is anchored at.
    pub layer: String,
    /// Its numbers, e.g. `scale` and `shift` per channel.
    #[serde(default, deserialize_with = "unique")]
    pub vectors: BTreeMap<String, Vec<f32>>,
}

/// Site → quantizer, bits, fitted parameters; plus rewrites and where they come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub(super) format: String,
    /// The model it is for.
    pub model: ModelRef,
    /// What it was fitted on; none before fitting.
    #[serde(default)]
    pub calibration: Option<CalibrationRef>,
    /// Method or preset that made it, `manual` otherwise.
    pub method: String,
    /// Rewrites, in the order of application.
    #[serde(default)]
    pub rewrites: Vec<Rewrite>,
    /// Layer → operand → what happens to it. Sites in full precision are named too.
    #[serde(deserialize_with = "unique_layers")]
    pub layers: BTreeMap<String, BTreeMap<Slot, SitePlan>>,
    /// Figures when the plan was saved (`miou`, …).
    #[serde(default, deserialize_with = "unique")]
    pub metrics: BTreeMap<String, f64>,
    /// Program and version.
    pub created_by: String,
}

impl Plan {
    /// A plan that names no site.
    pub fn new(model: ModelRef) -> Self {
        Self {
            format: FORMAT.to_owned(),
            model,
            calibration: None,
            method: "manual".to_owned(),
            rewrites: Vec::new(),
            layers: BTreeMap::new(),
            metrics: BTreeMap::new(),
            created_by: concat!("bitloupe ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// One scheme for all weights and one for all activations; `None` leaves them in full precision.
    pub fn uniform_over(
        model: ModelRef,
        sites: impl IntoIterator<Item = SiteId>,
        weight: Option<(Scheme, Bits)>,
        activation: Option<(Scheme, Bits)>,
    ) -> Self {
        let mut plan = Self::new(model);
        for site in sites {
            let chosen = if site.slot == Slot::Weight { &weight } else { &activation };
            let site_plan = chosen
                .as_ref()
                .map_or(SitePlan::Float, |(scheme, bits)| SitePlan::unfitted(scheme.clone(), *bits));
            plan.set(&site, Some(site_plan));
        }
        plan
    }

    /// What it says about a site; `None` when the site is not named.
    pub fn site(&self, site: &SiteId) -> Option<&SitePlan> {
        self.layers.get(&site.layer)?.get(&site.slot)
    }

    /// Sets or removes a site; gives back what was there.
    pub fn set(&mut self, site: &SiteId, to: Option<SitePlan>) -> Option<SitePlan> {
        if let Some(to) = to {
            return self.layers.entry(site.layer.clone()).or_default().insert(site.slot, to);
        }
        let slots = self.layers.get_mut(&site.layer)?;
        let before = slots.remove(&site.slot);
        if slots.is_empty() {
            self.layers.remove(&site.layer);
        }
        before
    }

    /// All named sites, by layer name and operand.
    pub fn sites(&self) -> impl Iterator<Item = (SiteId, &SitePlan)> {
        self.layers.iter().flat_map(|(layer, slots)| {
            slots.iter().map(|(&slot, site)| (SiteId::new(layer.clone(), slot), site))
        })
    }

    /// An error unless the plan is for this model; `path` is for the message.
    pub fn check_model(&self, path: &str, model: &ModelRef) -> Result<(), PlanError> {
        if self.model.fingerprint == model.fingerprint {
            return Ok(());
        }
        // Enough to tell two files apart, short enough for a line.
        let short = |text: &str| text.chars().take(16).collect();
        Err(PlanError::OtherModel {
            path: path.to_owned(),
            plan: self.model.name.clone(),
            plan_fingerprint: short(&self.model.fingerprint),
            model: model.name.clone(),
            model_fingerprint: short(&model.fingerprint),
        })
    }

    /// An error unless the model has every site of the plan.
    pub fn check_sites(&self, path: &str, known: &[SiteId]) -> Result<(), PlanError> {
        let known_sites: std::collections::BTreeSet<&SiteId> = known.iter().collect();
        let unknown: Vec<SiteId> =
            self.sites().map(|(site, _)| site).filter(|site| !known_sites.contains(site)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = known.iter().map(ToString::to_string).collect();
        let near = |site: &SiteId| nearest(&site.to_string(), names.iter().map(String::as_str), 2);
        // Suggestions only for those that the message shows: a plan of another model may have thousands.
        let sites = unknown
            .into_iter()
            .enumerate()
            .map(|(i, site)| {
                let near = if i < 5 { near(&site) } else { Vec::new() };
                (site, near)
            })
            .collect();
        Err(PlanError::UnknownSites { path: path.to_owned(), sites })
    }

    /// Sites of the model that the plan does not name.
    pub fn missing_sites<'a>(&self, known: &'a [SiteId]) -> Vec<&'a SiteId> {
        known.iter().filter(|site| self.site(site).is_none()).collect()
    }
}

/// A JSON object as a map; a name that comes twice is an error instead of the last one winning.
fn unique<'de, D: Deserializer<'de>, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    K: Deserialize<'de> + Ord + fmt::Display,
    V: Deserialize<'de>,
{
    struct Entries<K, V>(PhantomData<(K, V)>);
    impl<'de, K, V> Visitor<'de> for Entries<K, V>
    where
        K: Deserialize<'de> + Ord + fmt::Display,
        V: Deserialize<'de>,
    {
        type Value = BTreeMap<K, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = BTreeMap::new();
            while let Some(key) = map.next_key::<K>()? {
                if entries.contains_key(&key) {
                    return Err(A::Error::custom(format_args!("`{key}` comes twice; keep one of them")));
                }
                entries.insert(key, map.next_value()?);
            }
            Ok(entries)
        }
    }
    deserializer.deserialize_map(Entries(PhantomData))
}

/// The operands of one layer, each once.
struct Slots(BTreeMap<Slot, SitePlan>);

impl<'de> Deserialize<'de> for Slots {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        unique(deserializer).map(Self)
    }
}

fn unique_layers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, BTreeMap<Slot, SitePlan>>, D::Error> {
    let layers: BTreeMap<String, Slots> = unique(deserializer)?;
    Ok(layers.into_iter().map(|(layer, slots)| (layer, slots.0)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::example::{model, plan, scheme, sites};
    use super::*;

    #[test]
    fn one_choice_for_all_sites() {
        let plan = Plan::uniform_over(model(), sites(), Some((scheme(), Bits::new(4).unwrap())), None);
        assert_eq!(plan.sites().count(), sites().len());
        for (site, site_plan) in plan.sites() {
            let expected = if site.slot == Slot::Weight { Bits::new(4).unwrap() } else { Bits::FLOAT };
            assert_eq!(site_plan.bits(), expected, "{site}");
        }
        assert!(plan.missing_sites(&sites()).is_empty());
    }

    #[test]
    fn a_plan_of_another_model_is_refused() {
        plan().check_model("p.json", &model()).unwrap();
        let other = ModelRef { name: "sam".to_owned(), fingerprint: "ffff".to_owned(), ..model() };
        let error = plan().check_model("p.json", &other).unwrap_err().to_string();
        assert!(
            error.contains("p.json: the plan is for model lavt-mini") && error.contains("sam"),
            "{error}"
        );
    }

    #[test]
    fn unknown_sites_come_with_suggestions() {
        plan().check_sites("p.json", &sites()).unwrap();
        let mut plan = plan();
        plan.set(&SiteId::new("blocks.0.attn.qvk", Slot::Input), Some(SitePlan::Float));
        let error = plan.check_sites("p.json", &sites()).unwrap_err().to_string();
        assert!(
            error.contains("no blocks.0.attn.qvk:input (did you mean blocks.0.attn.qkv:input"),
            "{error}"
        );
    }

    #[test]
    fn removed_sites_leave_no_empty_layer() {
        let mut plan = plan();
        for site in sites() {
            assert!(plan.set(&site, None).is_some());
        }
        assert!(plan.layers.is_empty());
    }
}
