//! Multi-head self-attention (Vaswani et al., NeurIPS 2017) under the names of its published forms.

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
    let [query, key, value] = match projections {
        Projections::Fused(name) => fused(g, name, x, heads)?,
        Projections::Split(names) => split(g, names, x, heads)?,
    };
    let shape = g.shape(query);
    let (batch, tokens, head) = (shape[0], shape[2], shape[3]);
    let scores = g.matmul("qk", (query, key), true, 1.0 / (head as f32).sqrt())?;
    let scores = bias(g, scores)?;
    let probabilities = g.softmax("softmax", scores)?;
    let y = g.matmul("pv", (probabilities, value), false, 1.0)?;
    let y = g.permute(y, &[0, 2, 1, 3])?;
    let width = heads * g.shape(y)[3];
    g.reshape(y, &[batch, tokens, width])
}

/// Queries, keys and values `[B, heads, N, head]` from one layer.
fn fused(g: &mut Scope<'_, '_>, name: &str, x: NodeId, heads: usize) -> Result<[NodeId; 3], ModelError> {
    let qkv = g.linear(name, x)?;
    let shape = g.shape(qkv);
    let (batch, tokens, head) = (shape[0], shape[1], shape[2] / (3 * heads));
    let qkv = g.reshape(qkv, &[batch, tokens, 3, heads, head])?;
    let qkv = g.permute(qkv, &[2, 0, 3, 1, 4])?;
    let mut part = |index: usize| -> Result<NodeId, ModelError> {
        let y = g.narrow(qkv, 0, index, 1)?;
        g.reshape(y, &[batch, heads, tokens, head])
    };
    Ok([part(0)?, part(1)?, part(2)?])
}

/// The same from a layer each.
fn split(
    g: &mut Scope<'_, '_>,
    names: [&str; 3],
    x: NodeId,
    heads: usize,
) -> Result<[NodeId; 3], ModelError> {
    let mut project = |name: &str| -> Result<NodeId, ModelError> {
        let y = g.linear(name, x)?;
        let shape = g.shape(y);
        let (batch, tokens, head) = (shape[0], shape[1], shape[2] / heads);
        let y = g.reshape(y, &[batch, tokens, heads, head])?;
        g.permute(y, &[0, 2, 1, 3])
    };
    Ok([project(names[0])?, project(names[1])?, project(names[2])?])
}
