//! Where the parts of LAVT lie in a checkpoint.

use crate::models::Weights;

/// Module paths of the two models.
pub(super) struct Prefixes {
    /// Backbone and decoder.
    pub(super) model: &'static str,
    /// BERT.
    pub(super) text: &'static str,
}

impl Prefixes {
    /// `lavt_one`: BERT is a part of the model.
    pub(super) const ONE: Self = Self { model: "", text: "text_encoder" };
    /// The `model` of a `lavt` checkpoint, with its `bert_model` beside it.
    const BESIDE: Self = Self { model: "", text: "bert_model" };
    /// Both dicts of a `lavt` checkpoint under their keys.
    const TWO: Self = Self { model: "model", text: "bert_model" };
    /// A `lavt_one` checkpoint under its key.
    const ONE_UNDER_KEY: Self = Self { model: "model", text: "model.text_encoder" };

    /// Those of a checkpoint; none if it is no LAVT.
    pub(super) fn of(weights: &Weights) -> Option<Self> {
        let has = |prefix: &str, name: &str| {
            let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            weights.shape(&name).is_some()
        };
        [Self::ONE, Self::BESIDE, Self::TWO, Self::ONE_UNDER_KEY].into_iter().find(|prefixes| {
            has(prefixes.model, "backbone.layers.0.fusion.image_lang_att.f_query.0.weight")
                && has(prefixes.text, "embeddings.word_embeddings.weight")
        })
    }
}
