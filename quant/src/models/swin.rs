//! Swin, the transformer with shifted windows (Liu et al., ICCV 2021), under the names of Hugging Face
//! (`SwinForImageClassification`, `SwinModel`), of timm, and of the original files (timm before 0.9 alike).
//!
//! Input: `pixel_values [1, 3, H, W]`; outputs: `logits [1, classes]`, or without a head `last_hidden_state [1, N, C]` and
//! `pooler_output [1, C]`.

use serde::Deserialize;

use super::ModelError;
use super::architecture::Built;
use super::parts::activation;
use super::parts::block::{BlockNames, HF_SWIN, TIMM};
use super::parts::config::{MAX_LAYERS, Sides, epsilon, heads_divide, within};
use super::parts::pictures::{self, IMAGENET};
use super::parts::timm::{self, TimmConfig};
use super::parts::tokens;
use super::parts::vit::count_modules;
use super::parts::window::{Stage, Window, merge, pad_to_patches};
use super::source::Source;
use super::vit::{build, mean_of_patches};
use crate::data::Filter;
use crate::exec::kernels::activation::Activation;
use crate::graph::{NodeId, Scope};

/// Epsilon of the published models.
const EPS: f32 = 1e-5;
/// Most stages.
const MAX_STAGES: usize = 16;
/// Largest side of a window in patches.
const MAX_WINDOW: usize = 128;

/// How the modules of a naming are called.
#[derive(Debug)]
struct Names {
    /// Module of the patch embedding.
    embeddings: &'static str,
    /// Its convolution.
    patches: &'static str,
    /// The stages.
    stages: &'static str,
    /// The modules of a block.
    block: &'static BlockNames,
    /// The last normalisation.
    norm: &'static str,
    /// The classifier, outside the encoder's own scope.
    head: &'static str,
    /// Whether merging begins a stage (timm) or ends the one before.
    merge_first: bool,
    /// Whether windows follow each axis of the grid by itself (timm).
    each_axis: bool,
}

const HF: Names = Names {
    embeddings: "embeddings",
    patches: "patch_embeddings.projection",
    stages: "encoder.layers",
    block: &HF_SWIN,
    norm: "layernorm",
    head: "classifier",
    merge_first: false,
    each_axis: false,
};

const ORIGINAL: Names = Names {
    embeddings: "patch_embed",
    patches: "proj",
    stages: "layers",
    block: &TIMM,
    norm: "norm",
    head: "head",
    merge_first: false,
    each_axis: false,
};

const TIMM_NAMES: Names = Names { head: "head.fc", merge_first: true, each_axis: true, ..ORIGINAL };

/// The configuration of Hugging Face.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct SwinConfig {
    image_size: Sides,
    patch_size: usize,
    num_channels: usize,
    embed_dim: usize,
    depths: Vec<usize>,
    num_heads: Vec<usize>,
    window_size: usize,
    hidden_act: String,
    layer_norm_eps: f32,
}

impl Default for SwinConfig {
    fn default() -> Self {
        Self {
            image_size: Sides::Square(224),
            patch_size: 4,
            num_channels: 3,
            embed_dim: 96,
            depths: vec![2, 2, 6, 2],
            num_heads: vec![3, 6, 12, 24],
            window_size: 7,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: EPS,
        }
    }
}

impl SwinConfig {
    /// The configuration in the folder, or what the tensors tell; the pictures are those of published models, in which
    /// windows fill the last grid.
    fn of(source: &Source<'_>, root: &str) -> Result<Self, ModelError> {
        if source.config.is_some() {
            return source.parse();
        }
        let dot = if root.is_empty() { "" } else { "." };
        let weights = source.weights;
        let axis = |name: &str, axis: usize| {
            let name = format!("{root}{dot}{name}");
            let told = || weights.shape(&name)?.get(axis).copied();
            told().ok_or_else(|| {
                source.wrong(format!("it is missing, and so is tensor `{name}`, which tells its sizes"))
            })
        };
        let stages = count_modules(weights.names(), &format!("{root}{dot}encoder.layers"));
        within("the number of stages", stages, 1, MAX_STAGES).map_err(|message| source.wrong(message))?;
        let (mut depths, mut heads) = (Vec::new(), Vec::new());
        for stage in 0..stages {
            let blocks = format!("encoder.layers.{stage}.blocks");
            depths.push(count_modules(weights.names(), &format!("{root}{dot}{blocks}")));
            heads.push(axis(&format!("{blocks}.0.attention.self.relative_position_bias_table"), 1)?);
        }
        let projection = "embeddings.patch_embeddings.projection.weight";
        let (embed_dim, patch_size) = (axis(projection, 0)?, axis(projection, 2)?);
        let rows = axis("encoder.layers.0.blocks.0.attention.self.relative_position_bias_table", 0)?;
        let window_size = rows.isqrt().div_ceil(2);
        let side = window_size.saturating_mul(patch_size).saturating_mul(1 << (stages - 1)).min(16_384);
        source.assume(format!(
            "without config.json pictures of {side}x{side} are taken, as in the published models: no tensor shows their size"
        ));
        Ok(Self {
            image_size: Sides::Square(side),
            patch_size,
            embed_dim,
            depths,
            num_heads: heads,
            window_size,
            ..Self::default()
        })
    }

