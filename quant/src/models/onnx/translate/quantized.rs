//! Operators of quantized files. They are translated to their float meaning; what they say about grids is kept as the
//! encodings that values carry.
//!
//! `QuantizeLinear` and `DequantizeLinear` of an activation leave the value as it is: the file's own grid is shown as
//! the plan that it carries, and is not applied to the full-precision model. A dynamic quantization gives the value
//! itself with scale 1, so that `MatMulInteger · (scale of x · scale of w)` is the product in floats.
//!
//! One thing of a grid is not rounding but part of the model: quantizers take away a ReLU (or Clip) before a grid that
//! ends at zero, where codes saturate just as it did (onnxruntime's `quantize_static` does). It is put back: see
//! [`held`].

use super::super::flow::{Binary, Code, Id, Op, Unary};
use super::super::tensor::{Data, Dtype};
use super::Handler;
use super::call::{Call, Fail};
use super::{layers, product};
use crate::exec::kernels::activation::Activation;

/// The upper end of ReLU6.
const SIX: f32 = 6.0;

pub(super) fn handler(op: &str) -> Option<Handler> {
    Some(match op {
        "QuantizeLinear" => quantize,
        "DequantizeLinear" => dequantize,
        "DynamicQuantizeLinear" => dynamic,
        "MatMulInteger" => |call| {
            let (x, w) = integers(call)?;
            Ok(vec![product::matmul(call, x, w)?])
        },
        "ConvInteger" => |call| {
            let (x, w) = integers(call)?;
            Ok(vec![layers::conv(call, &[x, w])?])
        },
        "QLinearMatMul" => |call| {
            let (x, w) = (coded(call, 0, 1)?, coded(call, 3, 1)?);
            let y = product::matmul(call, x, w)?;
            Ok(vec![coding(call, y, 6, 7)?])
        },
        "QLinearConv" => |call| {
            let mut inputs = vec![coded(call, 0, 0)?, coded(call, 3, 0)?];
            inputs.extend(bias(call, 8)?);
            let y = layers::conv(call, &inputs)?;
            Ok(vec![coding(call, y, 6, 7)?])
        },
        "QGemm" => gemm,
        "QLinearAdd" | "QLinearMul" => |call| {
            let (x, y) = (coded(call, 0, 1)?, coded(call, 3, 1)?);
            let kind = if call.node.op == "QLinearAdd" { Binary::Add } else { Binary::Mul };
            let y = call.binary(kind, x, y)?;
            Ok(vec![coding(call, y, 6, 7)?])
        },
        "QLinearSigmoid" => |call| {
            let x = coded(call, 0, 1)?;
            let y = call.unary(Unary::Activation(Activation::Sigmoid), x)?;
            Ok(vec![coding(call, y, 3, 4)?])
        },
        "QLinearSoftmax" => |call| {
            let (x, opset) = (coded(call, 0, 1)?, call.int("opset", 13));
            let y = layers::softmax_of(call, x, opset)?;
            Ok(vec![coding(call, y, 3, 4)?])
        },
        "QLinearConcat" => |call| {
            // Scale and zero point of the result, then three for each part.
            let parts: Vec<Id> =
                (2..call.operands.len()).step_by(3).map(|at| coded(call, at, 1)).collect::<Result<_, _>>()?;
            let first = *parts.first().ok_or("it has no parts")?;
            let axis = call.axis("axis", 1, call.rank(first))?;
            let y = call.concat(&parts, axis)?;
            Ok(vec![coding(call, y, 0, 1)?])
        },
        _ => return None,
    })
}

/// The encoding that a scale and a zero point say, for a tensor of `rank` axes; the type is that of the zero point.
fn code(call: &Call<'_, '_>, scale: Id, zero: Option<Id>, rank: usize, of: Dtype) -> Result<Code, Fail> {
    let scales = call.known(scale)?.to_floats();
    if let Some(scale) = scales.iter().find(|scale| !usable(**scale)) {
        return Err(format!("a scale is {scale}; quantize the model again, so that all are positive").into());
    }
    let Dtype::Int { bits, signed } = zero.map_or(of, |id| call.flow.dtype(id)) else {
        return Err(Fail::Unsupported("codes that are no integers".into()));
    };
    let zero_point = match zero {
        Some(id) => call.known(id)?.to_ints().to_vec(),
        None => vec![0],
    };
    let axis = if scales.len() > 1 { Some(call.axis("axis", 1, rank)?) } else { None };
    Ok(Code { bits, signed, scale: scales.to_vec(), zero_point, axis, dynamic: false })
}

/// Whether a scale spans a grid.
fn usable(scale: f32) -> bool {
    scale.is_finite() && scale > 0.0
}

