//! Judging a quantized model: masks against masks, tensors against tensors.

pub mod answer;
pub mod differentiable;
pub mod metrics;
pub mod output_loss;
pub mod reading;
pub mod search;
pub mod sensitivity;
