//! From a picture to the tensor that a model reads, as its `preprocessor_config.json` says.
//!
//! Covers the image processors of CLIP, CLIPSeg, ViT, DeiT, SAM, DETR, YOLOS (Hugging Face) and LAVT's
//! torchvision transform: resize, centre crop, rescale, normalise, zero padding, in this order.

use serde_json::{Map, Value};

use super::resize::{check_target, nearest_samples};
use super::{DataError, Files, Filter, RgbImage, resize_mask, resize_rgb};
use crate::eval::metrics::BinaryMask;

/// The size that a picture is brought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Exactly this, whatever the aspect ratio.
    Exact {
        /// Pixels down.
        height: u32,
        /// Pixels across.
        width: u32,
    },
    /// The shorter side becomes `short`, unless the longer would exceed `longest`.
    Shortest {
        /// Length of the shorter side.
        short: u32,
        /// Limit of the longer side.
        longest: Option<u32>,
    },
    /// The longer side becomes this.
    Longest(u32),
    /// As large as fits into this.
    Within {
        /// Pixels down.
        height: u32,
        /// Pixels across.
        width: u32,
    },
}

/// Where a crop lies if it cannot lie in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CropRounding {
    /// Half a pixel to the left and up: Hugging Face.
    Down,
    /// On the even pixel: torchvision, and so timm.
    HalfToEven,
}

/// How pictures become tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct PreprocessorConfig {
    /// Size to resize to.
    pub resize: Option<Size>,
    /// Resampling filter.
    pub filter: Filter,
    /// Resized sides are cut down to a multiple of this (YOLOS: 16).
    pub multiple_of: u32,
    /// `(height, width)` to cut from the centre.
    pub crop: Option<(u32, u32)>,
    /// Where the crop lies if it cannot lie in the middle.
    pub crop_rounding: CropRounding,
    /// Factor from 0..=255, usually 1/255.
    pub rescale: Option<f64>,
    /// Mean and standard deviation per channel, after rescaling.
    pub normalize: Option<([f32; 3], [f32; 3])>,
    /// `(height, width)` to pad to on the right and bottom, with zeros, after normalising.
    pub pad: Option<(u32, u32)>,
}

/// Where the tensor's pixels lie in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// `(width, height)` of the picture.
    pub original: (u32, u32),
    /// `(width, height)` after resizing.
    pub resized: (u32, u32),
    /// `(left, top)` of the crop in the resized picture; negative where the crop is larger.
    pub offset: (i64, i64),
    /// `(width, height)` of the crop (= resized without one).
    pub cropped: (u32, u32),
    /// `(width, height)` of the tensor, padding included.
    pub output: (u32, u32),
}

/// A preprocessed picture: 3 planes of `height * width` values.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// `[3, height, width]`, rows from the top.
    pub values: Vec<f32>,
    /// The way back to the picture; `geometry.output` is `(width, height)`.
    pub geometry: Geometry,
}

impl PreprocessorConfig {
    /// What the file is called in a model's folder.
    pub const FILE: &'static str = "preprocessor_config.json";

    /// Reads a file such as `preprocessor_config.json`.
    pub fn read(files: &dyn Files, name: &str) -> Result<Self, DataError> {
        Self::from_json(&files.display(name), &files.read(name)?)
    }