    fn check(&self) -> Result<(), String> {
        self.image_size.check("image_size")?;
        within("patch_size", self.patch_size, 1, 1024)?;
        within("num_channels", self.num_channels, 3, 3)?;
        within("embed_dim", self.embed_dim, 1, 1 << 14)?;
        within("window_size", self.window_size, 1, MAX_WINDOW)?;
        within("the number of `depths`", self.depths.len(), 1, MAX_STAGES)?;
        let stages = self.depths.len();
        within("the number of `num_heads`", self.num_heads.len(), stages, stages)?;
        for stage in 0..self.depths.len() {
            within(&format!("depths[{stage}]"), self.depths[stage], 1, MAX_LAYERS)?;
            heads_divide(&format!("num_heads[{stage}]"), self.num_heads[stage], self.embed_dim << stage)?;
        }
        activation::named("hidden_act", &self.hidden_act)?;
        epsilon("layer_norm_eps", self.layer_norm_eps)
    }
}

/// A Swin encoder.
#[derive(Debug)]
struct Swin {
    names: Names,
    patch: usize,
    /// Blocks of each stage.
    depths: Vec<usize>,
    /// Heads of each stage.
    heads: Vec<usize>,
    /// Side of a window that the bias tables were made for.
    window: usize,
    act: Activation,
    eps: f32,
}

/// Whether configuration or tensor names are those of a Swin.
pub(super) fn recognises(source: &Source<'_>) -> bool {
    let has = |name: &str| source.weights.shape(name).is_some();
    source.model_type() == "swin"
        || source.field("architecture").starts_with("swin_")
        || timm::unnamed(source)
            && (has("swin.embeddings.patch_embeddings.projection.weight")
                || has("encoder.layers.0.blocks.0.attention.self.relative_position_bias_table")
                || has("patch_embed.proj.weight")
                    && has("layers.0.blocks.0.attn.relative_position_bias_table"))
}

/// Opens a model folder.
pub(super) fn open(source: &Source<'_>) -> Result<Built, ModelError> {
    let has = |name: &str| source.weights.shape(name).is_some();
    let unnamed = source.field("architecture").is_empty();
    if source.model_type() == "swin" || unnamed && !has("patch_embed.proj.weight") {
        let root = if has("swin.embeddings.patch_embeddings.projection.weight") { "swin" } else { "" };
        let config = SwinConfig::of(source, root)?;
        config.check().map_err(|message| source.wrong(message))?;
        let image = config.image_size.pair();
        let default = pictures::resized(pictures::exact(image), Filter::Bicubic, IMAGENET);
        let preprocessor = pictures::preprocessor(source, default)?;
        let swin = Swin {
            names: HF,
            patch: config.patch_size,
            depths: config.depths,
            heads: config.num_heads,
            window: config.window_size,
            act: activation::named("hidden_act", &config.hidden_act).unwrap_or_default(),
            eps: config.layer_norm_eps,
        };
        let weight = [config.embed_dim, config.num_channels, config.patch_size, config.patch_size];
        build(source, preprocessor, image, |g, pixels| {
            let mut m = g.at(root);
            m.read("embeddings.patch_embeddings.projection.weight", &weight)?;
            let x = swin.encode(&mut m, pixels)?;
            swin.outputs(g, x)
        })
    } else {
        let config = TimmConfig::read(source)?;
        let swin = Swin::of_tensors(source).map_err(|message| source.wrong(message))?;
        // The published ones have windows that fill the last grid.
        let side = (swin.window * swin.patch) << (swin.depths.len() - 1);
        let side = side.min(16_384);
        let image = config.image().unwrap_or((side, side));
        let preprocessor = config.preprocessor(image).map_err(|message| source.wrong(message))?;
        let preprocessor = pictures::preprocessor(source, preprocessor)?;
        build(source, preprocessor, image, |g, pixels| {
            let x = swin.encode(g, pixels)?;
            swin.outputs(g, x)
        })
    }
}

