//! YOLOS, object detection by a ViT with detection tokens (Fang et al., NeurIPS 2021), under the names of Hugging Face
//! (`YolosForObjectDetection`, `YolosModel`).
//!
//! Every picture has a size of its own (the shorter side 800, the longer at most 1333): the graph is built for each, with
//! positions resampled to its grid.
//!
//! Input: `pixel_values [1, 3, H, W]`; outputs: `logits [1, D, classes + 1]` (the last class is "no object"),
//! `pred_boxes [1, D, 4]` (centre x, centre y, width, height as shares of the image) and `last_hidden_state [1, N, C]`.

use serde::Deserialize;

use super::ModelError;
use super::architecture::Built;
use super::parts::block;
use super::parts::config::{Sides, VitConfig, within};
use super::parts::pictures::{self, IMAGENET};
use super::parts::positions::{Resampling, Table};
use super::parts::timm::unnamed;
use super::parts::tokens::{Grid, learned, patches};
use super::parts::vit::Blocks;
use super::parts::vit_sizes::{self, Tokens};
use super::source::Source;
use super::vit::build;
use crate::data::{Filter, Size};
use crate::exec::kernels::activation::Activation;
use crate::graph::{NodeId, Scope};

/// Height and width of the pictures that the published position tables were made for.
const PICTURES: [(usize, usize); 3] = [(512, 864), (800, 1333), (800, 1344)];

/// What the configuration has beyond that of a ViT.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Detection {
    num_detection_tokens: usize,
    use_mid_position_embeddings: bool,
}

impl Default for Detection {
    fn default() -> Self {
        Self { num_detection_tokens: 100, use_mid_position_embeddings: true }
    }
}

impl Detection {
    /// The configuration in the folder, or what the tensors tell.
    fn of(source: &Source<'_>, root: &str) -> Result<Self, ModelError> {
        if source.config.is_some() {
            return source.parse();
        }
        let dot = if root.is_empty() { "" } else { "." };
        let shape = |name: &str| source.weights.shape(&format!("{root}{dot}{name}"));
        let tokens = shape("embeddings.detection_tokens").and_then(|shape| shape.get(1).copied());
        Ok(Self {
            num_detection_tokens: tokens.unwrap_or(0),
            use_mid_position_embeddings: shape("encoder.mid_position_embeddings").is_some(),
        })
    }
}

/// Whether configuration or tensor names are those of a YOLOS.
pub(super) fn recognises(source: &Source<'_>) -> bool {
    source.model_type() == "yolos"
        || unnamed(source)
            && ["vit.embeddings.detection_tokens", "embeddings.detection_tokens"]
                .iter()
                .any(|name| source.weights.shape(name).is_some())
}

/// Opens a model folder.
pub(super) fn open(source: &Source<'_>) -> Result<Built, ModelError> {
    let root = if source.weights.shape("vit.embeddings.cls_token").is_some() { "vit" } else { "" };
    let detection = Detection::of(source, root)?;
    let special = detection.num_detection_tokens.saturating_add(1);
    let tokens = Tokens { root, special, pictures: &PICTURES };
    let config = vit_sizes::of(source, tokens)?;
    let config = config.complete(Sides::Rectangle([512, 864]), 16, 1e-12);
    let config = config.map_err(|message| source.wrong(message))?;
    within("num_detection_tokens", detection.num_detection_tokens, 1, 1 << 16)
        .map_err(|message| source.wrong(message))?;
    let size = Size::Shortest { short: 800, longest: Some(1333) };
    let mut default = pictures::resized(size, Filter::Bilinear, IMAGENET);
    default.multiple_of = 16;
    let preprocessor = pictures::preprocessor(source, default)?;
    let own_sizes = pictures::own_sizes(&preprocessor);
    let usual = pictures::largest(&preprocessor).unwrap_or(config.image());
    let built = build(source, preprocessor, usual, |g, pixels| {
        let mut m = g.at(root);
        m.read("embeddings.patch_embeddings.projection.weight", &config.patch_weight())?;
        let x = encode(&mut m, &config, &detection, pixels)?;
        let x = m.layer_norm("layernorm", x, config.eps())?;
        if g.param_shape("class_labels_classifier.layers.0.weight").is_none() {
            return Ok(vec![("last_hidden_state", x)]);
        }
        let (tokens, count) = (g.shape(x)[1], detection.num_detection_tokens);
        let detected = g.narrow(x, 1, tokens - count, count)?;
        let logits = mlp(&mut g.at("class_labels_classifier"), detected)?;
        let boxes = mlp(&mut g.at("bbox_predictor"), detected)?;
        let boxes = g.activation("bbox_predictor.sigmoid", Activation::Sigmoid, boxes)?;
        Ok(vec![("logits", logits), ("pred_boxes", boxes), ("last_hidden_state", x)])
    })?;
    Ok(Built { own_sizes, ..built })
}

