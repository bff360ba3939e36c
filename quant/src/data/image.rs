//! Decoding pictures: PNG, JPEG and WebP to 8-bit RGB.
//!
//! As PIL's `convert("RGB")`, which the published preprocessing starts from: transparency is dropped (the
//! colour under it stays), grey and palette pictures become RGB. EXIF orientation is **not** applied, as the
//! original data loaders do not apply it. 16-bit samples are scaled to 8 bits.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::DataError;
use crate::eval::metrics::BinaryMask;

/// Largest picture file, in bytes.
pub const MAX_IMAGE_FILE: usize = 256 << 20;
/// Longest side of a picture, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// Most pixels of a picture.
pub const MAX_PIXELS: u64 = 64 << 20;
/// Most memory that a decoder may take, in bytes.
const MAX_DECODE_BYTES: u64 = 512 << 20;

/// An 8-bit RGB picture: `height` rows of `width` pixels of 3 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl std::fmt::Debug for RgbImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RgbImage({}x{})", self.width, self.height)
    }
}

impl RgbImage {
    /// From interleaved bytes, `height * width * 3` of them; `None` when the number does not fit.
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Option<Self> {
        let expected = (width as usize).checked_mul(height as usize)?.checked_mul(3)?;
        (pixels.len() == expected && expected > 0).then_some(Self { width, height, pixels })
    }

    /// Pixels across.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Interleaved bytes, rows from the top.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// One pixel; black outside.
    pub fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        if x >= self.width || y >= self.height {
            return [0; 3];
        }
        let at = (y as usize * self.width as usize + x as usize) * 3;
        self.pixels.get(at..at + 3).and_then(|p| p.try_into().ok()).unwrap_or([0; 3])
    }
}

/// Decodes a picture; `path` is for messages.
pub fn decode_image(path: &str, bytes: &[u8]) -> Result<RgbImage, DataError> {
    let (decoded, _) = decode(path, bytes)?;
    let rgb = decoded.into_rgb8();
    let (width, height) = rgb.dimensions();
    Ok(RgbImage { width, height, pixels: rgb.into_raw() })
}

/// Decodes a mask picture. A pixel belongs to the mask when it is not black, so 0/1, 0/255 and palette masks
/// all read; in a JPEG, whose blacks are noisy, when its brightness exceeds 127.
pub fn decode_mask(path: &str, bytes: &[u8]) -> Result<BinaryMask, DataError> {
    let (decoded, format) = decode(path, bytes)?;
    let threshold = if format == ImageFormat::Jpeg { 127 } else { 0 };
    let rgb = decoded.into_rgb8();
    let (width, height) = rgb.dimensions();
    let bits = rgb.pixels().map(|p| p.0.iter().any(|&v| v > threshold));
    BinaryMask::from_bits(width, height, bits)
        .ok_or_else(|| DataError::Mask { place: path.to_owned(), reason: "too large".to_owned() })
}

