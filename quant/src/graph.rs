//! The model as a directed acyclic graph of nodes for **one sample**, shapes known, constants folded.
//!
//! A graph is specialised to one image size and one text length: every node's shape is known when it is built. Where every
//! picture has a size of its own there is one graph for each, with the same nodes in the same places and the same weights.
//! The leading batch axis of the published models is kept (it is 1; windows are folded into it as in the
//! originals), several samples are run one after another or side by side. That makes every result independent
//! of the batch size by construction.
//!
//! Nodes are stored in execution order. Names are the checkpoint's own module paths where a module exists.

mod builder;
mod cost;
mod op;
mod rewrite;
mod roles;
mod sized;

use std::collections::HashMap;

pub use builder::{Builder, Scope};
pub use cost::LayerCost;
pub use op::{Conv, Op};
pub use rewrite::{RewriteError, RewriteKind, Rewritten};

use crate::models::Numbers;
use crate::terms::{Granularity, Layout, Role, SiteId, Slot};

/// Index of a node in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    /// Position in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Index of a weight tensor in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParamId(pub(crate) u32);

impl ParamId {
    /// Position in [`Graph::params`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A weight tensor under its name in the checkpoint, as f32, row-major.
#[derive(Debug, Clone)]
pub struct Param {
    /// Name in the checkpoint.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// Its values.
    pub data: Numbers,
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Node {
    /// Module path in the checkpoint, or a derived name where no module exists (`…attn.qk`).
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Where its operands come from.
    pub inputs: Vec<NodeId>,
    /// Shape of its value for one sample.
    pub shape: Vec<usize>,
}

/// One operand of a layer: what is observed and quantized.
#[derive(Debug, Clone)]
pub struct Site {
    /// `<layer>:<slot>`.
    pub id: SiteId,
    /// The layer's node.
    pub node: NodeId,
    /// Which operand of the node (0 or 1); weights are not operands and have none.
    pub operand: Option<usize>,
    /// What it holds.
    pub role: Role,
    /// Shape for one sample, or of the weight.
    pub shape: Vec<usize>,
    /// How its channels lie.
    pub layout: Layout,
    /// How its heads lie, if it is an operand of a product that has several.
    pub heads: Option<Layout>,
    /// The axis of its channels, negative from the end; none where it is seen as a whole.
    pub axis: Option<isize>,
}

/// The axis of heads in an operand of a product, `[…, heads, rows, columns]`.
const HEADS: isize = -3;

impl Site {
    /// How the values lie that have parameters of their own: a head each, or else a channel each.
    pub fn layout_of(&self, granularity: Granularity) -> Layout {
        match granularity {
            Granularity::Tensor | Granularity::Channel => self.layout,
            Granularity::Head => self.heads.unwrap_or(Layout::tensor(self.layout.len())),
        }
    }

    /// The axis along which they lie.
    pub(crate) fn axis_of(&self, granularity: Granularity) -> Option<isize> {
        match granularity {
            Granularity::Tensor | Granularity::Channel => self.axis,
            Granularity::Head => self.heads.map(|_| HEADS),
        }
    }
}

/// How the channels of an axis lie in a value of this shape; without one, the whole.
pub(crate) fn layout_in(shape: &[usize], axis: Option<isize>) -> Layout {
    let whole = Layout::tensor(shape.iter().product());
    axis.map_or(whole, |axis| Layout::axis(shape, axis).unwrap_or(whole))
}

/// A node that multiplies, with its sites.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Multiply-accumulates and weights.
    pub cost: LayerCost,
    /// Indices into [`Graph::sites`].
    pub sites: Vec<usize>,
}

/// A model: nodes in execution order, weights, named inputs and outputs, layers and sites.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    params: Vec<Param>,
    inputs: Vec<NodeId>,
    outputs: Vec<(String, NodeId)>,
    layers: Vec<Layer>,
    sites: Vec<Site>,
    by_name: HashMap<String, NodeId>,
    site_by_id: HashMap<SiteId, usize>,
    uses: Vec<u32>,
    used: Vec<bool>,
}

impl Graph {
    /// Nodes in execution order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node by its index.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// A node by its name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    /// Weight tensors.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// A weight tensor.
    pub fn param(&self, id: ParamId) -> &Param {
        &self.params[id.index()]
    }

    /// Input nodes; their names are those of the architecture (`pixel_values`, …).
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// Named results.
    pub fn outputs(&self) -> &[(String, NodeId)] {
        &self.outputs
    }

