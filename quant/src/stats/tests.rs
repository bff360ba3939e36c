//! Tests that need more than one part.

mod classes;
pub(crate) mod shapes;
mod sketch;
