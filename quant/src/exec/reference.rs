//! The same graph with candle's own operations: slower, on any device, differentiable. The fused kernels are held
//! to it by tests; [gradients](Reference::gradients) come from it.

mod general;
mod gradient;

use std::sync::OnceLock;

use candle_core::{D, DType, Device, Tensor};

use super::kernels::activation::Activation;
use super::kernels::resize::{Coordinates, Interpolation, Rounding, Sampling};
use super::{Cancel, ExecError, Value};
use crate::graph::{Conv, Graph, Node, Op, ParamId};

/// Runs a graph with candle on `device`, in `dtype` (F64 gives a yardstick for the f32 kernels).
#[derive(Debug)]
pub struct Reference<'g> {
    graph: &'g Graph,
    device: Device,
    dtype: DType,
    /// Weights as tensors, each made when it is first used.
    params: Vec<OnceLock<Tensor>>,
}

impl<'g> Reference<'g> {
    /// Reference execution of `graph`.
    pub fn new(graph: &'g Graph, device: Device, dtype: DType) -> Self {
        Self { graph, device, dtype, params: vec![OnceLock::new(); graph.params().len()] }
    }

    /// Values of all nodes in execution order; `inputs` in the order of [`Graph::inputs`].
    pub fn run(&self, inputs: &[Value]) -> Result<Vec<Tensor>, ExecError> {
        self.run_until(inputs, &Cancel::default())
    }

    fn run_until(&self, inputs: &[Value], cancel: &Cancel) -> Result<Vec<Tensor>, ExecError> {
        let mut values: Vec<Tensor> = Vec::with_capacity(self.graph.nodes().len());
        let mut given = inputs.iter();
        for node in self.graph.nodes() {
            if cancel.is_cancelled() {
                return Err(ExecError::Cancelled);
            }
            let operands: Vec<&Tensor> = node.inputs.iter().map(|id| &values[id.index()]).collect();
            let value = match (&node.op, given.as_slice().first()) {
                (Op::Input, Some(input)) => {
                    given.next();
                    Tensor::from_slice(input.as_slice(), node.shape.as_slice(), &self.device)?
                        .to_dtype(self.dtype)?
                }
                (Op::Input, None) => {
                    let (name, expected) = (node.name.clone(), node.shape.clone());
                    return Err(ExecError::MissingInput { name, expected });
                }
                _ => self.node(node, &operands)?,
            };
            values.push(value);
        }
        Ok(values)
    }

    /// Uses other numbers for a weight that was not used yet; `values` has as many as the weight.
    pub fn replace(&self, id: ParamId, values: &[f32]) -> Result<(), ExecError> {
        let shape = self.graph.param(id).shape.as_slice();
        let made = Tensor::from_slice(values, shape, &self.device)?.to_dtype(self.dtype)?;
        let _ = self.params[id.index()].set(made);
        Ok(())
    }

    fn param(&self, id: ParamId) -> candle_core::Result<Tensor> {
        let place = &self.params[id.index()];
        if let Some(made) = place.get() {
            return Ok(made.clone());
        }
        let p = self.graph.param(id);
        let copied = p.data.once(|values| Tensor::from_slice(values, p.shape.as_slice(), &self.device));
        let made = copied?.to_dtype(self.dtype)?;
        Ok(place.get_or_init(|| made).clone())
    }

