//! How pictures become `pixel_values` where the folder does not say it: the published defaults of the families.

use crate::data::{CropRounding, Filter, PreprocessorConfig, Size};
use crate::models::source::Source;
use crate::models::{ModelError, OwnSizes};

/// Mean and standard deviation of ImageNet, per channel.
pub(crate) const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
/// Values from -1 to 1.
pub(crate) const SYMMETRIC: ([f32; 3], [f32; 3]) = ([0.5; 3], [0.5; 3]);

/// The preprocessor of the folder, or a default one.
pub(crate) fn preprocessor(
    source: &Source<'_>,
    default: PreprocessorConfig,
) -> Result<PreprocessorConfig, ModelError> {
    if source.files.contains(PreprocessorConfig::FILE) {
        Ok(PreprocessorConfig::read(source.files, PreprocessorConfig::FILE)?)
    } else {
        Ok(default)
    }
}

/// Resize to a size and normalise.
pub(crate) fn resized(size: Size, filter: Filter, normalize: ([f32; 3], [f32; 3])) -> PreprocessorConfig {
    PreprocessorConfig {
        resize: Some(size),
        filter,
        multiple_of: 1,
        crop: None,
        crop_rounding: CropRounding::Down,
        rescale: Some(1.0 / 255.0),
        normalize: Some(normalize),
        pad: None,
    }
}

/// The whole picture squeezed into a size.
pub(crate) fn exact((height, width): (usize, usize)) -> Size {
    // Sides are at most 16384, checked with the configuration.
    Size::Exact { height: height as u32, width: width as u32 }
}

/// Height and width of the largest picture, where each has a size of its own that is limited.
pub(crate) fn largest(preprocessor: &PreprocessorConfig) -> Option<(usize, usize)> {
    let side = |side: u32| (side - side % preprocessor.multiple_of.max(1)).max(1) as usize;
    match (preprocessor.pad, preprocessor.crop, preprocessor.resize) {
        (None, None, Some(Size::Shortest { short, longest: Some(longest) })) => {
            Some((side(short.min(longest)), side(longest)))
        }
        (None, None, Some(Size::Longest(longest))) => Some((side(longest), side(longest))),
        (None, None, Some(Size::Within { height, width })) => Some((side(height), side(width))),
        _ => None,
    }
}

/// Whether every picture has a size of its own.
pub(crate) fn own_sizes(preprocessor: &PreprocessorConfig) -> OwnSizes {
    if preprocessor.fixed_size().is_some() { OwnSizes::None } else { OwnSizes::Pictures }
}
