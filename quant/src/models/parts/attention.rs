//! Multi-head self-attention (Vaswani et al., NeurIPS 2017) under the names of its published forms.

use super::heads;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;

/// How queries, keys and values are made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Projections {
    /// One layer `[3 · width, width]`: all queries, then all keys, then all values.
    Fused(&'static str),
    /// A layer each, in the order query, key, value.
    Split([&'static str; 3]),
}

/// Attention among tokens `[B, N, C]`, before the output projection. The scope is the module of the projections; `bias`
/// adds to the scores `[B, heads, N, N]` what belongs there.
pub(crate) fn attend(
    g: &mut Scope<'_, '_>,
    projections: Projections,
    x: NodeId,
    heads: usize,
    bias: impl FnOnce(&mut Scope<'_, '_>, NodeId) -> Result<NodeId, ModelError>,
) -> Result<NodeId, ModelError> {
    let operands = match projections {
        Projections::Fused(name) => fused(g, name, x, heads)?,
        Projections::Split([query, key, value]) => {
            let mut project = |name| heads::project(g, name, x, heads);
            (project(query)?, project(key)?, project(value)?)
        }
    };
    heads::weigh(g, operands, bias)
}

/// Queries, keys and values `[B, heads, N, head]` from one layer.
fn fused(
    g: &mut Scope<'_, '_>,
    name: &str,
    x: NodeId,
    heads: usize,
) -> Result<(NodeId, NodeId, NodeId), ModelError> {
    let qkv = g.linear(name, x)?;
    let shape = g.shape(qkv);
    let (batch, tokens, head) = (shape[0], shape[1], shape[2] / (3 * heads));
    let qkv = g.reshape(qkv, &[batch, tokens, 3, heads, head])?;
    let qkv = g.permute(qkv, &[2, 0, 3, 1, 4])?;
    let mut part = |index: usize| -> Result<NodeId, ModelError> {
        let y = g.narrow(qkv, 0, index, 1)?;
        g.reshape(y, &[batch, heads, tokens, head])
    };
    Ok((part(0)?, part(1)?, part(2)?))
}
