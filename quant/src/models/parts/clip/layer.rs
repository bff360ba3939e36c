//! The layers of both towers: pre-normalised attention and MLP.

use super::Tower;
use crate::exec::kernels::activation::Activation;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;
use crate::models::parts::heads::{attend, project};

/// One layer on tokens `[1, N, width]`.
pub(super) fn layer(
    g: &mut Scope<'_, '_>,
    tower: &Tower,
    x: NodeId,
    masks: &[NodeId],
) -> Result<NodeId, ModelError> {
    let y = g.layer_norm("layer_norm1", x, tower.eps)?;
    let y = attention(&mut g.at("self_attn"), y, tower.heads, masks)?;
    let x = g.add(x, y)?;
    let y = g.layer_norm("layer_norm2", x, tower.eps)?;
    let y = mlp(&mut g.at("mlp"), y, tower.activation)?;
    g.add(x, y)
}

/// Attention of tokens `[1, N, width]` to each other.
pub(in crate::models) fn attention(
    g: &mut Scope<'_, '_>,
    x: NodeId,
    heads: usize,
    masks: &[NodeId],
) -> Result<NodeId, ModelError> {
    let query = project(g, "q_proj", x, heads)?;
    let key = project(g, "k_proj", x, heads)?;
    let value = project(g, "v_proj", x, heads)?;
    let y = attend(g, (query, key, value), masks)?;
    g.linear("out_proj", y)
}

/// Two Linear layers with an activation between them.
pub(in crate::models) fn mlp(
    g: &mut Scope<'_, '_>,
    x: NodeId,
    act: Activation,
) -> Result<NodeId, ModelError> {
    let y = g.linear("fc1", x)?;
    let y = g.activation("activation_fn", act, y)?;
    g.linear("fc2", y)
}
