//! From scenes and sentences to the numbers the model takes, with augmentation and targets.

use crate::loss::{CLASSES, Cell};
use crate::model::SIDE;
use crate::rng::Rng;
use crate::scene::{Object, Scene};
use crate::words::{self, Expression};

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const SD: [f32; 3] = [0.229, 0.224, 0.225];

/// Input and targets of some pictures.
#[derive(Default)]
pub struct Batch {
    /// `[images * (side / 4)^2, 48]`.
    pub patches: Vec<f32>,
    /// `[images, 14]`.
    pub ids: Vec<u32>,
    /// See `ids`.
    pub words: Vec<f32>,
    /// `[images, side, side]`, 1 on the target.
    pub target: Vec<u8>,
    /// Targets of the training-only head.
    pub cells: Vec<Cell>,
}

impl Batch {
    /// Adds a picture with the sentence to evaluate.
    pub fn push_plain(&mut self, scene: &Scene, text: &str, side: usize) {
        let pixels = pixels(&scene.image, side);
        self.push_pixels(&pixels, side);
        self.push_words(text);
    }

    fn push_words(&mut self, text: &str) {
        let (ids, mask) = words::encode(text);
        self.ids.extend(ids);
        self.words.extend(mask);
    }

    fn push_pixels(&mut self, pixels: &[f32], side: usize) {
        for patch in 0..(side / 4) * (side / 4) {
            let (py, px) = (patch / (side / 4), patch % (side / 4));
            for y in 0..4 {
                let start = ((py * 4 + y) * side + px * 4) * 3;
                self.patches.extend_from_slice(&pixels[start..start + 12]);
            }
        }
    }

    /// Adds a picture for training: random sentence, mirrored half of the time, brightness and noise varied.
    pub fn push_augmented(&mut self, scene: &Scene, rng: &mut Rng, side: usize) -> bool {
        let mirrored = rng.chance(0.5);
        let mut objects = scene.objects.clone();
        if mirrored {
            for o in &mut objects {
                o.x = 1.0 - o.x;
            }
        }
        let Some(Expression { text, target, .. }) = words::draw(&objects, rng) else { return false };
        let mut pixels = pixels(&scene.image, side);
        if mirrored {
            for row in pixels.chunks_exact_mut(side * 3) {
                for x in 0..side / 2 {
                    for c in 0..3 {
                        row.swap(x * 3 + c, (side - 1 - x) * 3 + c);
                    }
                }
            }
        }
        let mean = pixels.iter().sum::<f32>() / pixels.len() as f32;
        let (contrast, shift) = (rng.range(0.75, 1.25), rng.range(-0.35, 0.35));
        let noise = if rng.chance(0.5) { 0.08 } else { 0.0 };
        for p in &mut pixels {
            // A triangle is close enough to the normal distribution for noise, and far cheaper.
            let n = if noise > 0.0 { (rng.unit() + rng.unit() - 1.0) * 2.45 * noise } else { 0.0 };
            *p = (*p - mean) * contrast + mean + shift + n;
        }
        self.push_pixels(&pixels, side);
        self.push_words(&text);
        let ids = shrink(&scene.ids, side, mirrored);
        self.target.extend(ids.iter().map(|id| u8::from(usize::from(*id) == target + 1)));
        self.cells.extend(cells(&ids, &objects, side));
        true
    }
}

/// Object numbers at another size (nearest).
pub fn shrink(ids: &[u8], side: usize, mirrored: bool) -> Vec<u8> {
    let at = |i: usize| (2 * i + 1) * SIDE / (2 * side);
    let mut out = Vec::with_capacity(side * side);
    for y in 0..side {
        let row = &ids[at(y) * SIDE..][..SIDE];
        out.extend((0..side).map(|x| row[at(if mirrored { side - 1 - x } else { x })]));
    }
    out
}

/// Normalised pixels, resized with an antialiasing triangle filter as image libraries do.
fn pixels(image: &[u8], side: usize) -> Vec<f32> {
    let normal = |v: f32, c: usize| (v / 255.0 - MEAN[c]) / SD[c];
    if side == SIDE {
        return image.iter().enumerate().map(|(i, v)| normal(f32::from(*v), i % 3)).collect();
    }
    let scale = SIDE as f32 / side as f32;
    let taps: Vec<(usize, Vec<f32>)> = (0..side)
        .map(|i| {
            let centre = (i as f32 + 0.5) * scale;
            let low = (centre - scale + 0.5).max(0.0) as usize;
            let high = ((centre + scale + 0.5) as usize).min(SIDE);
            let w: Vec<f32> =
                (low..high).map(|j| (1.0 - ((j as f32 + 0.5 - centre) / scale).abs()).max(0.0)).collect();
            let sum: f32 = w.iter().sum();
            (low, w.iter().map(|v| v / sum).collect())
        })
        .collect();
    let mut wide = vec![0.0f32; SIDE * side * 3];
    for (row, out) in image.chunks_exact(SIDE * 3).zip(wide.chunks_exact_mut(side * 3)) {
        for ((low, w), out) in taps.iter().zip(out.chunks_exact_mut(3)) {
            for (j, w) in w.iter().enumerate() {
                for c in 0..3 {
                    out[c] += w * f32::from(row[(low + j) * 3 + c]);
                }
            }
        }
    }
    let mut out = vec![0.0f32; side * side * 3];
    for ((low, w), out) in taps.iter().zip(out.chunks_exact_mut(side * 3)) {
        for (j, w) in w.iter().enumerate() {
            crate::nn::kernels::axpy(*w, &wide[(low + j) * side * 3..][..side * 3], out);
        }
        for (i, v) in out.iter_mut().enumerate() {
            *v = normal(*v, i % 3);
        }
    }
    out
}

/// What every cell of 8 x 8 pixels shows.
fn cells(ids: &[u8], objects: &[Object], side: usize) -> Vec<Cell> {
    let n = side / 8;
    let flags: Vec<Option<[bool; 2]>> = (0..objects.len())
        .map(|i| {
            let same = |o: &&Object| o.category == objects[i].category;
            let sizes: Vec<f32> = objects.iter().filter(same).map(|o| o.size).collect();
            let own = objects[i].size;
            let (most, least) = sizes.iter().fold((0.0f32, f32::MAX), |(a, b), s| (a.max(*s), b.min(*s)));
            // Nearly equal sizes teach nothing.
            (sizes.len() > 1 && most > 1.15 * least).then_some([own >= most, own <= least])
        })
        .collect();
    let mut out = Vec::with_capacity(n * n);
    for cell in 0..n * n {
        let mut count = [0u8; 6];
        for y in 0..8 {
            for id in &ids[(cell / n * 8 + y) * side + cell % n * 8..][..8] {
                count[usize::from(*id)] += 1;
            }
        }
        let mut shares = [0.0; CLASSES];
        shares[0] = f32::from(count[0]) / 64.0;
        let mut own = None;
        for (i, o) in objects.iter().enumerate() {
            shares[1 + o.category] += f32::from(count[i + 1]) / 64.0;
            if count[i + 1] > 32 {
                own = flags[i];
            }
        }
        out.push(Cell { shares, flags: own });
    }
    out
}
