//! Shapes and types that steps make.

use super::flow::{Binary, Function, Op, Reduce, Unary, Window, is_comparison};
use super::tensor::{Dtype, numbers};
use crate::exec::kernels::elementwise::broadcast_shape as broadcast;

type Known<'a> = [(&'a [usize], Dtype)];

/// Shape and type of a step's value; an error says what does not fit.
pub(super) fn of(op: &Op, x: &Known<'_>) -> Result<(Vec<usize>, Dtype), String> {
    let (first, dtype) = match (x.first(), op) {
        (Some((shape, dtype)), _) => (*shape, *dtype),
        (None, Op::Input | Op::Constant(_)) => (&[][..], Dtype::Float),
        (None, _) => return Err("it has no operand".into()),
    };
    let rank = first.len();
    let within = |axis: usize| {
        if axis < rank { Ok(()) } else { Err(format!("axis {axis} of shape {first:?}")) }
    };
    let need = |count: usize| {
        if x.len() >= count { Ok(()) } else { Err(format!("{} operands, expected {count}", x.len())) }
    };
    let same = (first.to_vec(), dtype);
    Ok(match op {
        Op::Unary(Unary::Function(Function::Not)) => (first.to_vec(), Dtype::Bool),
        Op::Input | Op::Constant(_) | Op::Unary(_) => same,
        Op::Cast(to) => (first.to_vec(), *to),
        Op::Binary(kind) => {
            need(2)?;
            let shape = join(&[first, x[1].0])?;
            // An integer constant may meet floats only in files that declare no types.
            let dtype = if dtype.is_int() { x[1].1 } else { dtype };
            (shape, if is_comparison(*kind) { Dtype::Bool } else { dtype })
        }
        Op::Where => {
            need(3)?;
            (join(&[first, x[1].0, x[2].0])?, x[1].1)
        }
        Op::Reduce { axes, .. } => {
            let mut shape = first.to_vec();
            for &axis in axes {
                within(axis)?;
                shape[axis] = 1;
            }
            (shape, dtype)
        }
        Op::ArgMax { axis } => {
            within(*axis)?;
            let mut shape = first.to_vec();
            shape[*axis] = 1;
            (shape, Dtype::INT)
        }
        Op::CumSum { axis, .. } => {
            within(*axis)?;
            same
        }
        Op::Gather { axis } => {
            need(2)?;
            within(*axis)?;
            let mut shape = first[..*axis].to_vec();
            shape.extend(x[1].0);
            shape.extend(&first[axis + 1..]);
            (shape, dtype)
        }
        Op::Reshape(to) => {
            if numbers(to).is_none() || numbers(to) != numbers(first) {
                return Err(format!("{first:?} cannot become {to:?}"));
            }
            (to.clone(), dtype)
        }
        Op::Permute(order) => {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if sorted != (0..rank).collect::<Vec<_>>() {
                return Err(format!("{order:?} is no order of the axes of {first:?}"));
            }
            (order.iter().map(|&axis| first[axis]).collect(), dtype)
        }
        Op::Expand(to) => {
            if broadcast(first, to).as_ref() != Some(to) {
                return Err(format!("{first:?} cannot be repeated to {to:?}"));
            }
            (to.clone(), dtype)
        }
        Op::Slice { axis, start, len } => {
            within(*axis)?;
            if start.checked_add(*len).is_none_or(|end| end > first[*axis]) {
                return Err(format!("{len} entries from {start} of axis {axis} of {first:?}"));
            }
            let mut shape = first.to_vec();
            shape[*axis] = *len;
            (shape, dtype)
        }
        Op::Concat { axis } => {
            within(*axis)?;
            let mut shape = first.to_vec();
            for (other, _) in &x[1..] {
                let fits = other.len() == rank && (0..rank).all(|i| i == *axis || other[i] == first[i]);
                if !fits {
                    return Err(format!("{other:?} beside {first:?} along axis {axis}"));
                }
                shape[*axis] = shape[*axis].checked_add(other[*axis]).ok_or("it is too long")?;
            }
            (shape, dtype)
        }
        Op::Pad(ends) => {
            if ends.len() != rank {
                return Err(format!("{} paddings for {first:?}", ends.len()));
            }
            let grown = |(&size, &(a, b)): (&usize, &(usize, usize))| size.checked_add(a)?.checked_add(b);
            let shape = first.iter().zip(ends).map(grown).collect::<Option<_>>().ok_or("it is too long")?;
            (shape, dtype)
        }
        Op::MatMul { transpose_rhs, .. } => {
            need(2)?;
            let b = x[1].0;
            let (inner, columns) = if *transpose_rhs { (1, 2) } else { (2, 1) };
            if rank < 2
                || b.len() != rank
                || first[..rank - 2] != b[..rank - 2]
                || first[rank - 1] != b[rank - inner]
            {
                return Err(format!("shapes {first:?} and {b:?} cannot be multiplied"));
            }
            let mut shape = first.to_vec();
            shape[rank - 1] = b[rank - columns];
            (shape, Dtype::Float)
        }
        Op::Linear => {
            need(2)?;
            let w = x[1].0;
            if w.len() != 2 || first.last() != Some(&w[1]) {
                return Err(format!("operand {first:?} does not fit weight {w:?} ([out, in])"));
            }
            let mut shape = first.to_vec();
            shape[rank - 1] = w[0];
            (shape, Dtype::Float)
        }
        Op::Conv(window) => {
            need(2)?;
            (convolved(first, x[1].0, window)?, Dtype::Float)
        }
        Op::ConvTranspose(window) => {
            need(2)?;
            (deconvolved(first, x[1].0, window)?, Dtype::Float)
        }
        Op::Pool(_, window) => (pooled(first, window)?, dtype),
        Op::LayerNorm { .. } => {
            need(3)?;
            let width = first.last().copied().unwrap_or(0);
            if x[1].0 != [width] || x[2].0 != [width] {
                return Err(format!("gain {:?} and shift {:?} do not fit {first:?}", x[1].0, x[2].0));
            }
            same
        }
        Op::BatchNorm { .. } => {
            need(5)?;
            if rank < 2 || x[1..5].iter().any(|(shape, _)| *shape != [first[1]]) {
                return Err(format!("its parameters do not fit {first:?}"));
            }
            same
        }
        Op::InstanceNorm { .. } => {
            within(2)?;
            same
        }
        Op::Softmax => {
            within(0)?;
            same
        }
        Op::Embedding => {
            need(2)?;
            if rank != 2 {
                return Err(format!("a table of shape {first:?}"));
            }
            let mut shape = x[1].0.to_vec();
            shape.push(first[1]);
            (shape, dtype)
        }
        Op::Resize(spec) => {
            if spec.to.len() != rank || first.contains(&0) {
                return Err(format!("{first:?} to {:?}", spec.to));
            }
            (spec.to.clone(), dtype)
        }
    })
}

