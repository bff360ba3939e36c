//! ViT, the vision transformer (Dosovitskiy et al., ICLR 2021), under the names of Hugging Face (`ViTForImageClassification`,
//! `ViTModel`) and of timm. The DeiT models without a distillation token are ViTs too.
//!
//! Input: `pixel_values [1, 3, H, W]`; outputs: `logits [1, classes]`, or without a head `last_hidden_state [1, N, C]` and
//! `pooler_output [1, C]`.

use super::architecture::Built;
use super::parts::activation;
use super::parts::block;
use super::parts::config::{MAX_LAYERS, Sides, VitConfig, within};
use super::parts::pictures::{self, SYMMETRIC};
use super::parts::positions::Resampling;
use super::parts::timm::{TimmConfig, unnamed};
use super::parts::tokens::token;
use super::parts::vit::{Blocks, HF, TIMM, Vit, count_modules, timm_names};
use super::parts::vit_sizes::{self, Tokens};
use super::source::Source;
use super::{ModelError, OwnSizes, Task};
use crate::data::{Filter, PreprocessorConfig};
use crate::exec::kernels::activation::Activation;
use crate::exec::kernels::gather::Reduction;
use crate::graph::{Builder, NodeId, Scope};

/// Epsilon of the published models where the configuration names none.
const HF_EPS: f32 = 1e-12;
const TIMM_EPS: f32 = 1e-6;

/// Whether configuration or tensor names are those of a ViT.
pub(super) fn recognises(source: &Source<'_>) -> bool {
    let has = |name: &str| source.weights.shape(name).is_some();
    source.model_type() == "vit"
        || source.field("architecture").starts_with("vit_")
        || unnamed(source)
            && (has("vit.embeddings.cls_token") && !has("vit.embeddings.detection_tokens")
                || has("embeddings.cls_token")
                    && has("encoder.layer.0.layernorm_before.weight")
                    && !has("embeddings.detection_tokens")
                || is_timm(source))
}

/// Whether the tensors are those of a plain vision transformer in timm's naming.
pub(super) fn is_timm(source: &Source<'_>) -> bool {
    ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"]
        .iter()
        .all(|name| source.weights.shape(name).is_some())
}

/// Opens a model folder.
pub(super) fn open(source: &Source<'_>) -> Result<Built, ModelError> {
    if source.model_type() == "vit" || source.field("architecture").is_empty() && !is_timm(source) {
        let root = if source.weights.shape("vit.embeddings.cls_token").is_some() { "vit" } else { "" };
        let (config, vit) = hugging_face(source, Tokens { root, special: 1, pictures: &[] })?;
        let default = pictures::resized(pictures::exact(config.image()), Filter::Bilinear, SYMMETRIC);
        let preprocessor = pictures::preprocessor(source, default)?;
        let pooler =
            activation::named("pooler_act", &config.pooler_act).map_err(|message| source.wrong(message))?;
        build(source, preprocessor, config.image(), |g, pixels| {
            let mut m = g.at(root);
            m.read("embeddings.patch_embeddings.projection.weight", &config.patch_weight())?;
            let encoded = vit.encode(&mut m, pixels)?;
            let x = vit.norm(&mut m, encoded.tokens)?;
            let cls = token(g, x, 0)?;
            if g.param_shape("classifier.weight").is_some() {
                return Ok(vec![("logits", g.linear("classifier", cls)?)]);
            }
            let mut m = g.at(root);
            let pooled = if m.param_shape("pooler.dense.weight").is_some() {
                let pooled = m.linear("pooler.dense", cls)?;
                m.activation("pooler.activation", pooler, pooled)?
            } else {
                cls
            };
            Ok(vec![("last_hidden_state", x), ("pooler_output", pooled)])
        })
    } else {
        let (config, vit) = timm(source)?;
        let image = image_of(source, &config);
        let preprocessor = config.preprocessor(image).map_err(|message| source.wrong(message))?;
        let preprocessor = pictures::preprocessor(source, preprocessor)?;
        let average = config.global_pool.as_deref() == Some("avg");
        build(source, preprocessor, image, |g, pixels| {
            let encoded = vit.encode(g, pixels)?;
            // With a mean over patches the last normalisation may come after it.
            let after = g.param_shape("fc_norm.weight").is_some();
            let x = if after { encoded.tokens } else { vit.norm(g, encoded.tokens)? };
            let pooled = if average { mean_of_patches(g, x, encoded.special)? } else { token(g, x, 0)? };
            let pooled = if after { g.layer_norm("fc_norm", pooled, TIMM_EPS)? } else { pooled };
            if g.param_shape("head.weight").is_some() {
                return Ok(vec![("logits", g.linear("head", pooled)?)]);
            }
            Ok(vec![("last_hidden_state", x), ("pooler_output", pooled)])
        })
    }
}

