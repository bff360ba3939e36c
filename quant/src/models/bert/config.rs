//! `config.json` of a BERT model; what is absent has the value of Hugging Face's `BertConfig`.

use serde::Deserialize;

use super::WORDS;
use crate::models::ModelError;
use crate::models::source::Source;

/// More layers than any BERT has.
const MAX_LAYERS: usize = 256;

/// Sizes of a BERT model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct BertConfig {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) hidden_act: String,
    pub(super) max_position_embeddings: usize,
    pub(super) type_vocab_size: usize,
    pub(super) layer_norm_eps: f32,
    pub(super) position_embedding_type: Option<String>,
    pub(super) is_decoder: bool,
}

impl Default for BertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            hidden_act: "gelu".to_owned(),
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            position_embedding_type: None,
            is_decoder: false,
        }
    }
}

impl BertConfig {
    /// The configuration in the folder, or what the tensors under `prefix` tell.
    pub(super) fn of(source: &Source<'_>, prefix: &str) -> Result<Self, ModelError> {
        let config =
            if source.config.is_some() { source.parse()? } else { Self::of_tensors(source, prefix)? };
        config.check().map_err(|message| source.wrong(message))?;
        Ok(config)
    }

    /// Sizes of the tables and the number of layers; the number of heads is that of the published models of this width.
    fn of_tensors(source: &Source<'_>, prefix: &str) -> Result<Self, ModelError> {
        let rows = |name: &str| -> Result<(usize, usize), ModelError> {
            let name = format!("{prefix}{name}");
            match source.weights.shape(&name).as_deref() {
                Some(&[rows, width]) => Ok((rows, width)),
                found => Err(source.wrong(format!(
                    "it is missing, and tensor `{name}` has shape {found:?} instead of [rows, width]; copy it beside the \
                     weights"
                ))),
            }
        };
        let (vocab_size, hidden_size) = rows(WORDS)?;
        let (max_position_embeddings, _) = rows("embeddings.position_embeddings.weight")?;
        let (type_vocab_size, _) = rows("embeddings.token_type_embeddings.weight")?;
        let layer = |i: usize| format!("{prefix}encoder.layer.{i}.attention.self.query.weight");
        let num_hidden_layers =
            (0..MAX_LAYERS).take_while(|&i| source.weights.shape(&layer(i)).is_some()).count();
        let num_attention_heads = match hidden_size {
            // MiniLM and what was made from it.
            384 => 12,
            // BERT from tiny (128) to large (1024).
            128 | 256 | 512 | 768 | 1024 => hidden_size / 64,
            _ => {
                return Err(source.wrong(format!(
                    "it is missing, and the tensors of width {hidden_size} do not tell how many heads the model has; copy \
                     it beside the weights"
                )));
            }
        };
        Ok(Self {
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            max_position_embeddings,
            type_vocab_size,
            ..Self::default()
        })
    }

    fn check(&self) -> Result<(), String> {
        for (name, value, most) in [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 16),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, self.hidden_size),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 16),
            ("type_vocab_size", self.type_vocab_size, 1 << 16),
        ] {
            if !(1..=most).contains(&value) {
                return Err(format!("`{name}` is {value}; expected 1 to {most}"));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (heads, width) = (self.num_attention_heads, self.hidden_size);
            return Err(format!("`num_attention_heads` = {heads} does not divide `hidden_size` = {width}"));
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return Err(format!(
                "`layer_norm_eps` is {}; expected more than 0, less than 1",
                self.layer_norm_eps
            ));
        }
        match self.position_embedding_type.as_deref() {
            None | Some("absolute") => {}
            Some(other) => {
                return Err(format!("`position_embedding_type` is `{other}`; only `absolute` is supported"));
            }
        }
        if self.is_decoder {
            return Err("`is_decoder` is true; only encoders are supported".to_owned());
        }
        Ok(())
    }
}
