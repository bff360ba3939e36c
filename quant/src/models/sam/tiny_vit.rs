//! MobileSAM's image encoder, a TinyViT (Wu et al., "TinyViT", ECCV 2022; Zhang et al., "Faster Segment Anything", 2023): two
//! convolutions, a stage of inverted bottlenecks, then stages of attention within windows that are not shifted, with a
//! depthwise convolution between attention and MLP.
//!
//! The first two stages end in a merging that halves the grid, the third in one that keeps it, as published (there the rule is
//! written as the widths 320, 448 and 576, those of the last stage of TinyViT-5M, 11M and 21M): one place of the embeddings
//! stands for [`PATCH`] pixels a side. Blocks are counted; widths, heads and windows are those of the tensors. The biases of
//! relative positions have one number per head and distance, rows and columns without sign.

use super::names::Names;
use super::vision::{join, neck, partition};
use crate::exec::kernels::activation::Activation;
use crate::graph::{Conv, NodeId, Scope};
use crate::models::ModelError;
use crate::models::parts::config::MAX_LAYERS;
use crate::models::parts::heads;
use crate::models::parts::vit::count_modules;
use crate::models::source::Source;

/// Side in pixels of one place of the embeddings: 4 by the first convolutions, 2 by each of two mergings.
pub(super) const PATCH: usize = 16;
/// Stages of the published sizes; the first is convolutional.
const STAGES: usize = 4;
/// Epsilon of LayerNorms and BatchNorms: PyTorch's own.
const EPS: f32 = 1e-5;
/// Side of the published windows, for tables that are missing.
const WINDOW: usize = 7;

/// What building needs to know before it reads the tensors.
#[derive(Debug)]
pub(super) struct TinyVit {
    /// Blocks of each stage.
    depths: [usize; STAGES],
}

/// Tensors of the published file that no result depends on: the classifier that the encoder was trained with first, counters
/// of training, and what some files keep of the biases beside them.
pub(super) fn is_unused(names: &Names, tensor: &str) -> bool {
    let Some(name) = tensor.strip_prefix(names.encoder).and_then(|rest| rest.strip_prefix('.')) else {
        return false;
    };
    ["norm_head.weight", "norm_head.bias", "head.weight", "head.bias"].contains(&name)
        || [".bn.num_batches_tracked", ".attn.attention_bias_idxs", ".attn.ab"]
            .iter()
            .any(|end| name.ends_with(end))
}

impl TinyVit {
    /// Counts the blocks.
    pub(super) fn read(source: &Source<'_>, names: &Names) -> Result<Self, ModelError> {
        let layers = format!("{}.layers", names.encoder);
        let count = |path: &str| count_modules(source.weights.names(), path);
        let wrong = |what: String| {
            let start = if source.config.is_none() { "no such file, and the" } else { "the" };
            source.wrong(format!("{start} tensors are not those of a MobileSAM: {what}"))
        };
        let stages = count(&layers);
        if stages != STAGES {
            return Err(wrong(format!("{stages} stages `{layers}.N`, expected {STAGES}")));
        }
        let mut depths = [0; STAGES];
        for (stage, depth) in depths.iter_mut().enumerate() {
            let blocks = format!("{layers}.{stage}.blocks");
            *depth = count(&blocks);
            if !(1..=MAX_LAYERS).contains(depth) {
                return Err(wrong(format!("{depth} blocks `{blocks}.N`, expected 1 to {MAX_LAYERS}")));
            }
        }
        Ok(Self { depths })
    }

    /// Picture `[1, 3, S, S]` to embeddings `[1, C, S/16, S/16]`.
    pub(super) fn encode(
        &self,
        g: &mut Scope<'_, '_>,
        names: &Names,
        pixels: NodeId,
    ) -> Result<NodeId, ModelError> {
        let mut p = g.at("patch_embed");
        let x = conv_bn(&mut p, "seq.0", pixels, Conv::new(2, 1))?;
        let x = p.activation("act", Activation::Gelu, x)?;
        let mut x = conv_bn(&mut p, "seq.2", x, Conv::new(2, 1))?;
        let mut first = g.at("layers.0");
        for block in 0..self.depths[0] {
            x = bottleneck(&mut first.at(format!("blocks.{block}")), x)?;
        }
        for (stage, &depth) in self.depths.iter().enumerate().skip(1) {
            let stride = if stage + 1 == STAGES { 1 } else { 2 };
            x = merge(&mut g.at(format!("layers.{}.downsample", stage - 1)), x, stride)?;
            let mut s = g.at(format!("layers.{stage}"));
            x = s.permute(x, &[0, 2, 3, 1])?;
            for block in 0..depth {
                x = attention_block(&mut s.at(format!("blocks.{block}")), x)?;
            }
            if stage + 1 < STAGES {
                x = s.permute(x, &[0, 3, 1, 2])?;
            }
        }
        neck(g, names, x)
    }
}

/// Convolution without bias, then BatchNorm.
fn conv_bn(g: &mut Scope<'_, '_>, name: &str, x: NodeId, geometry: Conv) -> Result<NodeId, ModelError> {
    let mut m = g.at(name);
    let x = m.conv("c", x, geometry)?;
    m.batch_norm("bn", x, EPS)
}

/// A 3x3 convolution of each channel of `x` by itself.
fn depthwise(g: &Scope<'_, '_>, x: NodeId, stride: usize) -> Conv {
    Conv { groups: g.shape(x)[1], ..Conv::new(stride, 1) }
}

