//! Makes graphs: model code calls it like a forward pass, one node per line.
//!
//! Every method checks shapes and returns an error that names the node, so that a checkpoint that does not fit
//! its config is reported, never indexed out of range.

mod layers;
mod layout;
mod missing;
mod values;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Graph, Node, NodeId, Op, Param, ParamId};
use crate::models::{ModelError, Numbers, Weights};

/// More values than this in one tensor of one sample are taken for a broken config (8 GiB of f32).
const MAX_NUMBERS: usize = 1 << 31;
/// More values than this in all tensors that are computed while a graph is built, likewise (1 GiB of f32). They come
/// from a few numbers of a config, not from a file of their size.
const MAX_CONSTANTS: usize = 1 << 28;

/// Collects nodes; [`Scope`]s of it add module paths.
#[derive(Debug)]
pub struct Builder<'w> {
    graph: Graph,
    weights: &'w Weights,
    params: HashMap<String, ParamId>,
    counters: HashMap<String, usize>,
    /// How often modules were called after their first call.
    calls: HashMap<String, usize>,
    /// Values of all constants so far.
    constants: usize,
}

/// A builder within a module path.
#[derive(Debug)]
pub struct Scope<'b, 'w> {
    builder: &'b mut Builder<'w>,
    path: String,
}

impl<'w> Builder<'w> {
    /// A builder that takes weights from `weights`.
    pub fn new(weights: &'w Weights) -> Self {
        Self {
            graph: Graph::default(),
            weights,
            params: HashMap::new(),
            counters: HashMap::new(),
            calls: HashMap::new(),
            constants: 0,
        }
    }

    /// The outermost scope.
    pub fn root(&mut self) -> Scope<'_, 'w> {
        Scope { builder: self, path: String::new() }
    }

    /// Names a result.
    pub fn output(&mut self, name: &str, node: NodeId) {
        self.graph.outputs.push((name.to_owned(), node));
    }

    /// The finished graph. `ignore` says which tensors of the checkpoint a graph may leave unused. An error names all
    /// tensors that are missing, or else all that have no place.
    pub fn finish(mut self, ignore: impl Fn(&str) -> bool) -> Result<Graph, ModelError> {
        let used: HashSet<&str> =
            self.params.keys().filter_map(|name| self.weights.stored_name(name)).collect();
        let unused: Vec<String> = self
            .weights
            .names()
            .filter(|name| !used.contains(name) && !ignore(name))
            .map(ToOwned::to_owned)
            .collect();
        if self.weights.are_missing() {
            self.weights.note_unknown(unused);
            return Err(self.weights.missing());
        }
        if !unused.is_empty() {
            return Err(ModelError::UnknownTensors { file: self.weights.file().to_owned(), names: unused });
        }
        self.graph.finish();
        Ok(self.graph)
    }

    fn param(&mut self, name: &str, shape: Option<&[usize]>) -> Result<ParamId, ModelError> {
        if let Some(&id) = self.params.get(name) {
            return Ok(id);
        }
        if self.weights.stored_name(name).is_none() {
            return self.stand_in(name, shape.map(<[usize]>::to_vec), true);
        }
        let tensor = self.weights.get(name)?;
        if let Some(shape) = shape.filter(|shape| *shape != tensor.shape) {
            return Err(ModelError::TensorShape {
                file: self.weights.file().to_owned(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                found: tensor.shape,
            });
        }
        let id = ParamId(self.graph.params.len() as u32);
        self.graph.params.push(Param { name: name.to_owned(), shape: tensor.shape, data: tensor.data });
        self.params.insert(name.to_owned(), id);
        Ok(id)
    }

    /// The name of a node of a module: `name`, or `name#k` for its k-th further call.
    fn call(&mut self, name: String) -> String {
        if !self.graph.by_name.contains_key(&name) {
            return name;
        }
        let further = self.calls.entry(name.clone()).or_insert(0);
        loop {
            *further += 1;
            let numbered = format!("{name}#{further}");
            if !self.graph.by_name.contains_key(&numbered) {
                return numbered;
            }
        }
    }

    fn push(
        &mut self,
        name: String,
        op: Op,
        inputs: Vec<NodeId>,
        shape: Vec<usize>,
    ) -> Result<NodeId, ModelError> {
        let numbers = shape.iter().try_fold(1_usize, |a, &b| a.checked_mul(b));
        if numbers.is_none_or(|n| n > MAX_NUMBERS) || shape.contains(&0) {
            return Err(ModelError::Graph {
                node: name,
                message: format!("its value would have shape {shape:?}"),
            });
        }
        let id = NodeId(self.graph.nodes.len() as u32);
        let name = self.call(name);
        self.graph.by_name.insert(name.clone(), id);
        self.graph.nodes.push(Node { name, op, inputs, shape });
        Ok(id)
    }
}

impl<'w> Scope<'_, 'w> {
    /// The scope of a submodule.
    pub fn at(&mut self, name: impl AsRef<str>) -> Scope<'_, 'w> {
        let path = self.full(name.as_ref());
        Scope { builder: self.builder, path }
    }

