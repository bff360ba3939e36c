//! Operators that work value by value.

use super::super::flow::{Binary, Function, Id, Op, Unary};
use super::super::tensor::{Dtype, type_name};
use super::Handler;
use super::call::{Call, Fail};
use crate::exec::kernels::activation::Activation;

pub(super) fn handler(op: &str) -> Option<Handler> {
    Some(match op {
        "Abs" | "Neg" | "Exp" | "Log" | "Sqrt" | "Reciprocal" | "Sin" | "Cos" | "Floor" | "Ceil"
        | "Round" | "Sign" | "Erf" | "Not" | "Relu" | "Sigmoid" | "Tanh" => |call| {
            let x = call.operand(0)?;
            let function = unary(&call.node.op);
            Ok(vec![call.unary(function, x)?])
        },
        "Add" | "Sub" | "Mul" | "Div" | "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual"
        | "And" | "Or" | "Xor" => |call| {
            let (x, y) = (call.operand(0)?, call.operand(1)?);
            let kind = binary(&call.node.op);
            Ok(vec![call.binary(kind, x, y)?])
        },
        "Min" | "Max" | "Sum" | "Mean" => many,
        "Pow" => pow,
        "Mod" => modulo,
        "Where" => |call| {
            let operands = [call.operand(0)?, call.operand(1)?, call.operand(2)?];
            Ok(vec![call.push(Op::Where, &operands)?])
        },
        "Clip" => clip,
        "Cast" => |call| {
            let to = Dtype::of(call.int("to", 1));
            let to =
                to.ok_or_else(|| Fail::Unsupported(format!("the type {}", type_name(call.int("to", 1)))))?;
            let x = call.operand(0)?;
            Ok(vec![call.push(Op::Cast(to), &[x])?])
        },
        "CastLike" => |call| {
            let (x, like) = (call.operand(0)?, call.operand(1)?);
            let to = call.flow.dtype(like);
            Ok(vec![call.push(Op::Cast(to), &[x])?])
        },
        "Identity" | "Dropout" => |call| Ok(vec![call.operand(0)?]),
        "Gelu" | "FastGelu" | "QuickGelu" => gelu,
        "HardSigmoid" => |call| {
            let x = call.operand(0)?;
            let (alpha, beta) = (call.float("alpha", 0.2), call.float("beta", 0.5));
            Ok(vec![call.unary(Unary::HardSigmoid { alpha, beta }, x)?])
        },
        "HardSwish" => |call| {
            let x = call.operand(0)?;
            let gate = call.unary(Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, x)?;
            Ok(vec![call.binary(Binary::Mul, x, gate)?])
        },
        "LeakyRelu" => |call| {
            let (x, slope) = (call.operand(0)?, call.float("alpha", 0.01));
            let slope = call.flow.float(slope);
            leaky(call, x, slope)
        },
        "PRelu" => |call| {
            let (x, slope) = (call.operand(0)?, call.operand(1)?);
            leaky(call, x, slope)
        },
        "Elu" => |call| {
            let (x, alpha) = (call.operand(0)?, call.float("alpha", 1.0));
            let low = call.with(Binary::Min, x, 0.0)?;
            let low = call.unary(Unary::Function(Function::Exp), low)?;
            let low = call.with(Binary::Sub, low, 1.0)?;
            let low = call.with(Binary::Mul, low, alpha)?;
            let high = call.with(Binary::Max, x, 0.0)?;
            Ok(vec![call.binary(Binary::Add, high, low)?])
        },
        "Softplus" => |call| {
            let x = call.operand(0)?;
            Ok(vec![call.unary(Unary::Function(Function::Softplus), x)?])
        },
        _ => return None,
    })
}

fn unary(op: &str) -> Unary {
    match op {
        "Abs" => Unary::Function(Function::Abs),
        "Neg" => Unary::Function(Function::Neg),
        "Exp" => Unary::Function(Function::Exp),
        "Log" => Unary::Function(Function::Log),
        "Sqrt" => Unary::Function(Function::Sqrt),
        "Reciprocal" => Unary::Function(Function::Reciprocal),
        "Sin" => Unary::Function(Function::Sin),
        "Cos" => Unary::Function(Function::Cos),
        "Floor" => Unary::Function(Function::Floor),
        "Ceil" => Unary::Function(Function::Ceil),
        "Round" => Unary::Function(Function::Round),
        "Sign" => Unary::Function(Function::Sign),
        "Erf" => Unary::Function(Function::Erf),
        "Not" => Unary::Function(Function::Not),
        "Relu" => Unary::Activation(Activation::Relu),
        "Sigmoid" => Unary::Activation(Activation::Sigmoid),
        _ => Unary::Activation(Activation::Tanh),
    }
}

