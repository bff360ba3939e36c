//! Loads the committed drawings and photographs.

use crate::catalogue::{CATEGORIES, PHOTOS, STYLES};
use std::{error::Error, path::Path};

/// A drawing with premultiplied colours, `[h, w, 4]`, 0-255, in three sizes (full, half, quarter).
pub struct Sprite {
    levels: Vec<Level>,
}

struct Level {
    w: usize,
    h: usize,
    pixels: Vec<[f32; 4]>,
}

/// An RGB picture.
pub struct Photo {
    /// Width.
    pub w: usize,
    /// Height.
    pub h: usize,
    /// Interleaved bytes.
    pub pixels: Vec<u8>,
}

/// Everything scenes are made of.
pub struct Art {
    /// By category, then style.
    pub sprites: Vec<Vec<Sprite>>,
    /// Backgrounds.
    pub photos: Vec<Photo>,
}

impl Level {
    fn half(&self) -> Self {
        let (w, h) = (self.w.div_ceil(2), self.h.div_ceil(2));
        let at = |x: usize, y: usize| {
            if x < self.w && y < self.h { self.pixels[y * self.w + x] } else { [0.0; 4] }
        };
        let mut pixels = Vec::with_capacity(w * h);
        for y in 0..h {
            for x in 0..w {
                let four =
                    [at(2 * x, 2 * y), at(2 * x + 1, 2 * y), at(2 * x, 2 * y + 1), at(2 * x + 1, 2 * y + 1)];
                pixels.push(std::array::from_fn(|c| four.iter().map(|p| p[c]).sum::<f32>() / 4.0));
            }
        }
        Self { w, h, pixels }
    }
}

impl Sprite {
    /// Width and height at full size.
    pub fn size(&self) -> (f32, f32) {
        (self.levels[0].w as f32, self.levels[0].h as f32)
    }

    /// A copy with its hue replaced: luminance, stretched to its 3rd to 97th percentile, times the colour.
    pub fn tinted(&self, colour: [f32; 3], blend: f32) -> Self {
        let luminance = |p: &[f32; 4]| (0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2]) * 255.0 / p[3].max(1.0);
        let mut all: Vec<f32> =
            self.levels[0].pixels.iter().filter(|p| p[3] > 128.0).map(luminance).collect();
        all.sort_by(f32::total_cmp);
        let at = |share: f32| all[(share * (all.len() - 1) as f32) as usize];
        let (low, high) = (at(0.03), at(0.97).max(at(0.03) + 1.0));
        let levels = self.levels.iter().map(|level| {
            let pixels = level.pixels.iter().map(|p| {
                let l = ((luminance(p) - low) / (high - low)).clamp(0.0, 1.0);
                // Dark strokes stay darker than light areas, but no part loses the colour.
                let l = (0.35 + 0.75 * l) * p[3] / 255.0;
                let mix = |c: usize| (p[c] * (1.0 - blend) + colour[c] * l * blend).min(p[3]);
                [mix(0), mix(1), mix(2), p[3]]
            });
            Level { w: level.w, h: level.h, pixels: pixels.collect() }
        });
        Self { levels: levels.collect() }
    }

    /// Bilinear sample at full-size coordinates, from the level that suits the drawing scale.
    pub fn sample(&self, x: f32, y: f32, scale: f32) -> [f32; 4] {
        let i = usize::from(scale < 0.7) + usize::from(scale < 0.35);
        let level = &self.levels[i];
        let f = 1.0 / (1 << i) as f32;
        let (x, y) = (x * f - 0.5, y * f - 0.5);
        let (x0, y0) = (x.floor(), y.floor());
        let (tx, ty) = (x - x0, y - y0);
        let at = |dx: i32, dy: i32| {
            let (x, y) = (x0 as i32 + dx, y0 as i32 + dy);
            let inside = x >= 0 && y >= 0 && (x as usize) < level.w && (y as usize) < level.h;
            if inside { level.pixels[y as usize * level.w + x as usize] } else { [0.0; 4] }
        };
        let (a, b, c, d) = (at(0, 0), at(1, 0), at(0, 1), at(1, 1));
        std::array::from_fn(|i| {
            (a[i] * (1.0 - tx) + b[i] * tx) * (1.0 - ty) + (c[i] * (1.0 - tx) + d[i] * tx) * ty
        })
    }
}

impl Art {
    /// Reads the folder `samples/art`.
    pub fn open(dir: &Path) -> Result<Self, Box<dyn Error>> {
        let mut sprites = Vec::new();
        for (name, _) in CATEGORIES {
            let mut styles = Vec::new();
            for style in STYLES {
                let image = image::open(dir.join(style).join(format!("{name}.png")))?.into_rgba8();
                let pixels = image.pixels().map(|p| {
                    let a = f32::from(p[3]);
                    let c = |i: usize| f32::from(p[i]) * a / 255.0;
                    [c(0), c(1), c(2), a]
                });
                let full =
                    Level { w: image.width() as usize, h: image.height() as usize, pixels: pixels.collect() };
                let half = full.half();
                let quarter = half.half();
                styles.push(Sprite { levels: vec![full, half, quarter] });
            }
            sprites.push(styles);
        }
        let mut photos = Vec::new();
        for name in PHOTOS {
            let image = image::open(dir.join("photos").join(format!("{name}.jpg")))?.into_rgb8();
            let (w, h) = (image.width() as usize, image.height() as usize);
            photos.push(Photo { w, h, pixels: image.into_raw() });
        }
        Ok(Self { sprites, photos })
    }
}