    /// Layers in execution order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Sites in the order of their layers.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// A site by its name.
    pub fn site(&self, id: &SiteId) -> Option<&Site> {
        self.site_by_id.get(id).map(|&i| &self.sites[i])
    }

    /// Position of a site in [`Graph::sites`].
    pub fn site_index(&self, id: &SiteId) -> Option<usize> {
        self.site_by_id.get(id).copied()
    }

    /// How often a node's value is used by other nodes or as a result.
    pub fn uses(&self, id: NodeId) -> u32 {
        self.uses[id.index()]
    }

    /// Whether a result depends on a node's value. A model may compute what it never uses: the gate after the last stage
    /// of LAVT's backbone, for one. Such a layer is not run, and nothing that is done to it has an effect.
    pub fn is_used(&self, id: NodeId) -> bool {
        self.used.get(id.index()).copied().unwrap_or(false)
    }

    /// The weight tensor of a layer, if it has one.
    pub fn weight_of(&self, layer: NodeId) -> Option<&Param> {
        match &self.node(layer).op {
            Op::Linear { weight, .. } | Op::Conv { weight, .. } | Op::ConvTranspose { weight, .. } => {
                Some(self.param(*weight))
            }
            _ => None,
        }
    }

    /// Number of weights and biases.
    pub fn parameters(&self) -> u64 {
        self.params.iter().map(|p| p.data.len() as u64).sum()
    }

    /// Multiply-accumulates of all layers for one sample.
    pub fn macs(&self) -> u64 {
        self.layers.iter().map(|l| l.cost.macs).sum()
    }

    /// Derives layers, sites, roles and use counts once the nodes are complete.
    fn finish(&mut self) {
        self.uses = vec![0; self.nodes.len()];
        for node in &self.nodes {
            for input in &node.inputs {
                self.uses[input.index()] += 1;
            }
        }
        self.used = vec![false; self.nodes.len()];
        for (_, id) in &self.outputs {
            self.uses[id.index()] += 1;
            self.used[id.index()] = true;
        }
        // Nodes come after what they read.
        for index in (0..self.nodes.len()).rev() {
            if self.used[index] {
                for input in &self.nodes[index].inputs {
                    self.used[input.index()] = true;
                }
            }
        }
        for index in 0..self.nodes.len() {
            let id = NodeId(index as u32);
            let Some(slots) = self.nodes[index].op.slots() else { continue };
            let mut sites = Vec::with_capacity(2);
            for &slot in slots {
                let site = self.make_site(id, slot);
                sites.push(self.sites.len());
                self.site_by_id.insert(site.id.clone(), self.sites.len());
                self.sites.push(site);
            }
            let cost = cost::of(self, id);
            self.layers.push(Layer { node: id, name: self.nodes[index].name.clone(), cost, sites });
        }
    }

    fn make_site(&self, node_id: NodeId, slot: Slot) -> Site {
        let node = self.node(node_id);
        let (operand, shape) = match slot {
            Slot::Weight => (None, self.weight_of(node_id).map(|p| p.shape.clone()).unwrap_or_default()),
            Slot::Input | Slot::Lhs => (Some(0), self.node(node.inputs[0]).shape.clone()),
            Slot::Rhs => (Some(1), self.node(node.inputs[1]).shape.clone()),
        };
        let role = roles::of(self, node_id, slot);
        let axis = match (slot, &node.op) {
            // Output channels of weights, input channels of maps.
            (_, Op::ConvTranspose { .. }) | (Slot::Input, Op::Conv { .. }) => Some(1),
            (Slot::Weight, _) => Some(0),
            // Probabilities have no channels: their last axis counts positions.
            _ if role == Role::PostSoftmax => None,
            // `[…, d, n]` operands of a product are seen along d.
            (Slot::Rhs, Op::MatMul { transpose_rhs: false, .. }) if role == Role::Key => Some(-2),
            _ => Some(-1),
        };
        let layout = layout_in(&shape, axis);
        let of_product = matches!(node.op, Op::MatMul { .. }) && operand.is_some();
        let heads =
            of_product.then(|| Layout::axis(&shape, HEADS).ok()).flatten().filter(|heads| heads.channels > 1);
        let id = SiteId { layer: node.name.clone(), slot };
        Site { id, node: node_id, operand, role, shape, layout, heads, axis }
    }
}
