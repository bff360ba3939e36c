//! ONNX files.

mod beside;
mod files;
mod hostile;
mod mutated;
mod pairs;
mod quantized;
mod small;
mod writer;
