//! The operands of a layer at the rows that are looked at.

use std::borrow::Cow;

use super::Target;
use super::rows::Sizes;
use crate::exec::Value;
use crate::graph::{Conv, Graph, Op};
use crate::quantizer::output::{Heads, InputGrid, Layer, SignedCodes};

/// Rows of a layer with a weight.
pub(super) struct Rows {
    input: Vec<f32>,
    weight: Vec<f32>,
    gradient: Vec<f32>,
    inner: usize,
    reach: f32,
}

impl Rows {
    pub(super) fn layer(&self, codes: SignedCodes) -> Layer<'_> {
        let Self { input, weight, gradient, inner, reach } = self;
        Layer { input, weight, gradient, inner: *inner, reach: Some(*reach), codes }
    }
}

/// Heads of a product of activations, one scale for all.
pub(super) struct Pieces {
    lhs: Vec<f32>,
    rhs: Vec<f32>,
    gradient: Vec<f32>,
    rows: usize,
    sizes: Sizes,
    reach: [f32; 2],
}

impl Pieces {
    pub(super) fn heads(&self, codes: SignedCodes) -> Heads<'_> {
        let Self { lhs, rhs, gradient, rows, sizes: Sizes { inner, columns, .. }, reach } = self;
        let (rows, inner, columns) = (*rows, *inner, *columns);
        Heads { lhs, rhs, gradient, heads: 1, rows, inner, columns, reach: Some(*reach), codes }
    }
}

/// The largest finite magnitude in all samples; of values above zero alone if `positive`.
fn reach(values: &[&Value], positive: bool) -> f32 {
    let magnitude = |x: f32| if positive { x } else { x.abs() };
    let finite = values.iter().flat_map(|value| value.as_slice()).filter(|x| x.is_finite());
    finite.fold(0.0, |most, x| most.max(magnitude(*x)))
}

fn all_finite(values: &[f32]) -> bool {
    values.iter().all(|x| x.is_finite())
}

/// The gradients of one sample; a layer that the loss does not depend on counts all its outputs alike.
fn of_sample(gradients: &[Vec<f32>], sample: usize, len: usize, all_alike: bool) -> Cow<'_, [f32]> {
    match gradients.get(sample) {
        Some(found) if !all_alike && found.len() == len => Cow::Borrowed(found),
        _ => Cow::Owned(vec![if all_alike { 1.0 } else { 0.0 }; len]),
    }
}

fn nothing_but_zeros(gradients: &[Vec<f32>]) -> bool {
    gradients.iter().flatten().all(|g| *g == 0.0)
}

/// Input rows with their gradients; rows with a value that is not finite are left out. None without any row, or if
/// the weight is not finite.
pub(super) fn rows(
    graph: &Graph,
    target: &Target,
    operands: &[Vec<&Value>],
    gradients: &[Vec<f32>],
    grid: InputGrid,
) -> Option<Rows> {
    let samples = operands.first()?;
    let (sizes, node) = (Sizes::of(graph, target), graph.node(target.node));
    let param = graph.weight_of(target.node)?;
    let weight = param.data.to_vec();
    let all_alike = nothing_but_zeros(gradients);
    let mut found = Rows { input: Vec::new(), weight, gradient: Vec::new(), inner: sizes.inner, reach: 0.0 };
    let mut row = Vec::with_capacity(sizes.inner);
    for (at, value) in samples.iter().enumerate() {
        let picked = sizes.pick(at, samples.len());
        let gradient = of_sample(gradients, at, picked.rows.len() * sizes.columns, all_alike);
        for (&position, gradient) in picked.rows.iter().zip(gradient.chunks_exact(sizes.columns.max(1))) {
            row.clear();
            if let Op::Conv { geometry, .. } = &node.op {
                patch(value, &param.shape, *geometry, position, *node.shape.last()?, &mut row);
            } else {
                row.extend_from_slice(value.as_slice().get(position * sizes.inner..)?.get(..sizes.inner)?);
            }
            if row.len() == sizes.inner && all_finite(&row) {
                found.input.extend_from_slice(&row);
                found.gradient.extend_from_slice(gradient);
            }
        }
    }
    found.reach = reach(samples, grid == InputGrid::TwinGelu);
    (!found.input.is_empty() && all_finite(&found.weight)).then_some(found)
}

