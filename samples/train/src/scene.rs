//! Composes scenes: 2 to 5 objects on a background, often several of one category.

use crate::background;
use crate::catalogue::{CATEGORIES, STYLES, TINTS, held_out};
use crate::model::SIDE;
use crate::rng::Rng;
use crate::sprites::{Art, Sprite};

/// One drawn object.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// Index into the categories.
    pub category: usize,
    /// Index into the styles.
    pub style: usize,
    /// Index into the tints.
    pub tint: Option<usize>,
    /// Centre of the visible box, as a share of the side.
    pub x: f32,
    /// See `x`.
    pub y: f32,
    /// Longer side as drawn, in pixels.
    pub size: f32,
}

/// A picture with the object that every pixel shows.
pub struct Scene {
    /// `[SIDE, SIDE, 3]`.
    pub image: Vec<u8>,
    /// 0 for the background, i + 1 for object i.
    pub ids: Vec<u8>,
    /// In drawing order.
    pub objects: Vec<Object>,
}

/// Which drawings a pool may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawings {
    /// Those of training.
    Known,
    /// At least one object, the first, is a drawing never used in training.
    HeldOut,
}

/// Scene `index` of the pool with this seed; always the same one.
pub fn compose(art: &Art, seed: u64, index: u64, drawings: Drawings) -> Scene {
    let mut rng = Rng::new(seed, index);
    loop {
        if let Some(scene) = attempt(art, &mut rng, drawings) {
            return scene;
        }
    }
}

struct Plan {
    object: Object,
    angle: f32,
    flip: bool,
}

fn attempt(art: &Art, rng: &mut Rng, drawings: Drawings) -> Option<Scene> {
    let count = 2 + rng.weighted(&[0.25, 0.4, 0.25, 0.1]);
    let most = [80.0, 70.0, 60.0, 52.0][count - 2];
    let mut order: Vec<usize> = (0..CATEGORIES.len()).collect();
    rng.shuffle(&mut order);
    if drawings == Drawings::HeldOut {
        let first = order.iter().position(|c| held_out(*c, 2)).unwrap_or(0);
        order.swap(0, first);
    }
    // The first `group` objects share a category: they are what makes the rest of the sentence necessary.
    let group = if rng.chance(0.75) { if count > 2 && rng.chance(0.3) { 3 } else { 2 } } else { 1 };
    let tinted = rng.chance(0.4);
    let mut tints: Vec<usize> = (0..TINTS.len()).collect();
    rng.shuffle(&mut tints);
    let mut plans = Vec::new();
    // A third of the groups differ clearly in size.
    let contrast = group > 1 && !tinted && rng.chance(0.5);
    for i in 0..count {
        let category = order[i.saturating_sub(group - 1)];
        let style = if drawings == Drawings::HeldOut && i == 0 {
            2
        } else {
            let known: Vec<usize> = (0..STYLES.len()).filter(|s| !held_out(category, *s)).collect();
            *rng.pick(&known)
        };
        let tint = if i < group && group > 1 {
            tinted.then(|| tints[i])
        } else {
            rng.chance(0.15).then(|| rng.below(TINTS.len()))
        };
        let mut size = 32.0 * (most / 32.0f32).powf(rng.unit());
        if contrast && i < group {
            size = if i == 0 { rng.range(32.0, 38.0) } else { rng.range(most * 0.85, most) };
            if group == 3 && i == 2 {
                size = rng.range(32.0, most);
            }
        }
        let object = Object { category, style, tint, x: 0.0, y: 0.0, size };
        plans.push(Plan { object, angle: (rng.normal() * 0.14).clamp(-0.35, 0.35), flip: rng.chance(0.5) });
    }
    place(art, rng, &mut plans)?;
    rng.shuffle(&mut plans);
    render(art, rng, plans)
}

/// Draws positions until the boxes overlap little.
fn place(art: &Art, rng: &mut Rng, plans: &mut [Plan]) -> Option<()> {
    let side = SIDE as f32;
    let mut boxes: Vec<[f32; 4]> = Vec::new();
    for plan in plans {
        let (w, h) = art.sprites[plan.object.category][plan.object.style].size();
        let scale = plan.object.size / w.max(h);
        let (sin, cos) = plan.angle.sin_cos();
        let (w, h) = (w * scale, h * scale);
        let (bw, bh) = (w * cos + h * sin.abs(), h * cos + w * sin.abs());
        let tries = (0..30).map(|_| {
            let (mx, my) = (bw * 0.4, bh * 0.4);
            let (x, y) = (rng.range(mx, side - mx), rng.range(my, side - my));
            [x - bw / 2.0, y - bh / 2.0, x + bw / 2.0, y + bh / 2.0]
        });
        let free = |b: &[f32; 4]| {
            boxes.iter().all(|o| {
                let w = (b[2].min(o[2]) - b[0].max(o[0])).max(0.0);
                let h = (b[3].min(o[3]) - b[1].max(o[1])).max(0.0);
                let area = |r: &[f32; 4]| (r[2] - r[0]) * (r[3] - r[1]);
                w * h <= 0.22 * area(b).min(area(o))
            })
        };
        let found = {
            let mut tries = tries;
            tries.find(|b| free(b))?
        };
        plan.object.x = f32::midpoint(found[0], found[2]);
        plan.object.y = f32::midpoint(found[1], found[3]);
        boxes.push(found);
    }
    Some(())
}

