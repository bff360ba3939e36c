//! LAVT, language-aware vision transformer for referring image segmentation (Yang et al., CVPR 2022): a Swin backbone that
//! fuses words into pixels after every stage, BERT, and a convolutional decoder. Names are those of the authors'
//! checkpoints: `lavt_one`, whose BERT is its `text_encoder`, and `lavt`, whose BERT is a second dict, `bert_model`.
//!
//! Inputs: `pixel_values [1, 3, H, W]`, `input_ids [1, N]`, `attention_mask [1, N]`; output `logits [1, 2, H, W]`
//! (channel 1 is the object).

mod config;
mod decoder;
mod fusion;
mod infer;
mod prefixes;
mod swin;

pub use config::LavtConfig;

use super::architecture::Built;
use super::parts::bert;
use super::parts::pictures::{IMAGENET, exact, resized};
use super::source::Source;
use super::{InputShapes, MaskRule, ModelError, OwnSizes, Task, Weights};
use crate::data::{Filter, PreprocessorConfig, TextEncoder, Truncation};
use crate::exec::kernels::activation::Activation;
use crate::graph::{Builder, Graph};
use prefixes::Prefixes;

/// Added to scores of padding tokens; the value of the BERT that LAVT was published with.
const MASKED: f32 = -10_000.0;

/// Whether the configuration is one of LAVT, or without one the tensors.
pub(super) fn recognises(source: &Source<'_>) -> bool {
    match source.model_type() {
        "lavt" => true,
        "" => Prefixes::of(source.weights).is_some(),
        _ => false,
    }
}

/// Opens a model folder, or one of the authors' checkpoints, which have neither configuration nor tokenizer.
pub(super) fn open(source: &Source<'_>) -> Result<Built, ModelError> {
    let described = source.model_type() == "lavt";
    let config: LavtConfig =
        if described { source.parse()? } else { infer::config(source.weights, &prefixes(source.weights))? };
    config.check().map_err(|message| {
        source.wrong(if described {
            message
        } else {
            let what = if source.config.is_none() { "no such file" } else { "`model_type` is missing" };
            format!("{what}, and the sizes that the tensors tell do not fit a published model: {message}")
        })
    })?;
    let graph = build(&config, source.weights, source.shapes)?;
    let preprocessor = if described || source.files.contains(PreprocessorConfig::FILE) {
        PreprocessorConfig::read(source.files, PreprocessorConfig::FILE)?
    } else {
        let [height, width] = config.image_size;
        resized(exact((height, width)), Filter::Bilinear, IMAGENET)
    };
    let text = if described || TextEncoder::is_in(source.files) {
        Some(TextEncoder::read(source.files, config.max_tokens, Truncation::Cut)?)
    } else {
        None
    };
    Ok(Built {
        graph,
        preprocessor: Some(preprocessor),
        own_sizes: OwnSizes::None,
        text,
        task: Task::Mask { logits: "logits".to_owned(), rule: MaskRule::Second },
    })
}

/// Where the two models lie in a checkpoint; as in `lavt_one` if nothing is found, so that the missing tensor is named.
fn prefixes(weights: &Weights) -> Prefixes {
    Prefixes::of(weights).unwrap_or(Prefixes::ONE)
}

/// Builds the graph for images of the config's size, or of the shapes asked for.
pub fn build(config: &LavtConfig, weights: &Weights, shapes: &InputShapes) -> Result<Graph, ModelError> {
    let [height, width] = config.image_size;
    let (height, width) = shapes.image("pixel_values", (height, width));
    let tokens = shapes.length("input_ids", config.max_tokens);
    let Prefixes { model, text } = prefixes(weights);
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
    // The encoder takes its widths from the tensors; a configuration that says others is of another model.
    let table = format!("{text}.embeddings.word_embeddings.weight");
    let expected = vec![config.bert.vocab_size, config.bert.hidden_size];
    if let Some(found) = weights.shape(&table).filter(|found| *found != expected) {
        return Err(ModelError::TensorShape {
            file: weights.file().to_owned(),
            tensor: table,
            expected,
            found,
        });
    }
    let words = bert::encode(&mut g.at(text), &encoder, ids, mask, None)?;
    let words = g.permute(words, &[0, 2, 1])?;
    let mut g = g.at(model);
    let levels = swin::backbone(&mut g.at("backbone"), config, pixels, words, mask)?;
    let logits = decoder::decode(&mut g.at("classifier"), &config.decoder, levels)?;
    let logits = g.resize(logits, (height, width), config.decoder.align_corners)?;
    builder.output("logits", logits);
    builder.finish(|name| is_bookkeeping(name, text))
}

/// Tensors that the published files carry besides weights: buffers that can be derived, counters, and BERT's
/// pooler, which LAVT removes.
fn is_bookkeeping(name: &str, text: &str) -> bool {
    ["relative_position_index", "attn_mask", "num_batches_tracked", "position_ids"]
        .iter()
        .any(|end| name.ends_with(end))
        || name.strip_prefix(text).is_some_and(|rest| rest.starts_with(".pooler."))
}
