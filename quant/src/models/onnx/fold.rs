//! Values of steps whose operands are known: shape arithmetic in integers, tables in f32.

mod arithmetic;
mod resize;

use super::flow::{Op, Reduce};
use super::tensor::{Data, Dtype, broadcast_strides, places, strides};

/// A known operand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand<'a> {
    pub(super) shape: &'a [usize],
    pub(super) data: &'a Data,
}

/// Whether a step can be computed while a file is read.
pub(super) fn can(op: &Op) -> bool {
    !matches!(
        op,
        Op::Input
            | Op::Constant(_)
            | Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Pool(..)
            | Op::LayerNorm { .. }
            | Op::InstanceNorm { .. }
            | Op::BatchNorm { .. }
            | Op::Softmax
            | Op::Embedding
    )
}

/// The values of a step of shape `to`.
pub(super) fn evaluate(op: &Op, x: &[Operand<'_>], to: &[usize], dtype: Dtype) -> Result<Data, String> {
    let Some(&first) = x.first() else { return Err("it has no operand".into()) };
    let from = first.shape;
    Ok(match op {
        Op::Unary(function) => arithmetic::unary(*function, first.data),
        Op::Cast(to) => arithmetic::cast(first.data, *to),
        Op::Binary(kind) => arithmetic::binary(*kind, first, x[1], to, dtype)?,
        Op::Where => {
            let condition = spread(x[0], to).to_ints();
            let (yes, no) = (spread(x[1], to), spread(x[2], to));
            match (yes, no) {
                (Data::Int(yes), Data::Int(no)) => Data::ints(choose(&condition, &yes, &no)),
                (yes, no) => Data::floats(choose(&condition, &yes.to_floats(), &no.to_floats())),
            }
        }
        Op::Reduce { kind, axes } => reduce(*kind, first, axes, to),
        Op::ArgMax { axis } => {
            let values = first.data.to_floats();
            rows(from, *axis, |places| {
                let mut best = 0;
                for (i, &place) in places.iter().enumerate() {
                    if values[place] > values[places[best]] {
                        best = i;
                    }
                }
                best as i64
            })
        }
        Op::CumSum { axis, exclusive, reverse } => cumulate(first, *axis, *exclusive, *reverse),
        Op::Gather { axis } => gather(first, x[1], *axis, to)?,
        Op::Reshape(_) => first.data.clone(),
        Op::Permute(order) => {
            let own = strides(from);
            let moved: Vec<usize> = order.iter().map(|&axis| own[axis]).collect();
            first.data.pick(places(to, &moved))
        }
        Op::Expand(_) => spread(first, to),
        Op::Slice { axis, start, .. } => {
            let own = strides(from);
            let offset = start * own[*axis];
            first.data.pick(places(to, &own).map(|place| place + offset))
        }
        Op::Concat { axis } => concat(x, *axis),
        Op::Pad(ends) => pad(first, ends, to),
        Op::MatMul { transpose_rhs, alpha } => matmul(first, x[1], to, *transpose_rhs, *alpha),
        Op::Linear => {
            let (width, out) = (x[1].shape[1], x[1].shape[0]);
            let rows = [first.data.len() / width.max(1), width];
            matmul(Operand { shape: &rows, data: first.data }, x[1], &[rows[0], out], true, 1.0)
        }
        Op::Resize(spec) => Data::floats(resize::resize(&first.data.to_floats(), from, spec)),
        _ => return Err("it cannot be computed while the file is read".into()),
    })
}

/// An operand's values repeated to a shape.
fn spread(x: Operand<'_>, to: &[usize]) -> Data {
    if x.shape == to { x.data.clone() } else { x.data.pick(places(to, &broadcast_strides(x.shape, to))) }
}

fn choose<T: Copy>(condition: &[i64], yes: &[T], no: &[T]) -> Vec<T> {
    condition.iter().zip(yes.iter().zip(no)).map(|(&c, (&a, &b))| if c != 0 { a } else { b }).collect()
}

/// Calls `see` with the places of every row along `axis`.
fn rows(shape: &[usize], axis: usize, mut see: impl FnMut(&[usize]) -> i64) -> Data {
    let own = strides(shape);
    let mut outer = shape.to_vec();
    outer[axis] = 1;
    let mut row = vec![0; shape[axis]];
    Data::ints(
        places(&outer, &own)
            .map(|start| {
                for (i, place) in row.iter_mut().enumerate() {
                    *place = start + i * own[axis];
                }
                see(&row)
            })
            .collect(),
    )
}

fn reduce(kind: Reduce, x: Operand<'_>, axes: &[usize], to: &[usize]) -> Data {
    let own = strides(x.shape);
    let inner: Vec<usize> =
        x.shape.iter().enumerate().map(|(axis, &n)| if axes.contains(&axis) { n } else { 1 }).collect();
    let offsets: Vec<usize> = places(&inner, &own).collect();
    let starts = places(to, &own);
    match x.data {
        Data::Int(values) if super::shape::keeps_integers(kind) => Data::ints(
            starts
                .map(|start| {
                    let row = offsets.iter().map(|offset| values[start + offset]);
                    match kind {
                        Reduce::Max => row.max().unwrap_or(0),
                        Reduce::Min => row.min().unwrap_or(0),
                        Reduce::Product => row.fold(1, i64::wrapping_mul),
                        Reduce::L1 => row.fold(0, |a: i64, x| a.wrapping_add(x.wrapping_abs())),
                        Reduce::SumSquares => row.fold(0, |a: i64, x| a.wrapping_add(x.wrapping_mul(x))),
                        _ => row.fold(0, i64::wrapping_add),
                    }
                })
                .collect(),
        ),
        data => {
            let values = data.to_floats();
            let count = offsets.len() as f64;
            Data::floats(
                starts
                    .map(|start| {
                        let row = offsets.iter().map(|offset| f64::from(values[start + offset]));
                        (match kind {
                            Reduce::Sum => row.sum::<f64>(),
                            Reduce::Mean => row.sum::<f64>() / count,
                            Reduce::Max => row.fold(f64::NEG_INFINITY, f64::max),
                            Reduce::Min => row.fold(f64::INFINITY, f64::min),
                            Reduce::Product => row.product(),
                            Reduce::L1 => row.map(f64::abs).sum(),
                            Reduce::L2 => row.map(|x| x * x).sum::<f64>().sqrt(),
                            Reduce::SumSquares => row.map(|x| x * x).sum(),
                        }) as f32
                    })
                    .collect(),
            )
        }
    }
}

fn cumulate(x: Operand<'_>, axis: usize, exclusive: bool, reverse: bool) -> Data {
    let own = strides(x.shape);
    let (len, step) = (x.shape[axis], own[axis]);
    let mut outer = x.shape.to_vec();
    outer[axis] = 1;
    let values = x.data.to_floats();
    let mut out = vec![0.0_f64; values.len()];
    for start in places(&outer, &own) {
        let mut sum = 0.0;
        for i in 0..len {
            let place = start + step * if reverse { len - 1 - i } else { i };
            let before = sum;
            sum += f64::from(values[place]);
            out[place] = if exclusive { before } else { sum };
        }
    }
    match x.data {
        Data::Int(_) => Data::ints(out.iter().map(|&x| x as i64).collect()),
        Data::Float(_) => Data::floats(out.iter().map(|&x| x as f32).collect()),
    }
}

fn gather(x: Operand<'_>, at: Operand<'_>, axis: usize, to: &[usize]) -> Result<Data, String> {
    let len = x.shape[axis];
    let rows: Vec<usize> = at
        .data
        .to_ints()
        .iter()
        .map(|&i| {
            let place = if i < 0 { i.checked_add(len as i64) } else { Some(i) };
            let place = place.and_then(|i| usize::try_from(i).ok()).filter(|&i| i < len);
            place.ok_or_else(|| format!("entry {i} of {len}"))
        })
        .collect::<Result<_, _>>()?;
    let inner: usize = x.shape[axis + 1..].iter().product();
    let outer: usize = x.shape[..axis].iter().product();
    if to.contains(&0) {
        return Ok(x.data.pick(std::iter::empty()));
    }
    let rows = &rows;
    Ok(x.data.pick((0..outer).flat_map(move |o| {
        rows.iter().flat_map(move |r| (0..inner).map(move |i| (o * len + r) * inner + i))
    })))
}

fn concat(x: &[Operand<'_>], axis: usize) -> Data {
    let outer: usize = x[0].shape[..axis].iter().product();
    let row = |x: &Operand<'_>| x.shape[axis..].iter().product::<usize>();
    if x.iter().all(|x| matches!(x.data, Data::Int(_))) {
        let parts: Vec<_> = x.iter().map(|x| (x.data.to_ints(), row(x))).collect();
        let joined = (0..outer).flat_map(|o| parts.iter().flat_map(move |(p, n)| &p[o * n..][..*n]));
        Data::ints(joined.copied().collect())
    } else {
        let parts: Vec<_> = x.iter().map(|x| (x.data.to_floats(), row(x))).collect();
        let joined = (0..outer).flat_map(|o| parts.iter().flat_map(move |(p, n)| &p[o * n..][..*n]));
        Data::floats(joined.copied().collect())
    }
}

fn pad(x: Operand<'_>, ends: &[(usize, usize)], to: &[usize]) -> Data {
    let own = strides(to);
    let offset: usize = ends.iter().zip(&own).map(|((before, _), stride)| before * stride).sum();
    let targets = places(x.shape, &own).map(|place| place + offset);
    let count = to.iter().product();
    match x.data {
        Data::Int(values) => {
            let mut out = vec![0; count];
            targets.zip(values.iter()).for_each(|(place, &x)| out[place] = x);
            Data::ints(out)
        }
        Data::Float(values) => {
            let mut out = vec![0.0; count];
            targets.zip(values.iter()).for_each(|(place, &x)| out[place] = x);
            Data::floats(out)
        }
    }
}

fn matmul(a: Operand<'_>, b: Operand<'_>, to: &[usize], transpose_rhs: bool, alpha: f32) -> Data {
    let rank = to.len();
    let (m, n) = (to[rank - 2], to[rank - 1]);
    let k = a.shape[rank - 1];
    let batch: usize = to[..rank - 2].iter().product();
    let (x, y) = (a.data.to_floats(), b.data.to_floats());
    let mut out = Vec::with_capacity(batch * m * n);
    for image in 0..batch {
        let (x, y) = (&x[image * m * k..], &y[image * k * n..]);
        for row in 0..m {
            for column in 0..n {
                let product = |i: usize| {
                    let right = if transpose_rhs { y[column * k + i] } else { y[i * n + column] };
                    f64::from(x[row * k + i]) * f64::from(right)
                };
                out.push((f64::from(alpha) * (0..k).map(product).sum::<f64>()) as f32);
            }
        }
    }
    Data::floats(out)
}
