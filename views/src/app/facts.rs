//! What the layer table shows of each layer, gathered when the plan, the sketches or the fit change.

use std::collections::{HashMap, HashSet};

use bitloupe_quant::session::messages::{ModelView, PlanView, SiteSummary};
use bitloupe_quant::terms::{Bits, Class, Role, SiteId, Slot};

use super::plan::PlanState;
use super::rewrites::{Standing, standing};

/// One layer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LayerFacts {
    /// Bits of the weight; none for a product of activations.
    pub weight: Option<Bits>,
    /// Bits of the activations: one, or two for a product.
    pub activations: Vec<Bits>,
    /// The class that stands out: of the sites that are not normal, else of all, that of the one which the plan hurts
    /// most (of the first one while nothing is fitted).
    pub class: Option<Class>,
    /// The least predicted SQNR of the sites.
    pub decibels: Option<f64>,
    /// Of the sites, the most harmful change of the figure, where it was measured.
    pub effect: Option<f64>,
    /// Whether a rewrite that is on changes one of the sites.
    pub rewritten: bool,
    /// What the filter looks in, in lower case.
    pub text: String,
}

/// All layers.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    layers: Vec<LayerFacts>,
    decibels: HashMap<SiteId, f64>,
}

impl Facts {
    /// Gathers everything anew.
    pub fn gather(
        model: &ModelView,
        plan: &PlanState,
        fitted: Option<&PlanView>,
        summary: &dyn Fn(&SiteId) -> Option<SiteSummaryRef>,
        effect: &dyn Fn(&SiteId) -> Option<f64>,
    ) -> Self {
        let decibels: HashMap<SiteId, f64> =
            fitted.map(|fitted| fitted.predicted_sqnr_db.iter().cloned().collect()).unwrap_or_default();
        let rewritten = rewritten(model, plan, fitted);
        let layers = model
            .layers
            .iter()
            .map(|layer| {
                let mut facts = LayerFacts {
                    rewritten: layer.sites.iter().any(|site| rewritten.contains(&site.site)),
                    ..LayerFacts::default()
                };
                let mut roles: Vec<Role> = Vec::new();
                let mut classes: Vec<Class> = Vec::new();
                for site in &layer.sites {
                    let bits = plan.bits(&site.site);
                    if site.site.slot == Slot::Weight {
                        facts.weight = Some(bits);
                    } else {
                        facts.activations.push(bits);
                    }
                    facts.effect = facts.effect.into_iter().chain(effect(&site.site)).reduce(f64::min);
                    roles.push(site.role);
                    let class = summary(&site.site).map(|summary| summary.class);
                    let worse = match (decibels.get(&site.site), facts.decibels) {
                        (Some(new), Some(old)) => *new < old,
                        (Some(_), None) => true,
                        (None, _) => false,
                    };
                    if worse {
                        facts.decibels = decibels.get(&site.site).copied();
                    }
                    if let Some(class) = class {
                        classes.push(class);
                        let plain = |class| class == Class::Normal;
                        let stands_out = facts.class.is_none_or(|before| plain(before) && !plain(class));
                        if stands_out || (worse && facts.class.is_some_and(plain) == plain(class)) {
                            facts.class = Some(class);
                        }
                    }
                }
                facts.text = filter_text(&layer.name, layer.op, &facts, &roles, &classes);
                facts
            })
            .collect();
        Self { layers, decibels }
    }

    /// One layer.
    pub fn layer(&self, index: usize) -> Option<&LayerFacts> {
        self.layers.get(index)
    }

    /// Predicted SQNR of a site.
    pub fn decibels(&self, site: &SiteId) -> Option<f64> {
        self.decibels.get(site).copied()
    }

    /// The least predicted SQNR of some layers.
    pub fn least(&self, layers: &[usize]) -> Option<f64> {
        layers.iter().filter_map(|layer| self.layer(*layer)?.decibels).reduce(f64::min)
    }

    /// The most harmful change of the figure of some layers.
    pub fn worst(&self, layers: &[usize]) -> Option<f64> {
        layers.iter().filter_map(|layer| self.layer(*layer)?.effect).reduce(f64::min)
    }

    /// The bits that some layers share: (weight, activation); `None` inside where they differ.
    pub fn shared(&self, layers: &[usize]) -> (Option<Option<Bits>>, Option<Option<Bits>>) {
        let same = |mut all: Box<dyn Iterator<Item = Bits> + '_>| {
            let first = all.next()?;
            Some(all.all(|bits| bits == first).then_some(first))
        };
        let of = |layers: &[usize]| layers.iter().filter_map(|layer| self.layer(*layer)).collect::<Vec<_>>();
        let layers = of(layers);
        (
            same(Box::new(layers.iter().filter_map(|layer| layer.weight))),
            same(Box::new(layers.iter().flat_map(|layer| layer.activations.iter().copied()))),
        )
    }
}

/// The part of a summary that the table needs.
#[derive(Debug, Clone, Copy)]
pub struct SiteSummaryRef {
    /// The diagnosis.
    pub class: Class,
}

impl From<&SiteSummary> for SiteSummaryRef {
    fn from(summary: &SiteSummary) -> Self {
        Self { class: summary.class }
    }
}

/// The sites that rewrites change which are on.
fn rewritten<'a>(model: &'a ModelView, plan: &PlanState, fitted: Option<&PlanView>) -> HashSet<&'a SiteId> {
    let fitted = fitted.filter(|fitted| fitted.generation >= plan.generation).map(|fitted| &*fitted.plan);
    let plan = plan.current();
    let on = model.rewrites.iter().filter(|place| standing(place, &plan, fitted) == Standing::On);
    on.flat_map(|place| &place.sites).collect()
}

/// Bits appear as `w4` and `a8`, so that `/w4` finds every layer with 4-bit weights; `/rewritten` finds what a rewrite
/// changes.
fn filter_text(name: &str, op: &str, facts: &LayerFacts, roles: &[Role], classes: &[Class]) -> String {
    use std::fmt::Write;
    let mut text = format!("{name} {op}");
    if let Some(bits) = facts.weight {
        let _ = write!(text, " w{bits}");
    }
    for bits in &facts.activations {
        let _ = write!(text, " a{bits}");
    }
    for class in classes {
        let _ = write!(text, " {class}");
    }
    for role in roles {
        let _ = write!(text, " {role}");
    }
    if facts.rewritten {
        text.push_str(" rewritten");
    }
    text.to_lowercase()
}