    /// Reads the JSON. Fields that do not bear on the tensor are passed over; those that do must have the
    /// right type.
    pub fn from_json(path: &str, json: &[u8]) -> Result<Self, DataError> {
        let bad = |reason: String| DataError::Config { path: path.to_owned(), reason };
        let fields: Map<String, Value> =
            serde_json::from_slice(json).map_err(|e| bad(format!("not a JSON object: {e}")))?;
        let fields = Fields { path, fields: &fields };
        let yolos = fields.processor()?.is_some_and(|p| p.starts_with("Yolos"));

        let mut resize = if fields.flag("do_resize", true)? { Some(fields.size("size")?) } else { None };
        // Old files of the detectors: `size` is one number, the limit of the longer side stands beside it.
        if let Some(Size::Shortest { longest: longest @ None, .. }) = &mut resize
            && fields.processor()?.is_some_and(|p| ["Detr", "Yolos"].iter().any(|start| p.starts_with(start)))
        {
            *longest = Some(fields.side("max_size")?.unwrap_or(1333));
        }
        let filter = match fields.number("resample")? {
            None => Filter::Bilinear,
            Some(n) => Filter::from_pillow(n as u64)
                .filter(|_| n.fract() == 0.0 && n >= 0.0)
                .ok_or_else(|| fields.wrong("resample", "a Pillow filter number, 0 to 5"))?,
        };
        let crop = match (fields.flag("do_center_crop", false)?, fields.flag("do_resize", true)?) {
            (false, _) => None,
            (true, _) => match fields.size("crop_size")? {
                Size::Exact { height, width } => Some((height, width)),
                _ => return Err(fields.wrong("crop_size", "{\"height\", \"width\"} or one number")),
            },
        };
        let rescale = if fields.flag("do_rescale", true)? {
            let factor = fields.number("rescale_factor")?.unwrap_or(1.0 / 255.0);
            if !(factor.is_finite() && factor > 0.0) {
                return Err(fields.wrong("rescale_factor", "a positive number"));
            }
            Some(factor)
        } else {
            None
        };
        let normalize = if fields.flag("do_normalize", true)? {
            let (mean, std) = (fields.triple("image_mean")?, fields.triple("image_std")?);
            if std.iter().any(|&s| s <= 0.0) {
                return Err(fields.wrong("image_std", "three positive numbers"));
            }
            Some((mean, std))
        } else {
            None
        };
        let pad = match (fields.flag("do_pad", false)?, fields.present("pad_size")) {
            (true, true) => match fields.size("pad_size")? {
                Size::Exact { height, width } => Some((height, width)),
                _ => return Err(fields.wrong("pad_size", "{\"height\", \"width\"}")),
            },
            // Padding to the largest picture of a batch: nothing to do for one picture.
            _ => None,
        };
        let multiple_of = if yolos { 16 } else { 1 };
        let crop_rounding = CropRounding::Down;
        Ok(Self { resize, filter, multiple_of, crop, crop_rounding, rescale, normalize, pad })
    }

    /// Height and width of every tensor, where they do not depend on the picture.
    pub fn fixed_size(&self) -> Option<(usize, usize)> {
        let (height, width) = match (self.pad, self.crop, self.resize) {
            (Some((h, w)), None, Some(Size::Longest(side))) if side <= h && side <= w => (h, w),
            (None, Some(cropped), _) => cropped,
            (None, None, Some(Size::Exact { height, width })) => (height, width),
            _ => return None,
        };
        Some((height as usize, width as usize))
    }

    /// The same with tensors of one size for all pictures: they keep their shape and are padded, as pictures of a batch are;
    /// where the published processor ignores the shape, or cuts, so does this.
    #[must_use]
    pub fn on_canvas(&self, height: u32, width: u32) -> Self {
        let exact = matches!(self.resize, Some(Size::Exact { .. })) || self.crop.is_some();
        let (size, pad) = if exact {
            (Size::Exact { height, width }, None)
        } else {
            (Size::Within { height, width }, Some((height, width)))
        };
        Self { resize: Some(size), crop: None, pad, multiple_of: 1, ..self.clone() }
    }

    /// The tensor of a picture.
    pub fn apply(&self, image: &RgbImage) -> Result<Pixels, DataError> {
        let geometry = self.geometry(image.width(), image.height());
        let (rw, rh) = geometry.resized;
        let resized = if self.resize.is_some() { &resize_rgb(image, rw, rh, self.filter)? } else { image };
        let (width, height) = (geometry.output.0 as usize, geometry.output.1 as usize);
        let plane = width * height;
        if plane as u64 > super::MAX_PIXELS {
            return Err(DataError::Config {
                path: "preprocessor".to_owned(),
                reason: format!("the tensor would be {width}x{height} pixels; at most 64 megapixels"),
            });
        }
        let mut values = vec![0f32; plane * 3];
        let tables: [Vec<f32>; 3] = std::array::from_fn(|channel| self.table(channel));
        for y in 0..geometry.cropped.1 {
            for x in 0..geometry.cropped.0 {
                let (sx, sy) = (i64::from(x) + geometry.offset.0, i64::from(y) + geometry.offset.1);
                let pixel = match (u32::try_from(sx), u32::try_from(sy)) {
                    (Ok(sx), Ok(sy)) => resized.pixel(sx, sy),
                    _ => [0; 3],
                };
                let at = y as usize * width + x as usize;
                for (channel, (table, value)) in tables.iter().zip(pixel).enumerate() {
                    if let (Some(out), Some(v)) =
                        (values.get_mut(channel * plane + at), table.get(usize::from(value)))
                    {
                        *out = *v;
                    }
                }
            }
        }
        Ok(Pixels { values, geometry })
    }

