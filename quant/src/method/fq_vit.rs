//! FQ-ViT: fully quantized vision transformers (Lin, Zhang, Sun, Li, Zhou, IJCAI 2022).

use super::{Method, Place};
use crate::quantizer::{Family, RangeSearch, Scheme};
use crate::terms::{Bits, Role, Slot};

/// Min–max grids and log2 probabilities.
#[derive(Debug)]
pub(super) struct FqVit;

impl Method for FqVit {
    fn name(&self) -> &'static str {
        "fq-vit"
    }

    fn source(&self) -> &'static str {
        "FQ-ViT, Lin et al., IJCAI 2022, for the operands of layers. Its power-of-two factors belong to the inputs of \
         LayerNorms, which are no operands of layers; sums that enter a layer directly get them."
    }

    fn treatment(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("weights", "symmetric per output channel, min–max"),
            ("post-softmax", "log2 as the integer softmax rounds it (LIS)"),
            ("residual", "power-of-two factors per channel (PTF)"),
            ("all else", "affine per tensor, min–max"),
        ]
    }

    fn site(&self, place: &Place<'_>, bits: Bits) -> Option<(Scheme, Bits)> {
        let uniform = Scheme::new(Family::Uniform, RangeSearch::MinMax);
        Some(match (place.site.id.slot, place.site.role) {
            (Slot::Weight, _) => (uniform.symmetric().per_channel(), bits),
            (_, Role::PostSoftmax) => (Scheme::published(Family::LogIntSoftmax), bits),
            (_, Role::Residual) if !place.is_convolution() => (Scheme::published(Family::Ptf), bits),
            _ => (uniform, bits),
        })
    }
}
