//! Scaled dot-product attention over separate projections (Vaswani et al., NeurIPS 2017), as Hugging Face's encoders
//! compute it, and what all forms of attention share.

use crate::graph::{NodeId, Scope};
use crate::models::ModelError;

/// Added to scores that must not count. PyTorch adds the lowest f32; half of it leaves exactly as little after the
/// softmax, and the sum of two masks stays finite.
pub(in crate::models) const MASKED: f32 = f32::MIN / 2.0;

/// A projection of tokens `[B, N, width]`, cut into heads: `[B, heads, N, width / heads]`.
pub(in crate::models) fn project(
    g: &mut Scope<'_, '_>,
    name: &str,
    x: NodeId,
    heads: usize,
) -> Result<NodeId, ModelError> {
    let y = g.linear(name, x)?;
    let shape = g.shape(y);
    let (batch, n, width) = (shape[0], shape[1], shape[2]);
    // A width that heads do not divide is an error of the reshape.
    let y = g.reshape(y, &[batch, n, heads, width / heads.max(1)])?;
    g.permute(y, &[0, 2, 1, 3])
}

/// Query, key and value per head to tokens `[1, N, width]`; the masks broadcast to `[1, heads, N, N]` and are added
/// to the scores one after another.
pub(in crate::models) fn attend(
    g: &mut Scope<'_, '_>,
    operands: (NodeId, NodeId, NodeId),
    masks: &[NodeId],
) -> Result<NodeId, ModelError> {
    weigh(g, operands, |g, mut scores| {
        for &mask in masks {
            scores = g.add(scores, mask)?;
        }
        Ok(scores)
    })
}

/// Query, key and value `[B, heads, N, head]` to tokens `[B, N, heads · head]`; `bias` adds to the scores
/// `[B, heads, N, N]` what belongs there.
pub(in crate::models) fn weigh(
    g: &mut Scope<'_, '_>,
    (query, key, value): (NodeId, NodeId, NodeId),
    bias: impl FnOnce(&mut Scope<'_, '_>, NodeId) -> Result<NodeId, ModelError>,
) -> Result<NodeId, ModelError> {
    let shape = g.shape(query);
    let (batch, heads, n, head) = (shape[0], shape[1], shape[2], shape[3]);
    let scores = g.matmul("qk", (query, key), true, 1.0 / (head as f32).sqrt())?;
    let scores = bias(g, scores)?;
    let probabilities = g.softmax("softmax", scores)?;
    let y = g.matmul("pv", (probabilities, value), false, 1.0)?;
    let y = g.permute(y, &[0, 2, 1, 3])?;
    g.reshape(y, &[batch, n, heads * head])
}

/// An attention mask `[1, N]` (1 = token) as summands `[1, 1, 1, N]`: 0 for tokens, `masked` for padding.
pub(in crate::models) fn padding(
    g: &mut Scope<'_, '_>,
    mask: NodeId,
    masked: f32,
) -> Result<NodeId, ModelError> {
    let n = g.shape(mask)[1];
    let mask = g.reshape(mask, &[1, 1, 1, n])?;
    g.affine(mask, -masked, masked)
}
