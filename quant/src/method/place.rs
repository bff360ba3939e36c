//! Where a site is in the model, as methods see it.

use crate::graph::{Graph, NodeId, Op, Site};
use crate::terms::Role;

/// A site and what methods ask about it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'g> {
    /// The site.
    pub site: &'g Site,
    /// What the layer's left or only operand holds; for a weight, what it is multiplied with.
    pub input: Role,
    /// The layer's operation.
    pub op: &'g Op,
    /// Positions that one result of a convolution sees; 1 for other layers.
    pub positions: usize,
    /// Whether the layer reads the picture.
    pub patch_embedding: bool,
    /// Whether no other layer comes between it and a result of the model.
    pub last: bool,
    /// Whether its values depend on the sentence alone.
    pub text: bool,
}

impl<'g> Place<'g> {
    /// Of every site, in their order.
    pub fn all(graph: &'g Graph) -> Vec<Self> {
        let sees_picture = reached_from_picture(graph);
        let near_end = reaches_results(graph);
        graph
            .sites()
            .iter()
            .map(|site| {
                let node = graph.node(site.node);
                let input = graph
                    .sites()
                    .iter()
                    .find(|other| other.node == site.node && other.operand == Some(0))
                    .map_or(Role::Other, |other| other.role);
                Self {
                    site,
                    input,
                    op: &node.op,
                    positions: match &node.op {
                        Op::Conv { weight, .. } | Op::ConvTranspose { weight, .. } => {
                            graph.param(*weight).shape[2..].iter().product()
                        }
                        _ => 1,
                    },
                    patch_embedding: input == Role::Image,
                    last: near_end[site.node.index()],
                    text: !sees_picture[site.node.index()],
                }
            })
            .collect()
    }

    /// Whether the layer is a convolution.
    pub fn is_convolution(&self) -> bool {
        matches!(self.op, Op::Conv { .. } | Op::ConvTranspose { .. })
    }

    /// Whether the layer is a convolution over single positions: a linear layer along another axis.
    pub fn is_pointwise_convolution(&self) -> bool {
        self.is_convolution() && self.positions == 1
    }
}

/// By node: whether its value depends on an input with the axes of a picture.
fn reached_from_picture(graph: &Graph) -> Vec<bool> {
    let mut reached = vec![false; graph.nodes().len()];
    for (index, node) in graph.nodes().iter().enumerate() {
        let picture = matches!(node.op, Op::Input) && node.shape.len() == 4;
        reached[index] = picture || node.inputs.iter().any(|input| reached[input.index()]);
    }
    reached
}

/// By node: whether its value reaches a result without passing another layer.
fn reaches_results(graph: &Graph) -> Vec<bool> {
    let mut near = vec![false; graph.nodes().len()];
    for (_, id) in graph.outputs() {
        near[id.index()] = true;
    }
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        let layer = graph.layers().iter().any(|layer| layer.node == NodeId(index as u32));
        if near[index] && !layer {
            for input in &node.inputs {
                near[input.index()] = true;
            }
        }
    }
    near
}
