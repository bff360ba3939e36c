//! The text tower: every token sees those before it; the end token stands for the text.

use super::Towers;
use super::layer::layer;
use crate::exec::kernels::elementwise::BinaryOp;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;
use crate::models::parts::heads::{MASKED, padding};
use crate::models::source::Source;

/// The inputs `input_ids` and `attention_mask`, both `[1, N]`.
pub(in crate::models) fn inputs(
    g: &mut Scope<'_, '_>,
    source: &Source<'_>,
    towers: &Towers,
) -> Result<(NodeId, NodeId), ModelError> {
    let tokens = source.shapes.length("input_ids", towers.positions);
    if !(1..=towers.positions).contains(&tokens) {
        return Err(source.wrong(format!(
            "`input_ids` of {tokens} tokens; the model reads 1 to `max_position_embeddings` = {}",
            towers.positions
        )));
    }
    Ok((g.input("input_ids", &[1, tokens])?, g.input("attention_mask", &[1, tokens])?))
}

/// Token numbers and mask (1 = token), both `[1, N]`, to the features `[1, width]` of the end token.
pub(in crate::models) fn pooled(
    g: &mut Scope<'_, '_>,
    towers: &Towers,
    ids: NodeId,
    mask: NodeId,
) -> Result<NodeId, ModelError> {
    let tower = &towers.text;
    let n = g.shape(ids)[1];
    let mut e = g.at("embeddings");
    e.read("token_embedding.weight", &[towers.vocabulary, tower.width])?;
    e.read("position_embedding.weight", &[towers.positions, tower.width])?;
    let words = e.embedding("token_embedding", ids)?;
    let positions = e.constant("position_ids", &[1, n], (0..n).map(|i| i as f32).collect())?;
    let positions = e.embedding("position_embedding", positions)?;
    let mut x = e.add(words, positions)?;

    g.reserve("causal_mask", &[n, n])?;
    let later = (0..n * n).map(|at| if at % n > at / n { MASKED } else { 0.0 }).collect();
    let causal = g.constant("causal_mask", &[1, 1, n, n], later)?;
    let padding = padding(g, mask, MASKED)?;
    for i in 0..tower.layers {
        x = layer(&mut g.at(format!("encoder.layers.{i}")), tower, x, &[causal, padding])?;
    }
    let x = g.layer_norm("final_layer_norm", x, tower.eps)?;
    // Padding repeats the end token, so the first place counts.
    let is_end = match towers.end {
        Some(end) => {
            let end = g.constant("end", &[1, 1], vec![end])?;
            g.combine(BinaryOp::Equal, ids, end)?
        }
        None => ids,
    };
    let place = g.arg_max(is_end, 1)?;
    let x = g.gather(x, place, 1)?;
    g.reshape(x, &[1, tower.width])
}
