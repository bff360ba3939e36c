//! One node with the fused kernels.

use super::buffers::Buffers;
use super::fusion::{Fused, Kind, Term};
use super::kernels::activation::{self, Activation};
use super::kernels::conv::{self, ConvWeight, Geometry, TransposeGeometry};
use super::kernels::elementwise::BinaryOp;
use super::kernels::gemm::{self, AQuant, PackedWeight};
use super::kernels::matmul::{BatchedMatMul, batched_matmul};
use super::kernels::softmax::{RowTerm, softmax_rows_bias};
use super::kernels::{elementwise, function, gather, layout, norm, pool, resize};
use super::{Engine, ExecError, Quantization, Value};
use crate::graph::{Graph, Node, Op};
use crate::quantizer::{self, Params};
use crate::terms::{Layout, SiteId};

/// The weight of a layer as its kernel wants it.
#[derive(Debug)]
pub(super) enum LayerWeight {
    /// Of a Linear.
    Linear(PackedWeight),
    /// Of a convolution.
    Conv(ConvWeight),
    /// Of a transposed convolution.
    ConvTranspose(ConvWeight),
}

impl LayerWeight {
    /// Packs the weight of `node`.
    pub(super) fn pack(graph: &Graph, node: &Node, data: &[f32]) -> Option<Self> {
        match &node.op {
            Op::Linear { weight, .. } => {
                let shape = &graph.param(*weight).shape;
                Some(Self::Linear(PackedWeight::pack(data, shape[0], shape[1])))
            }
            Op::Conv { .. } => Some(Self::Conv(ConvWeight::pack(data, &geometry(graph, node)))),
            Op::ConvTranspose { .. } => {
                let geometry = transpose_geometry(graph, node)?;
                Some(Self::ConvTranspose(conv::pack_transpose_weight(data, &geometry)))
            }
            _ => None,
        }
    }

    /// Memory it takes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Linear(w) => w.bytes(),
            Self::Conv(w) | Self::ConvTranspose(w) => w.bytes(),
        }
    }
}

/// The convolution of a node in the kernel's words; one-dimensional ones have height 1.
fn geometry(graph: &Graph, node: &Node) -> Geometry {
    let Op::Conv { weight, geometry, .. } = &node.op else { return Geometry::dense(0, [0, 0], 0, 0, 1, 0) };
    let w = &graph.param(*weight).shape;
    let x = &graph.node(node.inputs[0]).shape;
    let flat = x.len() == 3;
    let [_, left, _, right] = geometry.padding;
    Geometry {
        in_c: x[1],
        h: if flat { 1 } else { x[2] },
        w: x[x.len() - 1],
        out_c: w[0],
        kh: if flat { 1 } else { w[2] },
        kw: w[w.len() - 1],
        stride: if flat { [1, geometry.stride[1]] } else { geometry.stride },
        pad: if flat { [0, left, 0, right] } else { geometry.padding },
        dilation: if flat { [1, geometry.dilation[1]] } else { geometry.dilation },
        groups: geometry.groups,
    }
}

/// The same of a transposed convolution; none for another node.
fn transpose_geometry(graph: &Graph, node: &Node) -> Option<TransposeGeometry> {
    let Op::ConvTranspose { weight, geometry, output_padding, .. } = &node.op else { return None };
    let w = &graph.param(*weight).shape;
    let x = &graph.node(node.inputs[0]).shape;
    Some(TransposeGeometry {
        in_c: x[1],
        h: x[2],
        w: x[3],
        out_c: w[1],
        kh: w[2],
        kw: w[3],
        stride: geometry.stride,
        pad: [geometry.padding[0], geometry.padding[1]],
        output_pad: *output_padding,
        dilation: geometry.dilation,
    })
}

/// Fake-quantizes a tensor in place.
pub(super) fn fake_quantize(
    x: &mut [f32],
    layout: Layout,
    params: &Params,
    site: &SiteId,
) -> Result<(), ExecError> {
    params
        .check(layout)
        .map_err(|e| ExecError::Quantizer { site: site.to_string(), message: e.to_string() })?;
    quantizer::quantizer(params.scheme.family).fake_quantize(x, layout, params);
    Ok(())
}

