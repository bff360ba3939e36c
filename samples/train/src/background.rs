//! Backgrounds: crops of photographs, or gradients with soft noise, stripes and checks.

use crate::rng::Rng;
use crate::sprites::{Art, Photo};

/// Draws `[side, side]` RGB floats.
pub fn draw(art: &Art, rng: &mut Rng, side: usize) -> Vec<[f32; 3]> {
    let mut out = if rng.chance(0.3) { crop(rng.pick(&art.photos), rng, side) } else { synthetic(rng, side) };
    let grain = rng.range(0.0, 7.0);
    for p in &mut out {
        let n = rng.normal() * grain;
        for c in p {
            *c = (*c + n).clamp(0.0, 255.0);
        }
    }
    out
}

fn crop(photo: &Photo, rng: &mut Rng, side: usize) -> Vec<[f32; 3]> {
    let limit = photo.w.min(photo.h) as f32;
    let span = rng.range(0.45, 1.0) * limit;
    let (x0, y0) = (rng.range(0.0, photo.w as f32 - span), rng.range(0.0, photo.h as f32 - span));
    let flip = rng.chance(0.5);
    let contrast = rng.range(0.4, 0.9);
    let level = rng.range(70.0, 175.0);
    let step = span / side as f32;
    let mut out = Vec::with_capacity(side * side);
    for y in 0..side {
        for x in 0..side {
            let x = if flip { side - 1 - x } else { x };
            let at = |x: f32, y: f32, c: usize| {
                let (x, y) = ((x as usize).min(photo.w - 1), (y as usize).min(photo.h - 1));
                f32::from(photo.pixels[(y * photo.w + x) * 3 + c])
            };
            let (px, py) = (x0 + x as f32 * step, y0 + y as f32 * step);
            out.push(std::array::from_fn(|c| {
                let v = at(px, py, c) + at(px + step / 2.0, py, c) + at(px, py + step / 2.0, c);
                let v = (v + at(px + step / 2.0, py + step / 2.0, c)) / 4.0;
                (v - 110.0) * contrast + level
            }));
        }
    }
    out
}

fn colour(rng: &mut Rng) -> [f32; 3] {
    let base = rng.range(60.0, 225.0);
    std::array::from_fn(|_| base + rng.range(-55.0, 55.0))
}

fn synthetic(rng: &mut Rng, side: usize) -> Vec<[f32; 3]> {
    let (from, to) = (colour(rng), colour(rng));
    let (sin, cos) = rng.range(0.0, std::f32::consts::TAU).sin_cos();
    let s = side as f32;
    let mut out = Vec::with_capacity(side * side);
    for i in 0..side * side {
        let (x, y) = ((i % side) as f32 / s - 0.5, (i / side) as f32 / s - 0.5);
        let t = (0.5 + (x * cos + y * sin) / 1.4).clamp(0.0, 1.0);
        out.push(std::array::from_fn(|c| from[c] + (to[c] - from[c]) * t));
    }
    if rng.chance(0.6) {
        let strength = rng.range(5.0, 35.0);
        for cells in [4, 8, 16] {
            noise(rng, side, cells, strength * 2.0 / cells as f32, &mut out);
        }
    }
    if rng.chance(0.3) {
        let step: [f32; 3] = {
            let a = rng.range(-28.0, 28.0);
            [a, a * rng.range(0.5, 1.0), a * rng.range(0.5, 1.0)]
        };
        let (sin, cos) = rng.range(0.0, std::f32::consts::PI).sin_cos();
        let width = rng.range(5.0, 20.0);
        let checks = rng.chance(0.5);
        for (i, p) in out.iter_mut().enumerate() {
            let (x, y) = ((i % side) as f32, (i / side) as f32);
            let a = ((x * cos + y * sin) / width).floor() as i32;
            let b = if checks { ((y * cos - x * sin) / width).floor() as i32 } else { 0 };
            if (a + b) & 1 == 0 {
                for c in 0..3 {
                    p[c] += step[c];
                }
            }
        }
    }
    out
}

/// One octave of smooth colour noise.
fn noise(rng: &mut Rng, side: usize, cells: usize, strength: f32, out: &mut [[f32; 3]]) {
    let n = cells + 1;
    let grid: Vec<[f32; 3]> = (0..n * n).map(|_| std::array::from_fn(|_| rng.normal() * strength)).collect();
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    for (i, p) in out.iter_mut().enumerate() {
        let scale = cells as f32 / side as f32;
        let (x, y) = ((i % side) as f32 * scale, (i / side) as f32 * scale);
        let (x0, y0) = (x as usize, y as usize);
        let (tx, ty) = (smooth(x - x0 as f32), smooth(y - y0 as f32));
        for c in 0..3 {
            let at = |dx: usize, dy: usize| grid[(y0 + dy) * n + x0 + dx][c];
            let top = at(0, 0) * (1.0 - tx) + at(1, 0) * tx;
            let low = at(0, 1) * (1.0 - tx) + at(1, 1) * tx;
            p[c] += top * (1.0 - ty) + low * ty;
        }
    }
}
