//! The vision tower: a vision transformer with a normalisation before its first layer (spelled `pre_layrnorm`).

use super::Towers;
use super::layer::layer;
use crate::exec::kernels::resize;
use crate::graph::{Conv, NodeId, Scope};
use crate::models::ModelError;

/// What the tower makes of a picture.
#[derive(Debug)]
pub(in crate::models) struct Vision {
    /// Tokens `[1, 1 + h·w, width]` before the first layer and after each; the class token comes first.
    pub(in crate::models) hidden: Vec<NodeId>,
    /// The class token, normalised: `[1, width]`.
    pub(in crate::models) pooled: NodeId,
    /// Rows and columns of patches.
    pub(in crate::models) grid: (usize, usize),
}

/// A picture `[1, C, H, W]` through the tower.
pub(in crate::models) fn see(
    g: &mut Scope<'_, '_>,
    towers: &Towers,
    pixels: NodeId,
) -> Result<Vision, ModelError> {
    let tower = &towers.vision;
    let (x, grid) = embed(&mut g.at("embeddings"), towers, pixels)?;
    let mut x = g.layer_norm("pre_layrnorm", x, tower.eps)?;
    let mut hidden = vec![x];
    for i in 0..tower.layers {
        x = layer(&mut g.at(format!("encoder.layers.{i}")), tower, x, &[])?;
        hidden.push(x);
    }
    let class = g.narrow(x, 1, 0, 1)?;
    let class = g.reshape(class, &[1, tower.width])?;
    let pooled = g.layer_norm("post_layernorm", class, tower.eps)?;
    Ok(Vision { hidden, pooled, grid })
}

/// Class token and patches with their positions.
fn embed(
    g: &mut Scope<'_, '_>,
    towers: &Towers,
    pixels: NodeId,
) -> Result<(NodeId, (usize, usize)), ModelError> {
    let (width, patch) = (towers.vision.width, towers.patch);
    g.read("patch_embedding.weight", &[width, towers.channels, patch, patch])?;
    let map = g.conv("patch_embedding", pixels, Conv::new(patch, 0))?;
    let shape = g.shape(map);
    let grid = (shape[2], shape[3]);
    let patches = g.reshape(map, &[1, width, grid.0 * grid.1])?;
    let patches = g.permute(patches, &[0, 2, 1])?;
    let class = g.read("class_embedding", &[width])?.to_vec();
    let class = g.constant("class_embedding", &[1, 1, width], class)?;
    let tokens = g.concat(&[class, patches], 1)?;
    let positions = positions(g, towers, grid)?;
    Ok((g.add(tokens, positions)?, grid))
}

/// The position table `[1 + side², width]`; for another grid the patches' part is resized (bicubic), the class token's
/// row stays.
fn positions(
    g: &mut Scope<'_, '_>,
    towers: &Towers,
    (rows, columns): (usize, usize),
) -> Result<NodeId, ModelError> {
    let (width, side) = (towers.vision.width, towers.side());
    let table = g.read("position_embedding.weight", &[1 + side * side, width])?.to_vec();
    let tokens = 1 + rows * columns;
    g.reserve("position_embedding", &[tokens, width])?;
    let fitted = if (rows, columns) == (side, side) {
        table
    } else {
        let (class, patches) = table.split_at(width);
        let plane = |channel: usize| patches[channel..].iter().step_by(width).copied();
        let planes: Vec<f32> = (0..width).flat_map(plane).collect();
        let mut resized = vec![0.0; width * rows * columns];
        resize::bicubic(&planes, width, [side, side], [rows, columns], &mut resized);
        let token = |at: usize| resized[at..].iter().step_by(rows * columns).copied();
        class.iter().copied().chain((0..rows * columns).flat_map(token)).collect()
    };
    g.constant("position_embedding", &[1, tokens, width], fitted)
}
