//! Positions as sines and cosines of random frequencies (Tancik et al. 2020), for pixels and prompts alike.

use std::f32::consts::TAU;

use super::names::Names;
use crate::exec::kernels::function::Function;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;

/// The table `[2, F]` of frequencies: of x, then of y.
pub(super) struct Gaussian {
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Gaussian {
    /// Reads it where the checkpoint has it.
    pub(super) fn read(g: &mut Scope<'_, '_>, names: &Names) -> Result<Self, ModelError> {
        let found = names.gaussian.iter().find(|name| g.param_shape(name).is_some());
        let name = found.unwrap_or(&names.gaussian[0]);
        let width = g.param_shape(name).and_then(|shape| shape.last().copied()).unwrap_or(0);
        let table = g.read(name, &[2, width])?;
        let (x, y) = table.split_at(width);
        Ok(Self { x: x.to_vec(), y: y.to_vec() })
    }

    /// The positions of a grid's patches, `[side · side, 2F]`, rows first.
    pub(super) fn grid(&self, side: usize) -> Vec<f32> {
        let centre = |i: usize| 2.0 * ((i as f32 + 0.5) / side as f32) - 1.0;
        let mut out = Vec::with_capacity(side * side * 2 * self.x.len());
        for (row, column) in (0..side * side).map(|i| (i / side, i % side)) {
            let (x, y) = (centre(column), centre(row));
            let angles = || self.x.iter().zip(&self.y).map(|(fx, fy)| TAU * (x * fx + y * fy));
            out.extend(angles().map(libm::sinf));
            out.extend(angles().map(libm::cosf));
        }
        out
    }

    /// The positions of pixels `[…, 2]` (x, y) of a picture of side `image`, as `[…, 2F]`.
    pub(super) fn of_pixels(
        &self,
        g: &mut Scope<'_, '_>,
        pixels: NodeId,
        image: usize,
    ) -> Result<NodeId, ModelError> {
        // The middle of the pixel, from -1 to 1: 2 (p + 1/2) / side - 1.
        let places = g.affine(pixels, 1.0, 0.5)?;
        let places = g.affine(places, 2.0 / image as f32, -1.0)?;
        let axis = g.shape(places).len() - 1;
        let mut share = |index: usize, frequencies: &[f32]| -> Result<NodeId, ModelError> {
            let place = g.narrow(places, axis, index, 1)?;
            let frequencies = g.constant("frequencies", &[frequencies.len()], frequencies.to_vec())?;
            g.mul(place, frequencies)
        };
        let (x, y) = (share(0, &self.x)?, share(1, &self.y)?);
        let angles = g.add(x, y)?;
        let angles = g.affine(angles, TAU, 0.0)?;
        let sines = g.function(Function::Sin, angles)?;
        let cosines = g.function(Function::Cos, angles)?;
        g.concat(&[sines, cosines], axis)
    }

    /// Numbers per position.
    pub(super) fn width(&self) -> usize {
        2 * self.x.len()
    }
}
