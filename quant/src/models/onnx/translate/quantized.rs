//! Operators of quantized files. They are translated to their float meaning; what they say about grids is kept as the
//! encodings that values carry.
//!
//! `QuantizeLinear` and `DequantizeLinear` of an activation leave the value as it is: the file's own grid is shown as
//! the plan that it carries, and is not applied to the full-precision model. A dynamic quantization gives the value
//! itself with scale 1, so that `MatMulInteger · (scale of x · scale of w)` is the product in floats.

use super::super::flow::{Binary, Code, Id, Op};
use super::super::tensor::{Data, Dtype};
use super::Handler;
use super::call::{Call, Fail};
use super::{layers, product};

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
            let x = coded(call, 0)?;
            let w = coded(call, 3)?;
            let y = product::matmul(call, x, w)?;
            Ok(vec![coding(call, y, 6, 7)?])
        },
        "QLinearConv" => |call| {
            let x = coded(call, 0)?;
            let w = coded(call, 3)?;
            let mut inputs = vec![x, w];
            if let Some(bias) = call.optional(8) {
                // The bias is stored in steps of both scales.
                let (xs, ws) = (call.operand(1)?, call.operand(4)?);
                let step = call.binary(Binary::Mul, xs, ws)?;
                let bias = call.push(Op::Cast(Dtype::Float), &[bias])?;
                inputs.push(call.binary(Binary::Mul, bias, step)?);
            }
            let y = layers::conv(call, &inputs)?;
            Ok(vec![coding(call, y, 6, 7)?])
        },
        "QLinearAdd" => |call| {
            let (x, y) = (coded(call, 0)?, coded(call, 3)?);
            Ok(vec![call.binary(Binary::Add, x, y)?])
        },
        _ => return None,
    })
}

/// The encoding that a scale and a zero point say, for a tensor of `rank` axes; the type is that of the zero point.
fn code(call: &Call<'_, '_>, scale: Id, zero: Option<Id>, rank: usize, of: Dtype) -> Result<Code, Fail> {
    let scales = call.known(scale)?.to_floats();
    if scales.iter().any(|s| !s.is_finite() || *s <= 0.0) {
        return Err("a scale is not a positive number".into());
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

fn quantize(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let (x, scale) = (call.operand(0)?, call.operand(1)?);
    let default = Dtype::of(call.int("output_dtype", 2)).unwrap_or(Dtype::Int { bits: 8, signed: false });
    let code = code(call, scale, call.optional(2), call.rank(x), default)?;
    call.flow.codes.insert(x, code);
    Ok(vec![x])
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

/// Codes, scale and zero point of an operand as they stand in a `QLinear…` operator, as floats.
fn coded(call: &mut Call<'_, '_>, at: usize) -> Result<Id, Fail> {
    let (x, scale, zero) = (call.operand(at)?, call.operand(at + 1)?, call.optional(at + 2));
    let of = call.flow.dtype(x);
    if !of.is_int() {
        let code = code(call, scale, zero, call.rank(x), Dtype::Int { bits: 8, signed: false })?;
        call.flow.codes.insert(x, code);
        return Ok(x);
    }
    let mut y = call.push(Op::Cast(Dtype::Float), &[x])?;
    let scales = call.known(scale)?.len();
    let mut shape = vec![1; call.rank(x)];
    // One scale per row of a convolution's weight, or per column of a matrix.
    let axis = usize::from(call.rank(x) == 2);
    if scales > 1 {
        shape[axis] = scales;
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

/// Notes the encoding of a result.
fn coding(call: &mut Call<'_, '_>, y: Id, scale: usize, zero: usize) -> Result<Id, Fail> {
    let (scale, zero) = (call.operand(scale)?, call.optional(zero));
    let code = code(call, scale, zero, call.rank(y), Dtype::Int { bits: 8, signed: false })?;
    call.flow.codes.insert(y, code);
    Ok(y)
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
