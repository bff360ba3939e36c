//! `config.json` of a LAVT model, read strictly.

use serde::Deserialize;

use crate::models::ModelError;

/// Sizes of a LAVT model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LavtConfig {
    /// Always `lavt`.
    pub model_type: String,
    /// `lavt_one`: the text encoder is a part of the model; `lavt`: it is a model of its own in the checkpoint.
    pub lavt_model: String,
    /// Height and width the model is built for.
    pub image_size: [usize; 2],
    /// Length of the text input, padding included.
    pub max_tokens: usize,
    /// The authors' option string for fusion heads; `swin.num_heads_fusion` counts.
    #[serde(default)]
    pub mha: Option<String>,
    /// Backbone.
    pub swin: SwinConfig,
    /// Width of the word features.
    pub lang_channels: usize,
    /// Decoder.
    pub decoder: DecoderConfig,
    /// Text encoder.
    pub bert: BertConfig,
}

/// The backbone.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "the keys of the published config")]
pub struct SwinConfig {
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Channels of the image.
    pub in_chans: usize,
    /// Whether q, k and v have biases (the checkpoint decides; kept for completeness).
    #[serde(default = "yes")]
    pub qkv_bias: bool,
    /// Absolute position table after the patch embedding.
    #[serde(default)]
    pub ape: bool,
    /// Normalisation after the patch embedding.
    #[serde(default = "yes")]
    pub patch_norm: bool,
    /// Epsilon of every `LayerNorm`.
    #[serde(default = "swin_eps")]
    pub layer_norm_eps: f32,
    /// Width of the first stage; it doubles with every stage.
    pub embed_dim: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Heads of each stage.
    pub num_heads: Vec<usize>,
    /// Side of an attention window in patches.
    pub window_size: usize,
    /// Width of the MLP over the width of the stage.
    pub mlp_ratio: f32,
    /// Heads of the word attention of each stage.
    pub num_heads_fusion: Vec<usize>,
    /// A position table after every patch merging (not in the original; the bundled model has it).
    #[serde(default)]
    pub merge_position_tables: bool,
    /// Windows no larger than the grid, and no shift where one window covers it (as in HF and timm; the original
    /// LAVT always pads and shifts). The bias table keeps its size and is read about its centre.
    #[serde(default)]
    pub clamp_window: bool,
}

/// The decoder.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// Channels of the deepest level.
    pub c4_dims: usize,
    /// The decoder's width is `c4_dims / factor`.
    pub factor: usize,
    /// Channels of the result; 2.
    pub num_classes: usize,
    /// How maps are resized; the original aligns corners.
    #[serde(default = "yes")]
    pub align_corners: bool,
}

/// The text encoder.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BertConfig {
    /// Number of the padding token.
    #[serde(default)]
    pub pad_token_id: u32,
    /// Tokens.
    pub vocab_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Only `gelu` (exact).
    pub hidden_act: String,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Longest text.
    pub max_position_embeddings: usize,
    /// Segments.
    pub type_vocab_size: usize,
    /// Epsilon of every `LayerNorm`.
    #[serde(default = "bert_eps")]
    pub layer_norm_eps: f32,
}

fn yes() -> bool {
    true
}

fn swin_eps() -> f32 {
    1e-5
}

fn bert_eps() -> f32 {
    1e-12
}

impl LavtConfig {
    /// Reads and checks a config; `file` is named in errors.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self, ModelError> {
        let fail = |message: String| ModelError::Config { file: file.to_owned(), message };
        let config: Self = serde_json::from_slice(text).map_err(|e| fail(e.to_string()))?;
        config.check().map_err(fail)?;
        Ok(config)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let s = &self.swin;
        let within = |name: &str, value: usize, from: usize, to: usize| {
            if (from..=to).contains(&value) {
                Ok(())
            } else {
                Err(format!("`{name}` is {value}; expected {from} to {to}"))
            }
        };
        if !["lavt_one", "lavt"].contains(&self.lavt_model.as_str()) {
            return Err(format!("`lavt_model` is `{}`; expected `lavt_one` or `lavt`", self.lavt_model));
        }
        within("image_size[0]", self.image_size[0], 4, 4096)?;
        within("image_size[1]", self.image_size[1], 4, 4096)?;
        let b = &self.bert;
        for (name, value) in [
            ("lang_channels", self.lang_channels),
            ("decoder.c4_dims", self.decoder.c4_dims),
            ("bert.hidden_size", b.hidden_size),
            ("bert.intermediate_size", b.intermediate_size),
            ("bert.max_position_embeddings", b.max_position_embeddings),
            ("bert.type_vocab_size", b.type_vocab_size),
        ] {
            within(name, value, 1, 1 << 16)?;
        }
        within("bert.vocab_size", b.vocab_size, 1, 1 << 24)?;
        within("decoder.num_classes", self.decoder.num_classes, 2, 2)?;
        if !(s.mlp_ratio > 0.0 && s.mlp_ratio <= 64.0) {
            return Err(format!("`swin.mlp_ratio` is {}; expected more than 0, at most 64", s.mlp_ratio));
        }
        within("max_tokens", self.max_tokens, 2, b.max_position_embeddings)?;
        within("swin.patch_size", s.patch_size, 1, 64)?;
        within("swin.in_chans", s.in_chans, 1, 64)?;
        within("swin.window_size", s.window_size, 1, 64)?;
        within("swin.embed_dim", s.embed_dim, 1, 4096)?;
        within("swin.depths", s.depths.len(), 4, 4)?;
        within("swin.num_heads", s.num_heads.len(), 4, 4)?;
        within("swin.num_heads_fusion", s.num_heads_fusion.len(), 4, 4)?;
        for stage in 0..4 {
            let width = s.embed_dim << stage;
            within(&format!("swin.depths[{stage}]"), s.depths[stage], 1, 64)?;
            within(&format!("swin.num_heads[{stage}]"), s.num_heads[stage], 1, width)?;
            within(&format!("swin.num_heads_fusion[{stage}]"), s.num_heads_fusion[stage], 1, width)?;
            for (name, heads) in
                [("num_heads", s.num_heads[stage]), ("num_heads_fusion", s.num_heads_fusion[stage])]
            {
                if !width.is_multiple_of(heads) {
                    return Err(format!(
                        "`swin.{name}[{stage}]` = {heads} does not divide the width {width}"
                    ));
                }
            }
        }
        within("decoder.factor", self.decoder.factor, 1, self.decoder.c4_dims)?;
        within("bert.num_attention_heads", self.bert.num_attention_heads, 1, self.bert.hidden_size)?;
        within("bert.num_hidden_layers", self.bert.num_hidden_layers, 1, 64)?;
        if !self.bert.hidden_size.is_multiple_of(self.bert.num_attention_heads) {
            return Err("`bert.num_attention_heads` does not divide `bert.hidden_size`".into());
        }
        if self.bert.hidden_act != "gelu" {
            return Err(format!("`bert.hidden_act` is `{}`; expected `gelu`", self.bert.hidden_act));
        }
        Ok(())
    }
}
