//! The plain vision transformer (Dosovitskiy et al., ICLR 2021) up to its last normalisation, as ViT, DeiT and DINOv2
//! share it.

use super::attention::attend;
use super::block::{self, BlockNames, block};
use super::positions::{Resampling, Table};
use super::tokens::{Grid, learned, patches};
use crate::exec::kernels::activation::Activation;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;

/// How the modules are called.
#[derive(Debug)]
pub(crate) struct Names {
    /// Convolution of the patch embedding.
    pub(crate) patches: &'static str,
    /// Classification token `[1, 1, C]`.
    pub(crate) cls: &'static str,
    /// Distillation token `[1, 1, C]` (DeiT).
    pub(crate) dist: &'static str,
    /// Register tokens `[1, n, C]` (DINOv2 with registers), which have no positions.
    pub(crate) registers: &'static str,
    /// Position table `[1, tokens + h·w, C]`.
    pub(crate) positions: &'static str,
    /// The blocks.
    pub(crate) layers: &'static str,
    /// The last normalisation.
    pub(crate) norm: &'static str,
}

/// Hugging Face.
pub(crate) const HF: Names = Names {
    patches: "embeddings.patch_embeddings.projection",
    cls: "embeddings.cls_token",
    dist: "embeddings.distillation_token",
    registers: "embeddings.register_tokens",
    positions: "embeddings.position_embeddings",
    layers: "encoder.layer",
    norm: "layernorm",
};

/// timm and the original code.
pub(crate) const TIMM: Names = Names {
    patches: "patch_embed.proj",
    cls: "cls_token",
    dist: "dist_token",
    registers: "register_tokens",
    positions: "pos_embed",
    layers: "blocks",
    norm: "norm",
};

/// The blocks of an encoder.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// How their modules are called.
    pub(crate) names: &'static BlockNames,
    /// How many there are.
    pub(crate) count: usize,
    /// Heads of each.
    pub(crate) heads: usize,
    /// Activation of the MLP.
    pub(crate) act: Activation,
    /// Epsilon of every `LayerNorm`.
    pub(crate) eps: f32,
}

impl Blocks {
    /// One block, whose scope is given.
    pub(crate) fn run(&self, g: &mut Scope<'_, '_>, x: NodeId) -> Result<NodeId, ModelError> {
        block(g, self.names, self.act, self.eps, x, |g, y| {
            let mut attention = g.at(self.names.attention);
            let y = attend(&mut attention, self.names.projections, y, self.heads, |_, scores| Ok(scores))?;
            g.linear(self.names.out, y)
        })
    }
}

/// A plain vision transformer.
#[derive(Debug)]
pub(crate) struct Vit {
    /// How its modules are called.
    pub(crate) names: Names,
    /// Its blocks.
    pub(crate) blocks: Blocks,
    /// Whether the distillation token is there.
    pub(crate) distilled: bool,
    /// The grid that the position table was made for, if it is known.
    pub(crate) grid: Option<Grid>,
    /// How the position table is resampled.
    pub(crate) how: Resampling,
}

/// What comes out of [`Vit::encode`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoded {
    /// Tokens `[1, special + h·w, C]`, not normalised.
    pub(crate) tokens: NodeId,
    /// Tokens before those of the patches.
    pub(crate) special: usize,
}

impl Vit {
    /// Image `[1, 3, H, W]` to tokens: embeddings and all blocks.
    pub(crate) fn encode(&self, g: &mut Scope<'_, '_>, pixels: NodeId) -> Result<Encoded, ModelError> {
        let (mut x, special) = self.embed(g, pixels)?;
        for index in 0..self.blocks.count {
            x = self.blocks.run(&mut g.at(format!("{}.{index}", self.names.layers)), x)?;
        }
        Ok(Encoded { tokens: x, special })
    }

    /// The last normalisation.
    pub(crate) fn norm(&self, g: &mut Scope<'_, '_>, x: NodeId) -> Result<NodeId, ModelError> {
        g.layer_norm(self.names.norm, x, self.blocks.eps)
    }

    /// Patches, special tokens and positions.
    fn embed(&self, g: &mut Scope<'_, '_>, pixels: NodeId) -> Result<(NodeId, usize), ModelError> {
        let names = &self.names;
        let (x, grid) = patches(g, names.patches, pixels)?;
        let width = g.shape(x)[2];
        let mut tokens = vec![learned(g, names.cls, (1, width))?];
        if self.distilled {
            tokens.push(learned(g, names.dist, (1, width))?);
        }
        let mut special = tokens.len();
        let table =
            |before| Table { name: names.positions, before, after: 0, grid: self.grid, how: self.how };
        let mut x = if self.positions_of_patches_only(g, special) {
            let positions = table(0).positions(g, width, grid)?;
            tokens.push(g.add(x, positions)?);
            g.concat(&tokens, 1)?
        } else {
            tokens.push(x);
            let x = g.concat(&tokens, 1)?;
            let positions = table(special).positions(g, width, grid)?;
            g.add(x, positions)?
        };
        // Between the first token and the patches, after the positions were added (Darcet et al., ICLR 2024).
        if let Some([_, count, _]) = g.param_shape(names.registers).as_deref() {
            let registers = learned(g, names.registers, (*count, width))?;
            let patches = grid.0 * grid.1;
            let (first, rest) = (g.narrow(x, 1, 0, special)?, g.narrow(x, 1, special, patches)?);
            x = g.concat(&[first, registers, rest], 1)?;
            special += count;
        }
        Ok((x, special))
    }

    /// Whether the table has no rows for the special tokens (timm's `no_embed_class`).
    fn positions_of_patches_only(&self, g: &Scope<'_, '_>, special: usize) -> bool {
        use super::positions::grid_of;
        let rows = g.param_shape(self.names.positions).and_then(|shape| shape.get(1).copied()).unwrap_or(0);
        let with = rows.checked_sub(special).and_then(|patches| grid_of(patches, self.grid));
        with.is_none() && grid_of(rows, self.grid).is_some()
    }
}

/// The blocks of a checkpoint in timm's naming, whose number is not said elsewhere.
pub(crate) fn timm_names(has: impl Fn(&str) -> bool) -> &'static BlockNames {
    match (has("blocks.0.ls1.gamma"), has("blocks.0.mlp.w12.weight")) {
        (_, true) => &block::DINOV2_GATED,
        (true, false) => &block::TIMM_SCALED,
        (false, false) => &block::TIMM,
    }
}

/// How many modules `prefix.0`, `prefix.1`, … the tensors name: one more than the largest number.
pub(crate) fn count_modules<'n>(names: impl Iterator<Item = &'n str>, prefix: &str) -> usize {
    names
        .filter_map(|name| name.strip_prefix(prefix)?.strip_prefix('.')?.split('.').next()?.parse().ok())
        .map(|index: usize| index.saturating_add(1))
        .max()
        .unwrap_or(0)
}
