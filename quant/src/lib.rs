//! The engine of bitloupe.

pub mod data;
pub mod eval;
pub mod export;
pub mod plan;
pub mod quantizer;
pub mod stats;
pub mod terms;
