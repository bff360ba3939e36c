//! Resampling as PIL does it, to the bit.
//!
//! The published preprocessing (torchvision `Resize` on a PIL picture, Hugging Face image processors) resizes
//! 8-bit pictures with Pillow's `Image.resize`: a separable, antialiased convolution in fixed point, rounded to
//! 8 bits after each pass (Pillow, `libImaging/Resample.c`). Anything else, even an exact real-valued filter,
//! differs by one step in a tenth of the pixels.
//!
//! Before Pillow 13 the first pass always went across; 13 goes down first where the height shrinks much more
//! than the width (pull request 9549). The order here is that of 13, as seen in what it made of 22 pictures;
//! tall pictures may therefore differ by one step from what older versions made.

use super::{DataError, RgbImage};
use crate::eval::metrics::BinaryMask;

/// Fraction bits of the coefficients: 32 less 8 for the sample and 2 for overshoot.
const PRECISION_BITS: u32 = 22;

/// A resampling filter; the numbers are Pillow's and Hugging Face's `resample`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// 0: the sample at the centre.
    Nearest,
    /// 1: windowed sinc over 3 samples.
    Lanczos,
    /// 2: triangle.
    Bilinear,
    /// 3: Catmull-Rom cubic (a = -0.5).
    Bicubic,
    /// 4: box.
    Box,
    /// 5: Hamming-windowed sinc over 1 sample.
    Hamming,
}

impl Filter {
    /// The filter with Pillow's number.
    pub fn from_pillow(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Nearest,
            1 => Self::Lanczos,
            2 => Self::Bilinear,
            3 => Self::Bicubic,
            4 => Self::Box,
            5 => Self::Hamming,
            _ => return None,
        })
    }

    /// Half width in samples at scale 1.
    fn support(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let a = x.abs();
        match self {
            Self::Nearest | Self::Box => f64::from(x > -0.5 && x <= 0.5),
            Self::Bilinear => (1.0 - a).max(0.0),
            Self::Hamming if a == 0.0 => 1.0,
            Self::Hamming if a >= 1.0 => 0.0,
            Self::Hamming => {
                let p = a * std::f64::consts::PI;
                p.sin() / p * (0.54 + 0.46 * p.cos())
            }
            Self::Bicubic => {
                const A: f64 = -0.5;
                if a < 1.0 {
                    ((A + 2.0) * a - (A + 3.0)) * a * a + 1.0
                } else if a < 2.0 {
                    (((a - 5.0) * a + 8.0) * a - 4.0) * A
                } else {
                    0.0
                }
            }
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let p = x * std::f64::consts::PI;
    p.sin() / p
}

/// The window and fixed-point weights of one output sample.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

fn windows(from: usize, to: usize, filter: Filter) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let one = f64::from(1u32 << PRECISION_BITS);
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            // `as` truncates towards zero, as the C cast does, and saturates below zero.
            let start = ((centre - support + 0.5) as usize).min(from);
            let end = ((centre + support + 0.5) as usize).clamp(start, from);
            let weights: Vec<f64> =
                (start..end).map(|x| filter.weight((x as f64 - centre + 0.5) * (1.0 / stretch))).collect();
            let total: f64 = weights.iter().sum();
            let total = if total == 0.0 { 1.0 } else { total };
            let weights = weights
                .iter()
                .map(|w| {
                    let fixed = w / total * one;
                    (if fixed < 0.0 { fixed - 0.5 } else { fixed + 0.5 }) as i32
                })
                .collect();
            Window { start, weights }
        })
        .collect()
}

fn to_u8(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// `rows` rows of `from` RGB pixels to rows of `to` pixels.
fn resize_across(pixels: &[u8], from: usize, to: usize, filter: Filter) -> Vec<u8> {
    let windows = windows(from, to, filter);
    let mut out = Vec::with_capacity(pixels.len() / from * to);
    for row in pixels.chunks_exact(from * 3) {
        for window in &windows {
            let mut sum = [HALF; 3];
            for (pixel, &weight) in row.chunks_exact(3).skip(window.start).zip(&window.weights) {
                for (sum, &value) in sum.iter_mut().zip(pixel) {
                    *sum = sum.wrapping_add(i32::from(value).wrapping_mul(weight));
                }
            }
            out.extend(sum.map(to_u8));
        }
    }
    out
}

/// Rows of `stride` bytes to `to` rows.
fn resize_down(pixels: &[u8], stride: usize, to: usize, filter: Filter) -> Vec<u8> {
    let windows = windows(pixels.len() / stride, to, filter);
    let mut out = Vec::with_capacity(stride * to);
    let mut sums = vec![0i32; stride];
    for window in &windows {
        sums.fill(HALF);
        for (row, &weight) in pixels.chunks_exact(stride).skip(window.start).zip(&window.weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum = sum.wrapping_add(i32::from(value).wrapping_mul(weight));
            }
        }
        out.extend(sums.iter().map(|&sum| to_u8(sum)));
    }
    out
}

/// For each output sample the input sample at its centre. Pillow adds the step up, so rounding is its own.
pub(super) fn nearest_samples(from: usize, to: usize) -> Vec<usize> {
    let step = from as f64 / to as f64;
    let mut at = step * 0.5;
    (0..to)
        .map(|_| {
            let sample = (at as usize).min(from.saturating_sub(1));
            at += step;
            sample
        })
        .collect()
}

