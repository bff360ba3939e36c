//! The vision tower: a vision transformer with a normalisation before its first layer (spelled `pre_layrnorm`).

use super::Towers;
use super::layer::layer;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;
use crate::models::parts::positions::{Resampling, Table};
use crate::models::parts::tokens::{self, Grid};

/// What the tower makes of a picture.
#[derive(Debug)]
pub(in crate::models) struct Vision {
    /// Tokens `[1, 1 + h·w, width]` before the first layer and after each; the class token comes first.
    pub(in crate::models) hidden: Vec<NodeId>,
    /// The class token, normalised: `[1, width]`.
    pub(in crate::models) pooled: NodeId,
    /// Rows and columns of patches.
    pub(in crate::models) grid: Grid,
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
    let class = tokens::token(g, x, 0)?;
    let pooled = g.layer_norm("post_layernorm", class, tower.eps)?;
    Ok(Vision { hidden, pooled, grid })
}

/// Class token and patches with their positions. A table `[1 + side², width]` for another grid is resized (bicubic)
/// without the class token's row.
fn embed(g: &mut Scope<'_, '_>, towers: &Towers, pixels: NodeId) -> Result<(NodeId, Grid), ModelError> {
    let (width, patch, side) = (towers.vision.width, towers.patch, towers.side());
    g.read("patch_embedding.weight", &[width, towers.channels, patch, patch])?;
    let (patches, grid) = tokens::patches(g, "patch_embedding", pixels)?;
    let class = g.read("class_embedding", &[width])?.to_vec();
    let class = g.constant("class_embedding", &[1, 1, width], class)?;
    let tokens = g.concat(&[class, patches], 1)?;
    let values = g.read("position_embedding.weight", &[1 + side * side, width])?;
    let name = "position_embedding";
    let table = Table { name, before: 1, after: 0, grid: Some((side, side)), how: Resampling::Bicubic };
    let (positions, rows) = table.fit(g, &values, width, grid)?;
    let positions = g.constant(name, &[1, rows, width], positions)?;
    Ok((g.add(tokens, positions)?, grid))
}