fn render(art: &Art, rng: &mut Rng, plans: Vec<Plan>) -> Option<Scene> {
    let mut canvas = background::draw(art, rng, SIDE);
    let mut ids = vec![0u8; SIDE * SIDE];
    let mut full = vec![0usize; plans.len()];
    let shadow = rng.chance(0.35).then(|| (rng.range(-3.0, 3.0), rng.range(1.0, 4.0), rng.range(0.25, 0.5)));
    for (i, plan) in plans.iter().enumerate() {
        let o = &plan.object;
        let sprite = &art.sprites[o.category][o.style];
        let tinted = o.tint.map(|t| sprite.tinted(TINTS[t].1, rng.range(0.75, 0.9)));
        let sprite = tinted.as_ref().unwrap_or(sprite);
        let pose = Pose::new(sprite, plan);
        if let Some((dx, dy, strength)) = shadow {
            pose.each(sprite, dx, dy, |at, p| {
                let keep = 1.0 - strength * p[3] / 255.0;
                canvas[at].iter_mut().for_each(|c| *c *= keep);
            });
        }
        pose.each(sprite, 0.0, 0.0, |at, p| {
            let keep = 1.0 - p[3] / 255.0;
            for c in 0..3 {
                canvas[at][c] = canvas[at][c] * keep + p[c];
            }
            if p[3] > 127.5 {
                ids[at] = i as u8 + 1;
                full[i] += 1;
            }
        });
    }
    let mut objects: Vec<Object> = plans.iter().map(|p| p.object).collect();
    for (i, o) in objects.iter_mut().enumerate() {
        let (mut visible, mut b) = (0, [usize::MAX, usize::MAX, 0, 0]);
        for (at, _) in ids.iter().enumerate().filter(|(_, id)| **id == i as u8 + 1) {
            visible += 1;
            let (x, y) = (at % SIDE, at / SIDE);
            b = [b[0].min(x), b[1].min(y), b[2].max(x + 1), b[3].max(y + 1)];
        }
        if visible < 60 || (visible as f32) < 0.55 * full[i] as f32 {
            return None;
        }
        o.x = (b[0] + b[2]) as f32 / (2 * SIDE) as f32;
        o.y = (b[1] + b[3]) as f32 / (2 * SIDE) as f32;
    }
    let image = canvas.iter().flatten().map(|v| v.round().clamp(0.0, 255.0) as u8).collect();
    Some(Scene { image, ids, objects })
}

/// Where and how a sprite is drawn.
struct Pose {
    centre: (f32, f32),
    half: (f32, f32),
    scale: f32,
    turn: (f32, f32),
    flip: bool,
}

impl Pose {
    fn new(sprite: &Sprite, plan: &Plan) -> Self {
        let (w, h) = sprite.size();
        let o = &plan.object;
        Self {
            centre: (o.x, o.y),
            half: (w / 2.0, h / 2.0),
            scale: o.size / w.max(h),
            turn: plan.angle.sin_cos(),
            flip: plan.flip,
        }
    }

    /// Calls `paint` with every canvas position the sprite touches and the premultiplied colour there.
    fn each(&self, sprite: &Sprite, dx: f32, dy: f32, mut paint: impl FnMut(usize, [f32; 4])) {
        let (cx, cy) = (self.centre.0 + dx, self.centre.1 + dy);
        let reach = self.half.0.hypot(self.half.1) * self.scale + 1.0;
        let limit = |v: f32| v.clamp(0.0, SIDE as f32) as usize;
        for y in limit(cy - reach)..limit(cy + reach + 1.0) {
            for x in limit(cx - reach)..limit(cx + reach + 1.0) {
                let (px, py) = (x as f32 + 0.5 - cx, y as f32 + 0.5 - cy);
                let (sin, cos) = self.turn;
                let mut u = (px * cos + py * sin) / self.scale;
                let v = (py * cos - px * sin) / self.scale;
                if self.flip {
                    u = -u;
                }
                if u.abs() < self.half.0 + 1.0 && v.abs() < self.half.1 + 1.0 {
                    let p = sprite.sample(u + self.half.0, v + self.half.1, self.scale);
                    if p[3] > 2.0 {
                        paint(y * SIDE + x, p);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_repeat_and_hold_what_they_say() {
        let art = Art::open("../art".as_ref()).unwrap();
        for i in 0..20 {
            let scene = compose(&art, 77, i, Drawings::Known);
            let again = compose(&art, 77, i, Drawings::Known);
            assert_eq!(scene.image, again.image);
            assert!((2..=5).contains(&scene.objects.len()));
            for (j, o) in scene.objects.iter().enumerate() {
                assert!(scene.ids.iter().filter(|id| usize::from(**id) == j + 1).count() >= 60);
                assert!(!held_out(o.category, o.style), "training scenes hold no held-out drawing");
            }
            let unknown = compose(&art, 77, i, Drawings::HeldOut);
            assert_eq!(unknown.objects.iter().filter(|o| held_out(o.category, o.style)).count(), 1);
        }
    }
}
