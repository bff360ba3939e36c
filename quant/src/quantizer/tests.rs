//! Tests that need more than one part.

mod parity;
mod prediction;
mod properties;
