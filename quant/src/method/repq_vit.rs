//! RepQ-ViT: scale reparameterization (Li, Xiao, Yang, Gu, ICCV 2023).

use super::{Method, Place, Protocol};
use crate::graph::RewriteKind;
use crate::quantizer::{Family, RangeSearch, Scheme};
use crate::terms::{Bits, Role, Slot};

/// Channel-wise LayerNorm outputs turned layer-wise, log-√2 probabilities, percentiles everywhere.
#[derive(Debug)]
pub(super) struct RepqVit;

impl Method for RepqVit {
    fn name(&self) -> &'static str {
        "repq-vit"
    }

    fn source(&self) -> &'static str {
        "RepQ-ViT, Li et al., ICCV 2023, as released. The zero point of a reparameterized site is no whole number, as \
         there; an integer kernel rounds it."
    }

    fn treatment(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("weights", "affine per output channel, the best of three percentiles"),
            (
                "post-layernorm",
                "per channel, made per tensor by reparameterizing the LayerNorm where it only feeds linear layers",
            ),
            ("post-softmax", "log √2"),
            ("patch embedding", "input always at 8 bits"),
            ("all else", "affine per tensor, the best of three percentiles"),
        ]
    }

    fn site(&self, place: &Place<'_>, bits: Bits) -> Option<(Scheme, Bits)> {
        let uniform = Scheme::new(Family::Uniform, RangeSearch::repq());
        Some(match (place.site.id.slot, place.site.role) {
            (Slot::Weight, _) => (uniform.per_channel(), bits),
            (_, Role::PostSoftmax) => (Scheme::new(Family::LogSqrt2, RangeSearch::repq()), bits),
            (_, Role::Image) => (uniform, Bits::EIGHT),
            _ => (uniform, bits),
        })
    }

    fn rewrites(&self) -> &'static [RewriteKind] {
        &[RewriteKind::NormReparameterization]
    }

    fn protocol(&self) -> Protocol {
        Protocol::Sequential
    }
}
