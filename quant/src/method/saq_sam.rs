//! SAQ-SAM, the clipping part (Zhang, Chen, Li, Gu, AAAI 2026).

use super::{Method, Place, ptq4sam};
use crate::graph::RewriteKind;
use crate::quantizer::{Family, RangeSearch, Scheme};
use crate::terms::{Bits, Role, Slot};

/// Clipping of queries and keys, without reconstruction.
#[derive(Debug)]
pub(super) struct SaqSam;

impl Method for SaqSam {
    fn name(&self) -> &'static str {
        "saq-sam"
    }

    fn source(&self) -> &'static str {
        "SAQ-SAM, AAAI 2026, the clipping alone. With --exact queries and keys of every attention take the one of the \
         paper's 29 percentiles that least changes what the first sample's attention attends to, without position biases \
         and masks; otherwise the one of least error of their values. The inputs of their projections, which the \
         paper clips in the same way, are treated as all else."
    }

    fn treatment(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("query, key", "affine per tensor, of 29 percentiles the one that least changes the attention"),
            ("all else", "as ptq4sam, activations by least error of power 2.4"),
        ]
    }

    fn site(&self, place: &Place<'_>, bits: Bits) -> Option<(Scheme, Bits)> {
        let uniform = |range| Scheme::new(Family::Uniform, range);
        match (place.site.id.slot, place.site.role) {
            (Slot::Lhs | Slot::Rhs, Role::Query | Role::Key) => Some((uniform(RangeSearch::Overlap), bits)),
            (slot, _) => ptq4sam::common(place, bits).map(|(scheme, bits)| match scheme.range {
                RangeSearch::AverageMinMax if slot != Slot::Weight => {
                    (uniform(RangeSearch::Bounded { p: 2.4 }), bits)
                }
                _ => (scheme, bits),
            }),
        }
    }

    fn rewrites(&self) -> &'static [RewriteKind] {
        &[RewriteKind::SignFolding]
    }
}