fn binary(op: &str) -> Binary {
    match op {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Equal" => Binary::Equal,
        "Less" => Binary::Less,
        "LessOrEqual" => Binary::LessOrEqual,
        "Greater" => Binary::Greater,
        "GreaterOrEqual" => Binary::GreaterOrEqual,
        "And" => Binary::And,
        "Or" => Binary::Or,
        _ => Binary::Xor,
    }
}

fn many(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let operands = call.operands();
    let kind = match call.node.op.as_str() {
        "Min" => Binary::Min,
        "Max" => Binary::Max,
        _ => Binary::Add,
    };
    let mut all = call.operand(0)?;
    for &x in operands.iter().skip(1) {
        all = call.binary(kind, all, x)?;
    }
    if call.node.op == "Mean" {
        all = call.with(Binary::Div, all, operands.len() as f32)?;
    }
    Ok(vec![all])
}

/// Squares and roots have operations of their own, which the patterns of normalisations look for.
fn pow(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let (x, exponent) = (call.operand(0)?, call.operand(1)?);
    let known = call.flow.scalar(exponent).filter(|_| call.flow.dtype(x) == Dtype::Float);
    Ok(vec![match known {
        Some(1.0) => x,
        Some(2.0) => call.binary(Binary::Mul, x, x)?,
        Some(0.5) => call.unary(Unary::Function(Function::Sqrt), x)?,
        Some(3.0) => {
            let square = call.binary(Binary::Mul, x, x)?;
            call.binary(Binary::Mul, square, x)?
        }
        _ => call.binary(Binary::Pow, x, exponent)?,
    }])
}

fn modulo(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let (x, y) = (call.operand(0)?, call.operand(1)?);
    if !call.flag("fmod", false) {
        return Ok(vec![call.binary(Binary::Mod, x, y)?]);
    }
    // C's remainder has the dividend's sign.
    let (size, by) =
        (call.unary(Unary::Function(Function::Abs), x)?, call.unary(Unary::Function(Function::Abs), y)?);
    let rest = call.binary(Binary::Mod, size, by)?;
    let sign = call.unary(Unary::Function(Function::Sign), x)?;
    Ok(vec![call.binary(Binary::Mul, rest, sign)?])
}

fn clip(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let mut x = call.operand(0)?;
    let number = |call: &mut Call<'_, '_>, name: &str| {
        call.node.attribute(name).map(|a| a.float).map(|value| call.flow.float(value))
    };
    if let Some(low) = call.optional(1).or_else(|| number(call, "min")) {
        if call.flow.scalar(low) == Some(0.0)
            && call.optional(2).is_none()
            && call.node.attribute("max").is_none()
        {
            return Ok(vec![call.unary(Unary::Activation(Activation::Relu), x)?]);
        }
        x = call.binary(Binary::Max, x, low)?;
    }
    if let Some(high) = call.optional(2).or_else(|| number(call, "max")) {
        x = call.binary(Binary::Min, x, high)?;
    }
    Ok(vec![x])
}

fn gelu(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let mut x = call.operand(0)?;
    let act = match call.node.op.as_str() {
        "QuickGelu" if (call.float("alpha", 1.702) - 1.702).abs() < 1e-4 => Activation::QuickGelu,
        "QuickGelu" => return Err(Fail::Unsupported("another factor than 1.702".into())),
        "FastGelu" => Activation::GeluTanh,
        _ if call.text("approximate", "none") == "tanh" => Activation::GeluTanh,
        _ => Activation::Gelu,
    };
    if let (Some(bias), "FastGelu") = (call.optional(1), call.node.op.as_str()) {
        x = call.binary(Binary::Add, x, bias)?;
    }
    Ok(vec![call.unary(Unary::Activation(act), x)?])
}

/// `max(x, 0) + slope · min(x, 0)`.
fn leaky(call: &mut Call<'_, '_>, x: Id, slope: Id) -> Result<Vec<Id>, Fail> {
    let high = call.with(Binary::Max, x, 0.0)?;
    let low = call.with(Binary::Min, x, 0.0)?;
    let low = call.binary(Binary::Mul, low, slope)?;
    Ok(vec![call.binary(Binary::Add, high, low)?])
}
