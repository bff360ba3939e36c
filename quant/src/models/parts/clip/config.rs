//! `text_config` and `vision_config`; what is absent has the value of Hugging Face's classes.

use serde::Deserialize;

use crate::exec::kernels::activation::Activation;
use crate::models::ModelError;
use crate::models::parts::activation;
use crate::models::source::Source;

/// More layers than any tower has.
const MAX_LAYERS: usize = 256;
/// The `eos_token_id` of the first published configurations. It is not the number of the end token; with it, the end
/// is where the largest number stands.
const LEGACY_END: i64 = 2;

/// A stack of layers.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct Tower {
    pub(in crate::models) width: usize,
    pub(in crate::models) layers: usize,
    pub(in crate::models) heads: usize,
    /// Epsilon of every `LayerNorm`.
    pub(in crate::models) eps: f32,
    /// Between the two Linear layers of a block.
    pub(in crate::models) activation: Activation,
}

/// Both towers.
#[derive(Debug)]
pub(in crate::models) struct Towers {
    pub(in crate::models) text: Tower,
    /// Tokens that there are.
    pub(in crate::models) vocabulary: usize,
    /// Longest text in tokens.
    pub(in crate::models) positions: usize,
    /// The number of the end token; none where it is the largest one in every text.
    pub(in crate::models) end: Option<f32>,
    pub(in crate::models) vision: Tower,
    pub(in crate::models) channels: usize,
    /// Side of the picture that the position table was made for.
    pub(in crate::models) image: usize,
    /// Side of a patch.
    pub(in crate::models) patch: usize,
}

/// The part of `config.json` that describes the towers. `…_config_dict` is an older form that wins over the other.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    text_config: Option<Fields>,
    text_config_dict: Option<Fields>,
    vision_config: Option<Fields>,
    vision_config_dict: Option<Fields>,
}

/// What is read of a tower.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f32>,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    eos_token_id: Option<i64>,
    num_channels: Option<usize>,
    image_size: Option<usize>,
    patch_size: Option<usize>,
}

impl Towers {
    /// The configuration in the folder, or what the tensors under `prefix` tell.
    pub(in crate::models) fn of(source: &Source<'_>, prefix: &str) -> Result<Self, ModelError> {
        let (text, vision) = if source.config.is_some() {
            let file: File = source.parse()?;
            (
                merged(file.text_config, file.text_config_dict),
                merged(file.vision_config, file.vision_config_dict),
            )
        } else {
            (text_of_tensors(source, prefix)?, vision_of_tensors(source, prefix)?)
        };
        Self::new(&text, &vision).map_err(|message| source.wrong(message))
    }

    fn new(text: &Fields, vision: &Fields) -> Result<Self, String> {
        let end = text.eos_token_id.unwrap_or(49407);
        let towers = Self {
            text: text.tower("text_config", (512, 8))?,
            vocabulary: within("text_config.vocab_size", text.vocab_size.unwrap_or(49408), 1 << 24)?,
            positions: within(
                "text_config.max_position_embeddings",
                text.max_position_embeddings.unwrap_or(77),
                4096,
            )?,
            end: (end != LEGACY_END).then_some(end as f32),
            vision: vision.tower("vision_config", (768, 12))?,
            channels: within("vision_config.num_channels", vision.num_channels.unwrap_or(3), 64)?,
            image: within("vision_config.image_size", vision.image_size.unwrap_or(224), 1 << 14)?,
            patch: within("vision_config.patch_size", vision.patch_size.unwrap_or(32), 1 << 10)?,
        };
        if towers.patch > towers.image {
            let (patch, image) = (towers.patch, towers.image);
            return Err(format!("`vision_config.patch_size` = {patch} exceeds `image_size` = {image}"));
        }
        Ok(towers)
    }

    /// Rows and columns of the position table's grid.
    pub(in crate::models) fn side(&self) -> usize {
        self.image / self.patch
    }
}