/// The shape that operands of an elementwise operation make together.
pub(super) fn join(shapes: &[&[usize]]) -> Result<Vec<usize>, String> {
    let mut all = Vec::new();
    for shape in shapes {
        all = broadcast(&all, shape).ok_or_else(|| format!("shapes {shapes:?} do not go together"))?;
    }
    Ok(all)
}

/// Height and width of `[1, C, H, W]`, or 1 and width of `[1, C, W]`.
pub(super) fn plane(shape: &[usize]) -> Result<[usize; 2], String> {
    match shape {
        [_, _, w] => Ok([1, *w]),
        [_, _, h, w] => Ok([*h, *w]),
        _ => Err(format!("an operand of shape {shape:?}; expected [1, C, W] or [1, C, H, W]")),
    }
}

fn with_plane(shape: &[usize], channels: usize, [h, w]: [usize; 2]) -> Vec<usize> {
    if shape.len() == 3 { vec![shape[0], channels, w] } else { vec![shape[0], channels, h, w] }
}

/// Places of a kernel along one axis.
fn positions(size: usize, window: &Window, i: usize) -> Result<usize, String> {
    let (k, stride, dilation) = (window.kernel[i], window.stride[i], window.dilation[i]);
    let fail = || format!("a kernel of {k} (dilation {dilation}, stride {stride}) over {size} positions");
    let reach = k.checked_sub(1).and_then(|k| k.checked_mul(dilation)).ok_or_else(fail)?;
    let padded = size.checked_add(window.pads[i]).and_then(|n| n.checked_add(window.pads[i + 2]));
    let room = padded.and_then(|n| n.checked_sub(reach + 1)).ok_or_else(fail)?;
    if stride == 0 || dilation == 0 {
        return Err(fail());
    }
    if !window.ceil {
        return Ok(room / stride + 1);
    }
    // A window that would start in the padding after the end is left out.
    let count = room.div_ceil(stride) + 1;
    Ok(if (count - 1) * stride >= size + window.pads[i] { count - 1 } else { count })
}

fn convolved(x: &[usize], w: &[usize], window: &Window) -> Result<Vec<usize>, String> {
    let [height, width] = plane(x)?;
    let groups = window.groups;
    let fits = w.len() == x.len()
        && groups > 0
        && w[1].checked_mul(groups) == Some(x[1])
        && w[0].is_multiple_of(groups)
        && plane(w)? == window.kernel;
    if !fits {
        return Err(format!("operand {x:?} does not fit weight {w:?} in {groups} groups"));
    }
    Ok(with_plane(x, w[0], [positions(height, window, 0)?, positions(width, window, 1)?]))
}

fn deconvolved(x: &[usize], w: &[usize], window: &Window) -> Result<Vec<usize>, String> {
    let size = plane(x)?;
    if w.len() != x.len() || window.groups != 1 || w[0] != x[1] || plane(w)? != window.kernel {
        return Err(format!(
            "operand {x:?} does not fit weight {w:?} in {} groups, expected 1",
            window.groups
        ));
    }
    Ok(with_plane(x, w[1], deconvolved_plane(size, window)?))
}

/// Height and width after a transposed convolution.
pub(super) fn deconvolved_plane(size: [usize; 2], window: &Window) -> Result<[usize; 2], String> {
    let mut to = [0; 2];
    for i in 0..2 {
        let reach = window.kernel[i].checked_sub(1).and_then(|k| k.checked_mul(window.dilation[i]));
        let steps = size[i].checked_sub(1).and_then(|n| n.checked_mul(window.stride[i]));
        let more = window.extra[i].checked_add(1);
        let full = reach.zip(steps).zip(more).and_then(|((a, b), c)| a.checked_add(b)?.checked_add(c));
        let cut = window.pads[i].checked_add(window.pads[i + 2]);
        let left = full.zip(cut).and_then(|(a, b)| a.checked_sub(b));
        to[i] = left.ok_or_else(|| format!("its padding cuts away all that it makes of {size:?}"))?;
    }
    Ok(to)
}

fn pooled(x: &[usize], window: &Window) -> Result<Vec<usize>, String> {
    let [height, width] = plane(x)?;
    Ok(with_plane(x, x[1], [positions(height, window, 0)?, positions(width, window, 1)?]))
}

/// Whether a sum-up of integers stays one.
pub(super) fn keeps_integers(kind: Reduce) -> bool {
    !matches!(kind, Reduce::Mean | Reduce::L2)
}

/// Whether a function of two integers is one.
pub(super) fn is_exact(kind: Binary) -> bool {
    kind != Binary::Pow
}
