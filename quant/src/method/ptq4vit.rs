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
         both. Ranges are searched by the error of the values, or with --exact for the twin quantizers by that of \
         the layer's output, without the gradient weights of the paper; one scale per tensor where the paper has \
         one per head."
    }

    fn treatment(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("weights", "symmetric per layer, of convolutions per output channel, least error"),
            ("post-softmax", "twin uniform with a power-of-two split"),
            ("post-gelu", "twin uniform, the negative step fixed"),
            ("patch embedding", "input in full precision"),
            ("all else", "symmetric per tensor, least error"),
        ]
    }

    fn site(&self, place: &Place<'_>, bits: Bits) -> Option<(Scheme, Bits)> {
        let symmetric = Scheme::new(Family::Uniform, RangeSearch::Mse { p: 2.0 }).symmetric();
        Some(match (place.site.id.slot, place.site.role) {
            (Slot::Weight, _) if place.is_convolution() => (symmetric.per_channel(), bits),
            (_, Role::Image) => return None,
            (_, Role::PostSoftmax) => (Scheme::published(Family::DrqSoftmax), bits),
            (_, Role::PostGelu) => (Scheme::published(Family::DrqGelu), bits),
            _ => (symmetric, bits),
        })
    }
}
