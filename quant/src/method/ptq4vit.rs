//! PTQ4ViT: twin uniform quantization (Yuan, Xue, Chen, Wu, Sun, ECCV 2022).

use super::{Method, Place};
use crate::quantizer::{Family, RangeSearch, Scheme};
use crate::terms::{Bits, Role, Slot};

/// Symmetric grids, two of them after softmax and GELU.
#[derive(Debug)]
pub(super) struct Ptq4Vit;

impl Method for Ptq4Vit {
    fn name(&self) -> &'static str {
        "ptq4vit"
    }

    fn source(&self) -> &'static str {
        "PTQ4ViT, Yuan et al., ECCV 2022. Twin quantizers take one of their two regions, where the released code adds \
         both. With --exact both operands of a layer are searched in turn by the error of its output, weighted by squared \
         gradients as in the paper; these are taken with quantized weights, alike in size for every sample, because at the paper's point, full \
         precision, they are zero but for rounding; a projection to queries, keys and values has a scale for each. \
         Otherwise ranges are those of least error of the values."
    }

    fn treatment(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (
                "weights",
                "symmetric per layer, of convolutions per output channel, least weighted error of the output",
            ),
            ("post-softmax", "twin uniform with a power-of-two split"),
            ("post-gelu", "twin uniform, the negative step fixed"),
            ("patch embedding", "input in full precision"),
            ("operands of attention", "symmetric per head, least weighted error of the output"),
            ("all else", "symmetric per tensor, least weighted error of the output"),
        ]
    }

    fn site(&self, place: &Place<'_>, bits: Bits) -> Option<(Scheme, Bits)> {
        let symmetric = Scheme::new(Family::Uniform, RangeSearch::Hessian).symmetric();
        let twin = |family| Scheme { range: RangeSearch::Hessian, ..Scheme::published(family) };
        Some(match (place.site.id.slot, place.site.role) {
            (Slot::Weight, _) if place.is_convolution() => (symmetric.per_channel(), bits),
            (_, Role::Image) => return None,
            (_, Role::PostSoftmax) => (twin(Family::DrqSoftmax), bits),
            (_, Role::PostGelu) => (twin(Family::DrqGelu), bits),
            _ if place.site.heads.is_some() => (symmetric.per_head(), bits),
            _ => (symmetric, bits),
        })
    }
}
