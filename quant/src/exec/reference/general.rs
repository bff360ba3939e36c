//! The operations of imported graphs with candle's own.

use candle_core::{D, DType, Result, Tensor};

use crate::exec::kernels::elementwise::BinaryOp;
use crate::exec::kernels::function::Function;
use crate::exec::kernels::gather::Reduction;
use crate::exec::kernels::pool::{PoolKind, Pooling};

pub(super) fn function(f: Function, x: &Tensor) -> Result<Tensor> {
    let hard_sigmoid = || x.affine(1.0 / 6.0, 0.5)?.clamp(0.0, 1.0);
    match f {
        Function::Neg => x.neg(),
        Function::Abs => x.abs(),
        Function::Sign => x.sign(),
        Function::Exp => x.exp(),
        Function::Log => x.log(),
        Function::Sqrt => x.sqrt(),
        Function::Reciprocal => x.recip(),
        Function::Sin => x.sin(),
        Function::Cos => x.cos(),
        Function::Erf => x.erf(),
        Function::Softplus => x.relu()?.add(&x.abs()?.neg()?.exp()?.affine(1.0, 1.0)?.log()?),
        Function::Floor => x.floor(),
        Function::Ceil => x.ceil(),
        Function::Round => half_to_even(x),
        Function::Truncate => x.sign()?.mul(&x.abs()?.floor()?),
        Function::Not => x.eq(0.0)?.to_dtype(x.dtype()),
        Function::HardSigmoid => hard_sigmoid(),
        Function::HardSwish => x.mul(&hard_sigmoid()?),
    }
}

/// Candle rounds halves away from zero: from `floor(x + 1/2)` one is taken at odd halves.
fn half_to_even(x: &Tensor) -> Result<Tensor> {
    let up = x.affine(1.0, 0.5)?.floor()?;
    let half = up.sub(x)?.eq(0.5)?.to_dtype(x.dtype())?;
    let odd = up.sub(&up.affine(0.5, 0.0)?.floor()?.affine(2.0, 0.0)?)?;
    up.sub(&half.mul(&odd)?)
}

pub(super) fn binary(op: BinaryOp, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let truth = |t: Tensor| t.to_dtype(a.dtype());
    let set = |x: &Tensor| x.ne(0.0)?.to_dtype(a.dtype());
    match op {
        BinaryOp::Add => a.broadcast_add(b),
        BinaryOp::Sub => a.broadcast_sub(b),
        BinaryOp::Mul => a.broadcast_mul(b),
        BinaryOp::Div => a.broadcast_div(b),
        BinaryOp::Pow => a.broadcast_pow(b),
        BinaryOp::Min => a.broadcast_minimum(b),
        BinaryOp::Max => a.broadcast_maximum(b),
        BinaryOp::Mod => a.broadcast_sub(&a.broadcast_div(b)?.floor()?.broadcast_mul(b)?),
        BinaryOp::Equal => truth(a.broadcast_eq(b)?),
        BinaryOp::Less => truth(a.broadcast_lt(b)?),
        BinaryOp::LessOrEqual => truth(a.broadcast_le(b)?),
        BinaryOp::Greater => truth(a.broadcast_gt(b)?),
        BinaryOp::GreaterOrEqual => truth(a.broadcast_ge(b)?),
        BinaryOp::And => set(a)?.broadcast_mul(&set(b)?),
        BinaryOp::Or => set(a)?.broadcast_maximum(&set(b)?),
        BinaryOp::Xor => truth(set(a)?.broadcast_ne(&set(b)?)?),
    }
}

/// The second operand where the first is not 0, else the third.
pub(super) fn choose(x: &[&Tensor], shape: &[usize]) -> Result<Tensor> {
    let wide = |t: &Tensor| t.broadcast_as(shape)?.contiguous();
    wide(x[0])?.ne(0.0)?.where_cond(&wide(x[1])?, &wide(x[2])?)
}

pub(super) fn reduce(kind: Reduction, x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let each = |x: &Tensor, one: fn(&Tensor, usize) -> Result<Tensor>| {
        axes.iter().try_fold(x.clone(), |y, &axis| one(&y, axis))
    };
    match kind {
        Reduction::Sum => x.sum_keepdim(axes),
        Reduction::Mean => x.mean_keepdim(axes),
        Reduction::Max => each(x, Tensor::max_keepdim),
        Reduction::Min => each(x, Tensor::min_keepdim),
        Reduction::L1 => x.abs()?.sum_keepdim(axes),
        Reduction::L2 => x.sqr()?.sum_keepdim(axes)?.sqrt(),
        Reduction::SumSquares => x.sqr()?.sum_keepdim(axes),
        Reduction::Product => each(x, |y, axis| {
            let mut product = y.narrow(axis, 0, 1)?;
            for at in 1..y.dim(axis)? {
                product = product.mul(&y.narrow(axis, at, 1)?)?;
            }
            Ok(product)
        }),
    }
}