/// Computes the value of node `index` from its operands, or from those of the sequence `fused` that ends there.
/// Operands that nobody else holds may be written over.
pub(super) fn node(
    engine: &Engine,
    index: usize,
    fused: Option<&Fused>,
    x: &mut [Value],
    quantization: &Quantization,
    buffers: &mut Buffers,
) -> Result<Value, ExecError> {
    let graph = &**engine.graph();
    let node = &graph.nodes()[index];
    let shape = node.shape.clone();
    match &node.op {
        Op::Input => {
            let (name, expected) = (node.name.clone(), shape);
            return Err(ExecError::MissingInput { name, expected });
        }
        Op::Constant(data) => return Ok(Value::shared(shape, std::sync::Arc::clone(data))),
        Op::Reshape => return Ok(x[0].reshaped(shape)),
        Op::Narrow { axis, start, .. } if shape[..*axis].iter().all(|&n| n == 1) => {
            let inner: usize = shape[axis + 1..].iter().product();
            return Ok(x[0].part(start * inner, shape));
        }
        _ => {}
    }
    if let Some(Fused { kind: Kind::Layer { layer, activation }, .. }) = fused {
        let mut out = buffers.take(shape.iter().product());
        self::layer(engine, *layer, &x[0], *activation, quantization, buffers, &mut out)?;
        return Ok(Value::new(shape, out));
    }
    let (first, rest) = x.split_at_mut(x.len().min(1));
    match (&node.op, first) {
        (Op::Softmax, [x]) => {
            let terms = match fused {
                Some(Fused { kind: Kind::Softmax(terms), .. }) => terms.as_slice(),
                _ => &[],
            };
            let mut out = overwritable(x, buffers);
            softmax(&mut out, &shape, terms, rest);
            return Ok(Value::new(shape, out));
        }
        (Op::Activation(act), [x]) => {
            let mut out = overwritable(x, buffers);
            activation::apply(*act, &mut out);
            return Ok(Value::new(shape, out));
        }
        (Op::Function(f), [x]) => {
            let mut out = overwritable(x, buffers);
            function::apply(*f, &mut out);
            return Ok(Value::new(shape, out));
        }
        (Op::Add, [x]) if x.shape() == shape && rest[0].shape() == shape => {
            let mut out = overwritable(x, buffers);
            elementwise::add_assign(&mut out, rest[0].as_slice());
            return Ok(Value::new(shape, out));
        }
        _ => {}
    }
    let mut out = buffers.take(shape.iter().product());
    match &node.op {
        Op::Linear { .. } | Op::Conv { .. } | Op::ConvTranspose { .. } => {
            layer(engine, index, &x[0], Activation::None, quantization, buffers, &mut out)?;
        }
        Op::MatMul { transpose_rhs, alpha } => {
            product(
                engine,
                index,
                (&x[0], &x[1]),
                (*transpose_rhs, *alpha),
                quantization,
                buffers,
                &mut out,
            )?;
        }
        _ => plain(graph, node, x, buffers, &mut out)?,
    }
    Ok(Value::new(shape, out))
}

/// The numbers of an operand to write over: its own if nobody else holds them, a copy otherwise.
fn overwritable(x: &mut Value, buffers: &mut Buffers) -> Vec<f32> {
    x.take_buffer().unwrap_or_else(|| {
        let mut copy = buffers.take(x.len());
        copy.copy_from_slice(x.as_slice());
        copy
    })
}

/// Softmax over the last axis after adding `operands`, whose rows lie as `terms` say.
fn softmax(x: &mut [f32], shape: &[usize], terms: &[Term], operands: &[Value]) {
    let columns = shape.last().copied().unwrap_or(1);
    let terms: Vec<RowTerm<'_>> = terms
        .iter()
        .zip(operands)
        .map(|(term, value)| RowTerm { data: value.as_slice(), dims: &term.dims, strides: &term.strides })
        .collect();
    softmax_rows_bias(x, x.len() / columns.max(1), columns, 1.0, &terms);
}

