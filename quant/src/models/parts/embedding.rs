//! Vectors that stand for a whole text or picture.

use crate::exec::kernels::elementwise::BinaryOp;
use crate::exec::kernels::gather::Reduction;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;

/// Lower bound of the length that a vector is divided by, as PyTorch's `normalize` has it.
const SHORTEST: f32 = 1e-12;
/// Lower bound of the number of tokens that a sum is divided by, as sentence-transformers has it.
const FEWEST: f32 = 1e-9;

/// A vector `[1, width]`, brought to length 1.
pub(in crate::models) fn normalized(g: &mut Scope<'_, '_>, x: NodeId) -> Result<NodeId, ModelError> {
    let length = g.reduce(Reduction::L2, x, &[1], true)?;
    let length = at_least(g, length, SHORTEST)?;
    g.combine(BinaryOp::Div, x, length)
}

/// The mean of the tokens `[1, N, width]` that a mask `[1, N]` lets through, as `[1, width]`.
pub(in crate::models) fn mean_of_tokens(
    g: &mut Scope<'_, '_>,
    tokens: NodeId,
    mask: NodeId,
) -> Result<NodeId, ModelError> {
    let n = g.shape(mask)[1];
    let present = g.reshape(mask, &[1, n, 1])?;
    let tokens = g.mul(tokens, present)?;
    let sum = g.reduce(Reduction::Sum, tokens, &[1], false)?;
    let count = g.reduce(Reduction::Sum, mask, &[1], true)?;
    let count = at_least(g, count, FEWEST)?;
    g.combine(BinaryOp::Div, sum, count)
}

fn at_least(g: &mut Scope<'_, '_>, x: NodeId, bound: f32) -> Result<NodeId, ModelError> {
    let bound = g.constant("at_least", &[1, 1], vec![bound])?;
    g.combine(BinaryOp::Max, x, bound)
}
