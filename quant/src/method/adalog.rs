//! AdaLog: adaptive logarithm bases (Wu, Chen, Huang, Zhang, Wang, ECCV 2024).

use super::{Method, Place, Protocol};
use crate::graph::RewriteKind;
use crate::quantizer::{Family, RangeSearch, Scheme};
use crate::terms::{Bits, Role, Slot};

/// Calibration without the retraining of the paper's second half.
#[derive(Debug)]
pub(super) struct AdaLog;

impl Method for AdaLog {
    fn name(&self) -> &'static str {
        "adalog"
    }

    fn source(&self) -> &'static str {
        "AdaLog, Wu et al., ECCV 2024, without weight reconstruction. Bases and ranges are searched over all candidates by \
         the error of the values (with --exact by that of the layer's output), where the paper narrows them step by \
         step; one scale per tensor where the paper has one per head."
    }

    fn treatment(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("weights", "affine per output channel, least error"),
            ("post-softmax", "logarithm with a searched base"),
            ("post-gelu", "the same, after a shift that goes into the next bias"),
            ("post-layernorm", "per channel, made per tensor by reparameterizing the LayerNorm"),
            ("patch embedding", "input always at 8 bits"),
            ("all else", "affine per tensor, least error"),
        ]
    }

    fn site(&self, place: &Place<'_>, bits: Bits) -> Option<(Scheme, Bits)> {
        let uniform = Scheme::new(Family::Uniform, RangeSearch::Mse { p: 2.0 });
        Some(match (place.site.id.slot, place.site.role) {
            (Slot::Weight, _) => (uniform.per_channel(), bits),
            (_, Role::PostSoftmax | Role::PostGelu) => (Scheme::published(Family::Adalog), bits),
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
