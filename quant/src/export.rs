//! Files for other tools.

mod atomic;
mod error;
mod grid;
mod header;
pub mod packing;
pub mod report;
pub mod weights;

pub use atomic::{replace_atomic, write_atomic};
pub use error::ExportError;
pub(crate) use header::sorted_header;