    /// The value of one node that is no input, given its operands.
    pub fn node(&self, node: &Node, x: &[&Tensor]) -> candle_core::Result<Tensor> {
        let shape = node.shape.as_slice();
        match &node.op {
            Op::Input => unreachable_input(),
            Op::Constant(data) => Tensor::from_slice(data, shape, &self.device)?.to_dtype(self.dtype),
            Op::Linear { weight, bias } => {
                let y = x[0].broadcast_matmul(&self.param(*weight)?.t()?)?;
                bias.map_or(Ok(y.clone()), |b| y.broadcast_add(&self.param(b)?))
            }
            Op::Conv { weight, bias, geometry } => self.conv(x[0], *weight, *bias, *geometry),
            Op::MatMul { transpose_rhs, alpha } => {
                let rhs = if *transpose_rhs { x[1].t()? } else { x[1].clone() };
                x[0].contiguous()?.matmul(&rhs.contiguous()?)?.affine(f64::from(*alpha), 0.0)
            }
            Op::LayerNorm { gamma, beta, eps } => {
                let y = normalise(x[0], f64::from(*eps))?;
                y.broadcast_mul(&self.param(*gamma)?)?.broadcast_add(&self.param(*beta)?)
            }
            Op::InstanceNorm { eps } => normalise(x[0], f64::from(*eps)),
            Op::BatchNorm { gamma, beta, mean, variance, eps } => {
                let mut wide = vec![1; shape.len()];
                wide[1] = shape[1];
                let param = |id: &ParamId| self.param(*id)?.reshape(wide.as_slice());
                let scale = (param(variance)? + f64::from(*eps))?.sqrt()?.recip()?.mul(&param(gamma)?)?;
                x[0].broadcast_sub(&param(mean)?)?.broadcast_mul(&scale)?.broadcast_add(&param(beta)?)
            }
            Op::Activation(act) => activate(*act, x[0]),
            Op::Softmax => {
                let e = x[0].broadcast_sub(&x[0].max_keepdim(D::Minus1)?.detach())?.exp()?;
                e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
            }
            Op::Add => x[0].broadcast_add(x[1]),
            Op::Mul => x[0].broadcast_mul(x[1]),
            Op::Affine { mul, add } => x[0].affine(f64::from(*mul), f64::from(*add)),
            Op::Reshape => x[0].contiguous()?.reshape(shape),
            Op::Permute(axes) => x[0].permute(axes.as_slice())?.contiguous(),
            Op::Roll(shifts) => shifts.iter().try_fold(x[0].clone(), |y, &(axis, by)| roll(&y, axis, by)),
            Op::Pad { ends, fill } => {
                let padded = |x: &Tensor| {
                    ends.iter().try_fold(x.clone(), |y, &(axis, n)| y.pad_with_zeros(axis, 0, n))
                };
                let Some(fill) = fill else { return padded(x[0]) };
                let outside = padded(&x[0].ones_like()?)?.affine(-1.0, 1.0)?;
                let fill = Tensor::from_slice(fill, fill.len(), &self.device)?.to_dtype(self.dtype)?;
                padded(x[0])?.add(&outside.broadcast_mul(&fill)?)
            }
            Op::Narrow { axis, start, len } => x[0].narrow(*axis, *start, *len)?.contiguous(),
            Op::Concat { axis } => Tensor::cat(x, *axis),
            Op::Embedding { table } => {
                let ids = x[0].to_dtype(DType::U32)?.flatten_all()?;
                self.param(*table)?.index_select(&ids, 0)?.reshape(shape)
            }
            Op::Resize(how) => resize(x[0], shape, *how),
            Op::ConvTranspose { weight, bias, geometry: g, output_padding } => {
                let y = conv_transpose(x[0], &self.param(*weight)?, *g, *output_padding)?;
                self.add_bias(y, *bias)
            }
            Op::Function(f) => general::function(*f, x[0]),
            Op::Binary(op) => general::binary(*op, x[0], x[1]),
            Op::Where => general::choose(x, shape),
            Op::Reduce { kind, axes } => general::reduce(*kind, x[0], axes)?.reshape(shape),
            Op::ArgMax { axis } => general::arg_max(x[0], *axis)?.reshape(shape),
            Op::CumSum { axis, exclusive, reverse } => {
                general::cumulative_sum(x[0], *axis, *exclusive, *reverse)
            }
            Op::Gather { axis } => general::gather(x[0], x[1], *axis)?.reshape(shape),
            Op::Expand => x[0].broadcast_as(shape)?.contiguous(),
            Op::Pool(pooling) => general::pool(x[0], *pooling, shape),
        }
    }

