//! Exact changes of a graph that make sites easier to quantize.
//!
//! Each works on a pattern of operations, never on names, and leaves every result of the graph what it was up to
//! rounding. Nodes keep their places, so sites, plans and caches of the graph before mean the same after.
//!
//! | rewrite | anchored at | numbers | source |
//! |---|---|---|---|
//! | `layernorm-reparameterization` | a LayerNorm that only feeds linear layers | `scale`, `shift` per channel | RepQ-ViT |
//! | `smoothing` | the same | `scale` per channel | SmoothQuant |
//! | `sign-folding` | a product of queries and keys | `sign` per key channel | PTQ4SAM |
//! | `batchnorm-folding` | a BatchNorm after a convolution | none | |

mod batchnorm;
mod norm;
mod sign;

use std::collections::BTreeMap;

use super::{Graph, NodeId, Op, Param, ParamId};
use crate::terms::{SiteId, Slot, words};

/// Which exact change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RewriteKind {
    /// A LayerNorm's channels are divided by `scale` and lowered by `shift`; the linear layers behind it undo that.
    NormReparameterization,
    /// A LayerNorm's channels are divided by `scale`; the linear layers behind it multiply with it.
    Smoothing,
    /// Key channels change their sign where `sign` is −1, and so do the query channels they meet.
    SignFolding,
    /// A BatchNorm goes into the convolution before it.
    BatchNormFolding,
}

words!(RewriteKind, "rewrite", {
    NormReparameterization => "layernorm-reparameterization",
    Smoothing => "smoothing",
    SignFolding => "sign-folding",
    BatchNormFolding => "batchnorm-folding",
});

/// A rewrite that does not fit the graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at {node}: {problem}")]
pub struct RewriteError {
    /// Which rewrite.
    pub kind: RewriteKind,
    /// Where.
    pub node: String,
    /// What is wrong.
    pub problem: String,
}

/// A changed graph and what is different in it.
#[derive(Debug, Clone)]
pub struct Rewritten {
    /// The graph.
    pub graph: Graph,
    /// By node: whether its value is another than before.
    pub changed: Vec<bool>,
}

impl Graph {
    /// Where a rewrite fits, in execution order.
    pub fn rewritable(&self, kind: RewriteKind) -> Vec<NodeId> {
        (0..self.nodes.len())
            .map(|index| NodeId(index as u32))
            .filter(|&id| match kind {
                RewriteKind::NormReparameterization | RewriteKind::Smoothing => {
                    norm::Pattern::at(self, id).is_ok()
                }
                RewriteKind::SignFolding => sign::Pattern::at(self, id).is_ok(),
                RewriteKind::BatchNormFolding => batchnorm::convolution(self, id).is_ok(),
            })
            .collect()
    }

    /// The linear layers that a LayerNorm feeds, if it feeds nothing else.
    pub fn layers_behind_norm(&self, norm: NodeId) -> Option<Vec<NodeId>> {
        norm::Pattern::at(self, norm).ok().map(|pattern| pattern.linears)
    }

    /// The layer that makes the keys of a product of queries and keys, if the signs of its channels can be folded.
    pub fn key_projection(&self, product: NodeId) -> Option<NodeId> {
        sign::Pattern::at(self, product).ok().map(|pattern| pattern.key)
    }

    /// Sites whose values a rewrite changes.
    pub fn rewrite_sites(&self, kind: RewriteKind, node: NodeId) -> Vec<SiteId> {
        let site = |layer: NodeId, slot| SiteId::new(self.node(layer).name.clone(), slot);
        match kind {
            RewriteKind::NormReparameterization | RewriteKind::Smoothing => self
                .layers_behind_norm(node)
                .unwrap_or_default()
                .into_iter()
                .flat_map(|layer| [site(layer, Slot::Input), site(layer, Slot::Weight)])
                .collect(),
            RewriteKind::SignFolding => match sign::Pattern::at(self, node) {
                Ok(pattern) => {
                    let mut weights =
                        vec![site(pattern.query, Slot::Weight), site(pattern.key, Slot::Weight)];
                    weights.dedup();
                    [site(node, Slot::Lhs), site(node, Slot::Rhs)].into_iter().chain(weights).collect()
                }
                Err(_) => Vec::new(),
            },
            RewriteKind::BatchNormFolding => batchnorm::convolution(self, node)
                .map_or_else(|_| Vec::new(), |layer| vec![site(layer, Slot::Weight)]),
        }
    }

    /// The graph after one rewrite. `vectors` are its numbers by name.
    pub fn rewritten(
        &self,
        kind: RewriteKind,
        node: &str,
        vectors: &BTreeMap<String, Vec<f32>>,
    ) -> Result<Rewritten, RewriteError> {
        let change = Change { graph: self, kind, node, vectors };
        let mut made = Rewritten { graph: self.clone(), changed: vec![false; self.nodes.len()] };
        let id = change.place()?;
        match kind {
            RewriteKind::NormReparameterization | RewriteKind::Smoothing => {
                let (pattern, scale, shift) = change.norm(id)?;
                norm::refill(&mut made, &pattern, scale, shift);
                norm::apply(&mut made, &pattern, scale, shift)
            }
            RewriteKind::SignFolding => {
                let pattern = sign::Pattern::at(self, id).map_err(|e| change.failed(e))?;
                sign::apply(&mut made, &pattern, change.numbers("sign", pattern.key_channels)?)
            }
            RewriteKind::BatchNormFolding => batchnorm::apply(&mut made, id),
        }
        .map_err(|e| change.failed(e))?;
        Ok(made)
    }