/// Whether a scale of a value that is known in floats spans a grid. Calibration that meets `-inf`, as masks of attention
/// have it, leaves an infinite scale or none: such a value stays in floats, with a warning.
fn spans(call: &mut Call<'_, '_>, scale: Id) -> Result<bool, Fail> {
    let bad = call.known(scale)?.to_floats().iter().copied().find(|&scale| !usable(scale));
    if let Some(bad) = bad {
        let node = call.flow.name.to_string();
        call.flow.warnings.push(format!(
            "node `{node}`: its scale is {bad}, so its value stays in full precision; leave it out when quantizing"
        ));
    }
    Ok(bad.is_none())
}

fn quantize(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let (x, scale) = (call.operand(0)?, call.operand(1)?);
    if !spans(call, scale)? {
        return Ok(vec![x]);
    }
    let default = Dtype::of(call.int("output_dtype", 2)).unwrap_or(Dtype::Int { bits: 8, signed: false });
    let code = code(call, scale, call.optional(2), call.rank(x), default)?;
    Ok(vec![held(call, x, code)?])
}

/// A value that is stored on a grid. Where all codes lie on one side of zero and the value may lie on the other, the
/// grid is what is left of a ReLU, or of a Clip that ends at zero: it takes its place. A value that passes zero by no
/// more than half a step is rounded to zero anyhow, and an input has no operator that could have been taken away.
fn held(call: &mut Call<'_, '_>, mut x: Id, code: Code) -> Result<Id, Fail> {
    let (lowest, highest) = code.ends();
    let all = |end: i64| code.zero_point.iter().all(|&zero| zero == end);
    let step = code.scale.iter().copied().fold(f32::INFINITY, f32::min);
    if (all(lowest) || all(highest)) && !matches!(call.flow.step(x).op, Op::Input | Op::Constant(_)) {
        let bounds = call.flow.bounds(x);
        if all(lowest) && bounds.low < -step / 2.0 {
            // ReLU6 leaves a grid that ends at 6; other upper ends are what calibration saw.
            let top = step * (highest - lowest) as f32;
            x = if (top - SIX).abs() <= SIX * 1e-4 && code.scale.len() == 1 {
                let cut = call.with(Binary::Max, x, 0.0)?;
                call.with(Binary::Min, cut, SIX)?
            } else {
                call.unary(Unary::Activation(Activation::Relu), x)?
            };
        } else if all(highest) && bounds.high > step / 2.0 {
            x = call.with(Binary::Min, x, 0.0)?;
        }
    }
    call.flow.codes.insert(x, code);
    Ok(x)
}

fn dequantize(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let (x, scale, zero) = (call.operand(0)?, call.operand(1)?, call.optional(2));
    let of = call.flow.dtype(x);
    if !of.is_int() {
        // It was quantized before: the value went on as it was.
        return Ok(vec![x]);
    }
    if call.int("block_size", 0) != 0 {
        return Err(Fail::Unsupported("blocks".into()));
    }
    let mut code = code(call, scale, None, call.rank(x), of)?;
    let along = |call: &mut Call<'_, '_>, id: Id| -> Result<Id, Fail> {
        let Some(axis) = code.axis else {
            return call.reshape(id, vec![]);
        };
        let mut shape = vec![1; call.rank(x)];
        shape[axis] = call.flow.shape(id).iter().product();
        call.reshape(id, shape)
    };
    let mut y = call.push(Op::Cast(Dtype::Float), &[x])?;
    if let Some(zero) = zero {
        code.zero_point = call.known(zero)?.to_ints().to_vec();
        let zero = call.push(Op::Cast(Dtype::Float), &[zero])?;
        let zero = along(call, zero)?;
        y = call.binary(Binary::Sub, y, zero)?;
    }
    let scale = along(call, scale)?;
    y = call.binary(Binary::Mul, y, scale)?;
    // 32-bit codes are biases: they belong to no site.
    if of.is_code() {
        call.flow.codes.insert(y, code);
    } else {
        call.flow.codes.remove(&y);
    }
    Ok(vec![y])
}

/// `alpha · A · B + C` of codes; the result is codes only where it is given a scale.
fn gemm(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let (turn_x, turn_w) = (call.flag("transA", false), call.flag("transB", false));
    let (mut x, mut w) = (coded(call, 0, 1)?, coded(call, 3, usize::from(!turn_w))?);
    if call.rank(x) != 2 || call.rank(w) != 2 {
        return Err("its operands must be matrices".into());
    }
    if turn_x {
        x = call.permute(x, &[1, 0])?;
    }
    if turn_w {
        w = call.permute(w, &[1, 0])?;
    }
    let mut y = product::matmul(call, x, w)?;
    let alpha = call.float("alpha", 1.0);
    if alpha != 1.0 {
        y = call.with(Binary::Mul, y, alpha)?;
    }
    if let Some(mut bias) = bias(call, 6)? {
        // Stored in steps of alpha and both scales.
        if alpha != 1.0 {
            bias = call.with(Binary::Mul, bias, alpha)?;
        }
        y = call.binary(Binary::Add, y, bias)?;
    }
    Ok(vec![if call.optional(7).is_some() { coding(call, y, 7, 8)? } else { y }])
}