    fn conv(
        &self,
        x: &Tensor,
        weight: ParamId,
        bias: Option<ParamId>,
        g: Conv,
    ) -> candle_core::Result<Tensor> {
        let w = self.param(weight)?;
        let flat = w.rank() == 3;
        // Candle knows one stride, one dilation, and the same padding on both sides: as rows of an image, padded before,
        // with every other output left out after.
        let (x, w) = if flat { (x.unsqueeze(2)?, w.unsqueeze(2)?) } else { (x.clone(), w) };
        let [top, left, bottom, right] = g.padding;
        let x = if flat { x } else { x.pad_with_zeros(2, top, bottom)? };
        let mut x = x.pad_with_zeros(3, left, right)?;
        // What no window reaches is cut off: candle's derivative asks for the same rest on both axes.
        for axis in if flat { 3..4 } else { 2..4 } {
            let (step, apart) = (g.stride[axis - 2].max(1), g.dilation[axis - 2]);
            let window = apart * (w.dim(axis)? - 1) + 1;
            if let Some(rest) = x.dim(axis)?.checked_sub(window).map(|beyond| beyond % step) {
                x = x.narrow(axis, 0, x.dim(axis)? - rest)?;
            }
        }
        let x = x.contiguous()?;
        let stride = if flat { [1, g.stride[1]] } else { g.stride };
        if !flat && g.dilation[0] != g.dilation[1] {
            candle_core::bail!("dilations {:?} differ", g.dilation);
        }
        let mut y = if stride[0] == stride[1] {
            x.conv2d(&w, 0, stride[0], g.dilation[1], g.groups)?
        } else {
            let full = x.conv2d(&w, 0, 1, g.dilation[1], g.groups)?;
            general::every(&general::every(&full, 2, stride[0])?, 3, stride[1])?
        };
        if flat {
            y = y.squeeze(2)?;
        }
        self.add_bias(y, bias)
    }

    /// Adds one number per channel.
    fn add_bias(&self, y: Tensor, bias: Option<ParamId>) -> candle_core::Result<Tensor> {
        let Some(bias) = bias else { return Ok(y) };
        let mut wide = vec![1; y.rank()];
        wide[1] = y.dim(1)?;
        y.broadcast_add(&self.param(bias)?.reshape(wide.as_slice())?)
    }
}

/// `run` serves inputs itself.
fn unreachable_input() -> candle_core::Result<Tensor> {
    candle_core::bail!("an input has no operation")
}

fn normalise(x: &Tensor, eps: f64) -> candle_core::Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)
}

fn activate(act: Activation, x: &Tensor) -> candle_core::Result<Tensor> {
    match act {
        Activation::None => Ok(x.clone()),
        Activation::Relu => x.relu(),
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::QuickGelu => x.affine(1.702, 0.0)?.neg()?.exp()?.affine(1.0, 1.0)?.recip()?.mul(x),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => x.neg()?.exp()?.affine(1.0, 1.0)?.recip(),
        Activation::Silu => x.silu(),
    }
}

fn roll(x: &Tensor, axis: usize, by: isize) -> candle_core::Result<Tensor> {
    let n = x.dim(axis)?;
    let by = by.rem_euclid(n as isize) as usize;
    if by == 0 {
        return Ok(x.clone());
    }
    Tensor::cat(&[x.narrow(axis, n - by, by)?, x.narrow(axis, 0, n - by)?], axis)
}

/// Resize as two products with interpolation matrices (candle's own ignores strides when the size stays).
fn resize(x: &Tensor, to: &[usize], how: Sampling) -> candle_core::Result<Tensor> {
    let (h, w) = (x.dim(2)?, x.dim(3)?);
    let rows = interpolation(h, to[2], how);
    let columns = interpolation(w, to[3], how);
    let matrix =
        |data: Vec<f64>, r: usize, c: usize| Tensor::from_vec(data, (r, c), x.device())?.to_dtype(x.dtype());
    let y = x.contiguous()?.broadcast_matmul(&matrix(columns, to[3], w)?.t()?)?;
    matrix(rows, to[2], h)?.broadcast_matmul(&y)
}

