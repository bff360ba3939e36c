//! Files for other tools.

mod atomic;
mod grid;
pub mod packing;
pub mod weights;

pub use atomic::{replace_atomic, write_atomic};
