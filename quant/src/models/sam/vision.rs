//! SAM's image encoder: a ViT (Li et al. 2022, "Exploring plain vision transformer backbones") whose blocks see windows or
//! the whole grid, with decomposed relative positions.

use super::config::{EPS, Vit};
use super::names::Names;
use crate::exec::kernels::activation::Activation;
use crate::exec::kernels::resize;
use crate::graph::{Conv, NodeId, Scope};
use crate::models::ModelError;

/// Picture `[1, 3, S, S]` to embeddings `[1, C, s, s]` on the grid of patches.
pub(super) fn encode(
    g: &mut Scope<'_, '_>,
    names: &Names,
    vit: &Vit,
    patch: usize,
    pixels: NodeId,
) -> Result<NodeId, ModelError> {
    let map = g.conv(names.projection, pixels, Conv::new(patch, 0))?;
    let mut x = g.permute(map, &[0, 2, 3, 1])?;
    if vit.absolute {
        let shape = g.shape(x);
        let table = g.read("pos_embed", &shape)?;
        g.reserve("pos_embed", &shape)?;
        let table = g.constant("pos_embed", &shape, table.to_vec())?;
        x = g.add(x, table)?;
    }
    for (i, window) in vit.windows.iter().enumerate() {
        x = block(&mut g.at(format!("{}.{i}", names.blocks)), names, vit, x, *window)?;
    }
    neck(g, names, x)
}

/// Tokens `[1, s, s, C']` of any image encoder to embeddings `[1, C, s, s]`.
pub(super) fn neck(g: &mut Scope<'_, '_>, names: &Names, x: NodeId) -> Result<NodeId, ModelError> {
    let [narrow, norm1, mix, norm2] = names.neck;
    let x = g.permute(x, &[0, 3, 1, 2])?;
    let x = g.conv(narrow, x, Conv::new(1, 0))?;
    let x = g.channel_norm(norm1, x, EPS)?;
    let x = g.conv(mix, x, Conv::new(1, 1))?;
    g.channel_norm(norm2, x, EPS)
}

/// Attention and MLP, both with a residual; tokens `[1, s, s, C]`.
fn block(
    g: &mut Scope<'_, '_>,
    names: &Names,
    vit: &Vit,
    x: NodeId,
    window: Option<usize>,
) -> Result<NodeId, ModelError> {
    let norm = |i: usize| format!("{}{i}", names.norm);
    let y = g.layer_norm(&norm(1), x, vit.eps)?;
    let y = match window {
        None => attention(&mut g.at("attn"), vit, y)?,
        Some(side) => {
            let grid = g.shape(y);
            let windows = partition(g, y, side)?;
            let attended = attention(&mut g.at("attn"), vit, windows)?;
            join(g, attended, &grid)?
        }
    };
    let x = g.add(x, y)?;
    let y = g.layer_norm(&norm(2), x, vit.eps)?;
    let y = g.linear("mlp.lin1", y)?;
    let y = g.activation("mlp.act", Activation::Gelu, y)?;
    let y = g.linear("mlp.lin2", y)?;
    g.add(x, y)
}

/// A grid `[1, h, w, C]` to windows `[n, side, side, C]`; zeros are added at the bottom and the right.
pub(super) fn partition(g: &mut Scope<'_, '_>, x: NodeId, side: usize) -> Result<NodeId, ModelError> {
    let (h, w) = (g.shape(x)[1], g.shape(x)[2]);
    let x = g.pad(x, &[(1, h.next_multiple_of(side) - h), (2, w.next_multiple_of(side) - w)])?;
    let (rows, columns, c) = (g.shape(x)[1] / side, g.shape(x)[2] / side, g.shape(x)[3]);
    let x = g.reshape(x, &[1, rows, side, columns, side, c])?;
    let x = g.permute(x, &[0, 1, 3, 2, 4, 5])?;
    g.reshape(x, &[rows * columns, side, side, c])
}

/// Windows back to the grid, of which the padding is cut off.
pub(super) fn join(g: &mut Scope<'_, '_>, x: NodeId, grid: &[usize]) -> Result<NodeId, ModelError> {
    let (side, c) = (g.shape(x)[1], g.shape(x)[3]);
    let (h, w) = (grid[1], grid[2]);
    let (rows, columns) = (h.div_ceil(side), w.div_ceil(side));
    let x = g.reshape(x, &[1, rows, columns, side, side, c])?;
    let x = g.permute(x, &[0, 1, 3, 2, 4, 5])?;
    let x = g.reshape(x, &[1, rows * side, columns * side, c])?;
    let x = g.narrow(x, 1, 0, h)?;
    g.narrow(x, 2, 0, w)
}

