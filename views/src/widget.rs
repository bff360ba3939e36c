//! Widgets drawn straight on the buffer. Each is prepared once into a [`Raster`] when its data, its size or its
//! mode changes; a frame only copies cells.

pub mod axis;
pub mod heat;
pub mod histogram;
pub mod mask;
pub mod picture;
pub mod raster;

pub use raster::{Raster, Spot};
