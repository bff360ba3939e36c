//! Tests that need more than one part.

mod heads;
mod prediction;
mod properties;
mod ranges;
mod regions;
mod staircases;
