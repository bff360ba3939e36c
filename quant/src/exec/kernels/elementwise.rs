//! Arithmetic of one or two tensors, with NumPy broadcasting.

use super::dispatch::multiversion;
use super::parallel;

/// An operation on two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a · b`
    Mul,
    /// `a / b`
    Div,
    /// `a^b`
    Pow,
    /// The smaller one; NaN if one is.
    Min,
    /// The larger one; NaN if one is.
    Max,
    /// What is left of `a` after subtracting a whole number of `b`, with the sign of `b` (as Python's).
    Mod,
    /// 1 where `a = b`, else 0.
    Equal,
    /// 1 where `a < b`, else 0.
    Less,
    /// 1 where `a ≤ b`, else 0.
    LessOrEqual,
    /// 1 where `a > b`, else 0.
    Greater,
    /// 1 where `a ≥ b`, else 0.
    GreaterOrEqual,
    /// 1 where neither is 0, else 0.
    And,
    /// 1 where one is not 0, else 0.
    Or,
    /// 1 where one is 0 and the other is not, else 0.
    Xor,
}

impl BinaryOp {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::Pow => "Pow",
            Self::Min => "Min",
            Self::Max => "Max",
            Self::Mod => "Mod",
            Self::Equal => "Equal",
            Self::Less => "Less",
            Self::LessOrEqual => "LessOrEqual",
            Self::Greater => "Greater",
            Self::GreaterOrEqual => "GreaterOrEqual",
            Self::And => "And",
            Self::Or => "Or",
            Self::Xor => "Xor",
        }
    }
}

fn truth(x: bool) -> f32 {
    if x { 1.0 } else { 0.0 }
}

#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// `a^b`; squares exactly as a product, as PyTorch and ONNX Runtime.
fn pow(a: f32, b: f32) -> f32 {
    if b == 2.0 { a * a } else { libm::powf(a, b) }
}

fn modulo(a: f32, b: f32) -> f32 {
    let rest = a % b;
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
}

/// `out[i] = a[i] op b[i]`.
pub fn binary(op: BinaryOp, a: &[f32], b: &[f32], out: &mut [f32]) {
    assert!(a.len() == out.len() && b.len() == out.len(), "operands of {} and {}", a.len(), b.len());
    parallel::for_chunks(out, 1, |first, chunk| {
        let range = first..first + chunk.len();
        vectors(op, &a[range.clone()], &b[range], chunk);
    });
}

/// `x[i] += b[i]`, a residual connection.
pub fn add_assign(x: &mut [f32], b: &[f32]) {
    assert_eq!(x.len(), b.len(), "operands of equal length");
    parallel::for_chunks(x, 1, |first, chunk| add_in_place(chunk, &b[first..]));
}

/// `x[i] = x[i] op value` in place: adding or multiplying by a number.
pub fn scalar(op: BinaryOp, x: &mut [f32], value: f32) {
    parallel::for_chunks(x, 1, |_, chunk| scalar_in_place(op, chunk, value));
}