impl Swin {
    /// The sizes of a checkpoint in the naming of timm or of the original code, read off its tensors.
    fn of_tensors(source: &Source<'_>) -> Result<Self, String> {
        let weights = source.weights;
        let axis = |name: &str, axis: usize| weights.shape(name).and_then(|s| s.get(axis).copied());
        let merged_first = weights.shape("layers.0.downsample.reduction.weight").is_none();
        // A single stage has no merging; its head tells.
        let timm = merged_first && weights.shape("head.weight").is_none();
        let names = if timm { TIMM_NAMES } else { ORIGINAL };
        let stages = count_modules(weights.names(), "layers");
        within("the number of stages `layers.N`", stages, 1, MAX_STAGES)?;
        let (mut depths, mut heads) = (Vec::new(), Vec::new());
        for stage in 0..stages {
            let blocks = format!("layers.{stage}.blocks");
            let depth = count_modules(weights.names(), &blocks);
            within(&format!("the number of blocks `{blocks}.N`"), depth, 1, MAX_LAYERS)?;
            depths.push(depth);
            let table = format!("{blocks}.0.attn.relative_position_bias_table");
            let count = axis(&table, 1).ok_or_else(|| format!("tensor `{table}` is missing"))?;
            let width = axis(&format!("{blocks}.0.norm1.weight"), 0).unwrap_or(0);
            heads_divide(&format!("the second side of `{table}`"), count, width)?;
            heads.push(count);
        }
        let patch = axis("patch_embed.proj.weight", 2).unwrap_or(0);
        within("the side of `patch_embed.proj.weight`", patch, 1, 1024)?;
        let rows = axis("layers.0.blocks.0.attn.relative_position_bias_table", 0).unwrap_or(0);
        let window = rows.isqrt().div_ceil(2);
        within("the window of `relative_position_bias_table`", window, 1, MAX_WINDOW)?;
        Ok(Self { names, patch, depths, heads, window, act: Activation::Gelu, eps: EPS })
    }

    /// Image `[1, 3, H, W]` to normalised tokens `[1, N, C]` of the last stage.
    fn encode(&self, g: &mut Scope<'_, '_>, pixels: NodeId) -> Result<NodeId, ModelError> {
        let names = &self.names;
        let pixels = pad_to_patches(g, pixels, self.patch)?;
        let mut e = g.at(names.embeddings);
        let (mut x, mut grid) = tokens::patches(&mut e, names.patches, pixels)?;
        if e.param_shape("norm.weight").is_some() {
            x = e.layer_norm("norm", x, self.eps)?;
        }
        for (index, (&depth, &heads)) in self.depths.iter().zip(&self.heads).enumerate() {
            let mut s = g.at(format!("{}.{index}", names.stages));
            if names.merge_first && index > 0 {
                (x, grid) = merge(&mut s.at("downsample"), x, grid, self.eps)?;
            }
            let window = if names.each_axis {
                Window::within_each(self.window, grid)
            } else {
                Window::within(self.window, grid)
            };
            let stage = Stage { names: names.block, window, grid, heads, act: self.act, eps: self.eps };
            for block in 0..depth {
                x = stage.run(&mut s.at(format!("blocks.{block}")), block, x)?;
            }
            if !names.merge_first && index + 1 < self.depths.len() {
                (x, grid) = merge(&mut s.at("downsample"), x, grid, self.eps)?;
            }
        }
        g.layer_norm(names.norm, x, self.eps)
    }

    /// The mean of all tokens, and what the head says of it.
    fn outputs(&self, g: &mut Scope<'_, '_>, x: NodeId) -> Result<Vec<(&'static str, NodeId)>, ModelError> {
        let pooled = mean_of_patches(g, x, 0)?;
        if g.param_shape(&format!("{}.weight", self.names.head)).is_some() {
            return Ok(vec![("logits", g.linear(self.names.head, pooled)?)]);
        }
        Ok(vec![("last_hidden_state", x), ("pooler_output", pooled)])
    }
}