pub(super) fn arg_max(x: &Tensor, axis: usize) -> Result<Tensor> {
    // Candle's argmax says nothing of ties: the first place of the largest value, counted down.
    let n = x.dim(axis)?;
    let best = x.broadcast_eq(&x.max_keepdim(axis)?)?.to_dtype(x.dtype())?;
    let mut wide = vec![1; x.rank()];
    wide[axis] = n;
    let down: Vec<f64> = (0..n).map(|i| (n - i) as f64).collect();
    let down = Tensor::from_vec(down, wide, x.device())?.to_dtype(x.dtype())?;
    best.broadcast_mul(&down)?.max_keepdim(axis)?.affine(-1.0, n as f64)
}

pub(super) fn cumulative_sum(x: &Tensor, axis: usize, exclusive: bool, reverse: bool) -> Result<Tensor> {
    let x = if reverse { x.flip(&[axis])? } else { x.clone() };
    // As a product with a triangle; candle's own wants another order of the axes in memory.
    let last = x.rank() - 1;
    let n = x.dim(axis)?;
    let ones: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i / n <= i % n))).collect();
    let triangle = Tensor::from_vec(ones, (n, n), x.device())?.to_dtype(x.dtype())?;
    let lines = x.transpose(axis, last)?.contiguous()?;
    let sums = lines.broadcast_matmul(&triangle)?.transpose(axis, last)?.contiguous()?;
    let sums = if exclusive { sums.sub(&x)? } else { sums };
    if reverse { sums.flip(&[axis]) } else { Ok(sums) }
}

pub(super) fn gather(x: &Tensor, indices: &Tensor, axis: usize) -> Result<Tensor> {
    let n = x.dim(axis)? as f64;
    let indices = indices.flatten_all()?;
    let negative = indices.lt(0.0)?.to_dtype(indices.dtype())?;
    let indices = indices.add(&negative.affine(n, 0.0)?)?.to_dtype(DType::U32)?;
    x.contiguous()?.index_select(&indices, axis)
}

/// Every `step`-th entry of an axis.
pub(super) fn every(x: &Tensor, axis: usize, step: usize) -> Result<Tensor> {
    let at: Vec<u32> = (0..x.dim(axis)? as u32).step_by(step).collect();
    x.contiguous()?.index_select(&Tensor::new(at, x.device())?, axis)
}

/// Windows are the planes of shifted copies.
pub(super) fn pool(x: &Tensor, pooling: Pooling, shape: &[usize]) -> Result<Tensor> {
    let Pooling { kind, kernel, stride, padding } = pooling;
    let reach = |axis: usize| (shape[axis + 2] - 1) * stride[axis] + kernel[axis];
    // Room for windows that begin inside and end beyond the stated padding (sizes rounded up).
    let padded = |x: &Tensor| -> Result<Tensor> {
        let mut y = x.clone();
        for axis in [0, 1] {
            let have = y.dim(axis + 2)? + padding[axis];
            y = y.pad_with_zeros(axis + 2, padding[axis], reach(axis).saturating_sub(have))?;
        }
        Ok(y)
    };
    let inside = padded(&x.ones_like()?)?;
    let image = match kind {
        PoolKind::Max => padded(x)?.add(&inside.affine(1e30, -1e30)?)?,
        PoolKind::Average | PoolKind::AverageWithPadding => padded(x)?,
    };
    let windows = |image: &Tensor| -> Result<Tensor> {
        let mut planes = Vec::new();
        for dy in 0..kernel[0] {
            for dx in 0..kernel[1] {
                let rows = image.narrow(2, dy, (shape[2] - 1) * stride[0] + 1)?;
                let part = rows.narrow(3, dx, (shape[3] - 1) * stride[1] + 1)?;
                planes.push(every(&every(&part, 2, stride[0])?, 3, stride[1])?);
            }
        }
        Tensor::stack(&planes, 4)
    };
    let area = (kernel[0] * kernel[1]) as f64;
    match kind {
        PoolKind::Max => windows(&image)?.max(D::Minus1),
        PoolKind::Average => windows(&image)?.sum(D::Minus1)?.div(&windows(&inside)?.sum(D::Minus1)?),
        PoolKind::AverageWithPadding => windows(&image)?.sum(D::Minus1)?.affine(1.0 / area, 0.0),
    }
}
