//! Files for other tools.

mod atomic;
pub mod packing;
pub mod weights;

pub use atomic::{replace_atomic, write_atomic};
