//! Operators that sum axes up.

use super::super::flow::{Binary, Function, Id, Op, Reduce, Unary};
use super::super::tensor::{Data, Dtype};
use super::Handler;
use super::call::{Call, Fail, axis};

pub(super) fn handler(op: &str) -> Option<Handler> {
    Some(match op {
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1" | "ReduceL2"
        | "ReduceSumSquare" | "ReduceLogSumExp" => reduce,
        "ArgMax" | "ArgMin" => arg,
        "CumSum" => |call| {
            let (x, at) = (call.operand(0)?, call.operand(1)?);
            let at = call.known(at)?.to_ints().first().copied().ok_or("its axis is missing")?;
            let axis = axis(at, call.rank(x))?;
            let (exclusive, reverse) = (call.flag("exclusive", false), call.flag("reverse", false));
            Ok(vec![call.push(Op::CumSum { axis, exclusive, reverse }, &[x])?])
        },
        _ => return None,
    })
}

fn without(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    (0..shape.len()).filter(|a| !axes.contains(a)).map(|a| shape[a]).collect()
}

fn reduce(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let mut x = call.operand(0)?;
    let shape = call.shape(x);
    let axes = call.list("axes", 1)?.filter(|axes| !axes.is_empty());
    let axes: Vec<usize> = match axes {
        Some(axes) => axes.iter().map(|&a| axis(a, shape.len())).collect::<Result<_, _>>()?,
        None if call.flag("noop_with_empty_axes", false) => return Ok(vec![x]),
        None => (0..shape.len()).collect(),
    };
    let op = call.node.op.as_str();
    let kind = match op {
        "ReduceMean" => Reduce::Mean,
        "ReduceMax" => Reduce::Max,
        "ReduceMin" => Reduce::Min,
        "ReduceProd" => Reduce::Product,
        "ReduceL1" => Reduce::L1,
        "ReduceL2" => Reduce::L2,
        "ReduceSumSquare" => Reduce::SumSquares,
        _ => Reduce::Sum,
    };
    let mut most = None;
    if op == "ReduceLogSumExp" {
        let high = call.reduce(Reduce::Max, x, axes.clone())?;
        most = Some(high);
        x = call.binary(Binary::Sub, x, high)?;
        x = call.unary(Unary::Function(Function::Exp), x)?;
    }
    x = call.reduce(kind, x, axes.clone())?;
    if let Some(high) = most {
        x = call.unary(Unary::Function(Function::Log), x)?;
        x = call.binary(Binary::Add, x, high)?;
    }
    if !call.flag("keepdims", true) {
        x = call.reshape(x, without(&shape, &axes))?;
    }
    Ok(vec![x])
}

fn arg(call: &mut Call<'_, '_>) -> Result<Vec<Id>, Fail> {
    let mut x = call.operand(0)?;
    let shape = call.shape(x);
    let axis = call.axis("axis", 0, shape.len())?;
    if call.node.op == "ArgMin" {
        x = call.unary(Unary::Function(Function::Neg), x)?;
    }
    // The last of equal values is the first of the reversed axis.
    let (last, len) = (call.flag("select_last_index", false), shape[axis] as i64);
    if last {
        call.flow.reserve(&[shape[axis]])?;
        x = call.pick(x, axis, (0..len).rev().collect())?;
    }
    x = call.push(Op::ArgMax { axis }, &[x])?;
    if last {
        let end = call.flow.constant(vec![], Dtype::INT, Data::ints(vec![len - 1]))?;
        x = call.binary(Binary::Sub, end, x)?;
    }
    if !call.flag("keepdims", true) {
        x = call.reshape(x, without(&shape, &[axis]))?;
    }
    Ok(vec![x])
}
