//! The Swin backbone (Liu et al., ICCV 2021) with word fusion after every stage.

use super::config::{LavtConfig, SwinConfig};
use super::fusion;
use crate::exec::kernels::activation::Activation;
use crate::exec::kernels::resize;
use crate::graph::{Conv, NodeId, Scope};
use crate::models::ModelError;

/// Added to scores between pixels that only share a window because of the shift.
const SEPARATE: f32 = -100.0;

/// Image `[1, 3, H, W]` and words `[1, L, T]` to four levels `[1, C, h, w]`, finest first.
pub(super) fn backbone(
    g: &mut Scope<'_, '_>,
    config: &LavtConfig,
    pixels: NodeId,
    words: NodeId,
    mask: NodeId,
) -> Result<[NodeId; 4], ModelError> {
    let swin = &config.swin;
    let eps = swin.layer_norm_eps;
    let (mut x, mut grid) = patches(g, swin, pixels)?;
    let mut levels = [x; 4];
    for (stage, level) in levels.iter_mut().enumerate() {
        let mut s = g.at(format!("layers.{stage}"));
        let window = Window::of(swin, grid);
        for block in 0..swin.depths[stage] {
            let shift = if block % 2 == 1 { window.shift } else { 0 };
            let heads = swin.num_heads[stage];
            x = self::block(&mut s.at(format!("blocks.{block}")), x, grid, &window, shift, heads, eps)?;
        }
        let fused = fusion::fuse(&mut s.at("fusion"), swin.num_heads_fusion[stage], x, words, mask)?;
        x = fusion::gate(&mut s, x, fused)?;
        let fine = grid;
        if stage < 3 {
            (x, grid) = merge(&mut s.at("downsample"), swin, x, grid)?;
        }
        let normed = g.layer_norm(&format!("norm{stage}"), fused, eps)?;
        let width = g.shape(normed)[2];
        let map = g.reshape(normed, &[1, fine.0, fine.1, width])?;
        *level = g.permute(map, &[0, 3, 1, 2])?;
    }
    Ok(levels)
}

/// Patch embedding: `[1, 3, H, W]` to tokens `[1, h·w, C]` and their grid.
fn patches(
    g: &mut Scope<'_, '_>,
    swin: &SwinConfig,
    pixels: NodeId,
) -> Result<(NodeId, (usize, usize)), ModelError> {
    let p = swin.patch_size;
    let image = g.shape(pixels);
    let to_multiple = |size: usize| (p - size % p) % p;
    let padded = g.pad(pixels, &[(2, to_multiple(image[2])), (3, to_multiple(image[3]))])?;
    let mut e = g.at("patch_embed");
    let map = e.conv("proj", padded, Conv::new(p, 0))?;
    let shape = e.shape(map);
    let grid = (shape[2], shape[3]);
    let map = e.reshape(map, &[1, shape[1], grid.0 * grid.1])?;
    let mut x = e.permute(map, &[0, 2, 1])?;
    if swin.patch_norm {
        x = e.layer_norm("norm", x, swin.layer_norm_eps)?;
    }
    if swin.ape {
        x = add_positions(g, "absolute_pos_embed", x, grid)?;
    }
    Ok((x, grid))
}

/// Adds a table `[1, C, h, w]`, resized to the grid if it was made for another, to tokens `[1, h·w, C]`.
fn add_positions(
    g: &mut Scope<'_, '_>,
    name: &str,
    x: NodeId,
    (h, w): (usize, usize),
) -> Result<NodeId, ModelError> {
    let c = g.shape(x)[2];
    let shape = g.param_shape(name).filter(|s| s.len() == 4).unwrap_or(vec![1, c, h, w]);
    let table = g.read(name, &[1, c, shape[2], shape[3]])?;
    g.reserve(name, &[c, h, w])?;
    let mut fitted = vec![0.0; c * h * w];
    if (shape[2], shape[3]) == (h, w) {
        fitted.copy_from_slice(&table);
    } else {
        resize::bilinear(&table, c, [shape[2], shape[3]], [h, w], false, &mut fitted);
    }
    let tokens = (0..h * w).flat_map(|i| fitted[i..].iter().step_by(h * w).copied()).collect();
    let positions = g.constant(&format!("{name}.tokens"), &[1, h * w, c], tokens)?;
    g.add(x, positions)
}

