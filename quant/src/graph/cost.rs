//! Multiply-accumulates and weights of a layer.

use super::{Graph, NodeId, Op};

/// Size of a layer's work for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerCost {
    /// Multiply-accumulates.
    pub macs: u64,
    /// Numbers in the weight (bias not counted).
    pub weights: u64,
}

/// Counts the products of one layer.
pub(super) fn of(graph: &Graph, id: NodeId) -> LayerCost {
    let node = graph.node(id);
    let outputs: u64 = node.shape.iter().map(|&n| n as u64).product();
    match &node.op {
        Op::Linear { weight, .. } => {
            let w = graph.param(*weight);
            LayerCost { macs: outputs * w.shape[1] as u64, weights: w.data.len() as u64 }
        }
        Op::Conv { weight, .. } => {
            let w = graph.param(*weight);
            let per_output: u64 = w.shape[1..].iter().map(|&n| n as u64).product();
            LayerCost { macs: outputs * per_output, weights: w.data.len() as u64 }
        }
        Op::ConvTranspose { weight, .. } => {
            let w = graph.param(*weight);
            // Every input meets every number of its channel's kernels.
            let per_channel: u64 = w.shape[1..].iter().map(|&n| n as u64).product();
            let inputs: u64 = graph.node(node.inputs[0]).shape.iter().map(|&n| n as u64).product();
            LayerCost { macs: inputs * per_channel, weights: w.data.len() as u64 }
        }
        Op::MatMul { .. } => {
            let k = graph.node(node.inputs[0]).shape.last().copied().unwrap_or(0) as u64;
            LayerCost { macs: outputs * k, weights: 0 }
        }
        _ => LayerCost::default(),
    }
}
