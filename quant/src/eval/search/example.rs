//! A small space for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Candidate, Group, Space};
use crate::plan::{LayerCost, ModelRef};
use crate::quantizer::{Family, Params, RangeSearch, Scheme};
use crate::terms::{Bits, SiteId, Slot};

fn params(bits: u8, rows: usize) -> Arc<Params> {
    let scheme = Scheme::new(Family::Uniform, RangeSearch::MinMax);
    Arc::new(Params {
        scheme: if rows > 1 { scheme.per_channel() } else { scheme },
        bits: Bits::new(bits).unwrap(),
        scale: vec![0.5; rows],
        zero_point: vec![1.0; rows],
        extra: BTreeMap::new(),
    })
}

/// Two layers whose inputs are tied, and a product: each with 2, 4 or 8 bits.
pub(super) fn space() -> Space {
    let layer = |name: &str, macs, weights, rows| LayerCost { layer: name.to_owned(), macs, weights, rows };
    let group = |sites: &[(&str, Slot)], worth: f64, rows: usize| Group {
        sites: sites.iter().map(|(layer, slot)| SiteId::new(*layer, *slot)).collect(),
        candidates: [2_u8, 4, 8]
            .map(|bits| Candidate {
                bits: Bits::new(bits).unwrap(),
                params: vec![params(bits, rows); sites.len()],
                loss: worth * 4.0_f64.powi(-i32::from(bits)),
            })
            .to_vec(),
    };
    Space {
        model: ModelRef { name: "m".to_owned(), architecture: "vit".to_owned(), fingerprint: "f".to_owned() },
        calibration: None,
        rewrites: Vec::new(),
        layers: vec![layer("q", 320, 64, 8), layer("k", 320, 64, 8), layer("qk", 100, 0, 0)],
        groups: vec![
            group(&[("q", Slot::Input), ("k", Slot::Input)], 3.0, 1),
            group(&[("q", Slot::Weight)], 1.0, 8),
            group(&[("k", Slot::Weight)], 5.0, 8),
            group(&[("qk", Slot::Lhs)], 0.5, 1),
            group(&[("qk", Slot::Rhs)], 9.0, 1),
        ],
    }
}

/// The same candidate for every group.
pub(super) fn choices(space: &Space, at: usize) -> Vec<usize> {
    vec![at; space.groups.len()]
}