/// The shape of `a op b`, or `None` where the shapes do not broadcast.
pub fn broadcast_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    (0..rank)
        .map(|i| match (dim(a, rank, i), dim(b, rank, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// `out = a op b`, both broadcast to [`broadcast_shape`].
pub fn broadcast(op: BinaryOp, a: &[f32], a_shape: &[usize], b: &[f32], b_shape: &[usize], out: &mut [f32]) {
    assert_eq!(a.len(), a_shape.iter().product::<usize>(), "left operand of {a_shape:?}");
    assert_eq!(b.len(), b_shape.iter().product::<usize>(), "right operand of {b_shape:?}");
    let shape = broadcast_shape(a_shape, b_shape);
    let shape = shape.unwrap_or_else(|| panic!("{a_shape:?} and {b_shape:?} do not broadcast"));
    assert_eq!(out.len(), shape.iter().product::<usize>(), "output of {shape:?}");
    let walk = Walk::new(&shape, a_shape, b_shape);
    let (inner, (step_a, step_b)) = (walk.inner, walk.inner_steps);
    parallel::for_rows(out, inner, inner, |first, rows| {
        for (i, row) in rows.chunks_exact_mut(inner).enumerate() {
            let (at_a, at_b) = walk.offsets(first + i);
            match (step_a, step_b) {
                (0, 0) => row.fill(one(op, a[at_a], b[at_b])),
                (0, _) => vector_right(op, a[at_a], &b[at_b..][..inner], row),
                (_, 0) => vector_left(op, &a[at_a..][..inner], b[at_b], row),
                _ => vectors(op, &a[at_a..][..inner], &b[at_b..][..inner], row),
            }
        }
    });
}

/// Dimension `i` of a shape padded with leading ones to `rank`.
fn dim(shape: &[usize], rank: usize, i: usize) -> usize {
    (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i])
}

/// The rows of a broadcast: dimensions that both operands walk alike are merged.
struct Walk {
    /// Outer dimensions with the steps of both operands, outermost first.
    outer: Vec<(usize, usize, usize)>,
    inner: usize,
    inner_steps: (usize, usize),
}

impl Walk {
    fn new(shape: &[usize], a_shape: &[usize], b_shape: &[usize]) -> Self {
        let rank = shape.len();
        let (mut next_a, mut next_b) = (1, 1);
        // Innermost first.
        let mut merged: Vec<(usize, usize, usize)> = Vec::new();
        for i in (0..rank).rev() {
            let (size, da, db) = (shape[i], dim(a_shape, rank, i), dim(b_shape, rank, i));
            let step_a = if da == 1 { 0 } else { next_a };
            let step_b = if db == 1 { 0 } else { next_b };
            next_a *= da;
            next_b *= db;
            if size == 1 {
                continue;
            }
            match merged.last_mut() {
                Some((length, a, b)) if step_a == *a * *length && step_b == *b * *length => *length *= size,
                _ => merged.push((size, step_a, step_b)),
            }
        }
        let (inner, a, b) = if merged.is_empty() { (1, 0, 0) } else { merged.remove(0) };
        merged.reverse();
        Self { outer: merged, inner, inner_steps: (a, b) }
    }

    fn offsets(&self, mut row: usize) -> (usize, usize) {
        let (mut a, mut b) = (0, 0);
        for &(size, step_a, step_b) in self.outer.iter().rev() {
            a += row % size * step_a;
            b += row % size * step_b;
            row /= size;
        }
        (a, b)
    }
}

/// Runs `$loop` with `$f` bound to the operation, so that the choice is made outside of the loop.
macro_rules! for_each_op {
    ($op:expr, |$f:ident| $loop:block) => {
        for_each_op!(@ $op, $f, $loop,
            Add = |a, b| a + b,
            Sub = |a, b| a - b,
            Mul = |a, b| a * b,
            Div = |a, b| a / b,
            Pow = |a, b| pow(a, b),
            Min = |a, b| smaller(a, b),
            Max = |a, b| larger(a, b),
            Mod = |a, b| modulo(a, b),
            Equal = |a, b| truth(a == b),
            Less = |a, b| truth(a < b),
            LessOrEqual = |a, b| truth(a <= b),
            Greater = |a, b| truth(a > b),
            GreaterOrEqual = |a, b| truth(a >= b),
            And = |a, b| truth(a != 0.0 && b != 0.0),
            Or = |a, b| truth(a != 0.0 || b != 0.0),
            Xor = |a, b| truth((a != 0.0) != (b != 0.0))
        )
    };
    (@ $op:expr, $f:ident, $loop:block, $($name:ident = |$a:ident, $b:ident| $body:expr),*) => {
        match $op {
            $(BinaryOp::$name => {
                let $f = |$a: f32, $b: f32| -> f32 { $body };
                $loop
            })*
        }
    };
}

#[inline(always)]
fn one(op: BinaryOp, a: f32, b: f32) -> f32 {
    for_each_op!(op, |f| { f(a, b) })
}

multiversion! {
    fn vectors(op: BinaryOp, a: &[f32], b: &[f32], out: &mut [f32]) {
        for_each_op!(op, |f| {
            for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
                *o = f(a, b);
            }
        });
    }

    fn vector_left(op: BinaryOp, a: &[f32], b: f32, out: &mut [f32]) {
        for_each_op!(op, |f| {
            for (o, &a) in out.iter_mut().zip(a) {
                *o = f(a, b);
            }
        });
    }

    fn vector_right(op: BinaryOp, a: f32, b: &[f32], out: &mut [f32]) {
        for_each_op!(op, |f| {
            for (o, &b) in out.iter_mut().zip(b) {
                *o = f(a, b);
            }
        });
    }

    fn add_in_place(x: &mut [f32], b: &[f32]) {
        for (v, &b) in x.iter_mut().zip(b) {
            *v += b;
        }
    }

    fn scalar_in_place(op: BinaryOp, x: &mut [f32], value: f32) {
        for_each_op!(op, |f| {
            for v in x {
                *v = f(*v, value);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_same_everywhere, noise};
    use super::*;
    use candle_core::{Device, Tensor};
    use proptest::prelude::*;

    const ALL: [BinaryOp; 4] = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div];

    proptest! {
        #[test]
        fn broadcasting_agrees_with_candle(
            dims in prop::collection::vec((1..6_usize, 0..3_u8), 0..5), drop_a in 0..3_usize, drop_b in 0..3_usize,
        ) {
            let shape = |which: u8, drop: usize| {
                let full: Vec<usize> = dims.iter().map(|&(d, ones)| if ones == which { 1 } else { d }).collect();
                full[drop.min(full.len())..].to_vec()
            };
            let (a_shape, b_shape) = (shape(1, drop_a), shape(2, drop_b));
            let (a, b) = (noise(a_shape.iter().product(), 1), noise(b_shape.iter().product(), 2));
            let left = Tensor::from_slice(&a, a_shape.as_slice(), &Device::Cpu).unwrap();
            let right = Tensor::from_slice(&b, b_shape.as_slice(), &Device::Cpu).unwrap();
            for op in ALL {
                let expected = match op {
                    BinaryOp::Add => left.broadcast_add(&right),
                    BinaryOp::Sub => left.broadcast_sub(&right),
                    BinaryOp::Mul => left.broadcast_mul(&right),
                    _ => left.broadcast_div(&right),
                }.unwrap();
                prop_assert_eq!(broadcast_shape(&a_shape, &b_shape), Some(expected.dims().to_vec()));
                let mut out = vec![f32::NAN; expected.elem_count()];
                broadcast(op, &a, &a_shape, &b, &b_shape, &mut out);
                prop_assert_eq!(out, expected.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            }
        }
    }

    #[test]
    fn same_shape_scalar_and_residual() {
        let (a, b) = (noise(1001, 3), noise(1001, 4));
        for op in ALL {
            let mut out = vec![0.0; 1001];
            binary(op, &a, &b, &mut out);
            assert!(out.iter().zip(a.iter().zip(&b)).all(|(&o, (&a, &b))| o == one(op, a, b)));
            let mut x = a.clone();
            scalar(op, &mut x, 0.3);
            assert!(x.iter().zip(&a).all(|(&x, &a)| x == one(op, a, 0.3)));
        }
        let mut x = a.clone();
        add_assign(&mut x, &b);
        assert_eq!(x[1000], a[1000] + b[1000]);
        assert_eq!(broadcast_shape(&[2, 3], &[4, 3]), None);
        broadcast(BinaryOp::Add, &[], &[0, 3], &[1.0], &[1], &mut []);
    }

    #[test]
    fn comparisons_and_powers() {
        use BinaryOp::{And, Equal, GreaterOrEqual, Less, Max, Min, Mod, Or, Pow, Xor};
        let cases = [
            (Pow, 3.0, 2.0, 9.0),
            (Pow, 4.0, 0.5, 2.0),
            (Min, 1.0, -2.0, -2.0),
            (Max, 1.0, -2.0, 1.0),
            (Mod, -3.0, 2.0, 1.0),
            (Mod, 3.0, -2.0, -1.0),
            (Mod, 4.0, 2.0, 0.0),
            (Equal, 0.0, -0.0, 1.0),
            (Less, 1.0, 1.0, 0.0),
            (GreaterOrEqual, 1.0, 1.0, 1.0),
            (And, 2.0, 0.0, 0.0),
            (Or, 2.0, 0.0, 1.0),
            (Xor, 2.0, 3.0, 0.0),
        ];
        for (op, a, b, expected) in cases {
            assert_eq!(one(op, a, b), expected, "{op:?} of {a} and {b}");
        }
        assert!(one(Max, f32::NAN, 1.0).is_nan() && one(Min, 1.0, f32::NAN).is_nan());
    }

    #[test]
    fn same_bits_everywhere() {
        let (a, b) = (noise(500 * 301, 5), noise(301, 6));
        assert_same_everywhere(|| {
            let mut out = vec![0.0; a.len()];
            broadcast(BinaryOp::Mul, &a, &[500, 301], &b, &[301], &mut out);
            out
        });
    }
}