/// Resizes a picture to `width` x `height`, as Pillow's `Image.resize`.
pub fn resize_rgb(image: &RgbImage, width: u32, height: u32, filter: Filter) -> Result<RgbImage, DataError> {
    check_target(width, height)?;
    let (from_w, from_h) = (image.width() as usize, image.height() as usize);
    let (to_w, to_h) = (width as usize, height as usize);
    let pixels = if filter == Filter::Nearest {
        let columns = nearest_samples(from_w, to_w);
        let mut out = Vec::with_capacity(to_w * to_h * 3);
        for y in nearest_samples(from_h, to_h) {
            for &x in &columns {
                out.extend(image.pixel(x as u32, y as u32));
            }
        }
        out
    } else {
        let across = |pixels: Vec<u8>| {
            if from_w == to_w { pixels } else { resize_across(&pixels, from_w, to_w, filter) }
        };
        let down = |pixels: Vec<u8>, width: usize| {
            if from_h == to_h { pixels } else { resize_down(&pixels, width * 3, to_h, filter) }
        };
        let pixels = image.pixels().to_vec();
        // Signed: a side that grows loses a negative number of samples.
        let lost = |from: usize, to: usize| from as i64 - to as i64;
        if from_h > to_h && lost(from_h, to_h) > 2 * lost(from_w, to_w) {
            across(down(pixels, from_w))
        } else {
            down(across(pixels), to_w)
        }
    };
    RgbImage::new(width, height, pixels).ok_or_else(|| target_error(width, height))
}

/// Resizes a mask by taking the sample at the centre, as Pillow's `NEAREST`.
pub fn resize_mask(mask: &BinaryMask, width: u32, height: u32) -> Result<BinaryMask, DataError> {
    check_target(width, height)?;
    let columns = nearest_samples(mask.width() as usize, width as usize);
    let rows = nearest_samples(mask.height() as usize, height as usize);
    mask.picked(&columns, &rows).ok_or_else(|| target_error(width, height))
}

pub(super) fn check_target(width: u32, height: u32) -> Result<(), DataError> {
    let most = super::MAX_PIXELS;
    if width == 0
        || height == 0
        || width > super::MAX_SIDE
        || height > super::MAX_SIDE
        || u64::from(width) * u64::from(height) > most
    {
        return Err(target_error(width, height));
    }
    Ok(())
}

fn target_error(width: u32, height: u32) -> DataError {
    DataError::ImageSize {
        path: "resize".to_owned(),
        width,
        height,
        expected: "resizing goes to 1..=16384 a side and 64 megapixels",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: u32, height: u32, value: impl Fn(u32, u32) -> u8) -> RgbImage {
        let mut pixels = Vec::new();
        for y in 0..height {
            for x in 0..width {
                pixels.extend([value(x, y); 3]);
            }
        }
        RgbImage::new(width, height, pixels).unwrap()
    }

    #[test]
    fn a_flat_picture_stays_flat_under_every_filter() {
        let image = grey(37, 23, |_, _| 93);
        for number in 0..6 {
            let filter = Filter::from_pillow(number).unwrap();
            for (w, h) in [(37, 23), (10, 7), (80, 61), (1, 1), (300, 2)] {
                let out = resize_rgb(&image, w, h, filter).unwrap();
                assert!(out.pixels().iter().all(|&v| v == 93), "{filter:?} {w}x{h}");
            }
        }
    }

    #[test]
    fn known_values_of_pillow() {
        // Halving 0, 10, 20, 30 with the triangle stretched over 4 samples: weights 3/8 3/8 1/8 (edge: /7).
        let image = grey(4, 1, |x, _| (x * 10) as u8);
        let out = resize_rgb(&image, 2, 1, Filter::Bilinear).unwrap();
        assert_eq!([out.pixel(0, 0)[0], out.pixel(1, 0)[0]], [7, 23]);
        let out = resize_rgb(&image, 2, 1, Filter::Box).unwrap();
        assert_eq!([out.pixel(0, 0)[0], out.pixel(1, 0)[0]], [5, 25]);
        let out = resize_rgb(&image, 2, 1, Filter::Nearest).unwrap();
        assert_eq!([out.pixel(0, 0)[0], out.pixel(1, 0)[0]], [10, 30]);
    }

    #[test]
    fn masks_keep_their_blocks() {
        let mask = BinaryMask::from_fn(4, 4, |x, y| x < 2 && y >= 2).unwrap();
        let large = resize_mask(&mask, 8, 8).unwrap();
        assert_eq!(large, BinaryMask::from_fn(8, 8, |x, y| x < 4 && y >= 4).unwrap());
        assert_eq!(resize_mask(&large, 4, 4).unwrap(), mask);
    }

    #[test]
    fn impossible_targets_are_errors() {
        let image = grey(2, 2, |_, _| 0);
        for (w, h) in [(0, 1), (1, 0), (20_000, 1), (16_384, 16_384)] {
            assert!(resize_rgb(&image, w, h, Filter::Bilinear).is_err());
        }
    }
}
