//! Judging a quantized model: masks against masks, tensors against tensors.

pub mod detections;
pub mod metrics;
pub mod output_loss;
