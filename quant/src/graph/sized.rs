//! The same graph for inputs of other sizes.

use std::sync::Arc;

use super::{Graph, Node, Op};

impl Graph {
    /// The first thing in which `other` is not this graph for other sizes: it must have the same nodes with the same
    /// operands, the same weights and the same results; only shapes, constants and lengths may differ.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let pairs = || self.nodes.iter().zip(&other.nodes);
        let node = pairs()
            .find(|(a, b)| a.name != b.name || a.inputs != b.inputs || a.op.kind() != b.op.kind())
            .map(|(a, b)| format!("node `{}` ({}) is `{}` ({})", a.name, a.op.kind(), b.name, b.op.kind()));
        let param = || {
            let pair = self.params.iter().zip(&other.params);
            pair.into_iter()
                .find(|(a, b)| a.name != b.name || a.shape != b.shape)
                .map(|(a, b)| format!("tensor `{}` {:?} is `{}` {:?}", a.name, a.shape, b.name, b.shape))
        };
        let count = || {
            let of = |graph: &Self| (graph.nodes.len(), graph.params.len());
            (of(self) != of(other)).then(|| format!("{:?} nodes and tensors are {:?}", of(self), of(other)))
        };
        let results = || (self.outputs != other.outputs).then(|| "its results are others".to_owned());
        node.or_else(param).or_else(count).or_else(results)
    }

    /// This graph with the sizes of `sized`, which differs from it (or from the graph that this one was rewritten from)
    /// in nothing else: see [`Graph::difference`]. Weights and what rewrites changed are those of this graph.
    pub(crate) fn at_size_of(&self, sized: &Self) -> Self {
        let nodes = self.nodes.iter().zip(&sized.nodes).map(|(own, sized)| {
            let op = match (&own.op, &sized.op) {
                (Op::Pad { fill, .. }, Op::Pad { ends, .. }) => {
                    Op::Pad { ends: ends.clone(), fill: fill.clone() }
                }
                (Op::Constant(same), Op::Constant(other)) if same == other => own.op.clone(),
                (own, sized) if own.params().is_empty() && own.kind() == sized.kind() => sized.clone(),
                (own, _) => own.clone(),
            };
            Node { name: own.name.clone(), op, inputs: own.inputs.clone(), shape: sized.shape.clone() }
        });
        let mut made = Self {
            nodes: nodes.collect(),
            params: self.params.clone(),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            by_name: self.by_name.clone(),
            ..Self::default()
        };
        made.finish();
        made
    }

    /// Gives up the weights: only sizes are wanted of it.
    pub(crate) fn without_weights(mut self) -> Self {
        self.params.clear();
        self.layers.clear();
        self.sites.clear();
        self.site_by_id.clear();
        self
    }

    /// Bytes of the constants that are not those of `other`.
    pub(crate) fn constant_bytes_beside(&self, other: &Self) -> usize {
        let of = |(own, other): (&Node, &Node)| match (&own.op, &other.op) {
            (Op::Constant(own), Op::Constant(other)) if Arc::ptr_eq(own, other) => 0,
            (Op::Constant(own), _) => own.len() * size_of::<f32>(),
            _ => 0,
        };
        self.nodes.iter().zip(&other.nodes).map(of).sum()
    }
}
