//! ONNX files.

mod files;
mod hostile;
mod pairs;
mod quantized;
mod small;
mod writer;
