//! BERT (Devlin et al., NAACL 2019) as Hugging Face saves it: bare or under `bert.`, with the heads that the checkpoint
//! has, `LayerNorm.weight`/`bias` or the older `gamma`/`beta`.
//!
//! Inputs: `input_ids [1, N]`, `attention_mask [1, N]`, and `token_type_ids [1, N]` if they are asked for. Outputs:
//! `last_hidden_state [1, N, width]`, those of the heads under Hugging Face's names, and without a classifier
//! `sentence_embedding [1, width]`, the mean of the tokens at length 1, as sentence-transformers pools.

mod config;
mod heads;

use config::BertConfig;
use heads::Heads;

use super::architecture::Built;
use super::parts::heads::MASKED;
use super::parts::{activation, bert, embedding, tokenizer};
use super::source::Source;
use super::{ModelError, OwnSizes, Task};
use crate::graph::Builder;

/// Tokens that a text is brought to where no length is asked for, special ones and padding included. The position
/// table reaches further (512), at several times the cost.
const USUAL_TOKENS: usize = 128;
/// The first tensor of the embeddings.
const WORDS: &str = "embeddings.word_embeddings.weight";

/// Whether the configuration says BERT, or without one the tensors are those of BERT.
pub(super) fn recognises(source: &Source<'_>) -> bool {
    match source.model_type() {
        "bert" => true,
        "" if source.field("architecture").is_empty() => {
            let prefix = prefix(source);
            let shape = |name: &str| source.weights.shape(&format!("{prefix}{name}"));
            let segments = shape("embeddings.token_type_embeddings.weight");
            // RoBERTa has the same names, one segment, and other positions.
            shape(WORDS).is_some()
                && shape("encoder.layer.0.attention.self.query.weight").is_some()
                && segments.is_some_and(|shape| shape.first() == Some(&2))
        }
        _ => false,
    }
}

/// What stands before the names of the encoder.
fn prefix(source: &Source<'_>) -> &'static str {
    if source.weights.shape(&format!("bert.{WORDS}")).is_some() { "bert." } else { "" }
}

/// Opens a model folder or a file.
pub(super) fn open(source: &Source<'_>) -> Result<Built, ModelError> {
    let prefix = prefix(source);
    let config = BertConfig::of(source, prefix)?;
    let wrong = |message| source.wrong(message);
    let act = activation::named("hidden_act", &config.hidden_act).map_err(wrong)?;
    let tokens = source.shapes.length("input_ids", USUAL_TOKENS.min(config.max_position_embeddings));
    if !(1..=config.max_position_embeddings).contains(&tokens) {
        return Err(wrong(format!(
            "`input_ids` of {tokens} tokens; the model reads 1 to `max_position_embeddings` = {}",
            config.max_position_embeddings
        )));
    }

    let mut builder = Builder::new(source.weights);
    let mut g = builder.root();
    let ids = g.input("input_ids", &[1, tokens])?;
    let mask = g.input("attention_mask", &[1, tokens])?;
    let segments = if source.shapes.contains("token_type_ids") {
        Some(g.input("token_type_ids", &[1, tokens])?)
    } else {
        None
    };
    let mut b = g.at(prefix.trim_end_matches('.'));
    for (table, rows) in [
        ("word", config.vocab_size),
        ("position", config.max_position_embeddings),
        ("token_type", config.type_vocab_size),
    ] {
        b.read(&format!("embeddings.{table}_embeddings.weight"), &[rows, config.hidden_size])?;
    }
    let encoder = bert::Encoder {
        layers: config.num_hidden_layers,
        heads: config.num_attention_heads,
        eps: config.layer_norm_eps,
        activation: act,
        masked: MASKED,
    };
    let hidden = bert::encode(&mut b, &encoder, ids, mask, segments)?;
    let heads = Heads::of(source, prefix);
    let mut outputs = vec![("last_hidden_state", hidden)];
    outputs.extend(heads.build(&mut g, &config, act, hidden)?);
    let task = match outputs.iter().find(|(name, _)| *name == "logits") {
        Some(&(name, node)) if heads.classifies_texts() => {
            let labels = source.labels(g.shape(node)[1]);
            Task::Classes { logits: name.to_owned(), labels }
        }
        Some(_) => Task::Tensors,
        None => {
            let mut e = g.at("sentence_embedding");
            let mean = embedding::mean_of_tokens(&mut e, hidden, mask)?;
            outputs.push(("sentence_embedding", embedding::normalized(&mut e, mean)?));
            Task::Embeddings { outputs: vec!["sentence_embedding".to_owned()] }
        }
    };
    for (name, node) in outputs {
        builder.output(name, node);
    }
    let graph = builder.finish(is_bookkeeping)?;
    Ok(Built {
        graph,
        preprocessor: None,
        own_sizes: OwnSizes::None,
        text: tokenizer::read(source, tokens)?,
        task,
    })
}

/// Tensors that checkpoints carry besides weights: buffers that can be derived, and the second name of a bias.
fn is_bookkeeping(name: &str) -> bool {
    ["embeddings.position_ids", "embeddings.token_type_ids"].iter().any(|end| name.ends_with(end))
        || name == heads::PREDICTION_BIAS
}
