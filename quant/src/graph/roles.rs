//! What a site holds, read off the graph around it, never off names.

use super::{Graph, NodeId, Op};
use crate::exec::kernels::activation::Activation;
use crate::terms::{Role, Slot};

/// The role of one operand of a layer.
pub(super) fn of(graph: &Graph, layer: NodeId, slot: Slot) -> Role {
    let node = graph.node(layer);
    match slot {
        Slot::Weight => Role::Weight,
        Slot::Input => source(graph, node.inputs[0]),
        Slot::Lhs => match source(graph, node.inputs[0]) {
            Role::PostSoftmax => Role::PostSoftmax,
            _ if feeds_softmax(graph, layer) => Role::Query,
            other => other,
        },
        Slot::Rhs => {
            if matches!(graph.node(origin(graph, node.inputs[1])).op, Op::Constant(_)) {
                // A table that was computed when the graph was built, of relative positions mostly.
                Role::Embedding
            } else if feeds_softmax(graph, layer) {
                Role::Key
            } else if source(graph, node.inputs[0]) == Role::PostSoftmax {
                Role::Value
            } else {
                source(graph, node.inputs[1])
            }
        }
    }
}

/// The node whose values a node moves.
fn origin(graph: &Graph, mut id: NodeId) -> NodeId {
    while graph.node(id).op.moves_only() {
        id = graph.node(id).inputs[0];
    }
    id
}

/// What the value of a node holds: the nearest operation before it that gives values their meaning.
fn source(graph: &Graph, mut id: NodeId) -> Role {
    loop {
        let node = graph.node(id);
        match &node.op {
            op if op.moves_only() => id = node.inputs[0],
            // Joined branches have one role only if they agree; the decoder joins a resized map with a
            // normalised one, and the first operand says less than "neither".
            Op::Concat { .. } => {
                let mut roles = node.inputs.iter().map(|&input| source(graph, input));
                let first = roles.next().unwrap_or(Role::Other);
                return if roles.all(|role| role == first) { first } else { Role::Other };
            }
            Op::Input => return if node.shape.len() == 4 { Role::Image } else { Role::Other },
            Op::Embedding { .. } => return Role::Embedding,
            Op::LayerNorm { .. } => return Role::PostLayerNorm,
            Op::Softmax => return Role::PostSoftmax,
            Op::Activation(Activation::Gelu | Activation::GeluTanh | Activation::QuickGelu) => {
                return Role::PostGelu;
            }
            Op::Activation(Activation::Relu) => return Role::PostRelu,
            Op::Activation(Activation::Tanh) => return Role::PostTanh,
            Op::Add => return Role::Residual,
            _ => return Role::Other,
        }
    }
}

/// Whether a product's result reaches a softmax through sums, factors, masks and moves only.
fn feeds_softmax(graph: &Graph, id: NodeId) -> bool {
    let mut at = id;
    loop {
        // Execution order: consumers come later. Score matrices have one consumer.
        let Some(next) = graph.nodes()[at.index() + 1..].iter().position(|n| n.inputs.contains(&at)) else {
            return false;
        };
        let next = NodeId((at.index() + 1 + next) as u32);
        match &graph.node(next).op {
            Op::Softmax => return true,
            Op::Add | Op::Mul | Op::Affine { .. } | Op::Where => at = next,
            op if op.moves_only() => at = next,
            _ => return false,
        }
    }
}
