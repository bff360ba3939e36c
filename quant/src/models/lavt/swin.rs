//! The Swin backbone (Liu et al., ICCV 2021) with word fusion after every stage.

use super::config::{LavtConfig, SwinConfig};
use super::fusion;
use crate::exec::kernels::activation::Activation;
use crate::exec::kernels::resize;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;
use crate::models::parts::block::TIMM;
use crate::models::parts::tokens;
use crate::models::parts::window::{self, Stage, Window};

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
        let window = if swin.clamp_window {
            Window::within(swin.window_size, grid)
        } else {
            Window::full(swin.window_size)
        };
        let heads = swin.num_heads[stage];
        let blocks = Stage { names: &TIMM, window, grid, heads, act: Activation::Gelu, eps };
        for block in 0..swin.depths[stage] {
            x = blocks.run(&mut s.at(format!("blocks.{block}")), block, x)?;
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
    let padded = window::pad_to_patches(g, pixels, swin.patch_size)?;
    let mut e = g.at("patch_embed");
    e.read("proj.weight", &[swin.embed_dim, swin.in_chans, swin.patch_size, swin.patch_size])?;
    let (mut x, grid) = tokens::patches(&mut e, "proj", padded)?;
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

/// Patch merging, with a table of positions after it where the config asks for one.
fn merge(
    g: &mut Scope<'_, '_>,
    swin: &SwinConfig,
    x: NodeId,
    grid: (usize, usize),
) -> Result<(NodeId, (usize, usize)), ModelError> {
    let (x, grid) = window::merge(g, x, grid, swin.layer_norm_eps)?;
    let x = if swin.merge_position_tables { add_positions(g, "absolute_pos_embed", x, grid)? } else { x };
    Ok((x, grid))
}
