//! `bitloupe-train art`: redraws `samples/art` from the published emoji packages and photographs.
//!
//! Needs the cargo feature `art`. The folder given with `--from` holds the unpacked packages
//! `@lobehub/fluent-emoji-3d` 1.1.0 (as `fluent-3d`), `@iconify-json/fluent-emoji-flat` 1.2.6 (`fluent-flat`),
//! `@iconify-json/noto` 1.2.9 (`noto`) and `skimage/data` of scikit-image 0.26.0 (`skimage`).

use crate::catalogue::{CATEGORIES, PHOTOS, SPRITE};
use image::{RgbaImage, imageops::FilterType};
use resvg::{tiny_skia, usvg};
use serde_json::Value;
use std::{error::Error, fs, path::Path};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Draws every sprite and photo below `to`.
pub fn draw(from: &Path, to: &Path) -> Result<()> {
    let flat = Icons::open(&from.join("fluent-flat"))?;
    let noto = Icons::open(&from.join("noto"))?;
    for dir in ["d3", "flat", "noto", "photos"] {
        fs::create_dir_all(to.join(dir))?;
    }
    for (name, code) in CATEGORIES {
        let assets = from.join("fluent-3d/assets");
        let path = [assets.join(format!("{code}.webp")), assets.join(format!("{code}-fe0f.webp"))];
        let path = path.iter().find(|p| p.exists()).ok_or_else(|| format!("no 3d drawing of {name}"))?;
        save(&image::open(path)?.into_rgba8(), &to.join(format!("d3/{name}.png")))?;
        save(&flat.render(code)?, &to.join(format!("flat/{name}.png")))?;
        save(&noto.render(code)?, &to.join(format!("noto/{name}.png")))?;
    }
    for name in PHOTOS {
        let file = match name {
            "hubble" => "hubble_deep_field.jpg".to_owned(),
            "rocket" => "rocket.jpg".to_owned(),
            _ => format!("{name}.png"),
        };
        let photo = image::open(from.join("skimage").join(file))?.into_rgb8();
        let (w, h) = photo.dimensions();
        let scale = 288.0 / w.min(h) as f32;
        let size = ((w as f32 * scale).round() as u32, (h as f32 * scale).round() as u32);
        let photo = image::imageops::resize(&photo, size.0, size.1, FilterType::CatmullRom);
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 85).encode_image(&photo)?;
        fs::write(to.join(format!("photos/{name}.jpg")), bytes)?;
    }
    Ok(())
}

/// Crops to the visible part and scales the longer side to [`SPRITE`], averaging premultiplied colours.
fn save(art: &RgbaImage, path: &Path) -> Result<()> {
    let (mut x0, mut y0, mut x1, mut y1) = (u32::MAX, u32::MAX, 0, 0);
    for (x, y, p) in art.enumerate_pixels().filter(|(_, _, p)| p[3] > 12) {
        debug_assert!(p[3] > 12);
        (x0, y0, x1, y1) = (x0.min(x), y0.min(y), x1.max(x), y1.max(y));
    }
    let mut crop = image::imageops::crop_imm(art, x0, y0, x1 + 1 - x0, y1 + 1 - y0).to_image();
    for p in crop.pixels_mut() {
        for c in 0..3 {
            p[c] = (u16::from(p[c]) * u16::from(p[3]) / 255) as u8;
        }
    }
    let (w, h) = crop.dimensions();
    let scale = SPRITE as f32 / w.max(h) as f32;
    let size = ((w as f32 * scale).round().max(1.0) as u32, (h as f32 * scale).round().max(1.0) as u32);
    let mut small = image::imageops::resize(&crop, size.0, size.1, FilterType::CatmullRom);
    for p in small.pixels_mut().filter(|p| p[3] > 0) {
        for c in 0..3 {
            p[c] = (u32::from(p[c]) * 255 / u32::from(p[3])).min(255) as u8;
        }
    }
    small.save(path)?;
    Ok(())
}

/// An Iconify package: SVG bodies by name, names by code point.
struct Icons {
    icons: Value,
    chars: Value,
}

impl Icons {
    fn open(dir: &Path) -> Result<Self> {
        let read = |name| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(dir.join(name))?)?) };
        Ok(Self { icons: read("icons.json")?, chars: read("chars.json")? })
    }

    fn render(&self, code: &str) -> Result<RgbaImage> {
        let long = format!("{code}-fe0f");
        let name = self.chars.get(code).or_else(|| self.chars.get(&long)).and_then(Value::as_str);
        let mut name = name.ok_or_else(|| format!("no icon for {code}"))?;
        if let Some(parent) = self.icons["aliases"][name]["parent"].as_str() {
            name = parent;
        }
        let icon = &self.icons["icons"][name];
        let body = icon["body"].as_str().ok_or_else(|| format!("no drawing for {name}"))?;
        let side = self.icons["width"].as_u64().unwrap_or(128);
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" viewBox=\"0 0 {side} {side}\">{body}</svg>"
        );
        let tree = usvg::Tree::from_str(&svg, &usvg::Options::default())?;
        let target = 4 * SPRITE as u32;
        let mut pixmap = tiny_skia::Pixmap::new(target, target).ok_or("pixmap")?;
        let scale = target as f32 / tree.size().width();
        resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut pixmap.as_mut());
        let mut out = RgbaImage::new(target, target);
        for (p, q) in out.pixels_mut().zip(pixmap.pixels()) {
            let c = q.demultiply();
            *p = image::Rgba([c.red(), c.green(), c.blue(), c.alpha()]);
        }
        Ok(out)
    }
}