/// Embeddings and layers: image to tokens `[1, 1 + h·w + D, C]`.
fn encode(
    g: &mut Scope<'_, '_>,
    config: &VitConfig,
    detection: &Detection,
    pixels: NodeId,
) -> Result<NodeId, ModelError> {
    let (count, width) = (detection.num_detection_tokens, config.hidden_size);
    let table = Table {
        name: "position_embeddings",
        before: 1,
        after: count,
        grid: Some(config.grid()),
        how: Resampling::Bicubic,
    };
    let mut e = g.at("embeddings");
    let (x, grid) = patches(&mut e, "patch_embeddings.projection", pixels)?;
    let cls = learned(&mut e, "cls_token", (1, width))?;
    let detected = learned(&mut e, "detection_tokens", (count, width))?;
    let x = e.concat(&[cls, x, detected], 1)?;
    let positions = table.positions(&mut e, width, grid)?;
    let mut x = e.add(x, positions)?;

    let blocks = Blocks {
        names: &block::HF,
        count: config.num_hidden_layers,
        heads: config.num_attention_heads,
        act: config.act(),
        eps: config.eps(),
    };
    let mut e = g.at("encoder");
    let mid = if detection.use_mid_position_embeddings {
        mid_positions(&mut e, &table, &blocks, width, grid)?
    } else {
        Vec::new()
    };
    for index in 0..blocks.count {
        x = blocks.run(&mut e.at(format!("layer.{index}")), x)?;
        if let Some(&positions) = mid.get(index) {
            x = e.add(x, positions)?;
        }
    }
    Ok(x)
}

/// The positions that are added after every layer but the last, `[1, 1 + h·w + D, C]` each, from one tensor
/// `[layers - 1, 1, rows, C]`.
fn mid_positions(
    g: &mut Scope<'_, '_>,
    table: &Table<'_>,
    blocks: &Blocks,
    width: usize,
    grid: Grid,
) -> Result<Vec<NodeId>, ModelError> {
    const NAME: &str = "mid_position_embeddings";
    let between = blocks.count - 1;
    // Of a table that is missing, as many as fit.
    let fit = || table.before + grid.0 * grid.1 + table.after;
    let rows = g.param_shape(NAME).map_or_else(fit, |shape| shape.get(2).copied().unwrap_or(0));
    let all = g.read(NAME, &[between, 1, rows, width])?;
    let table = Table { name: NAME, ..*table };
    all.chunks_exact((rows * width).max(1))
        .map(|layer| {
            let (positions, rows) = table.fit(g, layer, width, grid)?;
            g.constant(NAME, &[1, rows, width], positions)
        })
        .collect()
}

/// Three layers with `ReLU` between them.
fn mlp(g: &mut Scope<'_, '_>, x: NodeId) -> Result<NodeId, ModelError> {
    let x = g.linear("layers.0", x)?;
    let x = g.activation("relu", Activation::Relu, x)?;
    let x = g.linear("layers.1", x)?;
    let x = g.activation("relu", Activation::Relu, x)?;
    g.linear("layers.2", x)
}
