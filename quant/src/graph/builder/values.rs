//! Nodes that compute value by value, over an axis or a window.

use super::{Scope, broadcast, join};
use crate::exec::kernels::activation::Activation;
use crate::exec::kernels::elementwise::BinaryOp;
use crate::exec::kernels::function::Function;
use crate::exec::kernels::gather::Reduction;
use crate::exec::kernels::pool::Pooling;
use crate::graph::{NodeId, Op};
use crate::models::ModelError;

impl Scope<'_, '_> {
    /// A function of each value.
    pub fn activation(&mut self, name: &str, act: Activation, x: NodeId) -> Result<NodeId, ModelError> {
        let (name, shape) = (self.derived(name), self.shape(x));
        self.builder.push(name, Op::Activation(act), vec![x], shape)
    }

    /// Softmax over the last axis.
    pub fn softmax(&mut self, name: &str, x: NodeId) -> Result<NodeId, ModelError> {
        let shape = self.shape(x);
        self.builder.push(join(&self.path, name), Op::Softmax, vec![x], shape)
    }

    /// `x + y` with broadcasting.
    pub fn add(&mut self, x: NodeId, y: NodeId) -> Result<NodeId, ModelError> {
        self.binary("add", Op::Add, x, y)
    }

    /// `x · y`, value by value, with broadcasting.
    pub fn mul(&mut self, x: NodeId, y: NodeId) -> Result<NodeId, ModelError> {
        self.binary("mul", Op::Mul, x, y)
    }

    /// An operation on two values, with broadcasting.
    pub fn combine(&mut self, op: BinaryOp, x: NodeId, y: NodeId) -> Result<NodeId, ModelError> {
        match op {
            BinaryOp::Add => self.add(x, y),
            BinaryOp::Mul => self.mul(x, y),
            _ => self.binary(&op.name().to_lowercase(), Op::Binary(op), x, y),
        }
    }

    fn binary(&mut self, kind: &str, op: Op, x: NodeId, y: NodeId) -> Result<NodeId, ModelError> {
        let (a, b) = (self.shape(x), self.shape(y));
        let Some(shape) = broadcast(&a, &b) else {
            return self.fail(kind, format!("shapes {a:?} and {b:?} do not go together"));
        };
        let name = self.derived(kind);
        self.builder.push(name, op, vec![x, y], shape)
    }

    /// `mul · x + add`.
    pub fn affine(&mut self, x: NodeId, mul: f32, add: f32) -> Result<NodeId, ModelError> {
        let (name, shape) = (self.derived("affine"), self.shape(x));
        self.builder.push(name, Op::Affine { mul, add }, vec![x], shape)
    }

    /// A function of each value that no layer is fused with.
    pub fn function(&mut self, function: Function, x: NodeId) -> Result<NodeId, ModelError> {
        let (name, shape) = (self.derived(&function.name().to_lowercase()), self.shape(x));
        self.builder.push(name, Op::Function(function), vec![x], shape)
    }

    /// `x` where `condition` is not 0, else `y`, with broadcasting.
    pub fn select(&mut self, condition: NodeId, x: NodeId, y: NodeId) -> Result<NodeId, ModelError> {
        let shapes = [condition, x, y].map(|id| self.shape(id));
        let shape = broadcast(&shapes[0], &shapes[1]).and_then(|shape| broadcast(&shape, &shapes[2]));
        let Some(shape) = shape else {
            return self.fail("where", format!("shapes {shapes:?} do not go together"));
        };
        let name = self.derived("where");
        self.builder.push(name, Op::Where, vec![condition, x, y], shape)
    }

    /// One number for all values along `axes`, which become 1 long (`keep`) or vanish.
    pub fn reduce(
        &mut self,
        kind: Reduction,
        x: NodeId,
        axes: &[usize],
        keep: bool,
    ) -> Result<NodeId, ModelError> {
        let from = self.shape(x);
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        axes.dedup();
        if axes.last().is_some_and(|&axis| axis >= from.len()) {
            return self.fail("reduce", format!("axes {axes:?} of {from:?}"));
        }
        let mut shape = from.clone();
        for &axis in &axes {
            shape[axis] = 1;
        }
        if !keep {
            shape = (0..from.len()).filter(|axis| !axes.contains(axis)).map(|axis| from[axis]).collect();
        }
        let name = self.derived(&kind.name().to_lowercase());
        self.builder.push(name, Op::Reduce { kind, axes }, vec![x], shape)
    }

    /// The first place of the largest value along `axis`, which vanishes.
    pub fn arg_max(&mut self, x: NodeId, axis: usize) -> Result<NodeId, ModelError> {
        let mut shape = self.shape(x);
        if axis >= shape.len() {
            return self.fail("argmax", format!("axis {axis} of {shape:?}"));
        }
        shape.remove(axis);
        let name = self.derived("argmax");
        self.builder.push(name, Op::ArgMax { axis }, vec![x], shape)
    }

    /// Sums along `axis` up to each place; without its own value if `exclusive`, from the end if `reverse`.
    pub fn cumulative_sum(
        &mut self,
        x: NodeId,
        axis: usize,
        exclusive: bool,
        reverse: bool,
    ) -> Result<NodeId, ModelError> {
        let shape = self.shape(x);
        if axis >= shape.len() {
            return self.fail("cumsum", format!("axis {axis} of {shape:?}"));
        }
        let name = self.derived("cumsum");
        self.builder.push(name, Op::CumSum { axis, exclusive, reverse }, vec![x], shape)
    }

    /// Entries of `axis` by the numbers in `indices`, whose shape takes the place of the axis.
    pub fn gather(&mut self, x: NodeId, indices: NodeId, axis: usize) -> Result<NodeId, ModelError> {
        let (mut shape, numbers) = (self.shape(x), self.shape(indices));
        if axis >= shape.len() {
            return self.fail("gather", format!("axis {axis} of {shape:?}"));
        }
        shape.splice(axis..=axis, numbers);
        let name = self.derived("gather");
        self.builder.push(name, Op::Gather { axis }, vec![x, indices], shape)
    }

    /// `x` repeated to `shape`, along axes of length 1 and new leading ones; the node itself if it has that shape.
    pub fn expand(&mut self, x: NodeId, shape: &[usize]) -> Result<NodeId, ModelError> {
        let from = self.shape(x);
        if from == shape {
            return Ok(x);
        }
        if broadcast(&from, shape).as_deref() != Some(shape) {
            return self.fail("expand", format!("{from:?} cannot be repeated to {shape:?}"));
        }
        let name = self.derived("expand");
        self.builder.push(name, Op::Expand, vec![x], shape.to_vec())
    }

    /// One number per window of `[1, C, H, W]`; `size` is that of the result (ONNX may round it up).
    pub fn pool(
        &mut self,
        name: &str,
        x: NodeId,
        pooling: Pooling,
        size: (usize, usize),
    ) -> Result<NodeId, ModelError> {
        let from = self.shape(x);
        let Pooling { kernel, stride, padding, .. } = pooling;
        // Every window must see at least one pixel of the image.
        let fits = from.len() == 4
            && !stride.contains(&0)
            && [size.0, size.1].iter().enumerate().all(|(axis, &n)| {
                let last = n.saturating_sub(1).saturating_mul(stride[axis]);
                padding[axis] < kernel[axis] && n > 0 && last < from[axis + 2] + padding[axis]
            });
        if !fits {
            return self.fail(name, format!("windows {pooling:?} of {from:?} to {size:?}"));
        }
        let name = self.derived(name);
        self.builder.push(name, Op::Pool(pooling), vec![x], vec![1, from[1], size.0, size.1])
    }
}