    /// Shape of a node's value.
    pub fn shape(&self, x: NodeId) -> Vec<usize> {
        self.builder.graph.node(x).shape.clone()
    }

    /// Shape of a checkpoint tensor, if there is one of this name.
    pub fn param_shape(&self, name: &str) -> Option<Vec<usize>> {
        let full = self.full(name);
        let known =
            self.builder.params.get(&full).map(|id| self.builder.graph.params[id.index()].shape.clone());
        known.or_else(|| self.builder.weights.shape(&full))
    }

    /// A checkpoint tensor's values for computing a constant; it counts as used.
    pub fn read(&mut self, name: &str, shape: &[usize]) -> Result<Numbers, ModelError> {
        let full = self.full(name);
        let id = self.builder.param(&full, Some(shape))?;
        Ok(self.builder.graph.params[id.index()].data.clone())
    }

    fn full(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// A name for a node that has no module: the path, the kind, and a number from the second on.
    fn derived(&mut self, kind: &str) -> String {
        let name = self.full(kind);
        let count = self.builder.counters.entry(name.clone()).or_insert(0);
        *count += 1;
        if *count == 1 { name } else { format!("{name}_{count}") }
    }

    /// An error at a node of this scope.
    pub(crate) fn fail<T>(&self, name: &str, message: String) -> Result<T, ModelError> {
        Err(ModelError::Graph { node: self.full(name), message })
    }

    /// A tensor that the caller gives.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> Result<NodeId, ModelError> {
        let id = self.builder.push(name.to_owned(), Op::Input, vec![], shape.to_vec())?;
        self.builder.graph.inputs.push(id);
        Ok(id)
    }

    /// Takes room for a constant that is computed next, before anything of its size is allocated.
    pub fn reserve(&mut self, name: &str, shape: &[usize]) -> Result<(), ModelError> {
        let own = shape.iter().try_fold(1_usize, |a, &b| a.checked_mul(b));
        let numbers = own.and_then(|own| own.checked_add(self.builder.constants));
        match numbers.filter(|&n| n <= MAX_CONSTANTS) {
            Some(numbers) => {
                self.builder.constants = numbers;
                Ok(())
            }
            None => self.fail(name, format!("its table would have shape {shape:?}")),
        }
    }

    /// A tensor known now.
    pub fn constant(&mut self, name: &str, shape: &[usize], data: Vec<f32>) -> Result<NodeId, ModelError> {
        if data.len() != shape.iter().product::<usize>() {
            return self.fail(name, format!("{} values for shape {shape:?}", data.len()));
        }
        let name = self.derived(name);
        self.builder.push(name, Op::Constant(Arc::new(data)), vec![], shape.to_vec())
    }
}

/// A name within a module path.
fn join(path: &str, name: &str) -> String {
    match (path.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => path.to_owned(),
        _ => format!("{path}.{name}"),
    }
}

/// The shape two shapes broadcast to (NumPy's rule).
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let n = a.len().max(b.len());
    let at = |s: &[usize], i: usize| if i + s.len() < n { 1 } else { s[i + s.len() - n] };
    (0..n)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}
