//! BERT encoder without pooler (Devlin et al. 2019): post-normalised layers, exact GELU.

use super::config::BertConfig;
use crate::exec::kernels::activation::Activation;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;

/// Added to scores of padding tokens; the value of the BERT that LAVT was published with.
const MASKED: f32 = -10_000.0;

/// Token numbers `[1, N]` and mask `[1, N]` (1 = word) to features `[1, N, width]`.
pub(super) fn encode(
    g: &mut Scope<'_, '_>,
    config: &BertConfig,
    ids: NodeId,
    mask: NodeId,
) -> Result<NodeId, ModelError> {
    let n = g.shape(ids)[1];
    let mut e = g.at("embeddings");
    let words = e.embedding("word_embeddings", ids)?;
    let positions = e.constant("position_ids", &[1, n], (0..n).map(|i| i as f32).collect())?;
    let positions = e.embedding("position_embeddings", positions)?;
    let segments = e.constant("token_type_ids", &[1, n], vec![0.0; n])?;
    let segments = e.embedding("token_type_embeddings", segments)?;
    let x = e.add(words, positions)?;
    let x = e.add(x, segments)?;
    let mut x = e.layer_norm("LayerNorm", x, config.layer_norm_eps)?;

    let mask = g.reshape(mask, &[1, 1, 1, n])?;
    let mask = g.affine(mask, -MASKED, MASKED)?;
    for layer in 0..config.num_hidden_layers {
        x = self::layer(&mut g.at(format!("encoder.layer.{layer}")), config, x, mask)?;
    }
    Ok(x)
}

fn layer(g: &mut Scope<'_, '_>, config: &BertConfig, x: NodeId, mask: NodeId) -> Result<NodeId, ModelError> {
    let eps = config.layer_norm_eps;
    let attended = attention(&mut g.at("attention.self"), config, x, mask)?;
    let y = g.linear("attention.output.dense", attended)?;
    let y = g.add(y, x)?;
    let x = g.layer_norm("attention.output.LayerNorm", y, eps)?;
    let y = g.linear("intermediate.dense", x)?;
    let y = g.activation("intermediate.gelu", Activation::Gelu, y)?;
    let y = g.linear("output.dense", y)?;
    let y = g.add(y, x)?;
    g.layer_norm("output.LayerNorm", y, eps)
}

fn attention(
    g: &mut Scope<'_, '_>,
    config: &BertConfig,
    x: NodeId,
    mask: NodeId,
) -> Result<NodeId, ModelError> {
    let (n, width, heads) = (g.shape(x)[1], config.hidden_size, config.num_attention_heads);
    let head = width / heads;
    let mut split = |name: &str| -> Result<NodeId, ModelError> {
        let y = g.linear(name, x)?;
        let y = g.reshape(y, &[1, n, heads, head])?;
        g.permute(y, &[0, 2, 1, 3])
    };
    let (query, key, value) = (split("query")?, split("key")?, split("value")?);
    let scores = g.matmul("qk", (query, key), true, 1.0 / (head as f32).sqrt())?;
    let scores = g.add(scores, mask)?;
    let probabilities = g.softmax("softmax", scores)?;
    let y = g.matmul("pv", (probabilities, value), false, 1.0)?;
    let y = g.permute(y, &[0, 2, 1, 3])?;
    g.reshape(y, &[1, n, width])
}