/// How a stage is cut into windows.
struct Window {
    /// Window height and width in tokens.
    size: (usize, usize),
    /// Shift of odd blocks.
    shift: usize,
    /// Side of the window that the bias table was made for.
    table: usize,
}

impl Window {
    fn of(swin: &SwinConfig, grid: (usize, usize)) -> Self {
        let full = swin.window_size;
        if !swin.clamp_window {
            return Self { size: (full, full), shift: full / 2, table: full };
        }
        let size = full.min(grid.0.min(grid.1));
        let shift = if grid.0.min(grid.1) > size { size / 2 } else { 0 };
        Self { size: (size, size), shift, table: full }
    }
}

/// One block: windowed attention and MLP, both with a residual; tokens `[1, h·w, C]`.
fn block(
    g: &mut Scope<'_, '_>,
    x: NodeId,
    grid: (usize, usize),
    window: &Window,
    shift: usize,
    heads: usize,
    eps: f32,
) -> Result<NodeId, ModelError> {
    let c = g.shape(x)[2];
    let (h, w) = grid;
    let (wh, ww) = window.size;
    let (ph, pw) = (h.div_ceil(wh) * wh, w.div_ceil(ww) * ww);
    let (rows, columns, area) = (ph / wh, pw / ww, wh * ww);

    let y = g.layer_norm("norm1", x, eps)?;
    let y = g.reshape(y, &[1, h, w, c])?;
    let y = g.pad(y, &[(1, ph - h), (2, pw - w)])?;
    let back = shift as isize;
    let y = if shift > 0 { g.roll(y, &[(1, -back), (2, -back)])? } else { y };
    let y = g.reshape(y, &[1, rows, wh, columns, ww, c])?;
    let y = g.permute(y, &[0, 1, 3, 2, 4, 5])?;
    let y = g.reshape(y, &[rows * columns, area, c])?;
    let mask = if shift > 0 {
        g.reserve("attn.shift_mask", &[rows * columns, area, area])?;
        Some(shift_mask((ph, pw), window.size, shift))
    } else {
        None
    };
    let y = attention(&mut g.at("attn"), y, window, heads, mask)?;
    let y = g.reshape(y, &[1, rows, columns, wh, ww, c])?;
    let y = g.permute(y, &[0, 1, 3, 2, 4, 5])?;
    let y = g.reshape(y, &[1, ph, pw, c])?;
    let y = if shift > 0 { g.roll(y, &[(1, back), (2, back)])? } else { y };
    let y = g.narrow(y, 1, 0, h)?;
    let y = g.narrow(y, 2, 0, w)?;
    let y = g.reshape(y, &[1, h * w, c])?;
    let x = g.add(x, y)?;

    let y = g.layer_norm("norm2", x, eps)?;
    let y = g.linear("mlp.fc1", y)?;
    let y = g.activation("mlp.act", Activation::Gelu, y)?;
    let y = g.linear("mlp.fc2", y)?;
    g.add(x, y)
}