    /// What each of the 256 sample values becomes. Rescaled in `f64` and rounded once, then normalised in
    /// `f32`, as both torchvision and Hugging Face do.
    fn table(&self, channel: usize) -> Vec<f32> {
        (0..=255u8)
            .map(|v| {
                let value = self.rescale.map_or(f32::from(v), |f| (f64::from(v) * f) as f32);
                match &self.normalize {
                    Some((mean, std)) => (value - mean[channel]) / std[channel],
                    None => value,
                }
            })
            .collect()
    }

    /// Sizes for a picture of `width` x `height`.
    pub fn geometry(&self, width: u32, height: u32) -> Geometry {
        let resized = self.resize.map_or((width, height), |size| size.of(width, height, self.multiple_of));
        let (cropped, offset) = match self.crop {
            Some((ch, cw)) => {
                let start = |whole: u32, part: u32| self.crop_rounding.start(whole, part);
                ((cw, ch), (start(resized.0, cw), start(resized.1, ch)))
            }
            None => (resized, (0, 0)),
        };
        let output = self.pad.map_or(cropped, |(ph, pw)| (pw.max(cropped.0), ph.max(cropped.1)));
        Geometry { original: (width, height), resized, offset, cropped, output }
    }
}

impl CropRounding {
    /// The first of `part` pixels in the middle of `whole`; negative if there are fewer.
    fn start(self, whole: u32, part: u32) -> i64 {
        let left = i64::from(whole) - i64::from(part);
        match self {
            Self::Down => left.div_euclid(2),
            // torchvision rounds `left / 2` to even, but pads pictures that are too small by whole halves.
            Self::HalfToEven if left < 0 => left / 2,
            Self::HalfToEven => left / 2 + i64::from(left % 4 == 3),
        }
    }
}

impl Size {
    /// `(width, height)` for a picture, rounded as the image processors do.
    fn of(self, width: u32, height: u32, multiple_of: u32) -> (u32, u32) {
        let (w, h) = (f64::from(width), f64::from(height));
        let (short, long) = (w.min(h), w.max(h));
        match self {
            Self::Exact { height, width } => (width, height),
            Self::Longest(longest) => {
                let scale = f64::from(longest) / long;
                let side = |s: f64| ((s * scale + 0.5) as u32).max(1);
                (side(w), side(h))
            }
            Self::Within { height, width } => {
                let scale = (f64::from(width) / w).min(f64::from(height) / h);
                let side = |s: f64, limit: u32| ((s * scale).round_ties_even() as u32).clamp(1, limit);
                (side(w, width), side(h, height))
            }
            Self::Shortest { short: target, longest } => {
                let mut target = f64::from(target);
                // Kept before rounding: the longer side is computed from it.
                let mut exact = target;
                if let Some(longest) = longest.map(f64::from)
                    && long / short * target > longest
                {
                    exact = longest * short / long;
                    target = exact.round_ties_even();
                }
                let other = (exact * long / short) as u32;
                let cut = |s: u32| (s - s % multiple_of.max(1)).max(1);
                let (a, b) = (cut(target as u32), cut(other));
                if width <= height { (a, b) } else { (b, a) }
            }
        }
    }
}

impl Geometry {
    /// A picture that is seen as it is.
    pub fn whole(width: u32, height: u32) -> Self {
        let size = (width, height);
        Self { original: size, resized: size, offset: (0, 0), cropped: size, output: size }
    }

    /// A truth mask of the picture on the tensor's grid (nearest sample; outside the picture unset).
    pub fn to_output(&self, mask: &BinaryMask) -> Result<BinaryMask, DataError> {
        let resized = resize_mask(mask, self.resized.0, self.resized.1)?;
        let (left, top) = self.offset;
        BinaryMask::from_fn(self.output.0, self.output.1, |x, y| {
            x < self.cropped.0
                && y < self.cropped.1
                && u32::try_from(i64::from(x) + left)
                    .is_ok_and(|x| u32::try_from(i64::from(y) + top).is_ok_and(|y| resized.get(x, y)))
        })
        .ok_or_else(|| self.mismatch(mask))
    }

