//! The decoder: levels of the vision tower from the deepest up, the prompt as a scale and a shift of channels (FiLM), and
//! transposed convolutions back to pixels.

use super::config::ClipsegConfig;
use crate::exec::kernels::activation::Activation;
use crate::graph::{Conv, NodeId, Scope};
use crate::models::ModelError;
use crate::models::parts::clip::{Vision, attention, mlp};

/// Levels `[1, 1 + h·w, C]` and prompt `[1, D]` to logits `[1, H, W]`.
pub(super) fn decode(
    g: &mut Scope<'_, '_>,
    config: &ClipsegConfig,
    seen: &Vision,
    condition: NodeId,
) -> Result<NodeId, ModelError> {
    let width = config.decoder.width;
    let mut below: Option<NodeId> = None;
    for (level, &layer) in config.extract_layers.iter().rev().enumerate() {
        // `hidden` begins with what the first layer reads.
        let mut x = g.linear(&format!("reduces.{level}"), seen.hidden[layer + 1])?;
        if let Some(below) = below {
            x = g.add(x, below)?;
        }
        if level == config.conditional_layer {
            x = film(g, x, condition)?;
        }
        below = Some(self::layer(&mut g.at(format!("layers.{level}")), config, x)?);
    }
    // There is at least one level.
    let x = below.unwrap_or(condition);
    let (h, w) = seen.grid;
    let x = g.narrow(x, 1, 1, h * w)?;
    let x = g.permute(x, &[0, 2, 1])?;
    let map = g.reshape(x, &[1, width, h, w])?;
    let logits = upsample(g, config.patch, map)?;
    let shape = g.shape(logits);
    g.reshape(logits, &[1, shape[2], shape[3]])
}

/// A scale and a shift of each channel, computed from the prompt.
fn film(g: &mut Scope<'_, '_>, x: NodeId, condition: NodeId) -> Result<NodeId, ModelError> {
    let width = g.shape(x)[2];
    let mut part = |name: &str| -> Result<NodeId, ModelError> {
        let y = g.linear(name, condition)?;
        g.reshape(y, &[1, 1, width])
    };
    let (scale, shift) = (part("film_mul")?, part("film_add")?);
    let x = g.mul(x, scale)?;
    g.add(x, shift)
}

/// A post-normalised layer; its MLP has a ReLU whatever the configuration says.
fn layer(g: &mut Scope<'_, '_>, config: &ClipsegConfig, x: NodeId) -> Result<NodeId, ModelError> {
    let y = attention(&mut g.at("self_attn"), x, config.decoder.heads, &[])?;
    let y = g.add(x, y)?;
    let x = g.layer_norm("layer_norm1", y, config.decoder.eps)?;
    let y = mlp(&mut g.at("mlp"), x, Activation::Relu)?;
    let y = g.add(x, y)?;
    g.layer_norm("layer_norm2", y, config.decoder.eps)
}

/// Features `[1, C, h, w]` to pixels: one transposed convolution over whole patches, or (`rd64-refined`) a convolution
/// and two transposed ones. The tensors tell which.
fn upsample(g: &mut Scope<'_, '_>, patch: usize, map: NodeId) -> Result<NodeId, ModelError> {
    if g.param_shape("transposed_convolution.0.weight").is_none() {
        return g.conv_transpose("transposed_convolution", map, Conv::new(patch, 0), [0, 0]);
    }
    let mut t = g.at("transposed_convolution");
    let step = Conv::new(patch / 4, 0);
    let x = t.conv("0", map, Conv::new(1, 1))?;
    let x = t.activation("1", Activation::Relu, x)?;
    let x = t.conv_transpose("2", x, step, [0, 0])?;
    let x = t.activation("3", Activation::Relu, x)?;
    t.conv_transpose("4", x, step, [0, 0])
}
