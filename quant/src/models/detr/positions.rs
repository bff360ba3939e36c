//! Positions of a map whose picture may be padded.

use std::f32::consts::TAU;

use crate::exec::kernels::elementwise::BinaryOp;
use crate::exec::kernels::function::Function;
use crate::exec::kernels::resize::Sampling;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;

/// Wavelengths grow from 2π to this times 2π.
const TEMPERATURE: f32 = 10_000.0;
/// Keeps a picture that is all padding from a division by zero.
const EPS: f32 = 1e-6;

/// A mask of pixels `[1, H, W]` as one of the map's places, `[1, 1, h, w]`.
pub(super) fn on_grid(
    g: &mut Scope<'_, '_>,
    mask: NodeId,
    grid: (usize, usize),
) -> Result<NodeId, ModelError> {
    let (h, w) = (g.shape(mask)[1], g.shape(mask)[2]);
    let mask = g.reshape(mask, &[1, 1, h, w])?;
    g.resample(mask, grid, Sampling::nearest())
}

/// Sines and cosines of each place's row and column among those that are picture, `[1, h·w, d]`: rows in the first half of
/// `d`, columns in the second, sine and cosine by turns.
pub(super) fn sines(g: &mut Scope<'_, '_>, mask: NodeId, d: usize) -> Result<NodeId, ModelError> {
    let (h, w, half) = (g.shape(mask)[2], g.shape(mask)[3], d / 2);
    g.reserve("wavelengths", &[2, half])?;
    // Neighbours in a pair have one wavelength.
    let length = |i: usize| libm::powf(TEMPERATURE, (2 * (i / 2)) as f32 / half as f32);
    let lengths = g.constant("wavelengths", &[half], (0..half).map(length).collect())?;
    let odd = g.constant("odd", &[half], (0..half).map(|i| (i % 2) as f32).collect())?;
    let mut along = |axis: usize| -> Result<NodeId, ModelError> {
        let places = g.cumulative_sum(mask, axis, false, false)?;
        // As shares of the picture's rows in this column, or of its columns in this row.
        let end = if axis == 2 { h } else { w };
        let last = g.narrow(places, axis, end - 1, 1)?;
        let last = g.affine(last, 1.0, EPS)?;
        let shares = g.combine(BinaryOp::Div, places, last)?;
        let shares = g.affine(shares, TAU, 0.0)?;
        let shares = g.reshape(shares, &[1, h * w, 1])?;
        let angles = g.combine(BinaryOp::Div, shares, lengths)?;
        let (sine, cosine) = (g.function(Function::Sin, angles)?, g.function(Function::Cos, angles)?);
        g.select(odd, cosine, sine)
    };
    let (rows, columns) = (along(2)?, along(3)?);
    g.concat(&[rows, columns], 2)
}

/// Added to the scores of the map's places as keys, `[1, 1, 1, h·w]`: nothing, or so much that a place of padding gets no
/// attention.
pub(super) fn attention_bias(g: &mut Scope<'_, '_>, mask: NodeId) -> Result<NodeId, ModelError> {
    let places = g.shape(mask).iter().product();
    let mask = g.reshape(mask, &[1, 1, 1, places])?;
    g.affine(mask, f32::MAX, f32::MIN)
}
