//! CLIPSeg (Lüddecke and Ecker, CVPR 2022) as Hugging Face saves it: CLIP, and a decoder that finds in a picture what a
//! text or another picture shows.
//!
//! Inputs: `pixel_values [1, 3, H, W]`, and `input_ids [1, N]` with `attention_mask [1, N]`; or, where
//! `conditional_pixel_values` and no `input_ids` are asked for, `conditional_pixel_values [1, 3, H', W']`. Outputs:
//! `logits [1, H, W]`, `conditional_embeddings [1, D]`, `pooled_output [1, D]`.

mod config;
mod decoder;

use config::ClipsegConfig;

use super::architecture::Built;
use super::parts::clip::{self, Towers};
use super::parts::{pictures, tokenizer};
use super::source::Source;
use super::{MaskRule, ModelError, OwnSizes, Task};
use crate::data::Filter;
use crate::graph::{Builder, NodeId, Scope};

/// Height and width of the pictures of the published models.
const SIZE: (usize, usize) = (352, 352);
/// A picture as prompt.
const IMAGE_PROMPT: &str = "conditional_pixel_values";

/// Whether the configuration says CLIPSeg, or without one the tensors are those of CLIPSeg.
pub(super) fn recognises(source: &Source<'_>) -> bool {
    let has = |name: &str| source.weights.shape(name).is_some();
    match source.model_type() {
        "clipseg" => true,
        "" => has("clip.text_model.embeddings.token_embedding.weight") && has("decoder.film_mul.weight"),
        _ => false,
    }
}

/// Opens a model folder or a file.
pub(super) fn open(source: &Source<'_>) -> Result<Built, ModelError> {
    let towers = Towers::of(source, "clip.")?;
    let config = ClipsegConfig::of(source, &towers)?;
    // The published models see squares, whatever the aspect ratio.
    let published = pictures::resized(pictures::exact(SIZE), Filter::Bilinear, pictures::IMAGENET);
    let preprocessor = pictures::preprocessor(source, published)?;
    let usual = preprocessor.fixed_size().unwrap_or(SIZE);
    // A text wins where both are there, as in the published code.
    let by_image = source.shapes.contains(IMAGE_PROMPT) && !source.shapes.contains("input_ids");

    let mut builder = Builder::new(source.weights);
    let mut g = builder.root();
    let picture = |g: &mut Scope<'_, '_>, name: &str| {
        let (height, width) = source.shapes.image(name, usual);
        g.input(name, &[1, towers.channels, height, width])
    };
    let pixels = picture(&mut g, "pixel_values")?;
    let prompt = if by_image {
        Prompt::Image(picture(&mut g, IMAGE_PROMPT)?)
    } else {
        let (ids, mask) = clip::inputs(&mut g, source, &towers)?;
        Prompt::Text { ids, mask }
    };
    let mut c = g.at("clip");
    let seen = clip::see(&mut c.at("vision_model"), &towers, pixels)?;
    let pooled = c.linear("visual_projection", seen.pooled)?;
    let (condition, text) = match prompt {
        Prompt::Image(pixels) => {
            let shown = clip::see(&mut c.at("vision_model"), &towers, pixels)?;
            (c.linear("visual_projection", shown.pooled)?, None)
        }
        Prompt::Text { ids, mask } => {
            let tokens = c.shape(ids)[1];
            let said = clip::pooled(&mut c.at("text_model"), &towers, ids, mask)?;
            (c.linear("text_projection", said)?, tokenizer::read(source, tokens)?)
        }
    };
    let logits = decoder::decode(&mut g.at("decoder"), &config, &seen, condition)?;
    builder.output("logits", logits);
    builder.output("conditional_embeddings", condition);
    builder.output("pooled_output", pooled);
    let unused = |name: &str| {
        clip::is_bookkeeping(name)
            || name == "clip.logit_scale"
            || (by_image
                && (name.starts_with("clip.text_model.") || name.starts_with("clip.text_projection.")))
    };
    Ok(Built {
        graph: builder.finish(unused)?,
        preprocessor: Some(preprocessor),
        own_sizes: OwnSizes::None,
        text,
        task: Task::Mask { logits: "logits".to_owned(), rule: MaskRule::Above(0.0) },
    })
}

/// What is looked for.
enum Prompt {
    Text { ids: NodeId, mask: NodeId },
    Image(NodeId),
}