    /// What a rewrite changes besides weights, for a graph whose weights went through it already: pads between a
    /// LayerNorm and its linear layers no longer add zeros.
    pub fn refilled(
        &self,
        kind: RewriteKind,
        node: &str,
        vectors: &BTreeMap<String, Vec<f32>>,
    ) -> Result<Rewritten, RewriteError> {
        let change = Change { graph: self, kind, node, vectors };
        let mut made = Rewritten { graph: self.clone(), changed: vec![false; self.nodes.len()] };
        let id = change.place()?;
        if matches!(kind, RewriteKind::NormReparameterization | RewriteKind::Smoothing) {
            let (pattern, scale, shift) = change.norm(id)?;
            norm::refill(&mut made, &pattern, scale, shift);
        }
        Ok(made)
    }

    /// Nodes that read the value of `id`.
    fn consumers(&self, id: NodeId) -> Vec<NodeId> {
        let from = id.index() + 1;
        (from..self.nodes.len())
            .filter(|&at| self.nodes[at].inputs.contains(&id))
            .map(|at| NodeId(at as u32))
            .collect()
    }

    /// Whether a value is a result of the graph.
    fn is_output(&self, id: NodeId) -> bool {
        self.outputs.iter().any(|(_, output)| *output == id)
    }

    /// Nodes that use a weight tensor.
    fn users(&self, param: ParamId) -> usize {
        self.nodes.iter().filter(|node| node.op.params().contains(&param)).count()
    }

    /// That no other node uses the tensors of these.
    fn are_apart(&self, nodes: impl IntoIterator<Item = NodeId>) -> Result<(), String> {
        let mut params = nodes.into_iter().flat_map(|id| self.node(id).op.params());
        match params.find(|&param| self.users(param) > 1) {
            Some(param) => Err(format!("{} is shared with other layers", self.param(param).name)),
            None => Ok(()),
        }
    }

    /// Gives a tensor new values; refused if other nodes use it too.
    fn set_param(&mut self, id: ParamId, data: Vec<f32>) -> Result<(), String> {
        if self.users(id) > 1 {
            return Err(format!("{} is shared with other layers", self.param(id).name));
        }
        if !data.iter().all(|x| x.is_finite()) {
            return Err(format!("{} would not be finite", self.param(id).name));
        }
        self.params[id.index()].data = data.into();
        Ok(())
    }

    /// The bias of a layer as numbers, zeros if it has none.
    fn bias_of(&self, layer: NodeId) -> Vec<f32> {
        match &self.node(layer).op {
            Op::Linear { weight, bias } | Op::Conv { weight, bias, .. } => bias.map_or_else(
                || vec![0.0; self.param(*weight).shape.first().copied().unwrap_or(0)],
                |id| self.param(id).data.to_vec(),
            ),
            _ => Vec::new(),
        }
    }

    /// Gives a layer a bias, which is made if it had none.
    fn set_bias(&mut self, layer: NodeId, data: Vec<f32>) -> Result<(), String> {
        let name = format!("{}.bias", self.node(layer).name);
        let (Op::Linear { bias, .. } | Op::Conv { bias, .. }) = &self.node(layer).op else {
            return Err("it is no layer with a bias".to_owned());
        };
        if let Some(id) = *bias {
            return self.set_param(id, data);
        }
        let id = ParamId(self.params.len() as u32);
        self.params.push(Param { name, shape: vec![data.len()], data: data.into() });
        if let Op::Linear { bias, .. } | Op::Conv { bias, .. } = &mut self.nodes[layer.index()].op {
            *bias = Some(id);
        }
        Ok(())
    }
}

/// The pattern at a LayerNorm, scale and shift.
type NormChange<'a> = (norm::Pattern, &'a [f32], Option<&'a [f32]>);

/// A rewrite that is being checked.
struct Change<'a> {
    graph: &'a Graph,
    kind: RewriteKind,
    node: &'a str,
    vectors: &'a BTreeMap<String, Vec<f32>>,
}

impl<'a> Change<'a> {
    fn failed(&self, problem: String) -> RewriteError {
        RewriteError { kind: self.kind, node: self.node.to_owned(), problem }
    }

    fn place(&self) -> Result<NodeId, RewriteError> {
        self.graph.find(self.node).ok_or_else(|| self.failed("the model has no such node".to_owned()))
    }

    fn numbers(&self, name: &str, len: usize) -> Result<&'a [f32], RewriteError> {
        match self.vectors.get(name) {
            Some(found) if found.len() == len => Ok(found.as_slice()),
            Some(found) => Err(self.failed(format!("{} numbers in `{name}`, expected {len}", found.len()))),
            None => Err(self.failed(format!("no `{name}`; fit the plan first"))),
        }
    }

    /// The pattern at a LayerNorm, scale and shift.
    fn norm(&self, id: NodeId) -> Result<NormChange<'a>, RewriteError> {
        let pattern = norm::Pattern::at(self.graph, id).map_err(|e| self.failed(e))?;
        let scale = self.numbers("scale", pattern.channels)?;
        if !scale.iter().all(|s| s.is_finite() && *s != 0.0) {
            return Err(self.failed("every scale must be finite and not zero".to_owned()));
        }
        let shift = match self.kind {
            RewriteKind::NormReparameterization => Some(self.numbers("shift", pattern.channels)?),
            _ => None,
        };
        Ok((pattern, scale, shift))
    }
}

#[cfg(test)]
mod tests;
