//! CLIP (Radford et al., ICML 2021) as Hugging Face saves it: a text and a vision tower with a common space.
//!
//! Inputs: `pixel_values [1, 3, H, W]`, `input_ids [1, N]`, `attention_mask [1, N]`. Outputs: `logits_per_image [1, 1]`,
//! `logits_per_text [1, 1]`, `text_embeds [1, D]`, `image_embeds [1, D]` (both of length 1).

use super::architecture::Built;
use super::parts::clip::{self, Towers};
use super::parts::{embedding, pictures, tokenizer};
use super::source::Source;
use super::{ModelError, OwnSizes, Task};
use crate::data::{Filter, PreprocessorConfig, Size};
use crate::graph::Builder;

/// Mean and standard deviation of the channels in the pictures that CLIP was trained on.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Whether the configuration says CLIP, or without one the tensors are those of CLIP.
pub(super) fn recognises(source: &Source<'_>) -> bool {
    let has = |name: &str| source.weights.shape(name).is_some();
    match source.model_type() {
        "clip" => true,
        "" => {
            has("text_model.embeddings.token_embedding.weight")
                && has("vision_model.embeddings.class_embedding")
                && has("visual_projection.weight")
        }
        _ => false,
    }
}

/// Opens a model folder or a file.
pub(super) fn open(source: &Source<'_>) -> Result<Built, ModelError> {
    let towers = Towers::of(source, "")?;
    let preprocessor = pictures::preprocessor(source, published(towers.image as u32))?;
    let usual = preprocessor.fixed_size().unwrap_or((towers.image, towers.image));
    let (height, width) = source.shapes.image("pixel_values", usual);

    let mut builder = Builder::new(source.weights);
    let mut g = builder.root();
    let pixels = g.input("pixel_values", &[1, towers.channels, height, width])?;
    let (ids, mask) = clip::inputs(&mut g, source, &towers)?;
    let tokens = g.shape(ids)[1];
    let image = clip::see(&mut g.at("vision_model"), &towers, pixels)?.pooled;
    let image = g.linear("visual_projection", image)?;
    let text = clip::pooled(&mut g.at("text_model"), &towers, ids, mask)?;
    let text = g.linear("text_projection", text)?;
    let image = embedding::normalized(&mut g.at("image_embeds"), image)?;
    let text = embedding::normalized(&mut g.at("text_embeds"), text)?;
    let scale = g.read("logit_scale", &[])?.first().map_or(1.0, |scale| f64::from(*scale).exp()) as f32;
    if !scale.is_finite() {
        return Err(source.wrong("`logit_scale` of the checkpoint has no finite exponential".to_owned()));
    }
    let similarity = g.matmul("similarity", (text, image), true, 1.0)?;
    let logits = g.affine(similarity, scale, 0.0)?;
    // One text and one picture: the matrix is its own transpose.
    builder.output("logits_per_image", logits);
    builder.output("logits_per_text", logits);
    builder.output("text_embeds", text);
    builder.output("image_embeds", image);
    Ok(Built {
        graph: builder.finish(clip::is_bookkeeping)?,
        preprocessor: Some(preprocessor),
        own_sizes: OwnSizes::None,
        text: tokenizer::read(source, tokens)?,
        task: Task::Embeddings { outputs: vec!["image_embeds".to_owned(), "text_embeds".to_owned()] },
    })
}

/// The preprocessing of the published models: shortest side and centre crop, bicubic.
fn published(side: u32) -> PreprocessorConfig {
    let size = Size::Shortest { short: side, longest: None };
    let resized = pictures::resized(size, Filter::Bicubic, (MEAN, DEVIATION));
    PreprocessorConfig { crop: Some((side, side)), ..resized }
}
