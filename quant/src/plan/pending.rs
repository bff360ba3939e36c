//! The quantizer's types.
pub use crate::quantizer::{Params, Scheme};
