//! Plans: which quantizer and how many bits each site gets, and the ways to change, compare and keep them.

mod nearest;

pub use nearest::nearest;
