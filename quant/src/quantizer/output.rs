//! Searches that look at what a layer makes of its quantized operands, not at the operands alone.
//!
//! * [`search_linear`], [`search_matmul`], [`search_attention`]: the Hessian-weighted searches of PTQ4ViT and PTQ4RIS;
//! * [`Gram`]: weights by the squared error of the output, at a cost that does not depend on the number of
//!   samples;
//! * [`least_overlap_loss`]: clipping by the overlap of attention maps (SAQ-SAM).

mod candidates;
mod gram;
mod linear;
mod matmul;
mod overlap;
mod product;
mod twin;

pub use gram::Gram;
pub use linear::{InputGrid, Layer, LinearScales, search_linear, unfold};
pub use matmul::{AttentionScales, Heads, search_attention, search_matmul};
pub use overlap::{OVERLAP_PERCENTILES, Overlap, attention_map, least_overlap_loss, overlap_loss};
pub use twin::{
    SignedCodes, fake_quantize_signed, fake_quantize_twin_gelu, fake_quantize_twin_softmax, signed_params,
};

pub(crate) use super::drq_gelu::params as twin_gelu_params;
pub(crate) use super::drq_softmax::params as twin_softmax_params;
use super::error::QuantizerError;

/// That `found` values are `rows` times `columns`.
fn check_shape(found: usize, rows: usize, columns: usize) -> Result<(), QuantizerError> {
    if rows.checked_mul(columns) == Some(found) {
        Ok(())
    } else {
        Err(QuantizerError::Product { len: found, other: rows.saturating_mul(columns), inner: columns })
    }
}