/// What the output at a position of a convolution without groups is made of, `[channels, kernel…]`; zeros outside.
fn patch(value: &Value, weight: &[usize], g: Conv, position: usize, width: usize, row: &mut Vec<f32>) {
    let (shape, values) = (value.shape(), value.as_slice());
    // `[1, C, W]` is one line of a picture.
    let (kernel, size) = match (weight, shape) {
        ([_, _, kw], [_, _, w]) => ([1, *kw], [1, *w]),
        ([_, _, kh, kw], [_, _, h, w]) => ([*kh, *kw], [*h, *w]),
        _ => return,
    };
    let corner = [position / width.max(1) * g.stride[0], position % width.max(1) * g.stride[1]];
    let flat = shape.len() == 3;
    let top = if flat { 0 } else { g.padding[0] };
    for plane in values.chunks_exact((size[0] * size[1]).max(1)) {
        for dy in 0..kernel[0] {
            for dx in 0..kernel[1] {
                let y = (corner[0] + dy * g.dilation[0]).checked_sub(top);
                let x = (corner[1] + dx * g.dilation[1]).checked_sub(g.padding[1]);
                row.push(match (y, x) {
                    (Some(y), Some(x)) if y < size[0] && x < size[1] => plane[y * size[1] + x],
                    _ => 0.0,
                });
            }
        }
    }
}

/// Heads of products with their gradients; heads with a value that is not finite are left out. None without any.
pub(super) fn pieces(
    graph: &Graph,
    target: &Target,
    operands: &[Vec<&Value>],
    gradients: &[Vec<f32>],
) -> Option<Pieces> {
    let [left, right] = operands else { return None };
    let sizes = Sizes::of(graph, target);
    let Sizes { rows, inner, columns, .. } = sizes;
    let Op::MatMul { transpose_rhs, .. } = graph.node(target.node).op else { return None };
    let all_alike = nothing_but_zeros(gradients);
    let (mut lhs, mut rhs, mut gradient) = (Vec::new(), Vec::new(), Vec::new());
    let mut height = 0;
    for (at, (l, r)) in left.iter().zip(right).enumerate() {
        let picked = sizes.pick(at, left.len());
        height = picked.rows.len();
        let size = height * columns;
        let of_sample = of_sample(gradients, at, picked.pieces.len() * size, all_alike);
        for (&piece, of_piece) in picked.pieces.iter().zip(of_sample.chunks_exact(size.max(1))) {
            let right = r.as_slice().get(piece * inner * columns..)?.get(..inner * columns)?;
            let left = l.as_slice().get(piece * rows * inner..)?.get(..rows * inner)?;
            if !all_finite(left) || !all_finite(right) {
                continue;
            }
            for row in &picked.rows {
                lhs.extend_from_slice(&left[row * inner..(row + 1) * inner]);
            }
            if transpose_rhs {
                rhs.extend((0..inner).flat_map(|k| (0..columns).map(move |c| right[c * inner + k])));
            } else {
                rhs.extend_from_slice(right);
            }
            gradient.extend_from_slice(of_piece);
        }
    }
    let reach = [reach(left, false), reach(right, false)];
    (!lhs.is_empty()).then_some(Pieces { lhs, rhs, gradient, rows: height, sizes, reach })
}

#[cfg(test)]
mod tests {
    use super::patch;
    use crate::exec::Value;
    use crate::graph::Conv;

    #[test]
    fn patches_have_zeros_around_the_picture() {
        let picture = Value::new(vec![1, 2, 2, 3], (1..=12).map(|i| i as f32).collect());
        let g = Conv { stride: [1, 2], padding: [1, 1, 0, 0], dilation: [1, 1], groups: 1 };
        let at = |position: usize| {
            let mut row = Vec::new();
            patch(&picture, &[5, 2, 2, 2], g, position, 2, &mut row);
            row
        };
        assert_eq!(at(0), [0., 0., 0., 1., 0., 0., 0., 7.]);
        assert_eq!(at(3), [2., 3., 5., 6., 8., 9., 11., 12.]);
        let line = Value::new(vec![1, 2, 3], (1..=6).map(|i| i as f32).collect());
        let mut row = Vec::new();
        patch(&line, &[5, 2, 2], Conv::new(1, 1), 0, 4, &mut row);
        assert_eq!(row, [0., 1., 0., 4.]);
    }
}
