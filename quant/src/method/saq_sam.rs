//! SAQ-SAM, the clipping part (Zhang, Chen, Li, Gu, AAAI 2026).

use super::{Method, Place, ptq4sam};
use crate::graph::RewriteKind;
use crate::quantizer::{Family, RangeSearch, Scheme};
use crate::terms::{Bits, Role, Slot};

/// The 29 percentiles that perceptual-consistency clipping chooses from.
const PERCENTILES: [f64; 29] = [
    0.85, 0.87, 0.88, 0.89, 0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.960, 0.965, 0.970, 0.975, 0.980, 0.983,
    0.985, 0.987, 0.989, 0.99, 0.993, 0.995, 0.997, 0.999, 0.9993, 0.9995, 0.9997, 0.9999, 0.99999,
];

/// Clipping of queries and keys, without reconstruction.
#[derive(Debug)]
pub(super) struct SaqSam;

impl Method for SaqSam {
    fn name(&self) -> &'static str {
        "saq-sam"
    }

    fn source(&self) -> &'static str {
        "SAQ-SAM, AAAI 2026, the clipping alone: queries and keys choose among the paper's 29 percentiles by the error of \
         their values; the overlap of attention maps that the paper looks at is in the library \
         (`quantizer::output`), not in this plan."
    }

    fn treatment(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("query, key", "affine per tensor, the best of 29 percentiles"),
            ("all else", "as ptq4sam, activations by least error of power 2.4"),
        ]
    }

    fn site(&self, place: &Place<'_>, bits: Bits) -> Option<(Scheme, Bits)> {
        let uniform = |range| Scheme::new(Family::Uniform, range);
        match (place.site.id.slot, place.site.role) {
            (Slot::Lhs | Slot::Rhs, Role::Query | Role::Key) => {
                Some((uniform(RangeSearch::Percentile(PERCENTILES.to_vec())), bits))
            }
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