impl Fields {
    fn tower(&self, name: &str, (width, heads): (usize, usize)) -> Result<Tower, String> {
        let field = |field: &str| format!("{name}.{field}");
        let width = within(&field("hidden_size"), self.hidden_size.unwrap_or(width), 1 << 16)?;
        let layers = within(&field("num_hidden_layers"), self.num_hidden_layers.unwrap_or(12), MAX_LAYERS)?;
        let heads = within(&field("num_attention_heads"), self.num_attention_heads.unwrap_or(heads), width)?;
        if !width.is_multiple_of(heads) {
            return Err(format!("`{name}.num_attention_heads` = {heads} does not divide the width {width}"));
        }
        let eps = self.layer_norm_eps.unwrap_or(1e-5);
        if !(eps > 0.0 && eps < 1.0) {
            return Err(format!("`{name}.layer_norm_eps` is {eps}; expected more than 0, less than 1"));
        }
        let act = self.hidden_act.as_deref().unwrap_or("quick_gelu");
        let activation = activation::named(&field("hidden_act"), act)?;
        Ok(Tower { width, layers, heads, eps, activation })
    }
}

/// The fields of a tower's two forms.
fn merged(fields: Option<Fields>, old: Option<Fields>) -> Fields {
    let (new, old) = (fields.unwrap_or_default(), old.unwrap_or_default());
    Fields {
        hidden_size: old.hidden_size.or(new.hidden_size),
        num_hidden_layers: old.num_hidden_layers.or(new.num_hidden_layers),
        num_attention_heads: old.num_attention_heads.or(new.num_attention_heads),
        hidden_act: old.hidden_act.or(new.hidden_act),
        layer_norm_eps: old.layer_norm_eps.or(new.layer_norm_eps),
        vocab_size: old.vocab_size.or(new.vocab_size),
        max_position_embeddings: old.max_position_embeddings.or(new.max_position_embeddings),
        eos_token_id: old.eos_token_id.or(new.eos_token_id),
        num_channels: old.num_channels.or(new.num_channels),
        image_size: old.image_size.or(new.image_size),
        patch_size: old.patch_size.or(new.patch_size),
    }
}

/// Sizes of the text tower without a configuration.
fn text_of_tensors(source: &Source<'_>, prefix: &str) -> Result<Fields, ModelError> {
    let shape = |name: &str| source.weights.shape(&format!("{prefix}text_model.{name}"));
    let words = shape("embeddings.token_embedding.weight");
    let positions = shape("embeddings.position_embedding.weight");
    let (Some(&[vocabulary, width]), Some(&[positions, _])) = (words.as_deref(), positions.as_deref()) else {
        return Err(unknown(source, "the shapes of the text embeddings"));
    };
    Ok(Fields {
        vocab_size: Some(vocabulary),
        max_position_embeddings: Some(positions),
        ..tower_of_tensors(source, &format!("{prefix}text_model"), width)?
    })
}

/// Sizes of the vision tower without a configuration.
fn vision_of_tensors(source: &Source<'_>, prefix: &str) -> Result<Fields, ModelError> {
    let shape = |name: &str| source.weights.shape(&format!("{prefix}vision_model.embeddings.{name}.weight"));
    let (patches, positions) = (shape("patch_embedding"), shape("position_embedding"));
    let (Some(&[width, channels, patch, _]), Some(&[positions, _])) =
        (patches.as_deref(), positions.as_deref())
    else {
        return Err(unknown(source, "the shapes of the vision embeddings"));
    };
    Ok(Fields {
        num_channels: Some(channels),
        patch_size: Some(patch),
        // One row is the class token's.
        image_size: Some(positions.saturating_sub(1).isqrt().saturating_mul(patch)),
        ..tower_of_tensors(source, &format!("{prefix}vision_model"), width)?
    })
}

/// Width, layers and heads; those of the published towers have 64 channels a head.
fn tower_of_tensors(source: &Source<'_>, path: &str, width: usize) -> Result<Fields, ModelError> {
    let layer = |i: usize| format!("{path}.encoder.layers.{i}.layer_norm1.weight");
    let layers = (0..MAX_LAYERS).take_while(|&i| source.weights.shape(&layer(i)).is_some()).count();
    if ![512, 768, 1024].contains(&width) {
        return Err(unknown(
            source,
            &format!("`{path}` of width {width}, which OpenAI's models do not have,"),
        ));
    }
    Ok(Fields {
        hidden_size: Some(width),
        num_hidden_layers: Some(layers),
        num_attention_heads: Some(width / 64),
        ..Fields::default()
    })
}

fn unknown(source: &Source<'_>, what: &str) -> ModelError {
    source.wrong(format!(
        "it is missing, and {what} do not tell the sizes of the model; copy it beside the weights"
    ))
}

fn within(name: &str, value: usize, most: usize) -> Result<usize, String> {
    if (1..=most).contains(&value) {
        Ok(value)
    } else {
        Err(format!("`{name}` is {value}; expected 1 to {most}"))
    }
}
