//! PTQ4SAM: bimodal integration and adaptive granularity (Lv, Chen, Guo, Ding, Liu, CVPR 2024).

use super::{Method, Place};
use crate::graph::RewriteKind;
use crate::quantizer::{Family, RangeSearch, Scheme};
use crate::terms::{Bits, Role, Slot};

/// The exponent of every error.
const P: f64 = 2.4;

/// The statistic variant ("S"): no reconstruction.
#[derive(Debug)]
pub(super) struct Ptq4Sam;

/// What every site but keys and probabilities gets; AHCPTQ and SAQ-SAM build on it.
pub(super) fn common(place: &Place<'_>, bits: Bits) -> Option<(Scheme, Bits)> {
    let uniform = |range| Scheme::new(Family::Uniform, range);
    Some(match (place.site.id.slot, place.site.role) {
        _ if place.patch_embedding => return None,
        (Slot::Weight, _) => (uniform(RangeSearch::Mse { p: P }).per_channel(), bits),
        (_, Role::PostSoftmax) => (Scheme::published(Family::Agq), bits),
        (_, Role::Key) => (uniform(RangeSearch::Bounded { p: P }), bits),
        _ => (uniform(RangeSearch::AverageMinMax), bits),
    })
}

impl Method for Ptq4Sam {
    fn name(&self) -> &'static str {
        "ptq4sam"
    }

    fn source(&self) -> &'static str {
        "PTQ4SAM, Lv et al., CVPR 2024, the statistic variant. Signs are folded wherever keys are bimodal, not only in \
         SAM's token-to-image attention; a channel of mean zero keeps its sign, where the released code erases it."
    }

    fn treatment(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("weights", "affine per output channel, least error of power 2.4 over widths and zero points"),
            (
                "key",
                "signs folded into the projections where the distribution has two peaks; least error of power 2.4",
            ),
            ("post-softmax", "adaptive granularity (AGQ)"),
            ("patch embedding", "full precision"),
            ("all else", "affine per tensor, mean of the smallest and largest values of the samples"),
        ]
    }

    fn site(&self, place: &Place<'_>, bits: Bits) -> Option<(Scheme, Bits)> {
        common(place, bits)
    }

    fn rewrites(&self) -> &'static [RewriteKind] {
        &[RewriteKind::SignFolding]
    }
}
