//! SAM's mask decoder: tokens and image attend to each other, then every mask token is multiplied with the enlarged image.
//!
//! Several prompts about one picture lie along their own axis: tokens are `[1, P, n, C]`, the image is `[P, 1, s·s, C]`.

use super::config::{EPS, FINAL_EPS, Sizes};
use super::names::Names;
use super::positions::Gaussian;
use super::prompt::Prompts;
use crate::exec::kernels::activation::Activation;
use crate::graph::{Conv, NodeId, Scope};
use crate::models::ModelError;
use crate::models::numbered::count_in;

/// Image embeddings `[1, C, s, s]` and prompts to masks `[1, P, m, 4s, 4s]` and their scores `[1, P, m]`.
pub(super) fn decode(
    g: &mut Scope<'_, '_>,
    names: &Names,
    sizes: &Sizes,
    table: &Gaussian,
    embeddings: NodeId,
    prompts: &Prompts,
) -> Result<(NodeId, NodeId), ModelError> {
    let (c, side, p) = (g.shape(embeddings)[1], sizes.grid(), prompts.count);
    // The tokens of the answer: its score, then its masks.
    let score = g.read("iou_token.weight", &[1, c])?;
    // Of a table that is missing, the published number.
    let masks = g.param_shape("mask_tokens.weight");
    let masks = masks.map_or(4, |shape| shape.first().copied().unwrap_or(0));
    let mask_tokens = g.read("mask_tokens.weight", &[masks, c])?;
    g.reserve("output_tokens", &[p, 1 + masks, c])?;
    let answer = [score.to_vec(), mask_tokens.to_vec()].concat().repeat(p);
    let answer = g.constant("output_tokens", &[1, p, 1 + masks, c], answer)?;
    let tokens = match prompts.sparse {
        Some(sparse) => g.concat(&[answer, sparse], 2)?,
        None => answer,
    };
    let image = g.add(embeddings, prompts.dense)?;
    let image = g.reshape(image, &[1, c, side * side])?;
    let image = g.permute(image, &[0, 2, 1])?;
    let image = g.reshape(image, &[1, 1, side * side, c])?;
    let image = g.expand(image, &[p, 1, side * side, c])?;
    g.reserve("image_positions", &[side * side, table.width()])?;
    let places = table.grid(side);
    let places = g.constant("image_positions", &[1, 1, side * side, table.width()], places)?;

    let (tokens, image) = transform(&mut g.at("transformer"), names, sizes, tokens, image, places)?;

    let image = g.permute(image, &[0, 1, 3, 2])?;
    let image = g.reshape(image, &[p, c, side, side])?;
    let [up1, norm, up2] = names.upscale;
    let twice = Conv::new(2, 0);
    let image = g.conv_transpose(up1, image, twice, [0, 0])?;
    let image = g.channel_norm(norm, image, EPS)?;
    let image = g.activation("upscale.act", Activation::Gelu, image)?;
    let image = g.conv_transpose(up2, image, twice, [0, 0])?;
    let image = g.activation("upscale.act", Activation::Gelu, image)?;
    let shape = g.shape(image);
    let (depth, h, w) = (shape[1], shape[2], shape[3]);
    let image = g.reshape(image, &[1, p, depth, h * w])?;

    let mut kernels = Vec::new();
    for i in 0..masks {
        let token = g.narrow(tokens, 2, 1 + i, 1)?;
        let token = g.reshape(token, &[1, p, c])?;
        let kernel = head(&mut g.at(format!("output_hypernetworks_mlps.{i}")), names, token)?;
        kernels.push(g.reshape(kernel, &[1, p, 1, depth])?);
    }
    let kernels = g.concat(&kernels, 2)?;
    let masks_made = g.matmul("masks", (kernels, image), false, 1.0)?;
    let masks_made = g.reshape(masks_made, &[1, p, masks, h, w])?;
    let token = g.narrow(tokens, 2, 0, 1)?;
    let token = g.reshape(token, &[1, p, c])?;
    let scores = head(&mut g.at("iou_prediction_head"), names, token)?;
    Ok((masks_made, scores))
}

