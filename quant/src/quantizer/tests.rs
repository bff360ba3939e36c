//! Tests that need more than one part.

mod prediction;
mod properties;
mod ranges;
mod regions;
mod staircases;
