//! DETR (Carion et al., ECCV 2020) as Hugging Face has it: a ResNet with frozen normalisation, a transformer over its last
//! map, and boxes from learned queries. The backbone's names are those of timm or of Hugging Face.
//!
//! Every picture has a size of its own (the shorter side 800, the longer at most 1333): the graph is built for each.
//!
//! Inputs: `pixel_values [1, 3, H, W]`, and `pixel_mask [1, H, W]` (1 picture, 0 padding) if it is asked for or no shape of
//! the picture is; pictures of a batch are padded to one size, one alone is not. Outputs: `logits [1, Q, classes + 1]` and
//! `pred_boxes [1, Q, 4]` (centre x, centre y, width, height, as shares of the picture without its padding).

mod backbone;
mod config;
mod positions;
mod transformer;

use super::architecture::Built;
use super::parts::pictures::{IMAGENET, largest, own_sizes, preprocessor, resized};
use super::source::Source;
use super::{ModelError, Task};
use crate::data::{Filter, Size};
use crate::exec::kernels::activation::Activation;
use crate::graph::{Builder, Conv, NodeId, Scope};
use config::DetrConfig;

/// The published size of pictures: the shorter side, and the longer at most.
const USUAL: Size = Size::Shortest { short: 800, longest: Some(1333) };
/// Height and width of the largest picture of that size.
const LARGEST: (usize, usize) = (800, 1333);

/// Whether configuration or tensors are those of DETR.
pub(super) fn recognises(source: &Source<'_>) -> bool {
    let has = |name: &str| source.weights.shape(name).is_some();
    match source.model_type() {
        "detr" => true,
        "" => {
            has("model.query_position_embeddings.weight")
                && has("model.input_projection.weight")
                && has("class_labels_classifier.weight")
        }
        _ => false,
    }
}

/// Opens a model folder, or a checkpoint alone.
pub(super) fn open(source: &Source<'_>) -> Result<Built, ModelError> {
    let config = DetrConfig::read(source)?;
    let mut preprocessor = preprocessor(source, resized(USUAL, Filter::Bilinear, IMAGENET))?;
    let usual = match (preprocessor.pad, preprocessor.resize) {
        (Some((height, width)), _) | (None, Some(Size::Exact { height, width })) => {
            (height as usize, width as usize)
        }
        _ => largest(&preprocessor).unwrap_or(LARGEST),
    };
    let (height, width) = source.shapes.image("pixel_values", usual);
    let masked = source.shapes.contains("pixel_mask") || !source.shapes.contains("pixel_values");

    let mut builder = Builder::new(source.weights);
    let mut g = builder.root();
    let pixels = g.input("pixel_values", &[1, 3, height, width])?;
    let mask = if masked { Some(g.input("pixel_mask", &[1, height, width])?) } else { None };
    let (logits, boxes) = detect(&mut g, &config, pixels, mask)?;
    let classes = g.shape(logits)[2];
    builder.output("logits", logits);
    builder.output("pred_boxes", boxes);
    let graph = builder.finish(|name| name.ends_with(".num_batches_tracked"))?;
    // A shape that was asked for is that of a batch: its pictures are padded to it.
    if source.shapes.contains("pixel_values")
        && let (Ok(height), Ok(width)) = (u32::try_from(height), u32::try_from(width))
    {
        preprocessor.pad = Some((height, width));
    }
    let own_sizes = own_sizes(&preprocessor);
    Ok(Built {
        graph,
        preprocessor: Some(preprocessor),
        own_sizes,
        text: None,
        task: Task::Boxes {
            logits: "logits".to_owned(),
            boxes: "pred_boxes".to_owned(),
            labels: source.labels(classes.saturating_sub(1)),
        },
    })
}

/// Picture `[1, 3, H, W]` and mask `[1, H, W]` to logits and boxes of every query.
fn detect(
    g: &mut Scope<'_, '_>,
    config: &DetrConfig,
    pixels: NodeId,
    mask: Option<NodeId>,
) -> Result<(NodeId, NodeId), ModelError> {
    let map = backbone::features(&mut g.at("model.backbone.conv_encoder.model"), config, pixels)?;
    let map = g.conv("model.input_projection", map, Conv::new(1, 0))?;
    let (d, h, w) = (g.shape(map)[1], g.shape(map)[2], g.shape(map)[3]);
    let x = g.reshape(map, &[1, d, h * w])?;
    let x = g.permute(x, &[0, 2, 1])?;
    let mask = if let Some(mask) = mask {
        positions::on_grid(g, mask, (h, w))?
    } else {
        g.reserve("pixel_mask", &[h, w])?;
        g.constant("pixel_mask", &[1, 1, h, w], vec![1.0; h * w])?
    };
    let places = positions::sines(&mut g.at("model.backbone.position_embedding"), mask, d)?;
    let bias = positions::attention_bias(g, mask)?;
    let x = transformer::encode(&mut g.at("model.encoder"), config, x, places, bias)?;
    // Of a table that is missing, the published number.
    let queries = g.param_shape("model.query_position_embeddings.weight");
    let queries = queries.map_or(100, |shape| shape.first().copied().unwrap_or(0));
    let table = g.read("model.query_position_embeddings.weight", &[queries, d])?;
    let table = g.constant("model.query_position_embeddings", &[1, queries, d], table.to_vec())?;
    let x = transformer::decode(&mut g.at("model.decoder"), config, table, x, places, bias)?;
    let logits = g.linear("class_labels_classifier", x)?;
    let mut boxes = x;
    for i in 0..3 {
        boxes = g.linear(&format!("bbox_predictor.layers.{i}"), boxes)?;
        let act = if i < 2 { Activation::Relu } else { Activation::Sigmoid };
        boxes = g.activation("bbox_predictor.act", act, boxes)?;
    }
    Ok((logits, boxes))
}
