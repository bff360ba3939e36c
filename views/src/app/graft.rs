//! Plans with some rewrites switched, and plans of which some sites are another's. Knows nothing of screens.

use std::collections::HashSet;

use bitloupe_quant::plan::{Plan, Rewrite, SitePlan};
use bitloupe_quant::session::messages::RewriteView;
use bitloupe_quant::terms::SiteId;

use super::plan::same_choice;

/// Whether two rewrites are the same but for their numbers.
pub fn same_place(a: &Rewrite, b: &Rewrite) -> bool {
    a.rewrite == b.rewrite && a.layer == b.layer
}

/// Whether a plan asks for a rewrite.
pub fn asks_for(plan: &Plan, rewrite: &Rewrite) -> bool {
    plan.rewrites.iter().any(|other| same_place(other, rewrite))
}

/// The plan with rewrites switched on or off. Sites that such a rewrite touches are to be fitted again, and so are
/// rewrites at the same place; everything else stays as it is.
pub fn switched<'a>(plan: &Plan, wanted: impl IntoIterator<Item = (&'a RewriteView, bool)>) -> Plan {
    let mut made = plan.clone();
    for (place, on) in wanted {
        if asks_for(&made, &place.rewrite) == on {
            continue;
        }
        if on {
            made.rewrites.push(place.rewrite.clone());
        } else {
            made.rewrites.retain(|rewrite| !same_place(rewrite, &place.rewrite));
        }
        refit(&mut made, place);
    }
    made
}

/// `now` with what `method` says of the sites in `scope`, and with its rewrites wherever they touch one of these.
pub fn grafted(now: &Plan, method: &Plan, places: &[RewriteView], scope: &HashSet<SiteId>) -> Plan {
    let mut made = now.clone();
    let mut changed = HashSet::new();
    for site in scope {
        let (before, after) = (now.site(site).unwrap_or(&SitePlan::Float), method.site(site));
        let Some(after) = after.filter(|after| !same_choice(before, after)) else { continue };
        made.set(site, Some(after.clone()));
        changed.insert(site);
    }
    let touched = || places.iter().filter(|place| place.sites.iter().any(|site| scope.contains(site)));
    let mut made = switched(&made, touched().map(|place| (place, asks_for(method, &place.rewrite))));
    // Numbers of a rewrite that stays were made for the grids before.
    for place in touched().filter(|place| place.sites.iter().any(|site| changed.contains(site))) {
        if asks_for(&made, &place.rewrite) {
            refit(&mut made, place);
        }
    }
    made
}

