//! Tests that need more than one part.

mod prediction;
mod properties;
mod regions;
mod staircases;
