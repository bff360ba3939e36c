//! ONNX files.

mod files;
mod hostile;
mod quantized;
mod small;
mod writer;
