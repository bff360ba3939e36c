//! The sizes of a LAVT read off its tensors: the authors' checkpoints come without a configuration.

use super::config::{BertConfig, DecoderConfig, LavtConfig, SwinConfig};
use super::prefixes::Prefixes;
use crate::models::numbered::count;
use crate::models::{ModelError, Weights};

/// The published size of pictures.
const IMAGE: [usize; 2] = [480, 480];
/// The published length of sentences.
const TOKENS: usize = 20;
/// Width of a head of every published BERT.
const BERT_HEAD: usize = 64;

/// Shapes of tensors below a module path.
struct Shapes<'w> {
    weights: &'w Weights,
    prefix: &'static str,
}

impl Shapes<'_> {
    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    fn has(&self, name: &str) -> bool {
        self.weights.shape(&self.full(name)).is_some()
    }

    /// The shape of a tensor that must be there, of `N` axes.
    fn of<const N: usize>(&self, name: &str) -> Result<[usize; N], ModelError> {
        let name = self.full(name);
        let found = match self.weights.shape(&name) {
            Some(shape) => shape,
            // Says that it is missing, and what is near.
            None => self.weights.get(&name)?.shape,
        };
        <[usize; N]>::try_from(found.as_slice()).map_err(|_| self.wrong(&name, vec![0; N], found))
    }

    fn wrong(&self, name: &str, expected: Vec<usize>, found: Vec<usize>) -> ModelError {
        let file = self.weights.file().to_owned();
        ModelError::TensorShape { file, tensor: name.to_owned(), expected, found }
    }
}

/// The configuration of the published models with these tensors. What no tensor tells is as published: pictures of 480,
/// sentences of 20 tokens, one head of the word attention, heads of 64 in BERT.
pub(super) fn config(weights: &Weights, prefixes: &Prefixes) -> Result<LavtConfig, ModelError> {
    let model = Shapes { weights, prefix: prefixes.model };
    let text = Shapes { weights, prefix: prefixes.text };
    let [embed_dim, in_chans, patch_size, _] = model.of("backbone.patch_embed.proj.weight")?;
    let (mut depths, mut num_heads) = (Vec::new(), Vec::new());
    for stage in 0..4 {
        let block = |i: usize| format!("backbone.layers.{stage}.blocks.{i}.norm1.weight");
        depths.push(count(|name| model.has(name), block));
        num_heads.push(table(&model, stage)?.1);
    }
    let [hidden, _] = model.of("backbone.layers.0.blocks.0.mlp.fc1.weight")?;
    let [_, lang_channels, _] = model.of("backbone.layers.0.fusion.image_lang_att.f_key.0.weight")?;
    let [decoder_width, _, _, _] = model.of("classifier.conv1_4.weight")?;
    let [num_classes, _, _, _] = model.of("classifier.conv1_1.weight")?;
    let c4_dims = embed_dim.saturating_mul(8);
    let [vocab_size, hidden_size] = text.of("embeddings.word_embeddings.weight")?;
    let [max_position_embeddings, _] = text.of("embeddings.position_embeddings.weight")?;
    let [type_vocab_size, _] = text.of("embeddings.token_type_embeddings.weight")?;
    let [intermediate_size, _] = text.of("encoder.layer.0.intermediate.dense.weight")?;
    Ok(LavtConfig {
        model_type: "lavt".to_owned(),
        lavt_model: if prefixes.text == "bert_model" { "lavt" } else { "lavt_one" }.to_owned(),
        image_size: IMAGE,
        max_tokens: TOKENS,
        mha: None,
        swin: SwinConfig {
            patch_size,
            in_chans,
            qkv_bias: true,
            ape: model.has("backbone.absolute_pos_embed"),
            patch_norm: model.has("backbone.patch_embed.norm.weight"),
            layer_norm_eps: 1e-5,
            embed_dim,
            depths,
            num_heads,
            window_size: table(&model, 0)?.0,
            mlp_ratio: hidden as f32 / embed_dim.max(1) as f32,
            num_heads_fusion: vec![1; 4],
            merge_position_tables: false,
            clamp_window: false,
        },
        lang_channels,
        decoder: DecoderConfig {
            c4_dims,
            factor: c4_dims / decoder_width.max(1),
            num_classes,
            align_corners: true,
        },
        bert: BertConfig {
            pad_token_id: 0,
            vocab_size,
            hidden_size,
            num_hidden_layers: count(
                |name| text.has(name),
                |i| format!("encoder.layer.{i}.output.dense.weight"),
            ),
            num_attention_heads: hidden_size / BERT_HEAD,
            hidden_act: "gelu".to_owned(),
            intermediate_size,
            max_position_embeddings,
            type_vocab_size,
            layer_norm_eps: 1e-12,
        },
    })
}

/// Side of the window and number of heads of a stage: the table of relative positions is `[(2 side - 1)², heads]`.
fn table(model: &Shapes<'_>, stage: usize) -> Result<(usize, usize), ModelError> {
    let name = format!("backbone.layers.{stage}.blocks.0.attn.relative_position_bias_table");
    let [rows, heads] = model.of(&name)?;
    let across = rows.isqrt();
    if across * across != rows || across.is_multiple_of(2) {
        let side = across.div_ceil(2).max(1);
        return Err(model.wrong(&model.full(&name), vec![(2 * side - 1).pow(2), heads], vec![rows, heads]));
    }
    Ok((across.div_ceil(2), heads))
}
