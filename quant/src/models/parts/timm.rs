//! `config.json` of timm: how an architecture was made, and how its pictures are prepared. All of it may be missing: the
//! sizes of the network are those of its tensors.

use serde::Deserialize;

use super::config::{Sides, within};
use super::pictures;
use super::tokens::Grid;
use crate::data::{CropRounding, Filter, PreprocessorConfig, Size};
use crate::models::ModelError;
use crate::models::source::Source;

/// Share of the resized picture that is cropped, where a configuration names none.
const CROP_SHARE: f64 = 0.875;

/// What is read of the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TimmConfig {
    /// How tokens become one vector: `token`, `avg`, or nothing.
    pub(crate) global_pool: Option<String>,
    /// What differs from the architecture's own arguments.
    pub(crate) model_args: ModelArgs,
    pretrained_cfg: Option<Pretrained>,
    /// Older files have the same without the word `pretrained_cfg`.
    #[serde(flatten)]
    flat: Pretrained,
}

/// Arguments of the model.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ModelArgs {
    /// Sides of the image.
    pub(crate) img_size: Option<Sides>,
    /// Heads of a ViT.
    num_heads: Option<serde_json::Value>,
}

/// How pictures are prepared.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Pretrained {
    input_size: Option<[usize; 3]>,
    interpolation: Option<String>,
    crop_pct: Option<f64>,
    crop_mode: Option<String>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
}

impl TimmConfig {
    /// Reads it, if there is one.
    pub(crate) fn read(source: &Source<'_>) -> Result<Self, ModelError> {
        if source.config.is_none() {
            return Ok(Self::default());
        }
        let config: Self = source.parse()?;
        config.check().map_err(|message| source.wrong(message))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if let Some(sides) = self.model_args.img_size {
            sides.check("model_args.img_size")?;
        }
        if let Some([channels, height, width]) = self.pretrained().input_size {
            within("input_size[0]", channels, 3, 3)?;
            Sides::Rectangle([height, width]).check("input_size")?;
        }
        Ok(())
    }

    fn pretrained(&self) -> &Pretrained {
        self.pretrained_cfg.as_ref().unwrap_or(&self.flat)
    }

    /// Height and width of the image, if the file says so.
    pub(crate) fn image(&self) -> Option<(usize, usize)> {
        let trained = self.pretrained().input_size.map(|[_, height, width]| (height, width));
        self.model_args.img_size.map(Sides::pair).or(trained)
    }

    /// Rows and columns of patches of that image.
    pub(crate) fn grid(&self, patch: usize) -> Option<Grid> {
        self.image().map(|(height, width)| (height / patch.max(1), width / patch.max(1)))
    }

    /// Heads of a ViT of a width: said by the file, else by the published models, whose heads are 64 wide save in the
    /// largest, which have 16.
    pub(crate) fn heads(&self, width: usize) -> Result<usize, String> {
        let said = self.model_args.num_heads.as_ref().map(|heads| {
            let number = heads.as_u64().and_then(|heads| usize::try_from(heads).ok());
            number.ok_or_else(|| format!("`model_args.num_heads` is {heads}; expected a number"))
        });
        let heads = match (said, published_heads(width)) {
            (Some(said), _) => said?,
            (None, Some(heads)) => heads,
            _ => return Err(format!("add `model_args.num_heads`: the width {width} does not tell it")),
        };
        super::config::heads_divide("model_args.num_heads", heads, width).map(|()| heads)
    }

