//! Sizes of a SAM with a ViT: from `config.json`, else from the tensors.

use serde::Deserialize;

use super::names::Names;
use crate::data::MAX_SIDE;
use crate::models::ModelError;
use crate::models::numbered::count;
use crate::models::source::Source;

/// `config.json`; what is absent has the class defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SamConfig {
    #[serde(rename = "vision_config")]
    vision: VisionConfig,
    #[serde(rename = "prompt_encoder_config")]
    prompt: PromptConfig,
    #[serde(rename = "mask_decoder_config")]
    decoder: DecoderConfig,
}

/// `config.json` of a MobileSAM, which nobody publishes one with: what its tensors do not tell, where it is not as
/// published, under the names that SAM's has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MobileConfig {
    #[serde(rename = "vision_config")]
    vision: MobileVision,
    #[serde(rename = "mask_decoder_config")]
    decoder: MobileDecoder,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MobileVision {
    image_size: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MobileDecoder {
    num_attention_heads: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct VisionConfig {
    num_attention_heads: usize,
    image_size: usize,
    hidden_act: String,
    layer_norm_eps: f32,
    use_abs_pos: bool,
    use_rel_pos: bool,
    window_size: usize,
    global_attn_indexes: Vec<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct PromptConfig {
    hidden_act: String,
    layer_norm_eps: f32,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct DecoderConfig {
    hidden_act: String,
    num_attention_heads: usize,
    layer_norm_eps: f32,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            num_attention_heads: 12,
            image_size: IMAGE,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: EPS,
            use_abs_pos: true,
            use_rel_pos: true,
            window_size: 14,
            global_attn_indexes: vec![2, 5, 8, 11],
        }
    }
}

impl Default for PromptConfig {
    fn default() -> Self {
        Self { hidden_act: "gelu".to_owned(), layer_norm_eps: EPS }
    }
}

impl Default for DecoderConfig {
    fn default() -> Self {
        Self { hidden_act: "relu".to_owned(), num_attention_heads: DECODER_HEADS, layer_norm_eps: EPS }
    }
}

/// Epsilon of the image encoder and of normalisations of maps.
pub(super) const EPS: f32 = 1e-6;
/// Epsilon of `layer_norm_final_attn`, which is PyTorch's own in both implementations.
pub(super) const FINAL_EPS: f32 = 1e-5;
/// Side of the picture in pixels, in all published sizes.
const IMAGE: usize = 1024;
/// Heads of the decoder, in all published sizes.
const DECODER_HEADS: usize = 8;

/// What the tensors alone do not say, whatever sees the picture.
#[derive(Debug)]
pub(super) struct Sizes {
    /// Side of the picture in pixels.
    pub(super) image: usize,
    /// Side in pixels of what one place of the image embeddings stands for.
    pub(super) patch: usize,
    /// Channels of the picture.
    pub(super) channels: usize,
    /// Heads of the mask decoder.
    pub(super) decoder_heads: usize,
    /// Epsilon of the mask prompt's normalisations.
    pub(super) prompt_eps: f32,
    /// Epsilon of the decoder's normalisations but the last.
    pub(super) decoder_eps: f32,
}

/// The same of an image encoder that is a ViT.
#[derive(Debug)]
pub(super) struct Vit {
    /// Heads.
    pub(super) heads: usize,
    /// Whether it has a table of absolute positions.
    pub(super) absolute: bool,
    /// Whether its blocks have tables of relative positions.
    pub(super) relative: bool,
    /// Side of the attention window of each block in patches; none: the whole grid.
    pub(super) windows: Vec<Option<usize>>,
    /// Epsilon of its blocks.
    pub(super) eps: f32,
}

impl Sizes {
    /// Reads and checks those of a SAM with a ViT.
    pub(super) fn read(source: &Source<'_>, names: &Names) -> Result<(Self, Vit), ModelError> {
        let weights = source.weights;
        let shape = |name: &str, rank: usize| -> Result<Vec<usize>, ModelError> {
            let name = format!("{}.{name}", names.encoder);
            match weights.shape(&name) {
                Some(shape) if shape.len() == rank => Ok(shape),
                Some(found) => Err(ModelError::TensorShape {
                    file: weights.file().to_owned(),
                    tensor: name,
                    expected: vec![0; rank],
                    found,
                }),
                // Says that it is missing, and what is near.
                None => Ok(weights.get(&name)?.shape),
            }
        };
        let projection = shape(&format!("{}.weight", names.projection), 4)?;
        let (width, channels, patch) = (projection[0], projection[1], projection[2]);
        let block = |i: usize, part: &str| format!("{}.{i}.{part}", names.blocks);
        let first = |i: usize| format!("{}.{}", names.encoder, block(i, "attn.qkv.weight"));
        let blocks = count(|name| weights.shape(name).is_some(), first);
        let sizes = if source.model_type() == "sam" {
            let SamConfig { vision: v, prompt: p, decoder: d } = source.parse()?;
            for (part, found, expected) in [
                ("vision", &v.hidden_act, "gelu"),
                ("prompt_encoder", &p.hidden_act, "gelu"),
                ("mask_decoder", &d.hidden_act, "relu"),
            ] {
                if found != expected {
                    let field = format!("`{part}_config.hidden_act`");
                    return Err(source.wrong(format!("{field} is `{found}`; expected `{expected}`")));
                }
            }
            let window = |i: usize| {
                (v.window_size > 0 && !v.global_attn_indexes.contains(&i)).then_some(v.window_size)
            };
            let vit = Vit {
                heads: v.num_attention_heads,
                absolute: v.use_abs_pos,
                relative: v.use_rel_pos,
                windows: (0..blocks).map(window).collect(),
                eps: v.layer_norm_eps,
            };
            let sizes = Self {
                image: v.image_size,
                patch,
                channels,
                decoder_heads: d.num_attention_heads,
                prompt_eps: p.layer_norm_eps,
                decoder_eps: d.layer_norm_eps,
            };
            (sizes, vit)
        } else {
            // The published files have all tables: a table of 2S - 1 relative positions is made for windows of side S.
            let grid = shape("pos_embed", 4)?[1];
            let tables: Vec<Vec<usize>> =
                (0..blocks).map(|i| shape(&block(i, "attn.rel_pos_h"), 2)).collect::<Result<_, _>>()?;
            let side = |table: &Vec<usize>| table[0].div_ceil(2);
            let smallest = tables.iter().map(side).min().unwrap_or(grid);
            let window = |table| (side(table) == smallest && smallest < grid).then_some(smallest);
            let vit = Vit {
                heads: tables.first().map_or(0, |table| width / table[1].max(1)),
                absolute: true,
                relative: true,
                windows: tables.iter().map(window).collect(),
                eps: EPS,
            };
            let sizes = Self {
                image: grid.saturating_mul(patch),
                patch,
                channels,
                decoder_heads: DECODER_HEADS,
                prompt_eps: EPS,
                decoder_eps: names.decoder_eps,
            };
            (sizes, vit)
        };
        sizes.0.check().and_then(|()| sizes.1.check(width)).map_err(|message| source.wrong(message))?;
        Ok(sizes)
    }

    /// Those of a MobileSAM, whose image encoder makes one place of `patch` pixels: as published where no configuration
    /// says otherwise.
    pub(super) fn mobile(source: &Source<'_>, names: &Names, patch: usize) -> Result<Self, ModelError> {
        let config: MobileConfig =
            if source.config.is_some() { source.parse()? } else { MobileConfig::default() };
        if config.vision.image_size.is_none() {
            source.assume(format!(
                "pictures of {IMAGE}x{IMAGE} are taken, as in the published MobileSAM: no tensor shows their size, and \
                 `vision_config.image_size` of config.json does not say it"
            ));
        }
        let sizes = Self {
            image: config.vision.image_size.unwrap_or(IMAGE),
            patch,
            channels: 3,
            decoder_heads: config.decoder.num_attention_heads.unwrap_or(DECODER_HEADS),
            prompt_eps: EPS,
            decoder_eps: names.decoder_eps,
        };
        sizes.check().map_err(|message| source.wrong(message))?;
        Ok(sizes)
    }

    fn check(&self) -> Result<(), String> {
        within("the side of a patch", self.patch, 1, 256)?;
        within("`vision_config.image_size`", self.image, self.patch, MAX_SIDE as usize)?;
        within("`mask_decoder_config.num_attention_heads`", self.decoder_heads, 1, 1 << 12)?;
        if !self.image.is_multiple_of(self.patch) {
            return Err(format!("pictures of {} are not made of patches of {}", self.image, self.patch));
        }
        [self.prompt_eps, self.decoder_eps].into_iter().try_for_each(epsilon)
    }

    /// Side of the grid of patches.
    pub(super) fn grid(&self) -> usize {
        self.image / self.patch
    }
}

impl Vit {
    fn check(&self, width: usize) -> Result<(), String> {
        within("the number of heads of the image encoder", self.heads, 1, width.max(1))?;
        for window in self.windows.iter().flatten() {
            within("`vision_config.window_size`", *window, 1, MAX_SIDE as usize)?;
        }
        if !width.is_multiple_of(self.heads) {
            return Err(format!("{} heads do not divide the image encoder's width {width}", self.heads));
        }
        epsilon(self.eps)
    }
}

fn within(name: &str, value: usize, from: usize, to: usize) -> Result<(), String> {
    let fits = (from..=to).contains(&value);
    if fits { Ok(()) } else { Err(format!("{name} is {value}; expected {from} to {to}")) }
}

fn epsilon(eps: f32) -> Result<(), String> {
    let fits = eps > 0.0 && eps < 1.0;
    if fits { Ok(()) } else { Err(format!("`layer_norm_eps` is {eps}; expected more than 0, less than 1")) }
}
