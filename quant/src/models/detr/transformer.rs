//! DETR's transformer: normalisation after each residual, positions added to queries and keys of every attention.

use super::config::DetrConfig;
use crate::exec::kernels::activation::Activation;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;
use crate::models::numbered::count_in;

/// Epsilon of every LayerNorm (PyTorch's own).
const EPS: f32 = 1e-5;

/// Places of the map `[1, n, d]` with their positions; `bias` `[1, 1, 1, n]` keeps padding out.
pub(super) fn encode(
    g: &mut Scope<'_, '_>,
    config: &DetrConfig,
    mut x: NodeId,
    places: NodeId,
    bias: NodeId,
) -> Result<NodeId, ModelError> {
    let heads = config.encoder_attention_heads;
    for layer in layers(g) {
        let mut l = g.at(layer);
        let query = l.add(x, places)?;
        let y = attention(&mut l.at("self_attn"), heads, [query, query, x], Some(bias))?;
        let y = l.add(x, y)?;
        x = l.layer_norm("self_attn_layer_norm", y, EPS)?;
        x = feed_forward(&mut l, x)?;
    }
    Ok(x)
}

/// Queries, which begin as zeros, with learned positions `[1, q, d]`, attend to each other and to the map.
pub(super) fn decode(
    g: &mut Scope<'_, '_>,
    config: &DetrConfig,
    queries: NodeId,
    map: NodeId,
    places: NodeId,
    bias: NodeId,
) -> Result<NodeId, ModelError> {
    let heads = config.decoder_attention_heads;
    let shape = g.shape(queries);
    g.reserve("inputs", &shape)?;
    let mut x = g.constant("inputs", &shape, vec![0.0; shape.iter().product()])?;
    for layer in layers(g) {
        let mut l = g.at(layer);
        let query = l.add(x, queries)?;
        let y = attention(&mut l.at("self_attn"), heads, [query, query, x], None)?;
        let y = l.add(x, y)?;
        x = l.layer_norm("self_attn_layer_norm", y, EPS)?;
        let query = l.add(x, queries)?;
        let key = l.add(map, places)?;
        let y = attention(&mut l.at("encoder_attn"), heads, [query, key, map], Some(bias))?;
        let y = l.add(x, y)?;
        x = l.layer_norm("encoder_attn_layer_norm", y, EPS)?;
        x = feed_forward(&mut l, x)?;
    }
    g.layer_norm("layernorm", x, EPS)
}

/// The layers that the checkpoint has; at least one, so that a missing tensor is named.
fn layers(g: &Scope<'_, '_>) -> Vec<String> {
    let layers = count_in(g, |i| format!("layers.{i}.fc1.weight")).max(1);
    (0..layers).map(|i| format!("layers.{i}")).collect()
}

fn feed_forward(g: &mut Scope<'_, '_>, x: NodeId) -> Result<NodeId, ModelError> {
    let y = g.linear("fc1", x)?;
    let y = g.activation("act", Activation::Relu, y)?;
    let y = g.linear("fc2", y)?;
    let y = g.add(x, y)?;
    g.layer_norm("final_layer_norm", y, EPS)
}

/// Attention of `[1, n, d]` to `[1, m, d]`, each projected on its own.
fn attention(
    g: &mut Scope<'_, '_>,
    heads: usize,
    [query, key, value]: [NodeId; 3],
    bias: Option<NodeId>,
) -> Result<NodeId, ModelError> {
    let shape = g.shape(query);
    let (n, d) = (shape[1], shape[2]);
    let mut split = |name: &str, x: NodeId| -> Result<NodeId, ModelError> {
        let y = g.linear(name, x)?;
        let m = g.shape(y)[1];
        let y = g.reshape(y, &[1, m, heads, d / heads])?;
        g.permute(y, &[0, 2, 1, 3])
    };
    let (query, key, value) = (split("q_proj", query)?, split("k_proj", key)?, split("v_proj", value)?);
    let head = d / heads;
    let mut scores = g.matmul("qk", (query, key), true, 1.0 / (head as f32).sqrt())?;
    if let Some(bias) = bias {
        scores = g.add(scores, bias)?;
    }
    let probabilities = g.softmax("softmax", scores)?;
    let y = g.matmul("pv", (probabilities, value), false, 1.0)?;
    let y = g.permute(y, &[0, 2, 1, 3])?;
    let y = g.reshape(y, &[1, n, d])?;
    g.linear("out_proj", y)
}
