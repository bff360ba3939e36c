//! A picture with a mask over it, or the difference of two masks, in as many colours as the terminal has.
//!
//! With shades a cell holds two pixels as half-blocks: the picture, the mask tinted into it and outlined. Without
//! shades a cell is one character: the picture as a ramp of luminance, the mask as letters with a hatched inside.

use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

use super::picture::{Coverage, Small, fit};
use super::{Raster, Spot};
use crate::theme::{ColorDepth, Theme};

/// From dark to light.
const RAMP: [char; 10] = [' ', '.', ':', '-', '=', '+', '*', '%', '#', '@'];

/// Which mask is drawn; gives tint and letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tint {
    /// The truth.
    Truth,
    /// The full-precision model's mask.
    Float,
    /// The plan's mask.
    Quantized,
}

impl Tint {
    /// Stands for the mask where there is no colour.
    pub const fn letter(self) -> char {
        match self {
            Self::Truth => 'T',
            Self::Float => 'F',
            Self::Quantized => 'Q',
        }
    }

    const fn rgb(self) -> [f32; 3] {
        match self {
            Self::Truth => [60.0, 220.0, 90.0],
            Self::Float => [50.0, 200.0, 230.0],
            Self::Quantized => [240.0, 110.0, 230.0],
        }
    }

    /// The style of its letter.
    pub const fn style(self, theme: &Theme) -> Style {
        match self {
            Self::Truth => theme.good(),
            Self::Float => theme.float(),
            Self::Quantized => theme.quantized(),
        }
    }
}

/// A mask: its size and whether a pixel (column, row) is inside.
pub struct Mask<'a> {
    /// Columns and rows.
    pub size: (usize, usize),
    /// Whether a pixel is inside.
    pub inside: &'a dyn Fn(usize, usize) -> bool,
}

/// A picture: its size and its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Pixels<'a> {
    /// Columns and rows.
    pub size: (usize, usize),
    /// Three bytes a pixel.
    pub rgb: &'a [u8],
}

/// The picture with at most one mask.
pub fn overlay(picture: Pixels, mask: Option<(&Mask, Tint)>, area: Rect, theme: &Theme) -> Raster {
    if theme.has_shades() && !theme.is_ascii() {
        halves(picture, mask, area)
    } else {
        ramp(picture, mask, area, theme)
    }
}

fn halves(picture: Pixels, mask: Option<(&Mask, Tint)>, area: Rect) -> Raster {
    let (width, height) = fit(picture.size, area.width, area.height.saturating_mul(2));
    let small = Small::of(picture.rgb, picture.size, width, height);
    let mask = mask.map(|(mask, tint)| (Coverage::of(mask.inside, mask.size, width, height), tint));
    let rows = height.div_ceil(2);
    let mut raster = Raster::new(width, rows);
    let pixel = |x: u16, y: u16| -> Color {
        if y >= height {
            return Color::Reset;
        }
        let rgb = small.at(x, y);
        color(match &mask {
            Some((coverage, tint)) if coverage.outline(x, y) => tint.rgb(),
            Some((coverage, tint)) if coverage.inside(x, y) => mix(rgb, tint.rgb(), 0.5),
            // What is outside the mask steps back so that the mask is seen first.
            Some(_) => mix(rgb, [luminance(rgb); 3], 0.5).map(|v| v * 0.75),
            None => rgb,
        })
    };
    for y in 0..rows {
        for x in 0..width {
            raster.set(x, y, Spot::halves(pixel(x, 2 * y), pixel(x, 2 * y + 1)));
        }
    }
    raster
}

fn ramp(picture: Pixels, mask: Option<(&Mask, Tint)>, area: Rect, theme: &Theme) -> Raster {
    let (width, height) = cells(picture.size, area);
    let small = Small::of(picture.rgb, picture.size, width, height);
    let mask = mask.map(|(mask, tint)| (Coverage::of(mask.inside, mask.size, width, height), tint));
    let mut raster = Raster::new(width, height);
    for y in 0..height {
        for x in 0..width {
            let shade = shade(small.at(x, y));
            let spot = match &mask {
                Some((coverage, tint)) if coverage.outline(x, y) => {
                    Spot::new(tint.letter(), tint.style(theme).patch(theme.strong()))
                }
                Some((coverage, tint)) if coverage.inside(x, y) => {
                    let hatch = if (x + y) % 2 == 0 { '/' } else { shade };
                    Spot::new(hatch, tint.style(theme))
                }
                _ => Spot::new(shade, theme.dim()),
            };
            raster.set(x, y, spot);
        }
    }
    raster
}