/// A feed-forward head: linear layers with ReLU between them.
fn head(g: &mut Scope<'_, '_>, names: &Names, mut x: NodeId) -> Result<NodeId, ModelError> {
    for (i, layer) in names.head(g).iter().enumerate() {
        if i > 0 {
            x = g.activation("act", Activation::Relu, x)?;
        }
        x = g.linear(layer, x)?;
    }
    Ok(x)
}

/// The two-way transformer. Tokens and places keep their positions by adding them again to every query and key.
fn transform(
    g: &mut Scope<'_, '_>,
    names: &Names,
    sizes: &Sizes,
    tokens: NodeId,
    image: NodeId,
    places: NodeId,
) -> Result<(NodeId, NodeId), ModelError> {
    let heads = sizes.decoder_heads;
    let (mut queries, mut keys) = (tokens, image);
    let layers = count_in(g, |i| format!("layers.{i}.self_attn.q_proj.weight")).max(1);
    for i in 0..layers {
        let mut l = g.at(format!("layers.{i}"));
        let norm = |i: usize| format!("{}{i}", names.norm);
        let eps = sizes.decoder_eps;
        if i == 0 {
            // The first layer's tokens are their positions already.
            queries = attention(&mut l.at("self_attn"), heads, queries, queries, queries)?;
        } else {
            let query = l.add(queries, tokens)?;
            let y = attention(&mut l.at("self_attn"), heads, query, query, queries)?;
            queries = l.add(queries, y)?;
        }
        queries = l.layer_norm(&norm(1), queries, eps)?;

        let query = l.add(queries, tokens)?;
        let key = l.add(keys, places)?;
        let y = attention(&mut l.at("cross_attn_token_to_image"), heads, query, key, keys)?;
        queries = l.add(queries, y)?;
        queries = l.layer_norm(&norm(2), queries, eps)?;

        let y = l.linear("mlp.lin1", queries)?;
        let y = l.activation("mlp.act", Activation::Relu, y)?;
        let y = l.linear("mlp.lin2", y)?;
        queries = l.add(queries, y)?;
        queries = l.layer_norm(&norm(3), queries, eps)?;

        let query = l.add(queries, tokens)?;
        let y = attention(&mut l.at("cross_attn_image_to_token"), heads, key, query, queries)?;
        keys = l.add(keys, y)?;
        keys = l.layer_norm(&norm(4), keys, eps)?;
    }
    let query = g.add(queries, tokens)?;
    let key = g.add(keys, places)?;
    let y = attention(&mut g.at("final_attn_token_to_image"), heads, query, key, keys)?;
    let queries = g.add(queries, y)?;
    let queries = g.layer_norm(names.final_norm, queries, FINAL_EPS)?;
    Ok((queries, keys))
}

/// Attention of `[a, b, n, C]` to `[c, d, m, C]`, where `a·b` and `c·d` are the prompts; inside, the width may be smaller.
fn attention(
    g: &mut Scope<'_, '_>,
    heads: usize,
    query: NodeId,
    key: NodeId,
    value: NodeId,
) -> Result<NodeId, ModelError> {
    let outer = g.shape(query);
    let p = outer[0] * outer[1];
    let mut split = |name: &str, x: NodeId| -> Result<NodeId, ModelError> {
        let y = g.linear(name, x)?;
        let shape = g.shape(y);
        let y = g.reshape(y, &[p, shape[2], heads, shape[3] / heads])?;
        g.permute(y, &[0, 2, 1, 3])
    };
    let (query, key, value) = (split("q_proj", query)?, split("k_proj", key)?, split("v_proj", value)?);
    let head = g.shape(query)[3];
    let scores = g.matmul("qk", (query, key), true, 1.0 / (head as f32).sqrt())?;
    let probabilities = g.softmax("softmax", scores)?;
    let y = g.matmul("pv", (probabilities, value), false, 1.0)?;
    let width = heads * g.shape(y)[3];
    let y = g.permute(y, &[0, 2, 1, 3])?;
    let y = g.reshape(y, &[outer[0], outer[1], outer[2], width])?;
    g.linear("out_proj", y)
}
