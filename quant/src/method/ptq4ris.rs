//! PTQ4RIS: dual-region and outlier-group quantizers for referring segmentation (Jiang et al., 2024).

use super::{Method, Place, Protocol};
use crate::graph::Op;
use crate::quantizer::{Family, RangeSearch, Scheme};
use crate::terms::{Bits, Role, Slot};

/// One treatment for the sentence, one for the picture, one for their fusion and the decoder.
#[derive(Debug)]
pub(super) struct Ptq4Ris;

impl Method for Ptq4Ris {
    fn name(&self) -> &'static str {
        "ptq4ris"
    }

    fn source(&self) -> &'static str {
        "PTQ4RIS, Jiang et al., 2024. The released code cannot run and lacks its fusion part: 1×1 convolutions get what its \
         stand-in there does. Regions are taken one at a time, and outliers beyond the last threshold keep their \
         group, where the released code adds and drops them. Decoder convolutions quantize their input, not their \
         output. With --exact the picture's layers are searched by the error of their outputs, weighted by gradients \
         (see ptq4vit); otherwise, and everywhere else, ranges are searched by the error of the values."
    }

    fn treatment(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("sentence: linear inputs", "outlier groups (RORQ)"),
            ("sentence: products", "affine per tensor, the best of three percentiles"),
            ("sentence and decoder: weights", "affine per output channel, least error of power 2.4"),
            ("picture: post-softmax, post-gelu", "dual region (DRQ)"),
            ("picture: operands of attention", "symmetric per head, least weighted error of the output"),
            ("picture: all else", "symmetric per tensor, least weighted error of the output"),
            (
                "picture: weights",
                "symmetric per layer, of convolutions per output channel, least weighted error of the output",
            ),
            ("fusion: 1×1 convolutions", "affine, input at 8 bits, percentiles"),
            ("decoder: convolution inputs", "affine per channel, least error of power 2.4"),
            ("patch embedding", "input in full precision"),
            ("last layer", "full precision"),
        ]
    }

    fn site(&self, place: &Place<'_>, bits: Bits) -> Option<(Scheme, Bits)> {
        let uniform = |range| Scheme::new(Family::Uniform, range);
        let power = || uniform(RangeSearch::Mse { p: 2.4 });
        let symmetric = || uniform(RangeSearch::Hessian).symmetric();
        let twin = |family| Scheme { range: RangeSearch::Hessian, ..Scheme::published(family) };
        let weight = place.site.id.slot == Slot::Weight;
        if place.last {
            return None;
        }
        if place.text && !place.is_pointwise_convolution() {
            return Some(match (place.site.id.slot, place.op) {
                (Slot::Weight, _) => (power().per_channel(), bits),
                (_, Op::Linear { .. }) => (Scheme::published(Family::Rorq), bits),
                _ => (uniform(RangeSearch::repq()), bits),
            });
        }
        Some(match place.site.role {
            Role::Image => return None,
            _ if place.patch_embedding => (symmetric().per_channel(), bits),
            _ if place.is_pointwise_convolution() && weight => {
                (uniform(RangeSearch::repq()).per_channel(), bits)
            }
            _ if place.is_pointwise_convolution() => (uniform(RangeSearch::repq()), Bits::EIGHT),
            _ if place.is_convolution() => (power().per_channel(), bits),
            Role::PostSoftmax => (twin(Family::DrqSoftmax), bits),
            Role::PostGelu => (twin(Family::DrqGelu), bits),
            _ if place.site.heads.is_some() => (symmetric().per_head(), bits),
            _ => (symmetric(), bits),
        })
    }

    fn protocol(&self) -> Protocol {
        Protocol::Sequential
    }
}
