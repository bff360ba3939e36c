//! LAVT's decoder: from the deepest level upwards, resize, join, two convolutions.

use super::config::DecoderConfig;
use crate::exec::kernels::activation::Activation;
use crate::graph::{Conv, NodeId, Scope};
use crate::models::ModelError;

/// Epsilon of PyTorch's `BatchNorm2d`.
const EPS: f32 = 1e-5;
const THREE: Conv = Conv::new(1, 1);
const ONE: Conv = Conv::new(1, 0);

/// Four levels `[1, C, H, W]`, finest first, to logits on the grid of the finest.
pub(super) fn decode(
    g: &mut Scope<'_, '_>,
    config: &DecoderConfig,
    levels: [NodeId; 4],
) -> Result<NodeId, ModelError> {
    let [c1, c2, c3, c4] = levels;
    let mut x = c4;
    for (level, skip) in [(4, c3), (3, c2), (2, c1)] {
        let (small, large) = (g.shape(x), g.shape(skip));
        if small[2] < large[2] || small[3] < large[3] {
            x = g.resize(x, (large[2], large[3]), config.align_corners)?;
        }
        x = g.concat(&[x, skip], 1)?;
        for half in [1, 2] {
            x = g.conv(&format!("conv{half}_{level}"), x, THREE)?;
            x = g.batch_norm(&format!("bn{half}_{level}"), x, EPS)?;
            x = g.activation(&format!("relu{half}_{level}"), Activation::Relu, x)?;
        }
    }
    g.conv("conv1_1", x, ONE)
}