/// Operations without sites.
fn plain(
    graph: &Graph,
    node: &Node,
    x: &[Value],
    buffers: &mut Buffers,
    out: &mut [f32],
) -> Result<(), ExecError> {
    let a = x[0].as_slice();
    let from = x[0].shape();
    let last = from.last().copied().unwrap_or(1);
    match &node.op {
        Op::LayerNorm { gamma, beta, eps } => {
            let (gamma, beta) = (&graph.param(*gamma).data, &graph.param(*beta).data);
            norm::layer_norm(a, a.len() / last.max(1), last, gamma, beta, *eps, out);
        }
        Op::InstanceNorm { eps } => {
            norm::instance_norm_channels_first(a, from[1], from[2], *eps, out);
        }
        Op::BatchNorm { gamma, beta, mean, variance, eps } => {
            let param = |id: &crate::graph::ParamId| graph.param(*id).data.as_slice();
            let (gamma, beta, mean, variance) = (param(gamma), param(beta), param(mean), param(variance));
            let scale: Vec<f32> = gamma.iter().zip(variance).map(|(g, v)| g / (v + eps).sqrt()).collect();
            let shift: Vec<f32> = (0..scale.len()).map(|c| beta[c] - mean[c] * scale[c]).collect();
            for (x, out) in images(a, out, from[0]) {
                norm::channel_affine(x, from[1], from[2..].iter().product(), &scale, &shift, out);
            }
        }
        Op::Add => elementwise::broadcast(BinaryOp::Add, a, from, x[1].as_slice(), x[1].shape(), out),
        Op::Mul => elementwise::broadcast(BinaryOp::Mul, a, from, x[1].as_slice(), x[1].shape(), out),
        Op::Affine { mul, add } => {
            for (y, x) in out.iter_mut().zip(a) {
                *y = x.mul_add(*mul, *add);
            }
        }
        Op::Permute(axes) => layout::permute(a, from, axes, out),
        Op::Roll(shifts) => match shifts.as_slice() {
            [] => out.copy_from_slice(a),
            [(axis, by)] => layout::roll(a, from, *axis, *by, out),
            [first, rest @ ..] => {
                let mut other = buffers.take(a.len());
                layout::roll(a, from, first.0, first.1, out);
                for (axis, by) in rest {
                    other.copy_from_slice(out);
                    layout::roll(&other, from, *axis, *by, out);
                }
                buffers.give(other);
            }
        },
        Op::Pad { ends, fill } => {
            let mut pads = vec![(0, 0); from.len()];
            for &(axis, n) in ends {
                pads[axis].1 += n;
            }
            let fill = fill.as_ref().map_or(&[][..], |fill| fill.as_slice());
            layout::pad(a, from, &pads, fill, out);
        }
        Op::Narrow { axis, start, len } => layout::narrow(a, from, *axis, *start, *len, out),
        Op::Concat { axis } => {
            let row = |v: &Value| v.shape()[*axis..].iter().product::<usize>();
            let parts: Vec<(&[f32], usize)> = x.iter().map(|v| (v.as_slice(), row(v))).collect();
            layout::concat(&parts, from[..*axis].iter().product(), out);
        }
        Op::Embedding { table } => {
            let table = graph.param(*table);
            let (rows, width) = (table.shape[0], table.shape[1]);
            for (position, (token, row)) in a.iter().zip(out.chunks_exact_mut(width)).enumerate() {
                let fits = token.fract() == 0.0 && (0.0..rows as f32).contains(token);
                if !fits {
                    let node = node.name.clone();
                    return Err(ExecError::Token { node, token: *token, position, rows });
                }
                row.copy_from_slice(&table.data[*token as usize * width..][..width]);
            }
        }
        Op::Resize(how) => {
            let to = [node.shape[2], node.shape[3]];
            resize::resample(a, from[1], [from[2], from[3]], to, *how, out);
        }
        Op::Binary(op) => elementwise::broadcast(*op, a, from, x[1].as_slice(), x[1].shape(), out),
        Op::Where => {
            gather::choose([0, 1, 2].map(|i| (x[i].as_slice(), x[i].shape())), &node.shape, out);
        }
        Op::Reduce { kind, axes } => gather::reduce(*kind, a, from, axes, out),
        Op::ArgMax { axis } => gather::arg_max(a, from, *axis, out),
        Op::CumSum { axis, exclusive, reverse } => {
            gather::cumulative_sum(a, from, *axis, (*exclusive, *reverse), out);
        }
        Op::Gather { axis } => {
            gather::gather(a, from, *axis, x[1].as_slice(), out).map_err(|(position, token)| {
                ExecError::Token { node: node.name.clone(), token, position, rows: from[*axis] }
            })?;
        }
        Op::Expand => gather::expand(a, from, &node.shape, out),
        Op::Pool(pooling) => {
            pool::pool(a, [from[2], from[3]], *pooling, [node.shape[2], node.shape[3]], out);
        }
        // Served before.
        Op::Input
        | Op::Constant(_)
        | Op::Reshape
        | Op::Activation(_)
        | Op::Softmax
        | Op::Linear { .. }
        | Op::Conv { .. }
        | Op::ConvTranspose { .. }
        | Op::Function(_)
        | Op::MatMul { .. } => {}
    }
    Ok(())
}