    /// A mask that the model made, of any grid over the tensor, at the picture's size (nearest sample; what
    /// was cropped away is unset).
    pub fn to_original(&self, mask: &BinaryMask) -> Result<BinaryMask, DataError> {
        // Three steps, each of which takes single pixels of the one before: only the places of the last are made.
        let made = [self.output, self.resized, self.original];
        made.iter().try_for_each(|&(width, height)| check_target(width, height))?;
        let along = |grid: u32, side: fn((u32, u32)) -> u32, start: i64| -> Vec<usize> {
            let whole = nearest_samples(grid as usize, side(self.output) as usize);
            let cut = |at: usize| {
                let at = usize::try_from(at as i64 - start).ok()?;
                whole.get(at).copied().filter(|_| at < side(self.cropped) as usize)
            };
            let places = nearest_samples(side(self.resized) as usize, side(self.original) as usize);
            places.into_iter().map(|at| cut(at).unwrap_or(usize::MAX)).collect()
        };
        let columns = along(mask.width(), |(width, _)| width, self.offset.0);
        let rows = along(mask.height(), |(_, height)| height, self.offset.1);
        mask.picked(&columns, &rows).ok_or_else(|| self.mismatch(mask))
    }

    /// A point of the picture, in pixels, on the tensor's grid.
    pub fn point(&self, x: f32, y: f32) -> (f32, f32) {
        let along = |v: f32, from: u32, to: u32, off: i64| v * to as f32 / from.max(1) as f32 - off as f32;
        (
            along(x, self.original.0, self.resized.0, self.offset.0),
            along(y, self.original.1, self.resized.1, self.offset.1),
        )
    }

    fn mismatch(&self, mask: &BinaryMask) -> DataError {
        DataError::Mask {
            place: "preprocessor".to_owned(),
            reason: format!("{mask:?} does not fit the grid {}x{}", self.output.0, self.output.1),
        }
    }
}

