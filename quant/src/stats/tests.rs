//! Tests that need more than one part.

mod classes;
mod shapes;
mod sketch;
