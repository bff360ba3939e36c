//! Makes graphs: model code calls it like a forward pass, one node per line.
//!
//! Every method checks shapes and returns an error that names the node, so that a checkpoint that does not fit
//! its config is reported, never indexed out of range.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Conv, Graph, Node, NodeId, Op, Param, ParamId};
use crate::exec::kernels::activation::Activation;
use crate::exec::kernels::elementwise::BinaryOp;
use crate::exec::kernels::function::Function;
use crate::exec::kernels::gather::Reduction;
use crate::exec::kernels::pool::Pooling;
use crate::exec::kernels::resize::Sampling;
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

    /// The finished graph. `ignore` says which tensors of the checkpoint a graph may leave unused.
    pub fn finish(mut self, ignore: impl Fn(&str) -> bool) -> Result<Graph, ModelError> {
        let used: HashSet<&str> =
            self.params.keys().filter_map(|name| self.weights.stored_name(name)).collect();
        let unused: Vec<String> = self
            .weights
            .names()
            .filter(|name| !used.contains(name) && !ignore(name))
            .map(ToOwned::to_owned)
            .collect();
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
        self.builder.weights.shape(&self.full(name))
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

    /// `x · Wᵀ + b`; the bias is used if the checkpoint has one. `x`: `[…, in]`.
    pub fn linear(&mut self, name: &str, x: NodeId) -> Result<NodeId, ModelError> {
        let weight = self.full(&format!("{name}.weight"));
        let bias = self.full(&format!("{name}.bias"));
        self.linear_of(name, &weight, &bias, x)
    }

    /// [`Scope::linear`] with a weight and a bias of other modules, given by their whole names (tied weights).
    pub fn linear_of(
        &mut self,
        name: &str,
        weight_name: &str,
        bias_name: &str,
        x: NodeId,
    ) -> Result<NodeId, ModelError> {
        let mut shape = self.shape(x);
        let Some(last) = shape.last_mut() else { return self.fail(name, "its operand is a scalar".into()) };
        let weight = self.builder.param(weight_name, None)?;
        let found = self.builder.graph.param(weight).shape.clone();
        if found.len() != 2 || found[1] != *last {
            let out = found.first().copied().unwrap_or(0);
            return Err(self.wrong_shape(weight_name.to_owned(), vec![out, *last], found));
        }
        *last = found[0];
        let bias = self.bias(bias_name, found[0])?;
        self.builder.push(join(&self.path, name), Op::Linear { weight, bias }, vec![x], shape)
    }

    /// Convolution over `[N, C, W]` or `[N, C, H, W]`, by the rank of the weight.
    pub fn conv(&mut self, name: &str, x: NodeId, geometry: Conv) -> Result<NodeId, ModelError> {
        let input = self.shape(x);
        let weight_name = self.full(&format!("{name}.weight"));
        let weight = self.builder.param(&weight_name, None)?;
        let w = self.builder.graph.param(weight).shape.clone();
        let fits = w.len() == input.len()
            && w.len() >= 3
            && w.len() <= 4
            && geometry.groups > 0
            && !geometry.stride.contains(&0)
            && !geometry.dilation.contains(&0)
            && w[1] * geometry.groups == input[1]
            && w[0].is_multiple_of(geometry.groups);
        if !fits {
            let mut expected = vec![w.first().copied().unwrap_or(0), input[1] / geometry.groups.max(1)];
            expected.extend(w.iter().skip(2));
            return Err(self.wrong_shape(weight_name, expected, w));
        }
        let mut shape = vec![input[0], w[0]];
        for ((&size, &k), axis) in input[2..].iter().zip(&w[2..]).zip(4 - input.len()..) {
            let Some(out) = geometry.extent(axis, size, k) else {
                return self.fail(name, format!("a kernel of {k} does not fit {size} positions"));
            };
            shape.push(out);
        }
        let bias = self.bias(&self.full(&format!("{name}.bias")), w[0])?;
        self.builder.push(join(&self.path, name), Op::Conv { weight, bias, geometry }, vec![x], shape)
    }

    /// Transposed convolution over `[N, C, H, W]` (one of the few layers that sees several maps at once: SAM has one per
    /// prompt); `output_padding` rows and columns are added at the end.
    pub fn conv_transpose(
        &mut self,
        name: &str,
        x: NodeId,
        geometry: Conv,
        output_padding: [usize; 2],
    ) -> Result<NodeId, ModelError> {
        let input = self.shape(x);
        let weight_name = self.full(&format!("{name}.weight"));
        let weight = self.builder.param(&weight_name, None)?;
        let w = self.builder.graph.param(weight).shape.clone();
        if w.len() != 4 || input.len() != 4 || w[0] != input[1] {
            let mut expected = vec![input.get(1).copied().unwrap_or(0)];
            expected.extend(w.iter().skip(1));
            return Err(self.wrong_shape(weight_name, expected, w));
        }
        let [top, left, bottom, right] = geometry.padding;
        if geometry.groups != 1 || (top, left) != (bottom, right) || geometry.stride.contains(&0) {
            return self.fail(name, format!("a transposed convolution with {geometry:?} is not supported"));
        }
        let extent =
            |axis| geometry.transposed_extent(axis, input[axis + 2], w[axis + 2], output_padding[axis]);
        let (Some(h), Some(width)) = (extent(0), extent(1)) else {
            return self.fail(name, format!("{geometry:?} leaves nothing of {input:?}"));
        };
        let bias = self.bias(&self.full(&format!("{name}.bias")), w[1])?;
        let op = Op::ConvTranspose { weight, bias, geometry, output_padding };
        self.builder.push(join(&self.path, name), op, vec![x], vec![input[0], w[1], h, width])
    }

    /// The bias of this whole name, if the checkpoint has one.
    fn bias(&mut self, name: &str, out: usize) -> Result<Option<ParamId>, ModelError> {
        if self.builder.weights.shape(name).is_none() {
            return Ok(None);
        }
        self.builder.param(name, Some(&[out])).map(Some)
    }

    fn wrong_shape(&self, tensor: String, expected: Vec<usize>, found: Vec<usize>) -> ModelError {
        ModelError::TensorShape { file: self.builder.weights.file().to_owned(), tensor, expected, found }
    }

    /// `alpha · lhs · rhs` (or `rhsᵀ`) over the last two axes; the leading axes must be equal.
    pub fn matmul(
        &mut self,
        name: &str,
        (lhs, rhs): (NodeId, NodeId),
        transpose_rhs: bool,
        alpha: f32,
    ) -> Result<NodeId, ModelError> {
        let (a, b) = (self.shape(lhs), self.shape(rhs));
        let n = a.len();
        let (inner, columns) = if transpose_rhs { (1, 2) } else { (2, 1) };
        if n < 2 || b.len() != n || a[..n - 2] != b[..n - 2] || a[n - 1] != b[n - inner] {
            return self.fail(name, format!("shapes {a:?} and {b:?} cannot be multiplied"));
        }
        let mut shape = a;
        shape[n - 1] = b[n - columns];
        self.builder.push(join(&self.path, name), Op::MatMul { transpose_rhs, alpha }, vec![lhs, rhs], shape)
    }

    /// Normalisation over the last axis.
    pub fn layer_norm(&mut self, name: &str, x: NodeId, eps: f32) -> Result<NodeId, ModelError> {
        let shape = self.shape(x);
        let width = shape.last().copied().unwrap_or(0);
        let gamma = self.builder.param(&join(&self.path, &format!("{name}.weight")), Some(&[width]))?;
        let beta = self.builder.param(&join(&self.path, &format!("{name}.bias")), Some(&[width]))?;
        self.builder.push(join(&self.path, name), Op::LayerNorm { gamma, beta, eps }, vec![x], shape)
    }

    /// Normalisation over the channels of a map `[N, C, H, W]`: over the last axis of its turned form. The node `name` is
    /// the map, turned back.
    pub fn channel_norm(&mut self, name: &str, x: NodeId, eps: f32) -> Result<NodeId, ModelError> {
        let [n, c, h, w] = self.shape(x)[..] else {
            return self.fail(name, format!("expected [N, C, H, W], found {:?}", self.shape(x)));
        };
        let gamma = self.builder.param(&self.full(&format!("{name}.weight")), Some(&[c]))?;
        let beta = self.builder.param(&self.full(&format!("{name}.bias")), Some(&[c]))?;
        let full = self.full(name);
        let turned = Op::Permute(vec![0, 2, 3, 1]);
        let y = self.builder.push(format!("{full}.channels_last"), turned, vec![x], vec![n, h, w, c])?;
        let norm = Op::LayerNorm { gamma, beta, eps };
        let y = self.builder.push(format!("{full}.norm"), norm, vec![y], vec![n, h, w, c])?;
        self.builder.push(full, Op::Permute(vec![0, 3, 1, 2]), vec![y], vec![n, c, h, w])
    }

    /// Normalisation of each channel of `[1, C, N]` over its positions.
    pub fn instance_norm(&mut self, name: &str, x: NodeId, eps: f32) -> Result<NodeId, ModelError> {
        let shape = self.shape(x);
        if shape.len() != 3 {
            return self.fail(name, format!("expected [1, C, N], found {shape:?}"));
        }
        self.builder.push(join(&self.path, name), Op::InstanceNorm { eps }, vec![x], shape)
    }

    /// Normalisation of each channel with the stored mean and variance.
    pub fn batch_norm(&mut self, name: &str, x: NodeId, eps: f32) -> Result<NodeId, ModelError> {
        let shape = self.shape(x);
        let channels = [shape.get(1).copied().unwrap_or(0)];
        let mut param =
            |part: &str| self.builder.param(&join(&self.path, &format!("{name}.{part}")), Some(&channels));
        let op = Op::BatchNorm {
            gamma: param("weight")?,
            beta: param("bias")?,
            mean: param("running_mean")?,
            variance: param("running_var")?,
            eps,
        };
        self.builder.push(join(&self.path, name), op, vec![x], shape)
    }

    /// Rows of the table `name.weight` by the numbers in `ids`.
    pub fn embedding(&mut self, name: &str, ids: NodeId) -> Result<NodeId, ModelError> {
        let weight_name = self.full(&format!("{name}.weight"));
        let table = self.builder.param(&weight_name, None)?;
        let w = self.builder.graph.param(table).shape.clone();
        let mut shape = self.shape(ids);
        if w.len() != 2 {
            return Err(self.wrong_shape(weight_name, vec![0, 0], w));
        }
        shape.push(w[1]);
        self.builder.push(join(&self.path, name), Op::Embedding { table }, vec![ids], shape)
    }

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

    /// The same values under another shape.
    pub fn reshape(&mut self, x: NodeId, shape: &[usize]) -> Result<NodeId, ModelError> {
        let from = self.shape(x);
        if from.iter().product::<usize>() != shape.iter().product::<usize>() {
            return self.fail("reshape", format!("{from:?} cannot become {shape:?}"));
        }
        let name = self.derived("reshape");
        self.builder.push(name, Op::Reshape, vec![x], shape.to_vec())
    }

    /// Axes in the order `axes`.
    pub fn permute(&mut self, x: NodeId, axes: &[usize]) -> Result<NodeId, ModelError> {
        let from = self.shape(x);
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if sorted != (0..from.len()).collect::<Vec<_>>() {
            return self.fail("permute", format!("{axes:?} is no order of the axes of {from:?}"));
        }
        let shape = axes.iter().map(|&axis| from[axis]).collect();
        let name = self.derived("permute");
        self.builder.push(name, Op::Permute(axes.to_vec()), vec![x], shape)
    }

    /// Cyclic shift by `(axis, by)` pairs.
    pub fn roll(&mut self, x: NodeId, shifts: &[(usize, isize)]) -> Result<NodeId, ModelError> {
        let (name, shape) = (self.derived("roll"), self.shape(x));
        self.builder.push(name, Op::Roll(shifts.to_vec()), vec![x], shape)
    }

    /// Zeros after the end of axes; nothing is added where nothing is asked for.
    pub fn pad(&mut self, x: NodeId, ends: &[(usize, usize)]) -> Result<NodeId, ModelError> {
        let ends: Vec<_> = ends.iter().copied().filter(|&(_, n)| n > 0).collect();
        if ends.is_empty() {
            return Ok(x);
        }
        let mut shape = self.shape(x);
        for &(axis, n) in &ends {
            shape[axis] += n;
        }
        let name = self.derived("pad");
        self.builder.push(name, Op::Pad { ends, fill: None }, vec![x], shape)
    }

    /// `len` entries of `axis` from `start`; the node itself if that is all of them.
    pub fn narrow(&mut self, x: NodeId, axis: usize, start: usize, len: usize) -> Result<NodeId, ModelError> {
        let mut shape = self.shape(x);
        if axis >= shape.len() || start + len > shape[axis] {
            return self
                .fail("narrow", format!("entries {start}..{} of axis {axis} of {shape:?}", start + len));
        }
        if shape[axis] == len {
            return Ok(x);
        }
        shape[axis] = len;
        let name = self.derived("narrow");
        self.builder.push(name, Op::Narrow { axis, start, len }, vec![x], shape)
    }

    /// Operands one after another along `axis`.
    pub fn concat(&mut self, operands: &[NodeId], axis: usize) -> Result<NodeId, ModelError> {
        let shapes: Vec<_> = operands.iter().map(|&x| self.shape(x)).collect();
        let Some(mut shape) = shapes.first().cloned() else {
            return self.fail("concat", "no operands".into());
        };
        let fits = axis < shape.len()
            && shapes
                .iter()
                .all(|s| s.len() == shape.len() && (0..s.len()).all(|i| i == axis || s[i] == shape[i]));
        if !fits {
            return self.fail("concat", format!("shapes {shapes:?} along axis {axis}"));
        }
        shape[axis] = shapes.iter().map(|s| s[axis]).sum();
        let name = self.derived("concat");
        self.builder.push(name, Op::Concat { axis }, operands.to_vec(), shape)
    }

    /// Bilinear resize of `[1, C, H, W]`.
    pub fn resize(
        &mut self,
        x: NodeId,
        (h, w): (usize, usize),
        align_corners: bool,
    ) -> Result<NodeId, ModelError> {
        self.resample(x, (h, w), Sampling::bilinear(align_corners))
    }

    /// Resize of `[1, C, H, W]`.
    pub fn resample(
        &mut self,
        x: NodeId,
        (h, w): (usize, usize),
        how: Sampling,
    ) -> Result<NodeId, ModelError> {
        let from = self.shape(x);
        if from.len() != 4 {
            return self.fail("resize", format!("expected [1, C, H, W], found {from:?}"));
        }
        let name = self.derived("resize");
        self.builder.push(name, Op::Resize(how), vec![x], vec![1, from[1], h, w])
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
