//! `config.json` of the plain vision transformers of Hugging Face, and the limits that every size must keep.

use serde::Deserialize;

use super::activation;
use crate::exec::kernels::activation::Activation;

/// Most pixels on a side of an image, as for pictures.
const MAX_SIDE: usize = 16_384;
/// Most layers of an encoder.
pub(crate) const MAX_LAYERS: usize = 1024;

/// Height and width, written as one number if they are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a number or [height, width]")]
pub(crate) enum Sides {
    /// Both.
    Square(usize),
    /// Height and width.
    Rectangle([usize; 2]),
}

impl Sides {
    /// Height and width.
    pub(crate) fn pair(self) -> (usize, usize) {
        match self {
            Self::Square(side) => (side, side),
            Self::Rectangle([height, width]) => (height, width),
        }
    }

    /// An error unless both are those of an image.
    pub(crate) fn check(self, name: &str) -> Result<(), String> {
        let (height, width) = self.pair();
        within(name, height, 1, MAX_SIDE)?;
        within(name, width, 1, MAX_SIDE)
    }
}

/// What is the same in the configurations of ViT, DeiT, YOLOS and DINOv2. Fields that are absent have the defaults of the
/// classes in `transformers`; those that differ between the classes are `None`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct VitConfig {
    /// Sides of the images that the position table was made for.
    pub(crate) image_size: Option<Sides>,
    /// Side of a patch in pixels.
    pub(crate) patch_size: Option<usize>,
    /// Channels of the image.
    pub(crate) num_channels: usize,
    /// Width.
    pub(crate) hidden_size: usize,
    /// Layers.
    pub(crate) num_hidden_layers: usize,
    /// Heads.
    pub(crate) num_attention_heads: usize,
    /// Activation of the MLP.
    pub(crate) hidden_act: String,
    /// Activation of the pooler.
    pub(crate) pooler_act: String,
    /// Epsilon of every `LayerNorm`.
    pub(crate) layer_norm_eps: Option<f32>,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            image_size: None,
            patch_size: None,
            num_channels: 3,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            hidden_act: "gelu".to_owned(),
            pooler_act: "tanh".to_owned(),
            layer_norm_eps: None,
        }
    }
}

impl VitConfig {
    /// Fills in what is absent and checks every size.
    pub(crate) fn complete(mut self, image: Sides, patch: usize, eps: f32) -> Result<Self, String> {
        let image = *self.image_size.get_or_insert(image);
        let patch = *self.patch_size.get_or_insert(patch);
        let eps = *self.layer_norm_eps.get_or_insert(eps);
        image.check("image_size")?;
        within("patch_size", patch, 1, 1024)?;
        within("num_channels", self.num_channels, 3, 3)?;
        within("hidden_size", self.hidden_size, 1, 1 << 16)?;
        within("num_hidden_layers", self.num_hidden_layers, 1, MAX_LAYERS)?;
        heads_divide("num_attention_heads", self.num_attention_heads, self.hidden_size)?;
        epsilon("layer_norm_eps", eps)
            .and_then(|()| activation::named("hidden_act", &self.hidden_act).map(|_| ()))
            .map(|()| self)
    }

    /// Height and width of the images that the position table was made for.
    pub(crate) fn image(&self) -> (usize, usize) {
        self.image_size.map_or((0, 0), Sides::pair)
    }

    /// Side of a patch.
    pub(crate) fn patch(&self) -> usize {
        self.patch_size.unwrap_or(1)
    }

    /// Rows and columns of patches that the position table was made for.
    pub(crate) fn grid(&self) -> (usize, usize) {
        let (height, width) = self.image();
        (height / self.patch(), width / self.patch())
    }

    /// Epsilon of every `LayerNorm`.
    pub(crate) fn eps(&self) -> f32 {
        self.layer_norm_eps.unwrap_or_default()
    }

    /// Activation of the MLP.
    pub(crate) fn act(&self) -> Activation {
        activation::named("hidden_act", &self.hidden_act).unwrap_or_default()
    }

    /// Shape of the weight of the patch embedding.
    pub(crate) fn patch_weight(&self) -> [usize; 4] {
        [self.hidden_size, self.num_channels, self.patch(), self.patch()]
    }
}

/// An error unless `from <= value <= to`.
pub(crate) fn within(name: &str, value: usize, from: usize, to: usize) -> Result<(), String> {
    if (from..=to).contains(&value) {
        Ok(())
    } else {
        Err(format!("`{name}` is {value}; expected {from} to {to}"))
    }
}

/// An error unless heads of equal width fill `width`.
pub(crate) fn heads_divide(name: &str, heads: usize, width: usize) -> Result<(), String> {
    within(name, heads, 1, width)?;
    if width.is_multiple_of(heads) {
        Ok(())
    } else {
        Err(format!("`{name}` is {heads}, which does not divide the width {width}"))
    }
}

/// An error unless a number can be added to a variance.
pub(crate) fn epsilon(name: &str, eps: f32) -> Result<(), String> {
    if (0.0..=1.0).contains(&eps) { Ok(()) } else { Err(format!("`{name}` is {eps}; expected 0 to 1")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<VitConfig, String> {
        let config: VitConfig = serde_json::from_str(json).map_err(|e| e.to_string())?;
        config.complete(Sides::Square(224), 16, 1e-12)
    }

    #[test]
    fn absent_fields_have_the_defaults_of_the_class() {
        let config = parse("{}").unwrap();
        assert_eq!((config.grid(), config.eps(), config.hidden_size), ((14, 14), 1e-12, 768));
        let config = parse(r#"{"image_size": [48, 64], "patch_size": 8, "layer_norm_eps": 1e-6}"#).unwrap();
        assert_eq!((config.grid(), config.eps()), ((6, 8), 1e-6));
    }

    #[test]
    fn impossible_sizes_name_their_field() {
        for (json, field) in [
            (r#"{"image_size": 0}"#, "image_size"),
            (r#"{"image_size": [16, 1000000000000]}"#, "image_size"),
            (r#"{"patch_size": 0}"#, "patch_size"),
            (r#"{"num_channels": 1000}"#, "num_channels"),
            (r#"{"hidden_size": 0}"#, "hidden_size"),
            (r#"{"num_attention_heads": 0}"#, "num_attention_heads"),
            (r#"{"num_attention_heads": 7}"#, "num_attention_heads"),
            (r#"{"num_hidden_layers": 1000000000}"#, "num_hidden_layers"),
            (r#"{"layer_norm_eps": -1}"#, "layer_norm_eps"),
            (r#"{"hidden_act": "step"}"#, "hidden_act"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(field), "{json}: {error}");
        }
    }
}
