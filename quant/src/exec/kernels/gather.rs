//! Choosing and summarising along axes: what imported graphs and prompt encoders need beside the layers. None of it is
//! hot; sums are f64.

/// One number for many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The largest; NaN if one is.
    Max,
    /// The smallest; NaN if one is.
    Min,
    /// Their product.
    Product,
    /// The sum of magnitudes.
    L1,
    /// The root of the sum of squares.
    L2,
    /// The sum of squares.
    SumSquares,
}

impl Reduction {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "ReduceSum",
            Self::Mean => "ReduceMean",
            Self::Max => "ReduceMax",
            Self::Min => "ReduceMin",
            Self::Product => "ReduceProd",
            Self::L1 => "ReduceL1",
            Self::L2 => "ReduceL2",
            Self::SumSquares => "ReduceSumSquare",
        }
    }

    fn start(self) -> f64 {
        match self {
            Self::Max => f64::NEG_INFINITY,
            Self::Min => f64::INFINITY,
            Self::Product => 1.0,
            _ => 0.0,
        }
    }

    fn add(self, sum: f64, x: f64) -> f64 {
        match self {
            Self::Sum | Self::Mean => sum + x,
            Self::Max if x.is_nan() || x > sum => x,
            Self::Min if x.is_nan() || x < sum => x,
            Self::Max | Self::Min => sum,
            Self::Product => sum * x,
            Self::L1 => sum + x.abs(),
            Self::L2 | Self::SumSquares => sum + x * x,
        }
    }

    fn end(self, sum: f64, count: usize) -> f64 {
        match self {
            Self::Mean => sum / count as f64,
            Self::L2 => sum.sqrt(),
            _ => sum,
        }
    }
}

