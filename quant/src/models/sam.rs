//! SAM, the Segment Anything model (Kirillov et al., ICCV 2023): a ViT with windowed attention sees the picture, points,
//! boxes and masks become tokens, a two-way decoder makes masks with a score each. Both namings open: that of Hugging Face
//! and that of the authors (`sam_vit_b_01ec64.pth`).
//!
//! MobileSAM (Zhang et al. 2023, `mobile_sam.pt`) is the same in the authors' naming, except that a TinyViT sees the picture.
//! Its tensors tell its sizes but two, for which `config.json` may have the names of SAM's: `vision_config.image_size` (else
//! 1024) and `mask_decoder_config.num_attention_heads` (else 8); `model_type` is `mobile_sam`, or is not there.
//!
//! Inputs: `pixel_values [1, 3, S, S]` and prompts in pixels of it: `input_points [1, P, N, 2]` with
//! `input_labels [1, P, N]` (1 object, 0 background, -1 no point, -10 padding), `input_boxes [1, P, 4]`,
//! `input_masks [1, 1, S/4, S/4]` for patches of 16; or, as in the authors' ONNX export, all prompts as
//! `point_coords [1, P, N, 2]` with `point_labels [1, P, N]`, where the corners of a box have labels 2 and 3 and a prompt
//! without a box ends in a point of label -1. Prompts are there when their shapes are asked for; by default one
//! prompt of one point. Every sample may have another number of points. Outputs: `pred_masks [1, P, 3, h, w]` with `iou_scores [1, P, 3]`, and the decoder's answer to an
//! unambiguous prompt, `pred_masks.single [1, P, 1, h, w]` with `iou_scores.single [1, P, 1]`.

mod config;
mod decoder;
mod names;
mod positions;
mod prompt;
mod tiny_vit;
mod vision;

use super::architecture::Built;
use super::parts::pictures::{IMAGENET, preprocessor, resized};
use super::source::Source;
use super::{MaskRule, ModelError, OwnSizes, Task};
use crate::data::{Filter, PreprocessorConfig, Size};
use crate::graph::{Builder, NodeId, Scope};
use config::Sizes;
use names::Names;
use tiny_vit::TinyVit;

/// Whether configuration or tensors are those of SAM.
pub(super) fn recognises(source: &Source<'_>) -> bool {
    match source.model_type() {
        "sam" => true,
        "" => Names::of(source.weights).is_some(),
        _ => false,
    }
}

/// Opens a model folder, or a checkpoint alone.
pub(super) fn open(source: &Source<'_>) -> Result<Built, ModelError> {
    let names = Names::of(source.weights).unwrap_or(&names::HF);
    let (sizes, vit) = Sizes::read(source, names)?;
    let encode = |g: &mut Scope<'_, '_>, pixels| vision::encode(g, names, &vit, sizes.patch, pixels);
    // The positional table is stored once or twice.
    assemble(source, names, &sizes, encode, |name| names.gaussian.contains(&name))
}

/// Whether configuration or tensors are those of MobileSAM.
pub(super) fn recognises_mobile(source: &Source<'_>) -> bool {
    match source.model_type() {
        "mobile_sam" => true,
        "" | "sam" => Names::are_mobile(source.weights),
        _ => false,
    }
}

/// Opens a MobileSAM.
pub(super) fn open_mobile(source: &Source<'_>) -> Result<Built, ModelError> {
    let names = &names::ORIGINAL;
    let vit = TinyVit::read(source, names)?;
    let sizes = Sizes::mobile(source, names, tiny_vit::PATCH)?;
    let encode = |g: &mut Scope<'_, '_>, pixels| vit.encode(g, names, pixels);
    assemble(source, names, &sizes, encode, |name| tiny_vit::is_unused(names, name))
}

/// What all of them have around the image encoder `encode`, which makes `[1, C, s, s]` of the picture; `ignore` says which
/// tensors may be left unused.
fn assemble(
    source: &Source<'_>,
    names: &Names,
    sizes: &Sizes,
    encode: impl FnOnce(&mut Scope<'_, '_>, NodeId) -> Result<NodeId, ModelError>,
    ignore: impl Fn(&str) -> bool,
) -> Result<Built, ModelError> {
    let graph = {
        let mut builder = Builder::new(source.weights);
        let mut g = builder.root();
        let image = sizes.image;
        let (height, width) = source.shapes.image("pixel_values", (image, image));
        if (height, width) != (image, image) {
            return Err(ModelError::Input {
                input: "pixel_values".to_owned(),
                message: format!("this SAM reads pictures of {image}x{image} (padded), not {height}x{width}"),
            });
        }
        let pixels = g.input("pixel_values", &[1, sizes.channels, image, image])?;
        let prompts = prompt::Inputs::declare(&mut g, source.shapes, sizes)?;
        let table = positions::Gaussian::read(&mut g, names)?;
        let embeddings = encode(&mut g.at(names.encoder), pixels)?;
        let prompts = prompt::encode(&mut g.at("prompt_encoder"), names, sizes, &table, &prompts)?;
        let (masks, scores) =
            decoder::decode(&mut g.at("mask_decoder"), names, sizes, &table, embeddings, &prompts)?;
        // The first mask answers unambiguous prompts, the others the ambiguous ones.
        let others = g.shape(scores)[2].saturating_sub(1);
        let results = [
            ("pred_masks", g.narrow(masks, 2, 1, others)?),
            ("iou_scores", g.narrow(scores, 2, 1, others)?),
            ("pred_masks.single", g.narrow(masks, 2, 0, 1)?),
            ("iou_scores.single", g.narrow(scores, 2, 0, 1)?),
        ];
        for (name, node) in results {
            builder.output(name, node);
        }
        builder.finish(ignore)?
    };
    let side = sizes.image as u32;
    let default = PreprocessorConfig {
        pad: Some((side, side)),
        ..resized(Size::Longest(side), Filter::Bilinear, IMAGENET)
    };
    let preprocessor = preprocessor(source, default)?;
    Ok(Built {
        graph,
        preprocessor: Some(preprocessor),
        own_sizes: OwnSizes::Prompts,
        text: None,
        task: Task::Mask {
            logits: "pred_masks".to_owned(),
            rule: MaskRule::Best { scores: "iou_scores".to_owned(), threshold: 0.0 },
        },
    })
}
