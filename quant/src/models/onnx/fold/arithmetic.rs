//! Elementwise functions of known values: integers stay integers, floats are computed as at run time.

use super::super::flow::{Binary, Function, Unary, is_comparison};
use super::super::shape::is_exact;
use super::super::tensor::{Data, Dtype, broadcast_strides, places};
use super::Operand;
use crate::exec::kernels::{activation, elementwise};

pub(super) fn unary(function: Unary, x: &Data) -> Data {
    use Function::{Abs, Ceil, Floor, Neg, Not, Round, Sign, Truncate};
    match (function, x) {
        (Unary::Function(Neg), Data::Int(x)) => ints(x, i64::wrapping_neg),
        (Unary::Function(Abs), Data::Int(x)) => ints(x, i64::wrapping_abs),
        (Unary::Function(Sign), Data::Int(x)) => ints(x, i64::signum),
        (Unary::Function(Floor | Ceil | Round | Truncate), Data::Int(_)) => x.clone(),
        (Unary::Function(Not), x) => ints(&x.to_ints(), |x| i64::from(x == 0)),
        (Unary::Function(function), x) => {
            Data::floats(x.to_floats().iter().map(|&x| function.of(x)).collect())
        }
        (Unary::HardSigmoid { alpha, beta }, x) => {
            Data::floats(x.to_floats().iter().map(|x| alpha.mul_add(*x, beta).clamp(0.0, 1.0)).collect())
        }
        (Unary::Activation(act), x) => {
            let mut values = x.to_floats().to_vec();
            activation::apply_serial(act, &mut values);
            Data::floats(values)
        }
    }
}

fn ints(x: &[i64], f: impl Fn(i64) -> i64) -> Data {
    Data::ints(x.iter().map(|&x| f(x)).collect())
}

pub(super) fn cast(x: &Data, to: Dtype) -> Data {
    match (x, to) {
        (x, Dtype::Float) => Data::Float(x.to_floats()),
        (Data::Int(x), Dtype::Bool) => ints(x, |x| i64::from(x != 0)),
        (Data::Float(x), Dtype::Bool) => Data::ints(x.iter().map(|&x| i64::from(x != 0.0)).collect()),
        (x, Dtype::Int { .. }) => Data::Int(x.to_ints()),
    }
}

pub(super) fn binary(
    kind: Binary,
    a: Operand<'_>,
    b: Operand<'_>,
    to: &[usize],
    dtype: Dtype,
) -> Result<Data, String> {
    if let (Data::Int(x), Data::Int(y)) = (a.data, b.data)
        && (is_exact(kind) || dtype.is_int())
    {
        let (left, right) = (broadcast_strides(a.shape, to), broadcast_strides(b.shape, to));
        let pairs = places(to, &left).zip(places(to, &right));
        let value = |(i, j): (usize, usize)| whole(kind, x[i], y[j]);
        return Ok(Data::ints(pairs.map(value).collect::<Result<_, _>>()?));
    }
    let mut out = vec![0.0; to.iter().product()];
    if !out.is_empty() {
        elementwise::broadcast(kind, &a.data.to_floats(), a.shape, &b.data.to_floats(), b.shape, &mut out);
    }
    let truths = is_comparison(kind);
    Ok(if truths { Data::ints(out.iter().map(|&x| x as i64).collect()) } else { Data::floats(out) })
}

fn whole(kind: Binary, x: i64, y: i64) -> Result<i64, String> {
    Ok(match kind {
        Binary::Add => x.wrapping_add(y),
        Binary::Sub => x.wrapping_sub(y),
        Binary::Mul => x.wrapping_mul(y),
        Binary::Div => x.checked_div(y).ok_or("an integer is divided by zero")?,
        Binary::Mod => {
            let rest = x.checked_rem(y).ok_or("an integer is divided by zero")?;
            if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest }
        }
        Binary::Pow => u32::try_from(y).map_or(0, |y| x.wrapping_pow(y)),
        Binary::Min => x.min(y),
        Binary::Max => x.max(y),
        Binary::Equal => i64::from(x == y),
        Binary::Less => i64::from(x < y),
        Binary::LessOrEqual => i64::from(x <= y),
        Binary::Greater => i64::from(x > y),
        Binary::GreaterOrEqual => i64::from(x >= y),
        Binary::And => i64::from(x != 0 && y != 0),
        Binary::Or => i64::from(x != 0 || y != 0),
        Binary::Xor => i64::from((x != 0) != (y != 0)),
    })
}
