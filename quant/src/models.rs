//! Architectures: a config and a checkpoint become a [`Graph`](crate::graph::Graph).
//!
//! One file (and folder) per architecture; each reads like the forward pass of the published code and keeps the
//! checkpoint's names.

mod architecture;
mod bert;
mod clip;
mod clipseg;
mod deit;
mod detr;
mod dinov2;
mod error;
pub mod lavt;
mod mapping;
mod numbered;
pub mod onnx;
mod open;
mod parts;
mod sam;
mod source;
mod swin;
mod task;
mod vit;
mod weights;
mod yolos;

pub use error::ModelError;
pub use open::{Model, ModelFiles, OwnSizes, Reopened, open, open_for};
pub use source::InputShapes;
pub use task::{MaskRule, Task};
pub(crate) use weights::little_endian;
pub use weights::{Numbers, Tensor, Weights};
