//! LAVT, language-aware vision transformer for referring image segmentation (Yang et al., CVPR 2022), in the
//! `lavt_one` form: a Swin backbone that fuses words into pixels after every stage, BERT as `text_encoder`, and
//! a convolutional decoder. Names are those of the authors' checkpoints.
//!
//! Inputs: `pixel_values [1, 3, H, W]`, `input_ids [1, N]`, `attention_mask [1, N]`; output `logits [1, 2, H, W]`
//! (channel 1 is the object).

mod config;
mod decoder;
mod fusion;
mod swin;

pub use config::LavtConfig;

use super::architecture::Built;
use super::parts::bert;
use super::source::Source;
use super::{InputShapes, MaskRule, ModelError, Task, Weights};
use crate::data::{PreprocessorConfig, TextEncoder, Truncation};
use crate::exec::kernels::activation::Activation;
use crate::graph::{Builder, Graph};

/// Added to scores of padding tokens; the value of the BERT that LAVT was published with.
const MASKED: f32 = -10_000.0;

/// Whether the configuration is one of LAVT.
pub(super) fn recognises(source: &Source<'_>) -> bool {
    source.model_type() == "lavt"
}

/// Opens a model folder.
pub(super) fn open(source: &Source<'_>) -> Result<Built, ModelError> {
    let config: LavtConfig = source.parse()?;
    config.check().map_err(|message| source.wrong(message))?;
    let graph = build(&config, source.weights, source.shapes)?;
    let preprocessor = PreprocessorConfig::read(source.files, PreprocessorConfig::FILE)?;
    let text = TextEncoder::read(source.files, config.max_tokens, Truncation::Cut)?;
    Ok(Built {
        graph,
        preprocessor: Some(preprocessor),
        text: Some(text),
        task: Task::Mask { logits: "logits".to_owned(), rule: MaskRule::Second },
    })
}

/// Builds the graph for images of the config's size, or of the shapes asked for.
pub fn build(config: &LavtConfig, weights: &Weights, shapes: &InputShapes) -> Result<Graph, ModelError> {
    let [height, width] = config.image_size;
    let (height, width) = shapes.image("pixel_values", (height, width));
    let tokens = shapes.length("input_ids", config.max_tokens);
    let mut builder = Builder::new(weights);
    let mut g = builder.root();
    let pixels = g.input("pixel_values", &[1, config.swin.in_chans, height, width])?;
    let ids = g.input("input_ids", &[1, tokens])?;
    let mask = g.input("attention_mask", &[1, tokens])?;
    let encoder = bert::Encoder {
        layers: config.bert.num_hidden_layers,
        heads: config.bert.num_attention_heads,
        eps: config.bert.layer_norm_eps,
        activation: Activation::Gelu,
        masked: MASKED,
    };
    let words = bert::encode(&mut g.at("text_encoder"), &encoder, ids, mask, None)?;
    let words = g.permute(words, &[0, 2, 1])?;
    let levels = swin::backbone(&mut g.at("backbone"), config, pixels, words, mask)?;
    let logits = decoder::decode(&mut g.at("classifier"), &config.decoder, levels)?;
    let logits = g.resize(logits, (height, width), config.decoder.align_corners)?;
    builder.output("logits", logits);
    builder.finish(is_bookkeeping)
}

/// Tensors that the published files carry besides weights: buffers that can be derived, counters, and BERT's
/// pooler, which LAVT removes.
fn is_bookkeeping(name: &str) -> bool {
    ["relative_position_index", "attn_mask", "num_batches_tracked", "position_ids"]
        .iter()
        .any(|end| name.ends_with(end))
        || name.starts_with("text_encoder.pooler.")
}