/// A layer with a weight, and what is applied to its results.
fn layer(
    engine: &Engine,
    index: usize,
    x: &Value,
    act: Activation,
    quantization: &Quantization,
    buffers: &mut Buffers,
    out: &mut [f32],
) -> Result<(), ExecError> {
    let graph = &**engine.graph();
    let node = &graph.nodes()[index];
    let (Op::Linear { bias, .. } | Op::Conv { bias, .. } | Op::ConvTranspose { bias, .. }) = &node.op else {
        return Ok(());
    };
    let bias = bias.map(|id| graph.param(id).data.as_slice());
    let Some(weight) = quantization.weight(index).or_else(|| engine.packed(index)) else { return Ok(()) };
    with_operand(engine, index, (x, 0), quantization, buffers, |x, a| match weight {
        LayerWeight::Linear(w) => {
            gemm::linear(x, x.len() / w.k().max(1), w, a, bias, act, out);
        }
        LayerWeight::Conv(w) => {
            let geometry = geometry(graph, node);
            for (x, out) in images(x, out, node.shape[0]) {
                conv::conv2d(x, &geometry, w, a, bias, act, out);
            }
        }
        LayerWeight::ConvTranspose(w) => {
            if let Some(geometry) = transpose_geometry(graph, node) {
                for (x, out) in images(x, out, node.shape[0]) {
                    conv::conv_transpose2d(x, &geometry, w, a, bias, act, out);
                }
            }
        }
    })
}

/// Operand and result of each of `count` images (prompts of one picture are decoded side by side).
fn images<'x>(
    x: &'x [f32],
    out: &'x mut [f32],
    count: usize,
) -> impl Iterator<Item = (&'x [f32], &'x mut [f32])> {
    let (from, to) = (x.len() / count.max(1), out.len() / count.max(1));
    x.chunks_exact(from.max(1)).zip(out.chunks_exact_mut(to.max(1)))
}

/// A product of two activations.
fn product(
    engine: &Engine,
    index: usize,
    (lhs, rhs): (&Value, &Value),
    (transpose_rhs, alpha): (bool, f32),
    quantization: &Quantization,
    buffers: &mut Buffers,
    out: &mut [f32],
) -> Result<(), ExecError> {
    let (a, b) = (lhs.shape(), rhs.shape());
    let rank = a.len();
    let shape = BatchedMatMul {
        batch: a[..rank - 2].iter().product(),
        m: a[rank - 2],
        k: a[rank - 1],
        n: if transpose_rhs { b[rank - 2] } else { b[rank - 1] },
        transpose_rhs,
    };
    // The right operand is packed per matrix; it is quantized before, in a buffer, unless one grid serves all.
    let operand = quantization.operand(index, 1);
    let packed = operand.map_or(AQuant::None, |o| o.while_packing(false));
    let mut second = None;
    if let Some(operand) = operand
        && packed.is_none()
    {
        let site = &engine.graph().sites()[operand.site];
        let mut copy = buffers.take(rhs.len());
        copy.copy_from_slice(rhs.as_slice());
        fake_quantize(
            &mut copy,
            site.layout_of(operand.params.scheme.granularity),
            &operand.params,
            &site.id,
        )?;
        second = Some(copy);
    }
    let rhs_q = packed;
    let rhs = second.as_deref().unwrap_or(rhs.as_slice());
    with_operand(engine, index, (lhs, 0), quantization, buffers, |lhs, lhs_q| {
        batched_matmul(shape, lhs, rhs, lhs_q, rhs_q, alpha, out);
    })?;
    if let Some(copy) = second {
        buffers.give(copy);
    }
    Ok(())
}

/// Calls `kernel` with an operand and the grid it must put it on, or with the operand already on its grid where
/// the kernel cannot do it while packing.
fn with_operand(
    engine: &Engine,
    index: usize,
    (x, operand): (&Value, usize),
    quantization: &Quantization,
    buffers: &mut Buffers,
    kernel: impl FnOnce(&[f32], AQuant),
) -> Result<(), ExecError> {
    let Some(operand) = quantization.operand(index, operand) else {
        kernel(x.as_slice(), AQuant::None);
        return Ok(());
    };
    let packed = operand.while_packing(true);
    if !packed.is_none() {
        kernel(x.as_slice(), packed);
        return Ok(());
    }
    let site = &engine.graph().sites()[operand.site];
    let mut copy = buffers.take(x.len());
    copy.copy_from_slice(x.as_slice());
    fake_quantize(&mut copy, site.layout_of(operand.params.scheme.granularity), &operand.params, &site.id)?;
    kernel(&copy, AQuant::None);
    buffers.give(copy);
    Ok(())
}
