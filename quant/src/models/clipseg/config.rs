//! The decoder's part of `config.json`; what is absent has the value of Hugging Face's `CLIPSegConfig`.

use serde::Deserialize;

use crate::models::ModelError;
use crate::models::parts::clip::{Tower, Towers};
use crate::models::source::Source;

/// What the decoder is made of.
#[derive(Debug)]
pub(super) struct ClipsegConfig {
    /// The layers of the vision tower that the decoder reads, from 0, ascending.
    pub(super) extract_layers: Vec<usize>,
    /// The level of the decoder that the prompt goes into.
    pub(super) conditional_layer: usize,
    /// Width, heads and epsilon of the decoder's layers.
    pub(super) decoder: Tower,
    /// Side of a patch.
    pub(super) patch: usize,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Fields {
    extract_layers: Vec<usize>,
    conditional_layer: usize,
    reduce_dim: usize,
    decoder_num_attention_heads: usize,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            extract_layers: vec![3, 6, 9],
            conditional_layer: 0,
            reduce_dim: 64,
            decoder_num_attention_heads: 4,
        }
    }
}

impl ClipsegConfig {
    /// The configuration in the folder, or that of the published models with the width of the tensors.
    pub(super) fn of(source: &Source<'_>, towers: &Towers) -> Result<Self, ModelError> {
        let fields = if source.config.is_some() {
            source.parse()?
        } else {
            let film = source.weights.shape("decoder.film_mul.weight");
            let reduce_dim = film.and_then(|shape| shape.first().copied()).unwrap_or(64);
            Fields { reduce_dim, ..Fields::default() }
        };
        Self::new(fields, towers).map_err(|message| source.wrong(message))
    }

    fn new(fields: Fields, towers: &Towers) -> Result<Self, String> {
        let Fields { extract_layers, conditional_layer, reduce_dim, decoder_num_attention_heads } = fields;
        let (levels, layers) = (extract_layers.len(), towers.vision.layers);
        if levels == 0 || levels > layers || extract_layers.iter().any(|&layer| layer >= layers) {
            return Err(format!(
                "`extract_layers` is {extract_layers:?}; expected 1 to {layers} numbers below the {layers} layers of \
                 `vision_config`"
            ));
        }
        if conditional_layer >= levels {
            return Err(format!(
                "`conditional_layer` is {conditional_layer}; expected a number below the {levels} `extract_layers`"
            ));
        }
        let heads = decoder_num_attention_heads;
        if reduce_dim > 1 << 16 || heads == 0 || reduce_dim == 0 || !reduce_dim.is_multiple_of(heads) {
            return Err(format!(
                "`decoder_num_attention_heads` = {heads} does not divide `reduce_dim` = {reduce_dim}"
            ));
        }
        let decoder = Tower { width: reduce_dim, layers: levels, heads, ..towers.vision };
        Ok(Self { extract_layers, conditional_layer, decoder, patch: towers.patch })
    }
}