/// A bias as floats: it is stored in steps of the operand's scale times the weight's.
fn bias(call: &mut Call<'_, '_>, at: usize) -> Result<Option<Id>, Fail> {
    let Some(bias) = call.optional(at) else { return Ok(None) };
    let (x, w) = (call.operand(1)?, call.operand(4)?);
    let step = call.binary(Binary::Mul, x, w)?;
    let bias = call.push(Op::Cast(Dtype::Float), &[bias])?;
    Ok(Some(call.binary(Binary::Mul, bias, step)?))
}

/// Codes, scale and zero point of an operand as they stand in a `QLinear…` operator, as floats. Several scales belong
/// to `axis`.
fn coded(call: &mut Call<'_, '_>, at: usize, axis: usize) -> Result<Id, Fail> {
    let (x, scale, zero) = (call.operand(at)?, call.operand(at + 1)?, call.optional(at + 2));
    let of = call.flow.dtype(x);
    if !of.is_int() {
        if spans(call, scale)? {
            let code = code(call, scale, zero, call.rank(x), Dtype::Int { bits: 8, signed: false })?;
            call.flow.codes.insert(x, code);
        }
        return Ok(x);
    }
    let mut y = call.push(Op::Cast(Dtype::Float), &[x])?;
    let scales = call.known(scale)?.len();
    let mut shape = vec![1; call.rank(x)];
    if scales > 1 {
        *shape.get_mut(axis).ok_or("a scale per entry of an axis that is not there")? = scales;
    }
    if let Some(zero) = zero {
        let zero = call.push(Op::Cast(Dtype::Float), &[zero])?;
        let spread = if call.known(zero)?.len() > 1 { shape.clone() } else { vec![1; shape.len()] };
        let zero = call.reshape(zero, spread)?;
        y = call.binary(Binary::Sub, y, zero)?;
    }
    let factor = call.reshape(scale, shape)?;
    let y = call.binary(Binary::Mul, y, factor)?;
    if let Dtype::Int { bits, signed } = of {
        let zero_point = match zero {
            Some(id) => call.known(id)?.to_ints().to_vec(),
            None => vec![0],
        };
        let scale = call.known(scale)?.to_floats().to_vec();
        let axis = (scales > 1).then_some(axis);
        call.flow.codes.insert(y, Code { bits, signed, scale, zero_point, axis, dynamic: false });
    }
    Ok(y)
}

/// Notes the encoding of a result, which may hold it.
fn coding(call: &mut Call<'_, '_>, y: Id, scale: usize, zero: usize) -> Result<Id, Fail> {
    let (scale, zero) = (call.operand(scale)?, call.optional(zero));
    if !spans(call, scale)? {
        return Ok(y);
    }
    let code = code(call, scale, zero, call.rank(y), Dtype::Int { bits: 8, signed: false })?;
    held(call, y, code)
}

fn dynamic(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let x = call.operand(0)?;
    let code = Code { bits: 8, signed: false, scale: vec![], zero_point: vec![], axis: None, dynamic: true };
    call.flow.codes.insert(x, code);
    let scale = call.flow.float(1.0);
    let zero = call.flow.constant(vec![], Dtype::Int { bits: 8, signed: false }, Data::ints(vec![0]))?;
    Ok(vec![x, scale, zero])
}

/// The operands of an integer product as floats, without their zero points.
fn integers(call: &mut Call<'_, '_>) -> Result<(Id, Id), Fail> {
    let (x, w) = (call.operand(0)?, call.operand(1)?);
    let mut both = [x, w];
    for (i, id) in both.iter_mut().enumerate() {
        let mut y = call.push(Op::Cast(Dtype::Float), &[*id])?;
        if let Some(zero) = call.optional(2 + i)
            && call.flow.dtype(*id).is_int()
        {
            let zero = call.push(Op::Cast(Dtype::Float), &[zero])?;
            // A zero point per column of a matrix, or per row of a convolution's weight.
            let mut shape = vec![1; call.rank(y)];
            let count = call.known(zero)?.len();
            if count > 1 {
                let axis = if call.node.op == "ConvInteger" { 0 } else { shape.len() - 1 };
                shape[axis] = count;
            }
            let zero = call.reshape(zero, shape)?;
            y = call.binary(Binary::Sub, y, zero)?;
        }
        *id = y;
    }
    Ok((both[0], both[1]))
}
