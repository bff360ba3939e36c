//! Elementwise functions of known values: integers stay integers, floats are computed as at run time.

use super::super::flow::{Binary, Unary};
use super::super::shape::is_exact;
use super::super::tensor::{Data, Dtype, broadcast_strides, places};
use super::Operand;
use crate::exec::kernels::activation;
use crate::exec::kernels::math;

pub(super) fn unary(function: Unary, x: &Data) -> Data {
    match (function, x) {
        (Unary::Neg, Data::Int(x)) => ints(x, i64::wrapping_neg),
        (Unary::Abs, Data::Int(x)) => ints(x, i64::wrapping_abs),
        (Unary::Sign, Data::Int(x)) => ints(x, i64::signum),
        (Unary::Floor | Unary::Ceil | Unary::Round, Data::Int(_)) => x.clone(),
        (Unary::Not, x) => ints(&x.to_ints(), |x| i64::from(x == 0)),
        (Unary::Activation(act), x) => {
            let mut values = x.to_floats().to_vec();
            activation::apply_serial(act, &mut values);
            Data::floats(values)
        }
        (_, x) => Data::floats(x.to_floats().iter().map(|&x| one(function, x)).collect()),
    }
}

fn ints(x: &[i64], f: impl Fn(i64) -> i64) -> Data {
    Data::ints(x.iter().map(|&x| f(x)).collect())
}

fn one(function: Unary, x: f32) -> f32 {
    match function {
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        // In f64 where a library's f32 function may be off by more than rounding.
        Unary::Exp => f64::from(x).exp() as f32,
        Unary::Log => f64::from(x).ln() as f32,
        Unary::Sqrt => x.sqrt(),
        Unary::Reciprocal => 1.0 / x,
        Unary::Sin => f64::from(x).sin() as f32,
        Unary::Cos => f64::from(x).cos() as f32,
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        Unary::Sign => {
            if x == 0.0 {
                0.0
            } else {
                x.signum()
            }
        }
        Unary::Erf => math::erf(x),
        Unary::HardSigmoid { alpha, beta } => alpha.mul_add(x, beta).clamp(0.0, 1.0),
        Unary::Not | Unary::Activation(_) => x,
    }
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
    let (left, right) = (broadcast_strides(a.shape, to), broadcast_strides(b.shape, to));
    let pairs = places(to, &left).zip(places(to, &right));
    if let (Data::Int(x), Data::Int(y)) = (a.data, b.data)
        && (is_exact(kind) || dtype.is_int())
    {
        let value = |(i, j): (usize, usize)| whole(kind, x[i], y[j]);
        return Ok(Data::ints(pairs.map(value).collect::<Result<_, _>>()?));
    }
    let (x, y) = (a.data.to_floats(), b.data.to_floats());
    let values = pairs.map(|(i, j)| real(kind, x[i], y[j]));
    Ok(if kind.is_comparison() {
        Data::ints(values.map(|x| x as i64).collect())
    } else {
        Data::floats(values.collect())
    })
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

fn real(kind: Binary, x: f32, y: f32) -> f32 {
    let truth = |yes: bool| if yes { 1.0 } else { 0.0 };
    match kind {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div => x / y,
        Binary::Mod => x - y * (x / y).floor(),
        Binary::Pow => f64::from(x).powf(f64::from(y)) as f32,
        Binary::Min => x.min(y),
        Binary::Max => x.max(y),
        Binary::Equal => truth(x == y),
        Binary::Less => truth(x < y),
        Binary::LessOrEqual => truth(x <= y),
        Binary::Greater => truth(x > y),
        Binary::GreaterOrEqual => truth(x >= y),
        Binary::And => truth(x != 0.0 && y != 0.0),
        Binary::Or => truth(x != 0.0 || y != 0.0),
        Binary::Xor => truth((x != 0.0) != (y != 0.0)),
    }
}
