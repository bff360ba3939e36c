//! Reverse-mode differentiation on a tape of coarse operations.
//!
//! A value is a row-major `[rows, cols]` buffer; images are channels-last, so pixels and tokens are rows. Every
//! operation pushes its result together with a closure that turns the gradient of the result into gradients of
//! the inputs. Buffers come from and return to a pool by size: fresh pages would cost more than the arithmetic.

use super::kernels;
use super::params::{ParamId, Params};
use std::collections::HashMap;

/// Index of a value on the tape.
pub type Id = usize;

type Back<'p> = Box<dyn FnOnce(&mut Tape<'p>, Vec<f32>) + 'p>;

struct Node<'p> {
    value: Vec<f32>,
    cols: usize,
    grad: Option<Vec<f32>>,
    back: Option<Back<'p>>,
}

/// What one replica keeps between steps: spare buffers and its gradient of all parameters.
#[derive(Default)]
pub struct Workspace {
    spare: HashMap<usize, Vec<Vec<f32>>>,
    /// Gradient of every parameter, laid out like [`Params::data`].
    pub grads: Vec<f32>,
}

/// See the module documentation.
pub struct Tape<'p> {
    /// The parameters, shared by all replicas.
    pub params: &'p Params,
    /// Batch statistics and closures for the backward pass are made only in training.
    pub train: bool,
    /// Batch statistics of this pass: (running buffer, new value).
    pub stats: Vec<(ParamId, Vec<f32>)>,
    nodes: Vec<Node<'p>>,
    work: Workspace,
}

impl<'p> Tape<'p> {
    /// An empty tape; gradients accumulate into the workspace, which the caller clears per step.
    pub fn new(params: &'p Params, mut work: Workspace, train: bool) -> Self {
        if train {
            work.grads.resize(params.data.len(), 0.0);
        }
        Self { params, train, stats: Vec::new(), nodes: Vec::new(), work }
    }

    /// Hands the workspace back for the next step.
    pub fn finish(mut self) -> (Workspace, Vec<(ParamId, Vec<f32>)>) {
        for node in std::mem::take(&mut self.nodes) {
            self.give(node.value);
            if let Some(grad) = node.grad {
                self.give(grad);
            }
        }
        (self.work, self.stats)
    }

    /// A buffer of arbitrary content.
    pub fn take(&mut self, len: usize) -> Vec<f32> {
        self.work.spare.get_mut(&len).and_then(Vec::pop).unwrap_or_else(|| vec![0.0; len])
    }

    /// A buffer of zeros.
    pub fn zeros(&mut self, len: usize) -> Vec<f32> {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }

    /// Returns a buffer to the pool. Buffers that did not come from it, such as the picture, arrive here too, so
    /// the pool is bounded.
    pub fn give(&mut self, buffer: Vec<f32>) {
        const MOST: usize = 64;
        if !buffer.is_empty() {
            let spare = self.work.spare.entry(buffer.len()).or_default();
            if spare.len() < MOST {
                spare.push(buffer);
            }
        }
    }

    /// The values of a node.
    pub fn value(&self, id: Id) -> &[f32] {
        &self.nodes[id].value
    }

    /// Columns of a node.
    pub fn cols(&self, id: Id) -> usize {
        self.nodes[id].cols
    }

    /// Rows of a node.
    pub fn rows(&self, id: Id) -> usize {
        self.nodes[id].value.len() / self.nodes[id].cols
    }

    /// Moves the values out for reading beside a mutable tape; put them back with [`Self::put`].
    pub fn lend(&mut self, id: Id) -> Vec<f32> {
        std::mem::take(&mut self.nodes[id].value)
    }

    /// See [`Self::lend`].
    pub fn put(&mut self, id: Id, value: Vec<f32>) {
        self.nodes[id].value = value;
    }

    /// The index that the next pushed value gets.
    pub fn nodes_len(&self) -> Id {
        self.nodes.len()
    }

    /// A value without inputs, e.g. the image.
    pub fn leaf(&mut self, value: Vec<f32>, cols: usize) -> Id {
        self.nodes.push(Node { value, cols, grad: None, back: None });
        self.nodes.len() - 1
    }

    /// A computed value and its backward pass.
    pub fn push(&mut self, value: Vec<f32>, cols: usize, back: impl FnOnce(&mut Self, Vec<f32>) + 'p) -> Id {
        let id = self.leaf(value, cols);
        if self.train {
            self.nodes[id].back = Some(Box::new(back));
        }
        id
    }

    /// Whether gradients of this value are of any use.
    pub fn wants_grad(&self, id: Id) -> bool {
        self.nodes[id].back.is_some()
    }

    /// Adds to the gradient of a node, keeping the buffer if it is the first contribution.
    pub fn add_grad(&mut self, id: Id, grad: Vec<f32>) {
        if let Some(sum) = self.nodes[id].grad.as_mut() {
            kernels::add(sum, &grad);
            self.give(grad);
        } else if self.wants_grad(id) {
            self.nodes[id].grad = Some(grad);
        } else {
            self.give(grad);
        }
    }

    /// A copy of a buffer in a buffer of the pool.
    pub fn copy(&mut self, from: &[f32]) -> Vec<f32> {
        let mut to = self.take(from.len());
        to.copy_from_slice(from);
        to
    }

    /// The values of a parameter.
    pub fn param(&self, id: ParamId) -> &'p [f32] {
        self.params.get(id)
    }

    /// The gradient of a parameter.
    pub fn param_grad(&mut self, id: ParamId) -> &mut [f32] {
        let range = self.params.range(id);
        &mut self.work.grads[range]
    }

    /// Runs all closures from the last value to the first; seed the outputs with [`Self::add_grad`] before.
    pub fn backward(&mut self) {
        for id in (0..self.nodes.len()).rev() {
            let node = &mut self.nodes[id];
            let (back, grad) = (node.back.take(), node.grad.take());
            if let (Some(back), Some(grad)) = (back, grad) {
                back(self, grad);
            }
            let value = self.lend(id);
            self.give(value);
        }
    }
}
