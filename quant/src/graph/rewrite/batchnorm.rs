//! A BatchNorm folded into the convolution before it: `W' = W · k`, `b' = (b - mean) · k + beta` per output channel
//! with `k = gamma / √(variance + eps)`.

use super::Rewritten;
use crate::graph::{Graph, NodeId, Op};

/// The convolution that only feeds this BatchNorm.
pub(super) fn convolution(graph: &Graph, norm: NodeId) -> Result<NodeId, String> {
    if !matches!(graph.node(norm).op, Op::BatchNorm { .. }) {
        return Err("it is no BatchNorm".to_owned());
    }
    let before = graph.node(norm).inputs[0];
    if !matches!(graph.node(before).op, Op::Conv { .. }) || graph.uses(before) != 1 {
        return Err("what comes before is no convolution of its own".to_owned());
    }
    graph.are_apart([before, norm])?;
    Ok(before)
}

/// Folds it; the BatchNorm stays, with numbers that change nothing, so that the new weights mean the same to other
/// programs.
pub(super) fn apply(made: &mut Rewritten, norm: NodeId) -> Result<(), String> {
    let graph = &mut made.graph;
    let layer = convolution(graph, norm)?;
    let Op::BatchNorm { gamma, beta, mean, variance, eps } = graph.node(norm).op else { return Ok(()) };
    let Op::Conv { weight, .. } = graph.node(layer).op else { return Ok(()) };
    let of = |id| graph.param(id).data.as_slice();
    let factor: Vec<f64> = of(gamma)
        .iter()
        .zip(of(variance))
        .map(|(g, v)| f64::from(*g) / (f64::from(*v) + f64::from(eps)).sqrt())
        .collect();
    let bias = graph.bias_of(layer);
    let moved = |c: usize| {
        ((f64::from(bias[c]) - f64::from(of(mean)[c])) * factor[c] + f64::from(of(beta)[c])) as f32
    };
    let new_bias = (0..factor.len()).map(moved).collect();
    let mut data = graph.param(weight).data.to_vec();
    let row = data.len() / factor.len().max(1);
    for (values, k) in data.chunks_exact_mut(row.max(1)).zip(&factor) {
        for w in values {
            *w = (f64::from(*w) * k) as f32;
        }
    }
    let channels = factor.len();
    graph.set_param(weight, data)?;
    graph.set_bias(layer, new_bias)?;
    graph.set_param(gamma, vec![1.0; channels])?;
    graph.set_param(beta, vec![0.0; channels])?;
    graph.set_param(mean, vec![0.0; channels])?;
    graph.set_param(variance, vec![one_less(eps); channels])?;
    made.changed[layer.index()] = true;
    Ok(())
}

/// The variance to which `eps` is added to give exactly 1.
fn one_less(eps: f32) -> f32 {
    let near = 1.0 - eps;
    [near, near.next_up(), near.next_down()].into_iter().find(|v| v + eps == 1.0).unwrap_or(near)
}
