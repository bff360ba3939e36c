//! Quantized weights in safetensors.
