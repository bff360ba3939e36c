//! The operands of a layer at the rows that are looked at.

use std::borrow::Cow;

use super::Target;
use super::rows::Sizes;
use crate::exec::Value;
use crate::graph::{Graph, Op};
use crate::quantizer::output::{Heads, InputGrid, Layer, SignedCodes};
use crate::session::patches::patch;

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

/// Products of activations, those of one window after the other, in each the heads.
pub(super) struct Pieces {
    lhs: Vec<f32>,
    rhs: Vec<f32>,
    gradient: Vec<f32>,
    rows: usize,
    sizes: Sizes,
    /// Of both operands, by head.
    reach: [Vec<f32>; 2],
}

impl Pieces {
    pub(super) fn heads(&self, codes: SignedCodes) -> Heads<'_> {
        let Self { lhs, rhs, gradient, rows, sizes: Sizes { inner, columns, heads, .. }, reach } = self;
        let (rows, inner, columns, heads) = (*rows, *inner, *columns, *heads);
        let reach = Some([&reach[0][..], &reach[1][..]]);
        Heads { lhs, rhs, gradient, heads, rows, inner, columns, reach, codes }
    }
}

/// The largest finite magnitude in all samples; of values above zero alone if `positive`.
fn reach(values: &[&Value], positive: bool) -> f32 {
    let magnitude = |x: f32| if positive { x } else { x.abs() };
    let finite = values.iter().flat_map(|value| value.as_slice()).filter(|x| x.is_finite());
    finite.fold(0.0, |most, x| most.max(magnitude(*x)))
}

/// The same for every head, of values whose products lie head by head, each of `size`.
fn reach_by_head(values: &[&Value], size: usize, heads: usize) -> Vec<f32> {
    let mut most = vec![0.0_f32; heads];
    for value in values {
        for (at, piece) in value.as_slice().chunks(size.max(1)).enumerate() {
            let finite = piece.iter().filter(|x| x.is_finite());
            most[at % heads] = finite.fold(most[at % heads], |most, x| most.max(x.abs()));
        }
    }
    most
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

/// Products with their gradients; windows with a value that is not finite are left out with all their heads. None
/// without any.
pub(super) fn pieces(
    graph: &Graph,
    target: &Target,
    operands: &[Vec<&Value>],
    gradients: &[Vec<f32>],
) -> Option<Pieces> {
    let [left, right] = operands else { return None };
    let sizes = Sizes::of(graph, target);
    let Sizes { rows, inner, columns, heads, .. } = sizes;
    let Op::MatMul { transpose_rhs, .. } = graph.node(target.node).op else { return None };
    let all_alike = nothing_but_zeros(gradients);
    let (mut lhs, mut rhs, mut gradient) = (Vec::new(), Vec::new(), Vec::new());
    let mut height = 0;
    for (at, (l, r)) in left.iter().zip(right).enumerate() {
        let picked = sizes.pick(at, left.len());
        height = picked.rows.len();
        let size = height * columns;
        let of_sample = of_sample(gradients, at, picked.pieces.len() * size, all_alike);
        let of_piece = |piece: usize| {
            let right = r.as_slice().get(piece * inner * columns..)?.get(..inner * columns)?;
            let left = l.as_slice().get(piece * rows * inner..)?.get(..rows * inner)?;
            Some((left, right))
        };
        let mut left_out = Vec::new();
        for window in picked.pieces.chunks(heads) {
            for &piece in window {
                let (left, right) = of_piece(piece)?;
                if !all_finite(left) || !all_finite(right) {
                    left_out.extend_from_slice(window);
                    break;
                }
            }
        }
        for (&piece, gradient_of) in picked.pieces.iter().zip(of_sample.chunks_exact(size.max(1))) {
            let (left, right) = of_piece(piece)?;
            if left_out.contains(&piece) {
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
            gradient.extend_from_slice(gradient_of);
        }
    }
    let reach = [reach_by_head(left, rows * inner, heads), reach_by_head(right, inner * columns, heads)];
    (!lhs.is_empty()).then_some(Pieces { lhs, rhs, gradient, rows: height, sizes, reach })
}
