//! Nodes with weights, products, and normalisations.

use super::{Scope, join};
use crate::graph::{Conv, NodeId, Op, ParamId};
use crate::models::ModelError;

impl Scope<'_, '_> {
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
        let weight = self.linear_weight(weight_name, bias_name, *last)?;
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
        let bias_name = self.full(&format!("{name}.bias"));
        let weight = self.conv_weight(&weight_name, &bias_name, &input, geometry)?;
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
        let bias = self.bias(&bias_name, w[0])?;
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
        let bias_name = self.full(&format!("{name}.bias"));
        let weight = self.conv_transpose_weight(&weight_name, &bias_name, &input, geometry)?;
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
        let bias = self.bias(&bias_name, w[1])?;
        let op = Op::ConvTranspose { weight, bias, geometry, output_padding };
        self.builder.push(join(&self.path, name), op, vec![x], vec![input[0], w[1], h, width])
    }

    /// The bias of this whole name, if the checkpoint has one; missing if the same layers elsewhere have theirs.
    fn bias(&mut self, name: &str, out: usize) -> Result<Option<ParamId>, ModelError> {
        if self.builder.weights.shape(name).is_none() && !self.builder.lacks_bias(name) {
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
        let table = self.table(&weight_name)?;
        let w = self.builder.graph.param(table).shape.clone();
        let mut shape = self.shape(ids);
        if w.len() != 2 {
            return Err(self.wrong_shape(weight_name, vec![0, 0], w));
        }
        shape.push(w[1]);
        self.builder.push(join(&self.path, name), Op::Embedding { table }, vec![ids], shape)
    }
}
