//! Sequences of nodes that one kernel computes at once.
//!
//! A sequence is only found where nothing else uses the values between its nodes, and only run where no tap asks for
//! them. Its result is that of its nodes one after another, bit for bit: the same operations in the same order on
//! each value, without the values between passing through memory.

use crate::exec::kernels::activation::Activation;
use crate::graph::{Graph, NodeId, Op};

/// A sequence, known by its last node.
#[derive(Debug)]
pub(super) struct Fused {
    /// Nodes before the last one, whose values nobody sees.
    pub(super) hidden: Vec<NodeId>,
    /// Operands of the sequence.
    pub(super) inputs: Vec<NodeId>,
    pub(super) kind: Kind,
}

/// What a sequence computes.
#[derive(Debug)]
pub(super) enum Kind {
    /// A layer with a weight, then a function of each value.
    Layer {
        /// The layer's node.
        layer: usize,
        /// The function.
        activation: Activation,
    },
    /// Terms added to the first operand, then softmax.
    Softmax(Vec<Term>),
}

/// How the rows of a term lie: see [`RowTerm`](super::kernels::softmax::RowTerm).
#[derive(Debug)]
pub(super) struct Term {
    pub(super) dims: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// The sequence that ends at each node, if one does.
pub(super) fn find(graph: &Graph) -> Vec<Option<Fused>> {
    (0..graph.nodes().len()).map(|index| ending_at(graph, index)).collect()
}

fn ending_at(graph: &Graph, index: usize) -> Option<Fused> {
    let node = &graph.nodes()[index];
    match &node.op {
        Op::Activation(activation) => {
            let layer = node.inputs[0];
            let fits = matches!(
                graph.node(layer).op,
                Op::Linear { .. } | Op::Conv { .. } | Op::ConvTranspose { .. }
            ) && graph.uses(layer) == 1;
            fits.then(|| Fused {
                hidden: vec![layer],
                inputs: graph.node(layer).inputs.clone(),
                kind: Kind::Layer { layer: layer.index(), activation: *activation },
            })
        }
        Op::Softmax => {
            let (mut base, mut hidden, mut inputs, mut terms) =
                (node.inputs[0], Vec::new(), Vec::new(), Vec::new());
            while let Op::Add = graph.node(base).op
                && graph.uses(base) == 1
            {
                let add = graph.node(base);
                let (left, right) = (add.inputs[0], add.inputs[1]);
                let Some(term) = term(&add.shape, &graph.node(right).shape) else { break };
                if graph.node(left).shape != add.shape || left == right {
                    break;
                }
                hidden.push(base);
                inputs.push(right);
                terms.push(term);
                base = left;
            }
            // The walk went from the last addition to the first.
            inputs.push(base);
            inputs.reverse();
            terms.reverse();
            (!hidden.is_empty()).then_some(Fused { hidden, inputs, kind: Kind::Softmax(terms) })
        }
        _ => None,
    }
}

/// The rows of a term of `shape` within logits of `logits`, if whole rows of it are added.
fn term(logits: &[usize], shape: &[usize]) -> Option<Term> {
    let rank = logits.len();
    let (&columns, rows) = logits.split_last()?;
    if shape.len() > rank || shape.last() != Some(&columns) {
        return None;
    }
    let mut strides = vec![0; rows.len()];
    let mut step = columns;
    for (at, stride) in strides.iter_mut().enumerate().rev() {
        let Some(place) = (at + shape.len()).checked_sub(rank) else { break };
        if shape[place] != 1 {
            *stride = step;
        }
        step *= shape[place];
    }
    Some(Term { dims: rows.to_vec(), strides })
}