/// Attention within each of `b` grids, `[b, h, w, C]`.
fn attention(g: &mut Scope<'_, '_>, vit: &Vit, x: NodeId) -> Result<NodeId, ModelError> {
    let shape = g.shape(x);
    let (b, h, w, c) = (shape[0], shape[1], shape[2], shape[3]);
    let (n, heads, head) = (h * w, vit.heads, c / vit.heads);
    let qkv = g.linear("qkv", x)?;
    let qkv = g.reshape(qkv, &[b, n, 3, heads, head])?;
    let qkv = g.permute(qkv, &[2, 0, 3, 1, 4])?;
    let mut part = |index: usize| -> Result<NodeId, ModelError> {
        let y = g.narrow(qkv, 0, index, 1)?;
        g.reshape(y, &[b * heads, n, head])
    };
    let (query, key, value) = (part(0)?, part(1)?, part(2)?);
    let mut scores = g.matmul("qk", (query, key), true, 1.0 / (head as f32).sqrt())?;
    if vit.relative {
        let bias = relative(g, query, (h, w))?;
        scores = g.add(scores, bias)?;
    }
    let probabilities = g.softmax("softmax", scores)?;
    let y = g.matmul("pv", (probabilities, value), false, 1.0)?;
    let y = g.reshape(y, &[b, heads, h, w, head])?;
    let y = g.permute(y, &[0, 2, 3, 1, 4])?;
    let y = g.reshape(y, &[b, h, w, c])?;
    g.linear("proj", y)
}

/// The bias of relative positions, `[b, h·w, h·w]`: the queries (not scaled) `[b, h·w, d]` times a vector for each
/// distance of rows, plus the same for columns.
fn relative(g: &mut Scope<'_, '_>, query: NodeId, (h, w): (usize, usize)) -> Result<NodeId, ModelError> {
    let (b, d) = (g.shape(query)[0], g.shape(query)[2]);
    let query = g.reshape(query, &[b, h, w, d])?;
    // All queries of one row share the row's vectors.
    let by_row = g.permute(query, &[1, 0, 2, 3])?;
    let by_row = g.reshape(by_row, &[h, b * w, d])?;
    let vectors = distances(g, "rel_pos_h", h, d)?;
    let rows = g.matmul("rel_h", (by_row, vectors), true, 1.0)?;
    let rows = g.reshape(rows, &[h, b, w, h])?;
    let rows = g.permute(rows, &[1, 0, 2, 3])?;
    let rows = g.reshape(rows, &[b, h, w, h, 1])?;

    let by_column = g.permute(query, &[2, 0, 1, 3])?;
    let by_column = g.reshape(by_column, &[w, b * h, d])?;
    let vectors = distances(g, "rel_pos_w", w, d)?;
    let columns = g.matmul("rel_w", (by_column, vectors), true, 1.0)?;
    let columns = g.reshape(columns, &[w, b, h, w])?;
    let columns = g.permute(columns, &[1, 2, 0, 3])?;
    let columns = g.reshape(columns, &[b, h, w, 1, w])?;

    let bias = g.add(rows, columns)?;
    g.reshape(bias, &[b, h * w, h * w])
}

/// The vector of each pair of a query's and a key's place along an axis of `n`, `[n, n, d]`: row `i - j + n - 1` of the
/// table. A table made for another size is interpolated, as published.
fn distances(g: &mut Scope<'_, '_>, name: &str, n: usize, d: usize) -> Result<NodeId, ModelError> {
    // Of a table that is missing, as many as fit.
    let rows = g.param_shape(name).map_or(2 * n - 1, |shape| shape.first().copied().unwrap_or(0));
    let table = g.read(name, &[rows, d])?;
    g.reserve(name, &[n, n, d])?;
    let wanted = 2 * n - 1;
    // Position after position along the axis, then channel after channel.
    let mut by_channel: Vec<f32> = (0..d).flat_map(|c| table[c..].iter().step_by(d).copied()).collect();
    if rows != wanted {
        if rows == 0 {
            let message = format!("the table `{name}` is empty");
            return Err(ModelError::Graph { node: name.to_owned(), message });
        }
        let mut fitted = vec![0.0; d * wanted];
        resize::bilinear(&by_channel, d, [1, rows], [1, wanted], false, &mut fitted);
        by_channel = fitted;
    }
    let place = |i: usize| (i / n + n - 1 - i % n, 0..d);
    let values = (0..n * n).map(place).flat_map(|(row, channels)| {
        let by_channel = &by_channel;
        channels.map(move |c| by_channel[c * wanted + row])
    });
    g.constant(name, &[n, n, d], values.collect())
}
