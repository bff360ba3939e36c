//! The engine of bitloupe.

pub mod quantizer;
pub mod stats;
pub mod terms;