/// Row `i` holds the shares of the inputs in output `i`.
fn interpolation(from: usize, to: usize, how: Sampling) -> Vec<f64> {
    let mut matrix = vec![0.0; from * to];
    let last = from as isize - 1;
    for i in 0..to {
        let half = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let place = match how.coordinates {
            Coordinates::HalfPixelFromStart if to <= 1 => 0.0,
            Coordinates::HalfPixel | Coordinates::HalfPixelFromStart => half,
            Coordinates::AlignCorners if to > 1 => i as f64 * last as f64 / (to - 1) as f64,
            Coordinates::AlignCorners => 0.0,
            Coordinates::Asymmetric => i as f64 * from as f64 / to as f64,
        };
        let mut share = |at: f64, share: f64| {
            matrix[i * from + (at as isize).clamp(0, last) as usize] += share;
        };
        match how.interpolation {
            Interpolation::Nearest(Rounding::Floor) => share(place.floor(), 1.0),
            Interpolation::Nearest(Rounding::Ceil) => share(place.ceil(), 1.0),
            Interpolation::Nearest(Rounding::HalfDown) => share((place - 0.5).ceil(), 1.0),
            Interpolation::Nearest(Rounding::HalfUp) => share((place + 0.5).floor(), 1.0),
            Interpolation::Bilinear => {
                let place = place.max(0.0);
                share(place.floor(), 1.0 - place.fract());
                share(place.floor() + 1.0, place.fract());
            }
            Interpolation::Bicubic => {
                let (floor, t) = (place.floor(), place - place.floor());
                for (d, distance) in [(-1.0, t + 1.0), (0.0, t), (1.0, 1.0 - t), (2.0, 2.0 - t)] {
                    share(floor + d, cubic(distance));
                }
            }
        }
    }
    matrix
}

/// The cubic convolution kernel with a = -0.75.
fn cubic(x: f64) -> f64 {
    let a = -0.75;
    if x <= 1.0 {
        (a + 2.0) * x.powi(3) - (a + 3.0) * x.powi(2) + 1.0
    } else {
        a * x.powi(3) - 5.0 * a * x.powi(2) + 8.0 * a * x - 4.0 * a
    }
}

/// A transposed convolution as a convolution of the input with zeros between its values and a turned kernel.
fn conv_transpose(x: &Tensor, w: &Tensor, g: Conv, more: [usize; 2]) -> candle_core::Result<Tensor> {
    let mut y = x.clone();
    for axis in [2, 3] {
        let stride = g.stride[axis - 2];
        let reach = g.dilation[axis - 2] * (w.dim(axis)? - 1);
        let n = y.dim(axis)?;
        // [.., n, ..] -> [.., n, 1, ..] -> [.., n, stride, ..] -> n · stride values of which the last zeros go.
        let spread = y.unsqueeze(axis + 1)?.pad_with_zeros(axis + 1, 0, stride - 1)?;
        let mut shape = y.dims().to_vec();
        shape[axis] = n * stride;
        y = spread.contiguous()?.reshape(shape)?.narrow(axis, 0, (n - 1) * stride + 1)?;
        y = y.pad_with_zeros(axis, reach, reach + more[axis - 2])?;
        let cut = g.padding[axis - 2];
        y = y.narrow(axis, cut, y.dim(axis)? - 2 * cut)?;
    }
    let turned = w.transpose(0, 1)?.contiguous()?.flip(&[2, 3])?.contiguous()?;
    if g.dilation[0] != g.dilation[1] {
        candle_core::bail!("dilations {:?} differ", g.dilation);
    }
    y.contiguous()?.conv2d(&turned, 0, 1, g.dilation[0], 1)
}
