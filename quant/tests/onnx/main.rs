//! ONNX files.

mod beside;
mod files;
mod hostile;
mod mutated;
mod names;
mod opsets;
mod pairs;
mod quantized;
mod small;
mod writer;
