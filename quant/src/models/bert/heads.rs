//! What stands on the encoder: pooler, pretraining heads, classifiers. A checkpoint has those whose tensors it has.

use super::WORDS;
use super::config::BertConfig;
use crate::exec::kernels::activation::Activation;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;
use crate::models::source::Source;

/// The bias of the token predictions; older checkpoints save it a second time as the decoder's own.
pub(super) const PREDICTION_BIAS: &str = "cls.predictions.bias";
const DECODER: &str = "cls.predictions.decoder";

/// Which heads a checkpoint has.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is there or not")]
pub(super) struct Heads {
    /// Path of the encoder, with its dot.
    prefix: &'static str,
    /// First token through a Linear and tanh.
    pooler: bool,
    /// Words at every place.
    predictions: bool,
    /// Whether the second sentence follows the first.
    next_sentence: bool,
    /// A classifier; of every token, or of the whole text.
    classifier: Option<Of>,
    /// First and last token of an answer.
    answers: bool,
    /// Whether the word predictions have a matrix of their own instead of the embedding's.
    untied: bool,
    /// Whether the decoder has a bias under its own name.
    own_bias: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Tokens,
    Text,
}

impl Heads {
    pub(super) fn of(source: &Source<'_>, prefix: &'static str) -> Self {
        let has = |name: &str| source.weights.shape(name).is_some();
        let pooler = has(&format!("{prefix}pooler.dense.weight"));
        let architecture =
            source.config.as_ref().and_then(|config| config.get("architectures")?.get(0)?.as_str());
        let tokens = architecture == Some("BertForTokenClassification") || !pooler;
        Self {
            prefix,
            pooler,
            predictions: has("cls.predictions.transform.dense.weight"),
            next_sentence: has("cls.seq_relationship.weight"),
            classifier: has("classifier.weight").then_some(if tokens { Of::Tokens } else { Of::Text }),
            answers: has("qa_outputs.weight"),
            untied: has(&format!("{DECODER}.weight")),
            own_bias: has(&format!("{DECODER}.bias")),
        }
    }

    /// Whether `logits` are classes of a whole text.
    pub(super) fn classifies_texts(&self) -> bool {
        self.classifier == Some(Of::Text)
    }

    /// Builds them on features `[1, N, width]`; gives their results.
    pub(super) fn build(
        &self,
        g: &mut Scope<'_, '_>,
        config: &BertConfig,
        act: Activation,
        hidden: NodeId,
    ) -> Result<Vec<(&'static str, NodeId)>, ModelError> {
        let mut outputs = Vec::new();
        // A head that needs the pooler makes a checkpoint without one an error that names its tensor.
        let pooled = if self.pooler || self.next_sentence {
            let pooled = pool(&mut g.at(format!("{}pooler", self.prefix)), hidden)?;
            outputs.push(("pooler_output", pooled));
            pooled
        } else {
            hidden
        };
        if self.predictions {
            let logits = self.predict(g, config, act, hidden)?;
            outputs.push((if self.next_sentence { "prediction_logits" } else { "logits" }, logits));
        }
        if self.next_sentence {
            outputs.push(("seq_relationship_logits", g.linear("cls.seq_relationship", pooled)?));
        }
        match self.classifier {
            Some(Of::Text) => outputs.push(("logits", g.linear("classifier", pooled)?)),
            Some(Of::Tokens) => outputs.push(("logits", g.linear("classifier", hidden)?)),
            None => {}
        }
        if self.answers {
            let ends = g.linear("qa_outputs", hidden)?;
            let n = g.shape(ends)[1];
            for (index, name) in ["start_logits", "end_logits"].into_iter().enumerate() {
                let end = g.narrow(ends, 2, index, 1)?;
                outputs.push((name, g.reshape(end, &[1, n])?));
            }
        }
        Ok(outputs)
    }

    /// Logits `[1, N, words]` of the word at every place.
    fn predict(
        &self,
        g: &mut Scope<'_, '_>,
        config: &BertConfig,
        act: Activation,
        hidden: NodeId,
    ) -> Result<NodeId, ModelError> {
        let mut t = g.at("cls.predictions.transform");
        let y = t.linear("dense", hidden)?;
        let y = t.activation("transform_act_fn", act, y)?;
        let y = t.layer_norm("LayerNorm", y, config.layer_norm_eps)?;
        let weight =
            if self.untied { format!("{DECODER}.weight") } else { format!("{}{WORDS}", self.prefix) };
        let own = format!("{DECODER}.bias");
        let bias = if self.own_bias { &own } else { PREDICTION_BIAS };
        g.linear_of(DECODER, &weight, bias, y)
    }
}

/// The first token `[1, width]` through a Linear and tanh.
fn pool(g: &mut Scope<'_, '_>, hidden: NodeId) -> Result<NodeId, ModelError> {
    let first = g.narrow(hidden, 1, 0, 1)?;
    let width = g.shape(first)[2];
    let first = g.reshape(first, &[1, width])?;
    let y = g.linear("dense", first)?;
    g.activation("activation", Activation::Tanh, y)
}
