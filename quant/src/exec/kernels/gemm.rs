//! Matrix products with packed weights, fake-quantized inputs and a fused epilogue.
//!
//! Every output element is `acc = fma(a[p], b[p], acc)` for `p = 0, 1, …, k-1`, whatever the tile, the CPU or the
//! thread count; splitting over `k` only parks the accumulator in the output.

mod driver;
mod microkernel;
mod pack;
mod vector;

pub(crate) use driver::{Columns, Epilogue, Lhs, OutPtr, multiply};
pub(crate) use pack::{PANEL, pack_rows, panel_len};

pub use driver::linear;
pub use pack::PackedWeight;

/// Fake-quantization of an operand while it is packed:
/// `(clamp(round_ties_even(x/scale) + zero_point, 0, q_max) - zero_point) · scale`, with a true division and in
/// exactly this order; the zero point may be fractional.
#[derive(Clone, Copy, Debug)]
pub enum AQuant<'a> {
    /// The operand as it is.
    None,
    /// One grid for the tensor.
    Uniform {
        /// Step of the grid.
        scale: f32,
        /// Code of the value 0.
        zero_point: f32,
        /// Largest code.
        q_max: f32,
    },
    /// One grid per position along `k` (a channel of the input).
    UniformPerK {
        /// Step per channel.
        scale: &'a [f32],
        /// Code of the value 0 per channel.
        zero_point: &'a [f32],
        /// Largest code.
        q_max: f32,
    },
}

impl AQuant<'_> {
    /// Whether values change.
    pub fn is_none(&self) -> bool {
        matches!(self, AQuant::None)
    }
}

#[cfg(test)]
mod tests;