/// Inverted bottleneck (MBConv) on a map `[1, C, h, w]`: wider, depthwise, narrow again; GELU also comes after the sum.
fn bottleneck(g: &mut Scope<'_, '_>, x: NodeId) -> Result<NodeId, ModelError> {
    let y = conv_bn(g, "conv1", x, Conv::new(1, 0))?;
    let y = g.activation("act", Activation::Gelu, y)?;
    let each = depthwise(g, y, 1);
    let y = conv_bn(g, "conv2", y, each)?;
    let y = g.activation("act", Activation::Gelu, y)?;
    let y = conv_bn(g, "conv3", y, Conv::new(1, 0))?;
    let x = g.add(y, x)?;
    g.activation("act", Activation::Gelu, x)
}

/// Merging: a map `[1, C, h, w]` to another width, and to `h / stride` rows.
fn merge(g: &mut Scope<'_, '_>, x: NodeId, stride: usize) -> Result<NodeId, ModelError> {
    let x = conv_bn(g, "conv1", x, Conv::new(1, 0))?;
    let x = g.activation("act", Activation::Gelu, x)?;
    let each = depthwise(g, x, stride);
    let x = conv_bn(g, "conv2", x, each)?;
    let x = g.activation("act", Activation::Gelu, x)?;
    conv_bn(g, "conv3", x, Conv::new(1, 0))
}

/// Attention within windows, a depthwise convolution in the place of positions, and the MLP; tokens `[1, h, w, C]`. Both
/// LayerNorms belong to what follows them, so that the zeros around the grid are normalised, too.
fn attention_block(g: &mut Scope<'_, '_>, x: NodeId) -> Result<NodeId, ModelError> {
    let grid = g.shape(x);
    let (heads, side) = windows(g, grid[3]);
    let y = partition(g, x, side)?;
    let y = attention(&mut g.at("attn"), heads, y)?;
    let y = join(g, y, &grid)?;
    let x = g.add(x, y)?;

    let map = g.permute(x, &[0, 3, 1, 2])?;
    let each = depthwise(g, map, 1);
    let map = conv_bn(g, "local_conv", map, each)?;
    let x = g.permute(map, &[0, 2, 3, 1])?;

    let mut m = g.at("mlp");
    let y = m.layer_norm("norm", x, EPS)?;
    let y = m.linear("fc1", y)?;
    let y = m.activation("act", Activation::Gelu, y)?;
    let y = m.linear("fc2", y)?;
    g.add(x, y)
}

/// Heads of a block of width `c` and the side of its windows in places: its table of biases is `[heads, side²]`, which is
/// checked where it is read. Of a table that is missing, those of one that fits.
fn windows(g: &Scope<'_, '_>, c: usize) -> (usize, usize) {
    let table = g.param_shape("attn.attention_biases").unwrap_or_default();
    let heads = table.first().copied().filter(|&heads| heads > 0 && c.is_multiple_of(heads)).unwrap_or(1);
    let distances = table.get(1).copied().unwrap_or(WINDOW * WINDOW);
    (heads, distances.isqrt().max(1))
}

/// Attention within each of `n` windows, `[n, side, side, C]`.
fn attention(g: &mut Scope<'_, '_>, heads: usize, x: NodeId) -> Result<NodeId, ModelError> {
    let shape = g.shape(x);
    let (n, side, c) = (shape[0], shape[1], shape[3]);
    let (area, head) = (side * side, c / heads);
    let x = g.layer_norm("norm", x, EPS)?;
    let qkv = g.linear("qkv", x)?;
    // Query, key and value of one head lie together.
    let qkv = g.reshape(qkv, &[n, area, heads, 3 * head])?;
    let qkv = g.permute(qkv, &[0, 2, 1, 3])?;
    let mut part = |index: usize| g.narrow(qkv, 3, index * head, head);
    let operands = (part(0)?, part(1)?, part(2)?);
    let y = heads::weigh(g, operands, |g, scores| {
        let table = g.read("attention_biases", &[heads, area])?;
        g.reserve("attention_bias", &[heads, area, area])?;
        let bias = g.constant("attention_bias", &[1, heads, area, area], biases(&table, side))?;
        g.add(scores, bias)
    })?;
    let y = g.reshape(y, &shape)?;
    g.linear("proj", y)
}

/// The bias `[heads, side², side²]` of each query and key, read from the table `[heads, side²]` at their distance in rows and
/// in columns: distances are numbered as they first come up between the first place and all others, row by row.
fn biases(table: &[f32], side: usize) -> Vec<f32> {
    let area = side * side;
    let at = |pair: usize| {
        let (query, key) = (pair / area, pair % area);
        (query / side).abs_diff(key / side) * side + (query % side).abs_diff(key % side)
    };
    table.chunks_exact(area.max(1)).flat_map(|head| (0..area * area).map(|pair| head[at(pair)])).collect()
}

#[cfg(test)]
mod tests {
    use super::biases;

    #[test]
    fn a_bias_depends_on_distances_without_sign() {
        // Windows of 2x2: none, one column, one row, both.
        let [n, c, r, b] = [0.0, 1.0, 2.0, 3.0];
        let expected = [n, c, r, b, c, n, b, r, r, b, n, c, b, r, c, n];
        assert_eq!(biases(&[n, c, r, b], 2), expected);
        let two_heads = biases(&[n, c, r, b, 4.0, 5.0, 6.0, 7.0], 2);
        assert_eq!(two_heads[..16], expected);
        assert_eq!(two_heads[16..20], [4.0, 5.0, 6.0, 7.0]);
    }
}
