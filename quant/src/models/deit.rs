//! DeiT, the data-efficient image transformer (Touvron et al., ICML 2021): a ViT with a distillation token and a second
//! head, under the names of Hugging Face and of timm (and of the original files). Without that token it is a plain ViT.
//!
//! Input: `pixel_values [1, 3, H, W]`; outputs: `logits [1, classes]`, the mean of `cls_logits` and `distillation_logits`;
//! without heads `last_hidden_state [1, N, C]` and `pooler_output [1, C]`.

use super::ModelError;
use super::architecture::Built;
use super::parts::activation;
use super::parts::pictures::{self, IMAGENET};
use super::parts::timm::unnamed;
use super::parts::tokens::token;
use super::parts::vit_sizes::Tokens;
use super::source::Source;
use super::vit::{build, hugging_face, image_of, is_timm, mean_of_patches, timm};
use crate::data::Filter;
use crate::graph::{NodeId, Scope};

/// Whether configuration or tensor names are those of a DeiT.
pub(super) fn recognises(source: &Source<'_>) -> bool {
    let has = |name: &str| source.weights.shape(name).is_some();
    source.model_type() == "deit"
        || source.field("architecture").starts_with("deit")
        || unnamed(source)
            && (has("deit.embeddings.cls_token")
                || has("embeddings.distillation_token")
                || is_timm(source) && has("dist_token"))
}

/// Opens a model folder.
pub(super) fn open(source: &Source<'_>) -> Result<Built, ModelError> {
    let has = |name: &str| source.weights.shape(name).is_some();
    if source.model_type() == "deit" || source.field("architecture").is_empty() && !is_timm(source) {
        let root = if has("deit.embeddings.cls_token") { "deit" } else { "" };
        let (config, mut vit) = hugging_face(source, Tokens { root, special: 2, pictures: &[] })?;
        vit.distilled = true;
        // 224 of 256 pixels, as published.
        let (height, width) = config.image();
        let whole = pictures::exact((height * 256 / 224, width * 256 / 224));
        let mut default = pictures::resized(whole, Filter::Bicubic, IMAGENET);
        default.crop = Some((height as u32, width as u32));
        let preprocessor = pictures::preprocessor(source, default)?;
        let pooler =
            activation::named("pooler_act", &config.pooler_act).map_err(|message| source.wrong(message))?;
        build(source, preprocessor, config.image(), |g, pixels| {
            let mut m = g.at(root);
            m.read("embeddings.patch_embeddings.projection.weight", &config.patch_weight())?;
            let encoded = vit.encode(&mut m, pixels)?;
            let x = vit.norm(&mut m, encoded.tokens)?;
            if has("cls_classifier.weight") {
                return heads(g, x, ["cls_classifier", "distillation_classifier"]);
            }
            let cls = token(g, x, 0)?;
            if has("classifier.weight") {
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
        let (config, mut vit) = timm(source)?;
        vit.distilled = has("dist_token");
        let image = image_of(source, &config);
        let preprocessor = config.preprocessor(image).map_err(|message| source.wrong(message))?;
        let preprocessor = pictures::preprocessor(source, preprocessor)?;
        let average = config.global_pool.as_deref() == Some("avg");
        build(source, preprocessor, image, |g, pixels| {
            let encoded = vit.encode(g, pixels)?;
            let x = vit.norm(g, encoded.tokens)?;
            if has("head_dist.weight") {
                return heads(g, x, ["head", "head_dist"]);
            }
            let pooled = if average { mean_of_patches(g, x, encoded.special)? } else { token(g, x, 0)? };
            if has("head.weight") {
                return Ok(vec![("logits", g.linear("head", pooled)?)]);
            }
            Ok(vec![("last_hidden_state", x), ("pooler_output", pooled)])
        })
    }
}

/// Both heads, each on its token, and the mean of what they say.
fn heads(
    g: &mut Scope<'_, '_>,
    x: NodeId,
    names: [&str; 2],
) -> Result<Vec<(&'static str, NodeId)>, ModelError> {
    let (cls, distilled) = (token(g, x, 0)?, token(g, x, 1)?);
    let cls = g.linear(names[0], cls)?;
    let distilled = g.linear(names[1], distilled)?;
    let sum = g.add(cls, distilled)?;
    let logits = g.affine(sum, 0.5, 0.0)?;
    Ok(vec![("logits", logits), ("cls_logits", cls), ("distillation_logits", distilled)])
}