/// Takes the numbers of a place's rewrites away and those of the sites that one of them touches.
fn refit(plan: &mut Plan, place: &RewriteView) {
    for rewrite in plan.rewrites.iter_mut().filter(|rewrite| rewrite.layer == place.rewrite.layer) {
        // What a person chose is no number that was fitted.
        rewrite.vectors.retain(|name, _| name == "alpha");
    }
    for site in &place.sites {
        if let Some(SitePlan::Quantized { scheme, bits, params: Some(_) }) = plan.site(site) {
            let unfitted = SitePlan::unfitted(scheme.clone(), *bits);
            plan.set(site, Some(unfitted));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bitloupe_quant::plan::ModelRef;
    use bitloupe_quant::quantizer::{Family, Params, RangeSearch, Scheme};
    use bitloupe_quant::terms::{Bits, Slot};

    use super::*;

    const NORM: &str = "layernorm-reparameterization";
    const SIGN: &str = "sign-folding";

    fn site(layer: &str, slot: Slot) -> SiteId {
        SiteId::new(layer, slot)
    }

    fn place(kind: &str, layer: &str, sites: &[(&str, Slot)]) -> RewriteView {
        let rewrite = Rewrite { rewrite: kind.to_owned(), layer: layer.to_owned(), vectors: BTreeMap::new() };
        RewriteView { rewrite, sites: sites.iter().map(|(layer, slot)| site(layer, *slot)).collect() }
    }

    /// Two blocks: a LayerNorm before `qkv`, whose keys meet in `qk`.
    fn places() -> Vec<RewriteView> {
        vec![
            place(NORM, "norm.0", &[("qkv.0", Slot::Input), ("qkv.0", Slot::Weight)]),
            place(NORM, "norm.1", &[("qkv.1", Slot::Input), ("qkv.1", Slot::Weight)]),
            place(SIGN, "qk.0", &[("qk.0", Slot::Rhs), ("qkv.0", Slot::Weight)]),
        ]
    }

    fn sites() -> Vec<SiteId> {
        places().into_iter().flat_map(|place| place.sites).collect()
    }

    fn fitted(bits: u8) -> SitePlan {
        SitePlan::fitted(Params {
            scheme: Scheme::new(Family::Uniform, RangeSearch::MinMax),
            bits: Bits::new(bits).unwrap(),
            scale: vec![0.5],
            zero_point: vec![0.0],
            extra: BTreeMap::new(),
        })
    }

    fn plan(bits: u8, rewrites: &[RewriteView], numbers: bool) -> Plan {
        let mut plan = Plan::new(ModelRef::default());
        for site in sites() {
            let fitted = fitted(bits);
            let SitePlan::Quantized { scheme, bits, .. } = fitted.clone() else { unreachable!() };
            plan.set(&site, Some(if numbers { fitted } else { SitePlan::unfitted(scheme, bits) }));
        }
        plan.rewrites = rewrites.iter().map(|place| place.rewrite.clone()).collect();
        if numbers {
            for rewrite in &mut plan.rewrites {
                rewrite.vectors.insert("scale".to_owned(), vec![2.0]);
            }
        }
        plan
    }

    fn has_numbers(plan: &Plan, layer: &str, slot: Slot) -> bool {
        plan.site(&site(layer, slot)).and_then(SitePlan::params).is_some()
    }

    #[test]
    fn a_switched_rewrite_unfits_its_sites_and_no_other() {
        let places = places();
        let before = plan(4, &[], true);
        let on = switched(&before, [(&places[0], true), (&places[1], false)]);
        assert!(asks_for(&on, &places[0].rewrite) && on.rewrites.len() == 1);
        assert!(!has_numbers(&on, "qkv.0", Slot::Input) && !has_numbers(&on, "qkv.0", Slot::Weight));
        assert!(has_numbers(&on, "qkv.1", Slot::Input) && has_numbers(&on, "qk.0", Slot::Rhs));
        let off = switched(&on, [(&places[0], false)]);
        assert!(off.rewrites.is_empty());
        assert_eq!(switched(&before, [(&places[0], false)]), before, "what is so already changes nothing");
    }

    #[test]
    fn a_part_of_a_method_leaves_the_rest_alone() {
        let places = places();
        let now = plan(8, &places[1..2], true);
        let method = plan(4, &places, false);
        let scope = HashSet::from([site("qk.0", Slot::Rhs)]);
        let made = grafted(&now, &method, &places, &scope);
        assert_eq!(made.site(&site("qk.0", Slot::Rhs)).unwrap().bits(), Bits::new(4).unwrap());
        // Sign folding came and touches the weight of qkv.0: the same choice, to be fitted again.
        assert!(asks_for(&made, &places[2].rewrite) && !asks_for(&made, &places[0].rewrite));
        assert_eq!(made.site(&site("qkv.0", Slot::Weight)).unwrap().bits(), Bits::new(8).unwrap());
        assert!(!has_numbers(&made, "qkv.0", Slot::Weight) && has_numbers(&made, "qkv.0", Slot::Input));
        // The rewrite of the other block keeps its numbers.
        assert_eq!(made.rewrites[0], now.rewrites[0]);
        assert!(has_numbers(&made, "qkv.1", Slot::Input));
    }

    #[test]
    fn a_method_without_rewrites_takes_those_in_scope_away() {
        let places = places();
        let now = plan(8, &places, true);
        let method = plan(8, &[], false);
        let scope = HashSet::from([site("qkv.1", Slot::Input)]);
        let made = grafted(&now, &method, &places, &scope);
        assert_eq!(made.rewrites, [now.rewrites[0].clone(), now.rewrites[2].clone()]);
        assert!(!has_numbers(&made, "qkv.1", Slot::Weight) && has_numbers(&made, "qkv.0", Slot::Input));
    }

    #[test]
    fn a_rewrite_that_stays_is_fitted_for_the_new_grids() {
        let places = places();
        let now = plan(8, &places[..1], true);
        let method = plan(4, &places[..1], false);
        let scope = HashSet::from([site("qkv.0", Slot::Input)]);
        let made = grafted(&now, &method, &places, &scope);
        assert!(made.rewrites[0].vectors.is_empty());
        assert!(!has_numbers(&made, "qkv.0", Slot::Weight));
        assert_eq!(made.site(&site("qkv.0", Slot::Weight)).unwrap().bits(), Bits::new(8).unwrap());
    }
}