/// Reduces `x` of `shape` along `axes`; the others stay, in their order, in `out`.
pub fn reduce(kind: Reduction, x: &[f32], shape: &[usize], axes: &[usize], out: &mut [f32]) {
    let count: usize = axes.iter().map(|&axis| shape[axis]).product();
    assert_eq!(out.len() * count, x.len(), "reduction of {shape:?} along {axes:?}");
    // Step of each axis in the output; 0 along those that vanish.
    let mut steps = vec![0; shape.len()];
    let mut step = 1;
    for axis in (0..shape.len()).rev() {
        if !axes.contains(&axis) {
            steps[axis] = step;
            step *= shape[axis];
        }
    }
    let mut sums = vec![kind.start(); out.len()];
    let inner = shape.last().copied().unwrap_or(1).max(1);
    let (outer, last) = (shape.split_last().map_or(&[][..], |(_, outer)| outer), steps.last().copied());
    for (row, values) in x.chunks_exact(inner).enumerate() {
        let mut at = place(row, outer, &steps);
        for &value in values {
            sums[at] = kind.add(sums[at], f64::from(value));
            at += last.unwrap_or(0);
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = kind.end(sum, count) as f32;
    }
}

/// Where row `row` of the outer axes begins, given the step of each axis.
fn place(mut row: usize, outer: &[usize], steps: &[usize]) -> usize {
    let mut at = 0;
    for (&size, &step) in outer.iter().zip(steps).rev() {
        at += row % size * step;
        row /= size;
    }
    at
}

/// The lines of `x` along `axis`: calls `line` with the first index, the step and the number of places of each.
fn lines(shape: &[usize], axis: usize, mut line: impl FnMut(usize, usize, usize, usize)) {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    for o in 0..outer {
        for i in 0..inner {
            line(o * inner + i, o * shape[axis] * inner + i, inner, shape[axis]);
        }
    }
}

/// The first place of the largest value along `axis`, as a number.
pub fn arg_max(x: &[f32], shape: &[usize], axis: usize, out: &mut [f32]) {
    lines(shape, axis, |to, start, step, count| {
        let mut best = 0;
        for at in 1..count {
            if x[start + at * step] > x[start + best * step] {
                best = at;
            }
        }
        out[to] = best as f32;
    });
}

/// Sums along `axis` up to each place.
pub fn cumulative_sum(
    x: &[f32],
    shape: &[usize],
    axis: usize,
    (exclusive, reverse): (bool, bool),
    out: &mut [f32],
) {
    lines(shape, axis, |_, start, step, count| {
        let mut sum = 0.0_f64;
        for at in 0..count {
            let at = start + step * if reverse { count - 1 - at } else { at };
            let next = sum + f64::from(x[at]);
            out[at] = if exclusive { sum } else { next } as f32;
            sum = next;
        }
    });
}

/// Entries of `axis` of `x` by number: `out` has the shape of `x` with `axis` replaced by the shape of `indices`.
/// Negative numbers count from the end; the first number that is none or out of range is returned.
pub fn gather(
    x: &[f32],
    shape: &[usize],
    axis: usize,
    indices: &[f32],
    out: &mut [f32],
) -> Result<(), (usize, f32)> {
    let inner: usize = shape[axis + 1..].iter().product();
    let (count, outer) = (shape[axis], shape[..axis].iter().product::<usize>());
    for o in 0..outer {
        for (place, &index) in indices.iter().enumerate() {
            let from = if index < 0.0 { index + count as f32 } else { index };
            if from.fract() != 0.0 || !(0.0..count as f32).contains(&from) {
                return Err((place, index));
            }
            let row = &x[(o * count + from as usize) * inner..][..inner];
            out[(o * indices.len() + place) * inner..][..inner].copy_from_slice(row);
        }
    }
    Ok(())
}

/// Repeats `x` of `from` along axes of length 1, and along new leading ones, to `to`.
pub fn expand(x: &[f32], from: &[usize], to: &[usize], out: &mut [f32]) {
    let steps = steps(from, to);
    walk(to, |at, row, inner| {
        let start = place(row, &to[..to.len().saturating_sub(1)], &steps);
        let step = steps.last().copied().unwrap_or(0);
        for (i, out) in out[at..at + inner].iter_mut().enumerate() {
            *out = x[start + i * step];
        }
    });
}

/// `a` where `condition` is not 0, else `b`; all are repeated as for [`expand`].
pub fn choose(operands: [(&[f32], &[usize]); 3], to: &[usize], out: &mut [f32]) {
    let steps = operands.map(|(_, from)| steps(from, to));
    walk(to, |at, row, inner| {
        let outer = &to[..to.len().saturating_sub(1)];
        let starts: [usize; 3] = std::array::from_fn(|n| place(row, outer, &steps[n]));
        let inner_steps: [usize; 3] = std::array::from_fn(|n| steps[n].last().copied().unwrap_or(0));
        for (i, out) in out[at..at + inner].iter_mut().enumerate() {
            let value = |n: usize| operands[n].0[starts[n] + i * inner_steps[n]];
            *out = if value(0) == 0.0 { value(2) } else { value(1) };
        }
    });
}

/// Calls `each` with the first index, the number and the length of every row of `shape`.
fn walk(shape: &[usize], mut each: impl FnMut(usize, usize, usize)) {
    let inner = shape.last().copied().unwrap_or(1);
    let rows: usize = shape.iter().take(shape.len().saturating_sub(1)).product();
    (0..rows).for_each(|row| each(row * inner, row, inner));
}

/// The step of each axis of `to` in a tensor of `from`; 0 where it is repeated.
fn steps(from: &[usize], to: &[usize]) -> Vec<usize> {
    let mut steps = vec![0; to.len()];
    let mut step = 1;
    for (&size, to_step) in from.iter().rev().zip(steps.iter_mut().rev()) {
        if size != 1 {
            *to_step = step;
        }
        step *= size;
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_along_any_axes() {
        let x: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let mut out = vec![0.0; 3];
        reduce(Reduction::Sum, &x, &[2, 3, 4], &[0, 2], &mut out);
        assert_eq!(out, [60.0, 92.0, 124.0]);
        let mut out = vec![0.0; 8];
        reduce(Reduction::Mean, &x, &[2, 3, 4], &[1], &mut out);
        assert_eq!(out, [4.0, 5.0, 6.0, 7.0, 16.0, 17.0, 18.0, 19.0]);
        let mut out = [0.0];
        for (kind, expected) in
            [(Reduction::Max, 3.0), (Reduction::Min, -4.0), (Reduction::L1, 9.0), (Reduction::Product, 24.0)]
        {
            reduce(kind, &[-2.0, 3.0, -4.0, 1.0_f32.copysign(1.0)][..3], &[3], &[0], &mut out);
            assert_eq!(out[0], expected, "{kind:?}");
        }
        reduce(Reduction::L2, &[3.0, 4.0], &[2], &[0], &mut out);
        assert_eq!(out[0], 5.0);
        reduce(Reduction::Max, &[1.0, f32::NAN, 2.0], &[3], &[0], &mut out);
        assert_eq!(out[0], 2.0_f32.max(out[0]));
    }

    #[test]
    fn places_sums_and_entries() {
        let x = [1.0, 5.0, 5.0, 9.0, 2.0, 3.0];
        let mut out = [0.0; 2];
        arg_max(&x, &[2, 3], 1, &mut out);
        assert_eq!(out, [1.0, 0.0]);
        let mut out = [0.0; 6];
        cumulative_sum(&x, &[2, 3], 1, (false, false), &mut out);
        assert_eq!(out, [1.0, 6.0, 11.0, 9.0, 11.0, 14.0]);
        cumulative_sum(&x, &[2, 3], 0, (true, true), &mut out);
        assert_eq!(out, [9.0, 2.0, 3.0, 0.0, 0.0, 0.0]);
        let mut out = [0.0; 4];
        assert_eq!(gather(&x, &[2, 3], 1, &[2.0, -3.0], &mut out), Ok(()));
        assert_eq!(out, [5.0, 1.0, 3.0, 9.0]);
        assert_eq!(gather(&x, &[2, 3], 1, &[0.0, 3.0], &mut out), Err((1, 3.0)));
        assert_eq!(gather(&x, &[2, 3], 1, &[0.5, 0.0], &mut out), Err((0, 0.5)));
        assert!(gather(&x, &[2, 3], 1, &[f32::NAN, 0.0], &mut out).is_err());
    }

    #[test]
    fn repeated_and_chosen() {
        let mut out = [0.0; 6];
        expand(&[1.0, 2.0], &[2, 1], &[2, 3], &mut out);
        assert_eq!(out, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        expand(&[1.0, 2.0, 3.0], &[3], &[2, 3], &mut out);
        assert_eq!(out, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        let condition = [1.0, 0.0, 2.0];
        choose([(&condition, &[3]), (&[7.0], &[]), (&[1.0, 2.0], &[2, 1])], &[2, 3], &mut out);
        assert_eq!(out, [7.0, 1.0, 7.0, 7.0, 2.0, 7.0]);
        let mut one = [0.0];
        expand(&[4.0], &[], &[], &mut one);
        assert_eq!(one, [4.0]);
    }
}