fn decode(path: &str, bytes: &[u8]) -> Result<(DynamicImage, ImageFormat), DataError> {
    if bytes.len() > MAX_IMAGE_FILE {
        return Err(DataError::TooLarge {
            path: path.to_owned(),
            size: bytes.len() as u64,
            limit: MAX_IMAGE_FILE as u64,
            unit: "bytes",
        });
    }
    let unreadable = |reason: String| DataError::Image { path: path.to_owned(), reason };
    if bytes.is_empty() {
        return Err(unreadable("the file is empty".to_owned()));
    }
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| unreadable(e.to_string()))?;
    let format = match reader.format() {
        Some(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => format,
        Some(other) => return Err(unreadable(format!("this is {}", other.to_mime_type()))),
        None => return Err(unreadable("its first bytes are of no known format".to_owned())),
    };
    // The size is judged below with a message of our own; here only memory is bounded.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODE_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|e| unreadable(e.to_string()))?;
    let (width, height) = decoder.dimensions();
    let bad_size = |expected| DataError::ImageSize { path: path.to_owned(), width, height, expected };
    if width == 0 || height == 0 {
        return Err(bad_size("both sides must be at least 1"));
    }
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(bad_size("at most 16384 a side and 64 megapixels are read; scale it down"));
    }
    if decoder.total_bytes() > MAX_DECODE_BYTES {
        return Err(bad_size("decoding it would take more than 512 MiB; scale it down"));
    }
    let decoded = DynamicImage::from_decoder(decoder).map_err(|e| unreadable(e.to_string()))?;
    Ok((decoded, format))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURE: &[u8] = include_bytes!("../../../tests/fixtures/lavt_one_tiny/image0.png");

    /// A PNG with this header and nothing after it.
    fn header_only(width: u32, height: u32) -> Vec<u8> {
        let mut png = PICTURE[..33].to_vec();
        png[16..20].copy_from_slice(&width.to_be_bytes());
        png[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        png.extend_from_slice(&PICTURE[33..]);
        png
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8)
                .fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 })
        })
    }

    #[test]
    fn a_picture_decodes() {
        let image = decode_image("image0.png", PICTURE).unwrap();
        assert_eq!((image.width(), image.height()), (71, 53));
        assert_eq!(image.pixels().len(), 71 * 53 * 3);
        assert_eq!(image.pixel(71, 0), [0; 3]);
        // The same header written by the helper decodes: its check sums are right.
        assert_eq!(decode_image("again.png", &header_only(71, 53)).unwrap(), image);
    }

    #[test]
    fn bad_pictures_are_errors_that_name_the_file() {
        let jpeg_start = [0xFF, 0xD8, 0xFF, 0xE0, 0, 16];
        let cases: [(&str, Vec<u8>, &str); 8] = [
            ("empty.png", vec![], "empty"),
            ("text.png", b"hello, I am no picture".to_vec(), "no known format"),
            ("gif.png", b"GIF89a......".to_vec(), "image/gif"),
            ("cut.png", PICTURE[..PICTURE.len() / 2].to_vec(), "readable"),
            ("cut.jpg", jpeg_start.to_vec(), "readable"),
            ("none.png", header_only(0, 5), "none.png"),
            ("wide.png", header_only(100_000, 1), "16384"),
            ("huge.png", header_only(16_000, 16_000), "megapixels"),
        ];
        for (name, bytes, part) in cases {
            let error = decode_image(name, &bytes).unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains(part), "{name}: {error}");
        }
    }

    #[test]
    fn alpha_is_dropped_and_masks_are_not_black() {
        let mut rgba = image::RgbaImage::new(3, 1);
        rgba.put_pixel(0, 0, image::Rgba([10, 20, 30, 0]));
        rgba.put_pixel(1, 0, image::Rgba([0, 0, 1, 255]));
        let mut bytes = Cursor::new(Vec::new());
        rgba.write_to(&mut bytes, ImageFormat::Png).unwrap();
        let bytes = bytes.into_inner();
        assert_eq!(decode_image("a.png", &bytes).unwrap().pixel(0, 0), [10, 20, 30]);
        let mask = decode_mask("a.png", &bytes).unwrap();
        assert_eq!([mask.get(0, 0), mask.get(1, 0), mask.get(2, 0)], [true, true, false]);
    }

    #[test]
    fn damaged_pictures_never_panic() {
        let mut jpeg = Cursor::new(Vec::new());
        let rgb = image::load_from_memory(PICTURE).unwrap().into_rgb8();
        rgb.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
        let mut webp = Cursor::new(Vec::new());
        rgb.write_to(&mut webp, ImageFormat::WebP).unwrap();
        for good in [PICTURE, &jpeg.into_inner(), &webp.into_inner()] {
            assert!(decode_image("good", good).is_ok());
            let mut state = 1u32;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as usize
            };
            for _ in 0..300 {
                let mut bytes = good.to_vec();
                for _ in 0..=next() % 4 {
                    // Mostly the headers, where sizes are.
                    let span = if next() % 2 == 0 { 64 } else { bytes.len() };
                    let at = next() % span.min(bytes.len());
                    bytes[at] = next() as u8;
                }
                let _ = decode_image("damaged", &bytes);
            }
        }
    }
}
