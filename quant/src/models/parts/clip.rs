//! The two towers of CLIP (Radford et al., ICML 2021) as Hugging Face names them; CLIPSeg has the same under `clip.`.

mod config;
mod layer;
mod text;
mod vision;

pub(in crate::models) use config::{Tower, Towers};
pub(in crate::models) use layer::{attention, mlp};
pub(in crate::models) use text::{inputs, pooled};
pub(in crate::models) use vision::{Vision, see};

/// Tensors that old files carry besides weights.
pub(in crate::models) fn is_bookkeeping(name: &str) -> bool {
    name.ends_with("embeddings.position_ids")
}