/// The mean of all tokens of `[1, N, C]` from `first` on: `[1, C]`.
pub(super) fn mean_of_patches(g: &mut Scope<'_, '_>, x: NodeId, first: usize) -> Result<NodeId, ModelError> {
    let tokens = g.shape(x)[1];
    let patches = g.narrow(x, 1, first, tokens - first)?;
    g.reduce(Reduction::Mean, patches, &[1], false)
}

/// The encoder that a configuration of Hugging Face describes, or without one its tensors, for ViT and DeiT.
pub(super) fn hugging_face(source: &Source<'_>, tokens: Tokens<'_>) -> Result<(VitConfig, Vit), ModelError> {
    let config = vit_sizes::of(source, tokens)?;
    let config = config.complete(Sides::Square(224), 16, HF_EPS).map_err(|message| source.wrong(message))?;
    let blocks = Blocks {
        names: &block::HF,
        count: config.num_hidden_layers,
        heads: config.num_attention_heads,
        act: config.act(),
        eps: config.eps(),
    };
    let grid = Some(config.grid());
    Ok((config, Vit { names: HF, blocks, distilled: false, grid, how: Resampling::Bicubic }))
}

/// The encoder of a checkpoint in timm's naming, for ViT, DeiT and DINOv2.
pub(super) fn timm(source: &Source<'_>) -> Result<(TimmConfig, Vit), ModelError> {
    let config = TimmConfig::read(source)?;
    let weights = source.weights;
    let patch = weights.shape("patch_embed.proj.weight").unwrap_or_default();
    let (width, side) = (patch.first().copied().unwrap_or(0), patch.get(2).copied().unwrap_or(1));
    let count = count_modules(weights.names(), "blocks");
    let heads = within("the number of blocks", count, 1, MAX_LAYERS).and_then(|()| config.heads(width));
    let heads = heads.map_err(|message| source.wrong(message))?;
    let blocks = Blocks {
        names: timm_names(|name| weights.shape(name).is_some()),
        count,
        heads,
        act: Activation::Gelu,
        eps: TIMM_EPS,
    };
    let grid = config.grid(side);
    Ok((config, Vit { names: TIMM, blocks, distilled: false, grid, how: Resampling::Antialiased }))
}

/// Height and width that a checkpoint in timm's naming was made for: as the file says, else as many patches as the
/// position table has rows.
pub(super) fn image_of(source: &Source<'_>, config: &TimmConfig) -> (usize, usize) {
    config.image().unwrap_or_else(|| {
        let axis = |name: &str, axis: usize| source.weights.shape(name).and_then(|s| s.get(axis).copied());
        let rows = axis("pos_embed", 1).unwrap_or(0);
        // One or two special tokens lie below the next square.
        let side = axis("patch_embed.proj.weight", 2).unwrap_or(16).saturating_mul(rows.isqrt());
        let side = side.clamp(1, 16_384);
        (side, side)
    })
}

/// Builds the graph for pictures as the preprocessor makes them, else for images of the usual size, or for the shape
/// asked for. The task is read off the outputs.
pub(super) fn build(
    source: &Source<'_>,
    preprocessor: PreprocessorConfig,
    usual: (usize, usize),
    forward: impl FnOnce(&mut Scope<'_, '_>, NodeId) -> Result<Vec<(&'static str, NodeId)>, ModelError>,
) -> Result<Built, ModelError> {
    let usual = preprocessor.fixed_size().unwrap_or(usual);
    let (height, width) = source.shapes.image("pixel_values", usual);
    let mut builder = Builder::new(source.weights);
    let mut g = builder.root();
    let pixels = g.input("pixel_values", &[1, 3, height, width])?;
    let outputs = forward(&mut g, pixels)?;
    let task = task(source, &g, &outputs);
    for (name, node) in outputs {
        builder.output(name, node);
    }
    let graph = builder.finish(is_bookkeeping)?;
    Ok(Built { graph, preprocessor: Some(preprocessor), own_sizes: OwnSizes::None, text: None, task })
}

fn task(source: &Source<'_>, g: &Scope<'_, '_>, outputs: &[(&str, NodeId)]) -> Task {
    let find = |name: &str| outputs.iter().find(|output| output.0 == name).map(|output| output.1);
    let labels = |node: NodeId, less: usize| {
        source.labels(g.shape(node).last().map_or(0, |classes| classes.saturating_sub(less)))
    };
    match (find("logits"), find("pred_boxes")) {
        (Some(logits), Some(_)) => Task::Boxes {
            logits: "logits".to_owned(),
            boxes: "pred_boxes".to_owned(),
            labels: labels(logits, 1),
        },
        (Some(logits), None) => Task::Classes { logits: "logits".to_owned(), labels: labels(logits, 0) },
        (None, _) => {
            Task::Embeddings { outputs: vec!["pooler_output".to_owned(), "last_hidden_state".to_owned()] }
        }
    }
}

/// Tensors that a graph needs not: the token that stands for masked patches while training.
fn is_bookkeeping(name: &str) -> bool {
    name.ends_with("mask_token") || name.ends_with("relative_position_index") || name.ends_with("attn_mask")
}
