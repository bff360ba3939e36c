//! A small plan for the tests of this module.

use super::{CalibrationRef, ModelRef, Plan, Rewrite, SitePlan};
use crate::quantizer::{Family, Params, RangeSearch, Scheme};
use crate::terms::{Bits, SiteId, Slot};

pub(super) fn scheme() -> Scheme {
    Scheme::new(Family::Uniform, RangeSearch::repq())
}

pub(super) fn params(scale: f32) -> Params {
    Params {
        scheme: scheme(),
        bits: Bits::new(4).unwrap(),
        scale: vec![scale],
        zero_point: vec![3.0],
        extra: [("tau".to_owned(), vec![0.5])].into(),
    }
}

pub(super) fn model() -> ModelRef {
    ModelRef {
        name: "lavt-mini".to_owned(),
        architecture: "lavt".to_owned(),
        fingerprint: "0123abcd".to_owned(),
    }
}

pub(super) fn sites() -> Vec<SiteId> {
    let site = SiteId::new;
    vec![
        site("blocks.0.attn.qkv", Slot::Input),
        site("blocks.0.attn.qkv", Slot::Weight),
        site("blocks.0.attn.qk", Slot::Lhs),
        site("blocks.0.attn.qk", Slot::Rhs),
        site("blocks.0.mlp.fc1", Slot::Input),
        site("blocks.0.mlp.fc1", Slot::Weight),
    ]
}

/// Float input, fitted weight, unfitted operands, a rewrite, figures.
pub(super) fn plan() -> Plan {
    let mut plan = Plan::new(model());
    plan.calibration = Some(CalibrationRef { fingerprint: "cafe".to_owned(), samples: 32, seed: 7 });
    plan.rewrites.push(Rewrite {
        rewrite: "layernorm-reparameterization".to_owned(),
        layer: "blocks.0.norm1".to_owned(),
        vectors: [("scale".to_owned(), vec![0.1, 2.5])].into(),
    });
    plan.metrics.insert("miou".to_owned(), 0.75);
    for site in sites() {
        let to = match site.slot {
            Slot::Input => SitePlan::Float,
            Slot::Weight => SitePlan::fitted(params(0.3)),
            Slot::Lhs | Slot::Rhs => SitePlan::unfitted(scheme(), Bits::new(4).unwrap()),
        };
        plan.set(&site, Some(to));
    }
    plan
}