    /// The evaluation transform of timm for images of a size: resize, centre crop, normalise.
    pub(crate) fn preprocessor(&self, (height, width): (usize, usize)) -> Result<PreprocessorConfig, String> {
        let pretrained = self.pretrained();
        let filter = match pretrained.interpolation.as_deref() {
            None | Some("bicubic") => Filter::Bicubic,
            Some("bilinear" | "random") => Filter::Bilinear,
            Some("nearest") => Filter::Nearest,
            Some("lanczos") => Filter::Lanczos,
            Some(other) => {
                return Err(format!(
                    "`interpolation` is `{other}`; expected bicubic, bilinear, lanczos or nearest"
                ));
            }
        };
        let share = pretrained.crop_pct.unwrap_or(CROP_SHARE);
        let resized = |side: usize| (side as f64 / share).floor();
        let fits = |side: usize| (1.0..=16_384.0).contains(&resized(side));
        if !(fits(height) && fits(width)) {
            return Err(format!("`crop_pct` is {share}; expected the share of the picture that is kept"));
        }
        let size = match pretrained.crop_mode.as_deref() {
            None | Some("center") if height == width => {
                Size::Shortest { short: resized(height) as u32, longest: None }
            }
            Some("squash") => Size::Exact { height: resized(height) as u32, width: resized(width) as u32 },
            mode => {
                return Err(format!(
                    "`crop_mode` is `{}` for {height}x{width}; expected `center` for a square, or `squash`",
                    mode.unwrap_or("center")
                ));
            }
        };
        let mean = pretrained.mean.unwrap_or(pictures::IMAGENET.0);
        let std = pretrained.std.unwrap_or(pictures::IMAGENET.1);
        if !(mean.iter().all(|x| x.is_finite()) && std.iter().all(|x| x.is_finite() && *x > 0.0)) {
            return Err(format!("`mean` {mean:?}, `std` {std:?}; expected numbers, those of `std` positive"));
        }
        let mut config = pictures::resized(size, filter, (mean, std));
        config.crop = Some((height as u32, width as u32));
        config.crop_rounding = CropRounding::HalfToEven;
        Ok(config)
    }
}

/// Heads of the published models of a width: 64 wide save in the largest, which have 16.
pub(crate) fn published_heads(width: usize) -> Option<usize> {
    match width {
        1280 | 1408 | 1664 => Some(16),
        _ => (width > 0 && width.is_multiple_of(64)).then_some(width / 64),
    }
}

/// Whether a file says nothing of its architecture, so that the names of its tensors must.
pub(crate) fn unnamed(source: &Source<'_>) -> bool {
    source.model_type().is_empty() && source.field("architecture").is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> TimmConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn both_layouts_of_the_file_are_read() {
        let nested = parse(r#"{"pretrained_cfg": {"input_size": [3, 224, 200]}, "num_classes": 10}"#);
        let flat = parse(r#"{"input_size": [3, 224, 200], "classifier": ["head", "head_dist"]}"#);
        assert_eq!((nested.image(), flat.grid(16)), (Some((224, 200)), Some((14, 12))));
        let config =
            parse(r#"{"model_args": {"img_size": 32, "num_heads": 4}, "input_size": [3, 224, 224]}"#);
        assert_eq!((config.image(), config.heads(32)), (Some((32, 32)), Ok(4)));
    }

    #[test]
    fn heads_are_those_of_the_published_models() {
        let none = parse("{}");
        for (width, heads) in [(192, 3), (384, 6), (768, 12), (1024, 16), (1280, 16), (1536, 24)] {
            assert_eq!(none.heads(width), Ok(heads));
        }
        assert!(none.heads(100).unwrap_err().contains("num_heads"));
        // Swin has a list of them, which its tables tell as well.
        assert!(parse(r#"{"model_args": {"num_heads": [2, 4]}}"#).heads(64).is_err());
        assert!(parse(r#"{"model_args": {"num_heads": 0}}"#).heads(64).is_err());
    }

    #[test]
    fn the_evaluation_transform() {
        let json = r#"{"crop_pct": 0.9, "interpolation": "bicubic"}"#;
        let config = parse(json).preprocessor((224, 224)).unwrap();
        assert_eq!(config.resize, Some(Size::Shortest { short: 248, longest: None }));
        assert_eq!((config.crop, config.filter), (Some((224, 224)), Filter::Bicubic));
        for json in [
            r#"{"crop_pct": 0}"#,
            r#"{"crop_pct": -1}"#,
            r#"{"crop_pct": 1e-9}"#,
            r#"{"interpolation": "guess"}"#,
            r#"{"crop_mode": "border"}"#,
            r#"{"std": [0, 1, 1]}"#,
        ] {
            parse(json).preprocessor((224, 224)).unwrap_err();
        }
    }
}
