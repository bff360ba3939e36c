//! Tests that need more than one part.

mod prediction;
mod properties;
mod ranges;