/// Attention within windows `[nW, area, C]`, with the relative position bias.
fn attention(
    g: &mut Scope<'_, '_>,
    x: NodeId,
    window: &Window,
    heads: usize,
    mask: Option<Vec<f32>>,
) -> Result<NodeId, ModelError> {
    let shape = g.shape(x);
    let (windows, area, c) = (shape[0], shape[1], shape[2]);
    let head = c / heads;
    let qkv = g.linear("qkv", x)?;
    let qkv = g.reshape(qkv, &[windows, area, 3, heads, head])?;
    let qkv = g.permute(qkv, &[2, 0, 3, 1, 4])?;
    let mut part = |index: usize| -> Result<NodeId, ModelError> {
        let y = g.narrow(qkv, 0, index, 1)?;
        g.reshape(y, &[windows, heads, area, head])
    };
    let (query, key, value) = (part(0)?, part(1)?, part(2)?);
    let scores = g.matmul("qk", (query, key), true, 1.0 / (head as f32).sqrt())?;
    let side = 2 * window.table - 1;
    let table = g.read("relative_position_bias_table", &[side * side, heads])?;
    g.reserve("relative_position_bias", &[heads, area, area])?;
    let bias = relative_bias(&table, window, heads);
    let bias = g.constant("relative_position_bias", &[1, heads, area, area], bias)?;
    let mut scores = g.add(scores, bias)?;
    if let Some(mask) = mask {
        let mask = g.constant("shift_mask", &[windows, 1, area, area], mask)?;
        scores = g.add(scores, mask)?;
    }
    let probabilities = g.softmax("softmax", scores)?;
    let y = g.matmul("pv", (probabilities, value), false, 1.0)?;
    let y = g.permute(y, &[0, 2, 1, 3])?;
    let y = g.reshape(y, &[windows, area, c])?;
    g.linear("proj", y)
}

/// The bias `[heads, area, area]` read from the table `[(2W-1)², heads]` at the offset query − key.
fn relative_bias(table: &[f32], window: &Window, heads: usize) -> Vec<f32> {
    let (wh, ww) = window.size;
    let (centre, side) = (window.table as isize - 1, 2 * window.table - 1);
    let place = |token: usize| ((token / ww) as isize, (token % ww) as isize);
    let area = wh * ww;
    let mut bias = Vec::with_capacity(heads * area * area);
    for head in 0..heads {
        for query in 0..area {
            for key in 0..area {
                let ((qy, qx), (ky, kx)) = (place(query), place(key));
                let row = (qy - ky + centre) as usize * side + (qx - kx + centre) as usize;
                bias.push(table[row * heads + head]);
            }
        }
    }
    bias
}

/// The mask `[nW, area, area]` that keeps apart what the cyclic shift brought together.
fn shift_mask((h, w): (usize, usize), (wh, ww): (usize, usize), shift: usize) -> Vec<f32> {
    // Three bands along each axis: untouched windows, the rest of the last window, what was rolled into it.
    let band = |i: usize, size: usize, window: usize| {
        usize::from(i + window >= size) + usize::from(i + shift >= size)
    };
    let region = |y: usize, x: usize| 3 * band(y, h, wh) + band(x, w, ww);
    let mut mask = Vec::new();
    for top in (0..h).step_by(wh) {
        for left in (0..w).step_by(ww) {
            let regions: Vec<_> = (0..wh * ww).map(|i| region(top + i / ww, left + i % ww)).collect();
            for query in &regions {
                mask.extend(regions.iter().map(|key| if key == query { 0.0 } else { SEPARATE }));
            }
        }
    }
    mask
}

/// Patch merging: 2×2 neighbours joined, normalised, projected to twice the width.
fn merge(
    g: &mut Scope<'_, '_>,
    swin: &SwinConfig,
    x: NodeId,
    (h, w): (usize, usize),
) -> Result<(NodeId, (usize, usize)), ModelError> {
    let c = g.shape(x)[2];
    let (half_h, half_w) = (h.div_ceil(2), w.div_ceil(2));
    let y = g.reshape(x, &[1, h, w, c])?;
    let y = g.pad(y, &[(1, h % 2), (2, w % 2)])?;
    let y = g.reshape(y, &[1, half_h, 2, half_w, 2, c])?;
    // Order of the four neighbours as (row, column): (0,0), (1,0), (0,1), (1,1).
    let y = g.permute(y, &[0, 1, 3, 4, 2, 5])?;
    let y = g.reshape(y, &[1, half_h * half_w, 4 * c])?;
    let y = g.layer_norm("norm", y, swin.layer_norm_eps)?;
    let mut y = g.linear("reduction", y)?;
    if swin.merge_position_tables {
        y = add_positions(g, "absolute_pos_embed", y, (half_h, half_w))?;
    }
    Ok((y, (half_h, half_w)))
}