/// What the plan lost and added against the full-precision mask, over a faint picture.
pub fn difference(picture: Pixels, float: &Mask, quantized: &Mask, area: Rect, theme: &Theme) -> Raster {
    let (width, height) = cells(picture.size, area);
    let small = Small::of(picture.rgb, picture.size, width, height);
    let parts = |lost: bool, added: bool| {
        move |x: usize, y: usize| {
            let (before, after) = ((float.inside)(x, y), (quantized.inside)(x, y));
            if lost {
                before && !after
            } else if added {
                after && !before
            } else {
                before && after
            }
        }
    };
    let lost = Coverage::of(parts(true, false), float.size, width, height);
    let added = Coverage::of(parts(false, true), float.size, width, height);
    let kept = Coverage::of(parts(false, false), float.size, width, height);
    let mut raster = Raster::new(width, height);
    for y in 0..height {
        for x in 0..width {
            let at = |coverage: &Coverage| coverage.at(i32::from(x), i32::from(y));
            let (gone, new, same) = (at(&lost), at(&added), at(&kept));
            let most = gone.max(new).max(same);
            let base = small.at(x, y);
            // A wrong pixel is worth showing even where it covers little of a cell.
            let (ch, style, tint) = if gone.max(new) >= 0.2 && gone >= new {
                (theme.glyphs.lost, theme.bad().patch(theme.strong()), Some([170.0, 30.0, 30.0]))
            } else if gone.max(new) >= 0.2 {
                (theme.glyphs.added, theme.warn().patch(theme.strong()), Some([170.0, 130.0, 0.0]))
            } else if most >= 0.5 {
                (theme.glyphs.kept, theme.float(), Some([30.0, 110.0, 130.0]))
            } else if theme.has_shades() {
                (' ', Style::new(), None)
            } else {
                (shade(base), theme.dim(), None)
            };
            let spot = if theme.has_shades() {
                let grey = [luminance(base) * 0.45; 3];
                let back = tint.map_or(grey, |tint| mix(grey, tint, 0.7));
                Spot::new(ch, Style::new().fg(Color::Rgb(255, 255, 255)).bg(color(back)))
            } else {
                Spot::new(ch, style)
            };
            raster.set(x, y, spot);
        }
    }
    raster
}

/// Legend of [`difference`]: character, style, meaning.
pub fn legend(theme: &Theme) -> [(char, Style, &'static str); 3] {
    [
        (theme.glyphs.lost, theme.bad(), "lost"),
        (theme.glyphs.added, theme.warn(), "added"),
        (theme.glyphs.kept, theme.float(), "kept"),
    ]
}

/// The cells a picture takes when a cell is one pixel: cells are twice as high as wide.
fn cells(size: (usize, usize), area: Rect) -> (u16, u16) {
    let (width, height) = fit(size, area.width, area.height.saturating_mul(2));
    (width, height.div_ceil(2).min(area.height))
}

fn shade(rgb: [f32; 3]) -> char {
    let step = (luminance(rgb) / 256.0 * RAMP.len() as f32) as usize;
    RAMP.get(step).copied().unwrap_or('@')
}

fn luminance([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

fn mix(a: [f32; 3], b: [f32; 3], share: f32) -> [f32; 3] {
    let part = |x: f32, y: f32| x + (y - x) * share;
    let ([ar, ag, ab], [br, bg, bb]) = (a, b);
    [part(ar, br), part(ag, bg), part(ab, bb)]
}

fn color([r, g, b]: [f32; 3]) -> Color {
    Color::Rgb(r.round() as u8, g.round() as u8, b.round() as u8)
}

/// Whether the letters of [`Tint`] stand in for tints at this depth.
pub const fn uses_letters(theme: &Theme) -> bool {
    theme.is_ascii() || matches!(theme.depth, ColorDepth::None | ColorDepth::Ansi16)
}