/// Typed access to the fields of a configuration.
struct Fields<'a> {
    path: &'a str,
    fields: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn wrong(&self, field: &str, expected: &str) -> DataError {
        let found = self.fields.get(field).map_or("nothing".to_owned(), |v| {
            let text = v.to_string();
            if text.chars().count() > 60 { "something else".to_owned() } else { text }
        });
        DataError::Config {
            path: self.path.to_owned(),
            reason: format!("field `{field}`: expected {expected}, found {found}"),
        }
    }

    fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|v| !v.is_null())
    }

    fn present(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    fn flag(&self, field: &str, default: bool) -> Result<bool, DataError> {
        match self.get(field) {
            None => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| self.wrong(field, "true or false")),
        }
    }

    fn number(&self, field: &str) -> Result<Option<f64>, DataError> {
        self.get(field).map(|v| v.as_f64().ok_or_else(|| self.wrong(field, "a number"))).transpose()
    }

    fn text(&self, field: &str) -> Result<Option<&str>, DataError> {
        self.get(field).map(|v| v.as_str().ok_or_else(|| self.wrong(field, "a text"))).transpose()
    }

    fn triple(&self, field: &str) -> Result<[f32; 3], DataError> {
        let wrong = || self.wrong(field, "three numbers, one a channel");
        let values = self.get(field).and_then(Value::as_array).ok_or_else(wrong)?;
        let mut out = [0f32; 3];
        if values.len() != 3 {
            return Err(wrong());
        }
        for (out, value) in out.iter_mut().zip(values) {
            *out = value.as_f64().map(|v| v as f32).filter(|v| v.is_finite()).ok_or_else(wrong)?;
        }
        Ok(out)
    }

    /// The class that wrote the file, if it says so.
    fn processor(&self) -> Result<Option<&str>, DataError> {
        Ok(self.text("image_processor_type")?.or(self.text("feature_extractor_type")?))
    }

    /// Whether the class reads one number as both sides of a square.
    fn gives_squares(&self) -> Result<bool, DataError> {
        let squares = ["ViT", "DeiT", "CLIPSeg", "Beit", "Segformer"];
        Ok(self.processor()?.is_some_and(|name| squares.iter().any(|start| name.starts_with(start))))
    }

    /// A length in pixels.
    fn side(&self, field: &str) -> Result<Option<u32>, DataError> {
        let side = |v: &Value| {
            let v =
                v.as_u64().and_then(|v| u32::try_from(v).ok()).filter(|v| (1..=super::MAX_SIDE).contains(v));
            v.ok_or_else(|| self.wrong(field, "1 to 16384 pixels"))
        };
        self.get(field).map(side).transpose()
    }

    fn size(&self, field: &str) -> Result<Size, DataError> {
        let wrong = || {
            self.wrong(
                field,
                "{\"height\", \"width\"}, {\"shortest_edge\"} or {\"longest_edge\"}, 1 to 16384 pixels",
            )
        };
        let side = |v: &Value| {
            v.as_u64().and_then(|v| u32::try_from(v).ok()).filter(|v| (1..=super::MAX_SIDE).contains(v))
        };
        let value = self.get(field).ok_or_else(wrong)?;
        if value.is_number() {
            // Old files: one number is both sides of `crop_size`, and of the `size` of processors that give squares;
            // the others (CLIP's) mean the shortest edge.
            let n = side(value).ok_or_else(wrong)?;
            return Ok(if field == "size" && !self.gives_squares()? {
                Size::Shortest { short: n, longest: None }
            } else {
                Size::Exact { height: n, width: n }
            });
        }
        let parts = value.as_object().ok_or_else(wrong)?;
        let part = |name: &str| match parts.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(v) => side(v).map(Some).ok_or_else(wrong),
        };
        match (part("height")?, part("width")?, part("shortest_edge")?, part("longest_edge")?) {
            (Some(height), Some(width), None, None) => Ok(Size::Exact { height, width }),
            (None, None, Some(short), longest) => Ok(Size::Shortest { short, longest }),
            (None, None, None, Some(longest)) => Ok(Size::Longest(longest)),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::decode_image;

    const CONFIG: &[u8] = include_bytes!("../../../tests/fixtures/lavt_one_tiny/preprocessor_config.json");
    const INPUTS: &[u8] = include_bytes!("../../../tests/fixtures/lavt_one_tiny/inputs.safetensors");
    const IMAGES: [&[u8]; 2] = [
        include_bytes!("../../../tests/fixtures/lavt_one_tiny/image0.png"),
        include_bytes!("../../../tests/fixtures/lavt_one_tiny/image1.png"),
    ];

    #[test]
    fn equals_the_original_preprocessing_to_the_bit() {
        let config = PreprocessorConfig::from_json("config", CONFIG).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(INPUTS).unwrap();
        let expected = tensors.tensor("pixel_values").unwrap();
        let expected: Vec<f32> =
            expected.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let ours: Vec<f32> = IMAGES
            .iter()
            .flat_map(|bytes| config.apply(&decode_image("image", bytes).unwrap()).unwrap().values)
            .collect();
        assert_eq!(ours.len(), expected.len());
        let different = ours.iter().zip(&expected).filter(|(a, b)| a != b).count();
        let worst = ours.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst == 0.0, "{different} of {} differ, worst {worst}", ours.len());
    }

    #[test]
    fn sizes_as_the_image_processors_compute_them() {
        let shortest = |short, longest| Size::Shortest { short, longest };
        assert_eq!(shortest(800, Some(1333)).of(640, 480, 1), (1066, 800));
        assert_eq!(shortest(800, Some(1333)).of(480, 1200, 1), (533, 1333));
        assert_eq!(shortest(224, None).of(500, 333, 1), (336, 224));
        assert_eq!(shortest(60, None).of(100, 100, 16), (48, 48));
        assert_eq!(Size::Longest(1024).of(640, 427, 1), (1024, 683));
    }

    #[test]
    fn crops_lie_where_their_code_puts_them() {
        let starts = |rounding: CropRounding| [32, 33, 34, 35, 36, 37, 31, 29].map(|n| rounding.start(n, 32));
        assert_eq!(starts(CropRounding::Down), [0, 0, 1, 1, 2, 2, -1, -2]);
        assert_eq!(starts(CropRounding::HalfToEven), [0, 0, 1, 2, 2, 2, 0, -1]);
    }

    #[test]
    fn old_files_of_detectors_limit_the_longer_side() {
        let size = |more: &str| {
            let json = format!(
                r#"{{"feature_extractor_type": "DetrFeatureExtractor", "size": 800{more},
                "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}}"#
            );
            PreprocessorConfig::from_json("c", json.as_bytes()).map(|config| config.resize)
        };
        assert_eq!(size("").unwrap(), Some(Size::Shortest { short: 800, longest: Some(1333) }));
        let limited = size(r#", "max_size": 1000"#).unwrap();
        assert_eq!(limited, Some(Size::Shortest { short: 800, longest: Some(1000) }));
        assert!(size(r#", "max_size": 0"#).unwrap_err().to_string().contains("`max_size`"));
    }

    #[test]
    fn masks_go_there_and_back() {
        let json = br#"{"size": {"shortest_edge": 32}, "resample": 3, "do_center_crop": true,
            "crop_size": 32, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}"#;
        let geometry = PreprocessorConfig::from_json("c", json).unwrap().geometry(128, 64);
        assert_eq!((geometry.resized, geometry.offset, geometry.output), ((64, 32), (16, 0), (32, 32)));
        let mask = BinaryMask::from_fn(128, 64, |x, y| (40..72).contains(&x) && y < 32).unwrap();
        let there = geometry.to_output(&mask).unwrap();
        assert_eq!(there, BinaryMask::from_fn(32, 32, |x, y| (4..20).contains(&x) && y < 16).unwrap());
        assert_eq!(geometry.to_original(&there).unwrap(), mask);
        // In three steps, each of them made: also where the picture was enlarged, cut off and padded.
        let grid = BinaryMask::from_fn(13, 11, |x, y| (x * 7 + y * 5) % 3 == 0).unwrap();
        for (original, resized, offset, cropped, output) in [
            ((90, 70), (64, 32), (16, 0), (32, 32), (32, 32)),
            ((20, 31), (40, 62), (-3, 11), (44, 40), (48, 40)),
            ((64, 64), (13, 11), (0, 0), (13, 11), (13, 11)),
        ] {
            let geometry = Geometry { original, resized, offset, cropped, output };
            let whole = resize_mask(&grid, output.0, output.1).unwrap();
            let uncut = BinaryMask::from_fn(resized.0, resized.1, |x, y| {
                let (x, y) = (i64::from(x) - offset.0, i64::from(y) - offset.1);
                let inside = (0..i64::from(cropped.0)).contains(&x) && (0..i64::from(cropped.1)).contains(&y);
                inside && whole.get(x as u32, y as u32)
            });
            let expected = resize_mask(&uncut.unwrap(), original.0, original.1).unwrap();
            assert_eq!(geometry.to_original(&grid).unwrap(), expected, "{geometry:?}");
        }
        assert_eq!(geometry.point(64.0, 32.0), (16.0, 16.0));
    }

    #[test]
    fn a_canvas_holds_any_picture() {
        let json = br#"{"size": {"shortest_edge": 32, "longest_edge": 50}, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}"#;
        let config = PreprocessorConfig::from_json("c", json).unwrap().on_canvas(40, 60);
        for (picture, resized) in [((100, 50), (60, 30)), ((50, 100), (20, 40)), ((1, 4000), (1, 40))] {
            let geometry = config.geometry(picture.0, picture.1);
            assert_eq!((geometry.resized, geometry.output), (resized, (60, 40)));
        }
    }

    #[test]
    fn padding_is_zero_after_normalising() {
        let json = br#"{"size": {"longest_edge": 4}, "do_pad": true, "pad_size": {"height": 4, "width": 4},
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#;
        let config = PreprocessorConfig::from_json("c", json).unwrap();
        let image = RgbImage::new(4, 2, vec![255; 24]).unwrap();
        let pixels = config.apply(&image).unwrap();
        assert_eq!(pixels.values[..8], [1.0; 8]);
        assert_eq!(pixels.values[8..16], [0.0; 8]);
    }

    #[test]
    fn one_number_is_a_square_or_the_shortest_edge() {
        let read = |kind: &str| {
            let json = format!(
                r#"{{"feature_extractor_type": "{kind}", "size": 352, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}}"#
            );
            PreprocessorConfig::from_json("c", json.as_bytes()).unwrap()
        };
        let (clip, vit) = (read("CLIPFeatureExtractor"), read("ViTFeatureExtractor"));
        assert_eq!(clip.resize, Some(Size::Shortest { short: 352, longest: None }));
        assert_eq!(vit.resize, Some(Size::Exact { height: 352, width: 352 }));
    }

    #[test]
    fn bad_configurations_name_the_field() {
        let cases = [
            ("[]", "JSON object"),
            ("{", "JSON object"),
            ("{}", "`size`"),
            (r#"{"size": {"height": 0, "width": 3}}"#, "`size`"),
            (r#"{"size": {"height": 99999999999, "width": 3}}"#, "`size`"),
            (r#"{"size": 3, "resample": 9}"#, "`resample`"),
            (r#"{"size": 3, "do_resize": "yes"}"#, "`do_resize`"),
            (r#"{"size": 3, "image_mean": [1, 2]}"#, "`image_mean`"),
            (r#"{"size": 3, "image_mean": [1, 2, 3], "image_std": [0, 1, 1]}"#, "`image_std`"),
            (r#"{"size": 3, "rescale_factor": 0}"#, "`rescale_factor`"),
        ];
        for (json, part) in cases {
            let error = PreprocessorConfig::from_json("p.json", json.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("p.json") && error.contains(part), "{json}: {error}");
        }
    }
}
