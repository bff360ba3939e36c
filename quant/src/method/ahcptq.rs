//! AHCPTQ: hybrid log-uniform grids and channel groups (Zhang, Zhong, Ando, Yoshioka, ICCV 2025).

use super::{Method, Place, ptq4sam};
use crate::graph::{Op, RewriteKind};
use crate::quantizer::{Family, Scheme};
use crate::terms::{Bits, Role, Slot};

/// The calibration-only variant: channel groups are made at once, not while training.
#[derive(Debug)]
pub(super) struct Ahcptq;

impl Method for Ahcptq {
    fn name(&self) -> &'static str {
        "ahcptq"
    }

    fn source(&self) -> &'static str {
        "AHCPTQ, Zhang et al., ICCV 2025, without reconstruction. Channels are grouped by normalised features and once; \
         the paper groups step by step with training in between, so four groups cost more here than there."
    }

    fn treatment(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("post-layernorm", "affine in groups of channels (CAG)"),
            ("post-gelu, post-relu before a linear layer", "hybrid log-uniform (HLUQ)"),
            ("all else", "as ptq4sam"),
        ]
    }

    fn site(&self, place: &Place<'_>, bits: Bits) -> Option<(Scheme, Bits)> {
        let linear = matches!(place.op, Op::Linear { .. });
        match (place.site.id.slot, place.site.role) {
            (Slot::Input, Role::PostLayerNorm) if linear => {
                Some((Scheme::published(Family::ChannelGroups), bits))
            }
            (Slot::Input, Role::PostGelu | Role::PostRelu) if linear => {
                Some((Scheme::published(Family::Hluq), bits))
            }
            _ => ptq4sam::common(place, bits),
        }
    }

    fn rewrites(&self) -> &'static [RewriteKind] {
        &[RewriteKind::SignFolding]
    }
}
