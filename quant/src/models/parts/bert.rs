//! The encoder of BERT (Devlin et al., NAACL 2019): embeddings, then post-normalised layers.

use super::heads;
use crate::exec::kernels::activation::Activation;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;

/// Sizes that the tensors do not tell.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct Encoder {
    pub(in crate::models) layers: usize,
    pub(in crate::models) heads: usize,
    /// Epsilon of every `LayerNorm`.
    pub(in crate::models) eps: f32,
    /// Between the two Linear layers of a block.
    pub(in crate::models) activation: Activation,
    /// Added to scores of padding tokens.
    pub(in crate::models) masked: f32,
}

/// Token numbers, mask (1 = token) and, where texts come in pairs, segments, all `[1, N]`, to features
/// `[1, N, width]`.
pub(in crate::models) fn encode(
    g: &mut Scope<'_, '_>,
    encoder: &Encoder,
    ids: NodeId,
    mask: NodeId,
    segments: Option<NodeId>,
) -> Result<NodeId, ModelError> {
    let n = g.shape(ids)[1];
    let mut e = g.at("embeddings");
    let words = e.embedding("word_embeddings", ids)?;
    let positions = e.constant("position_ids", &[1, n], (0..n).map(|i| i as f32).collect())?;
    let positions = e.embedding("position_embeddings", positions)?;
    let segments = match segments {
        Some(segments) => segments,
        None => e.constant("token_type_ids", &[1, n], vec![0.0; n])?,
    };
    let segments = e.embedding("token_type_embeddings", segments)?;
    let x = e.add(words, positions)?;
    let x = e.add(x, segments)?;
    let mut x = e.layer_norm("LayerNorm", x, encoder.eps)?;

    let mask = heads::padding(g, mask, encoder.masked)?;
    for layer in 0..encoder.layers {
        x = self::layer(&mut g.at(format!("encoder.layer.{layer}")), encoder, x, mask)?;
    }
    Ok(x)
}

fn layer(g: &mut Scope<'_, '_>, encoder: &Encoder, x: NodeId, mask: NodeId) -> Result<NodeId, ModelError> {
    let mut a = g.at("attention.self");
    let query = heads::project(&mut a, "query", x, encoder.heads)?;
    let key = heads::project(&mut a, "key", x, encoder.heads)?;
    let value = heads::project(&mut a, "value", x, encoder.heads)?;
    let attended = heads::attend(&mut a, (query, key, value), &[mask])?;
    let y = g.linear("attention.output.dense", attended)?;
    let y = g.add(y, x)?;
    let x = g.layer_norm("attention.output.LayerNorm", y, encoder.eps)?;
    let y = g.linear("intermediate.dense", x)?;
    let y = g.activation("intermediate.gelu", encoder.activation, y)?;
    let y = g.linear("output.dense", y)?;
    let y = g.add(y, x)?;
    g.layer_norm("output.LayerNorm", y, encoder.eps)
}
