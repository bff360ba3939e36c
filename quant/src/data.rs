//! What goes into a model: pictures, sentences and the manifests that pair them.
//!
//! Everything here reads through [`Files`], so the bundled samples (embedded in the binary) and a user's
//! folder take the same way. All of it is written for files from strangers: sizes are checked before
//! anything is allocated and every error says which file and line, what was expected and what to do.

mod coco;
mod coco_mask;
mod error;
mod files;
mod image;
mod manifest;
mod preprocess;
mod resize;
mod sample;
mod tensors;
mod text;

pub use coco_mask::MaskSpec;
pub use error::DataError;
pub use files::{DirFiles, EmbeddedFiles, Files};
pub use image::{MAX_IMAGE_FILE, MAX_PIXELS, MAX_SIDE, RgbImage, decode_image, decode_mask};
pub use manifest::{Entry, Point, read_jsonl};
pub use preprocess::{CropRounding, Geometry, Pixels, PreprocessorConfig, Size};
pub use resize::{Filter, resize_mask, resize_rgb};
pub use sample::{Duplicate, Sample, SampleSet, duplicates};
pub use tensors::GivenTensor;
pub use text::{Encoded, TextEncoder, TextWarning, Truncation};
