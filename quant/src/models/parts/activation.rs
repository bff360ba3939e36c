//! Activations by the names that Hugging Face configurations give them (`ACT2FN`).

use crate::exec::kernels::activation::Activation;

/// The activation of a name; an error says which field was to hold it.
pub(in crate::models) fn named(field: &str, name: &str) -> Result<Activation, String> {
    Ok(match name {
        "gelu" | "gelu_python" => Activation::Gelu,
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Activation::GeluTanh,
        "quick_gelu" => Activation::QuickGelu,
        "relu" => Activation::Relu,
        "silu" | "swish" => Activation::Silu,
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        other => {
            return Err(format!(
                "`{field}` is `{other}`; expected gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, relu, silu, tanh or \
                 sigmoid"
            ));
        }
    })
}
