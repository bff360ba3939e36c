//! What DETR's tensors do not say, from `config.json`.

use serde::Deserialize;

use crate::models::ModelError;
use crate::models::source::Source;

/// `config.json`; what is absent has the class defaults.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct DetrConfig {
    activation_function: String,
    /// Heads of each kind of layer.
    pub(super) encoder_attention_heads: usize,
    /// The same of the decoder.
    pub(super) decoder_attention_heads: usize,
    position_embedding_type: String,
    /// Whether the last stage of a timm backbone is dilated instead of halved.
    dilation: Option<bool>,
    backbone_config: Option<BackboneConfig>,
}

/// The backbone in the naming of Hugging Face.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BackboneConfig {
    downsample_in_first_stage: Option<bool>,
    downsample_in_bottleneck: Option<bool>,
    hidden_act: Option<String>,
}

impl Default for DetrConfig {
    fn default() -> Self {
        Self {
            activation_function: "relu".to_owned(),
            encoder_attention_heads: 8,
            decoder_attention_heads: 8,
            position_embedding_type: "sine".to_owned(),
            dilation: None,
            backbone_config: None,
        }
    }
}

impl DetrConfig {
    /// Reads and checks it; the defaults without a file.
    pub(super) fn read(source: &Source<'_>) -> Result<Self, ModelError> {
        let config: Self = if source.config.is_some() { source.parse()? } else { Self::default() };
        let act = config.backbone_config.as_ref().and_then(|backbone| backbone.hidden_act.as_deref());
        for (field, found, expected) in [
            ("activation_function", config.activation_function.as_str(), "relu"),
            ("position_embedding_type", config.position_embedding_type.as_str(), "sine"),
            ("backbone_config.hidden_act", act.unwrap_or("relu"), "relu"),
        ] {
            if found != expected {
                return Err(source.wrong(format!("`{field}` is `{found}`; expected `{expected}`")));
            }
        }
        for (field, heads) in [
            ("encoder_attention_heads", config.encoder_attention_heads),
            ("decoder_attention_heads", config.decoder_attention_heads),
        ] {
            if !(1..=1 << 12).contains(&heads) {
                return Err(source.wrong(format!("`{field}` is {heads}; expected 1 to 4096")));
            }
        }
        Ok(config)
    }

    /// Whether the last stage keeps the size of its map and spreads its taps instead.
    pub(super) fn dilated(&self) -> bool {
        self.dilation == Some(true)
    }

    /// Whether a Hugging Face backbone halves the map in its first stage too.
    pub(super) fn first_stage_halves(&self) -> bool {
        self.backbone_config.as_ref().and_then(|b| b.downsample_in_first_stage).unwrap_or(false)
    }

    /// Whether a Hugging Face backbone halves with the first 1x1 convolution, not with the 3x3 one.
    pub(super) fn bottleneck_halves(&self) -> bool {
        self.backbone_config.as_ref().and_then(|b| b.downsample_in_bottleneck).unwrap_or(false)
    }
}
