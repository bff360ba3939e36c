//! DINOv2 (Oquab et al., TMLR 2024), with and without registers (Darcet et al., ICLR 2024): a ViT with layer scale, under
//! the names of Hugging Face (`Dinov2Model`, `Dinov2ForImageClassification`, `Dinov2WithRegisters…`), of the original
//! `dinov2_vits14` files and of timm.
//!
//! Input: `pixel_values [1, 3, H, W]`; outputs: `last_hidden_state [1, N, C]` and `pooler_output [1, C]` (the normalised
//! class token), or `logits [1, classes]`. The position table is made for 37×37 patches; pictures have 16×16.

use super::ModelError;
use super::architecture::Built;
use super::parts::block;
use super::parts::config::{Sides, VitConfig};
use super::parts::pictures::{self, IMAGENET};
use super::parts::positions::Resampling;
use super::parts::timm::unnamed;
use super::parts::tokens::token;
use super::parts::vit::{Blocks, Encoded, HF, Vit};
use super::parts::vit_sizes::{self, Tokens};
use super::source::Source;
use super::vit::{build, is_timm, mean_of_patches, timm};
use crate::data::{Filter, PreprocessorConfig, Size};
use crate::graph::{NodeId, Scope};

/// Added to the sides of the grid by the original code, which asks for a factor instead of a size.
const OFFSET: f64 = 0.1;

/// Whether configuration or tensor names are those of a DINOv2.
pub(super) fn recognises(source: &Source<'_>) -> bool {
    let has = |name: &str| source.weights.shape(name).is_some();
    ["dinov2", "dinov2_with_registers"].contains(&source.model_type())
        || source.field("architecture").contains("dinov2")
        || unnamed(source) && is_timm(source) && has("blocks.0.ls1.gamma") && has("mask_token")
        || unnamed(source)
            && ["", "dinov2.", "dinov2_with_registers."]
                .iter()
                .any(|root| has(&format!("{root}encoder.layer.0.layer_scale1.lambda1")))
}

/// Opens a model folder.
pub(super) fn open(source: &Source<'_>) -> Result<Built, ModelError> {
    let has = |name: &str| source.weights.shape(name).is_some();
    // Resize to 256 and crop 224: of the class, and of the original evaluation.
    let shortest = Size::Shortest { short: 256, longest: None };
    let mut default = pictures::resized(shortest, Filter::Bicubic, IMAGENET);
    default.crop = Some((224, 224));
    if source.field("architecture").is_empty() && !is_timm(source) {
        let preprocessor = pictures::preprocessor(source, default)?;
        let root = if has("dinov2.embeddings.cls_token") {
            "dinov2"
        } else if has("dinov2_with_registers.embeddings.cls_token") {
            "dinov2_with_registers"
        } else {
            ""
        };
        let (config, vit) = hugging_face(source, root)?;
        build(source, preprocessor, config.image(), |g, pixels| {
            let mut m = g.at(root);
            m.read("embeddings.patch_embeddings.projection.weight", &config.patch_weight())?;
            let encoded = vit.encode(&mut m, pixels)?;
            let x = vit.norm(&mut m, encoded.tokens)?;
            outputs(g, x, encoded, "classifier")
        })
    } else {
        let (config, mut vit) = timm(source)?;
        if source.field("architecture").is_empty() {
            let registers = has("register_tokens");
            vit.how = if registers { Resampling::Antialiased } else { Resampling::Offset(OFFSET) };
        }
        let image = config.image().unwrap_or((224, 224));
        let default: PreprocessorConfig = match config.image() {
            Some(image) => config.preprocessor(image).map_err(|message| source.wrong(message))?,
            None => default,
        };
        let preprocessor = pictures::preprocessor(source, default)?;
        build(source, preprocessor, image, |g, pixels| {
            let encoded = vit.encode(g, pixels)?;
            let x = vit.norm(g, encoded.tokens)?;
            outputs(g, x, encoded, "head")
        })
    }
}

/// The normalised tokens and class token, or what a linear head says of both the class token and the mean of the patches.
fn outputs(
    g: &mut Scope<'_, '_>,
    x: NodeId,
    encoded: Encoded,
    head: &str,
) -> Result<Vec<(&'static str, NodeId)>, ModelError> {
    let cls = token(g, x, 0)?;
    if g.param_shape(&format!("{head}.weight")).is_none() {
        return Ok(vec![("last_hidden_state", x), ("pooler_output", cls)]);
    }
    let patches = mean_of_patches(g, x, encoded.special)?;
    let both = g.concat(&[cls, patches], 1)?;
    Ok(vec![("logits", g.linear(head, both)?)])
}

/// The encoder that a configuration of Hugging Face describes.
fn hugging_face(source: &Source<'_>, root: &str) -> Result<(VitConfig, Vit), ModelError> {
    let config = vit_sizes::of(source, Tokens { root, special: 1, pictures: &[] })?;
    let config = config.complete(Sides::Square(224), 14, 1e-6).map_err(|message| source.wrong(message))?;
    let dot = if root.is_empty() { "" } else { "." };
    let gated = format!("{root}{dot}encoder.layer.0.mlp.weights_in.weight");
    let gated = source.weights.shape(&gated).is_some();
    let blocks = Blocks {
        names: if gated { &block::HF_DINOV2_GATED } else { &block::HF_DINOV2 },
        count: config.num_hidden_layers,
        heads: config.num_attention_heads,
        act: config.act(),
        eps: config.eps(),
    };
    let registers = source.model_type() == "dinov2_with_registers"
        || source.weights.shape(&format!("{root}{dot}embeddings.register_tokens")).is_some();
    let how = if registers { Resampling::Antialiased } else { Resampling::Bicubic };
    let grid = Some(config.grid());
    Ok((config, Vit { names: HF, blocks, distilled: false, grid, how }))
}
