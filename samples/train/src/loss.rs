//! Losses with their gradients: the mask (cross entropy and Dice) and the training-only head.

use crate::model::AUX;
use crate::nn::kernels::exp;

/// Classes of the training-only head: background and categories.
pub const CLASSES: usize = AUX - 2;

/// Mean pixel cross entropy plus mean Dice loss per image. `logits` is `[pixels, 2]` at full size; the gradient
/// is written over it. Returns (cross entropy, Dice).
pub fn mask_loss(logits: &mut [f32], target: &[u8], images: usize) -> (f32, f32) {
    let n = target.len() / images;
    let (mut total_ce, mut total_dice) = (0.0, 0.0);
    let mut probs = vec![0.0f32; n];
    for (logits, target) in logits.chunks_exact_mut(2 * n).zip(target.chunks_exact(n)) {
        let (mut ce, mut both, mut sum) = (0.0f64, 0.0f64, 0.0f64);
        for ((l, &t), p) in logits.chunks_exact(2).zip(target).zip(&mut probs) {
            let d = l[1] - l[0];
            let e = exp(-d.abs());
            *p = if d > 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
            let wrong = if t == 1 { (-d).max(0.0) } else { d.max(0.0) };
            ce += f64::from(wrong + e.ln_1p());
            both += f64::from(*p * f32::from(t));
            sum += f64::from(*p + f32::from(t));
        }
        let (numerator, denominator) = (2.0 * both + 1.0, sum + 1.0);
        total_ce += ce / n as f64;
        total_dice += 1.0 - numerator / denominator;
        let scale = 1.0 / (images * n) as f32;
        let share = 1.0 / images as f32;
        // d dice / d p = -(2 t denominator - numerator) / denominator^2
        let (a, b) = ((-2.0 / denominator) as f32, (numerator / (denominator * denominator)) as f32);
        for ((l, &t), p) in logits.chunks_exact_mut(2).zip(target).zip(&probs) {
            let t = f32::from(t);
            let g = scale * (p - t) + share * (a * t + b) * p * (1.0 - p);
            l[0] = -g;
            l[1] = g;
        }
    }
    (total_ce as f32 / images as f32, total_dice as f32 / images as f32)
}

/// Targets of the training-only head for one cell of 8 x 8 pixels.
#[derive(Clone)]
pub struct Cell {
    /// Share of the pixels per class, background first.
    pub shares: [f32; CLASSES],
    /// Largest and smallest of its category; none where the cell shows no object with rivals.
    pub flags: Option<[bool; 2]>,
}

/// Soft cross entropy over categories (background cells count a tenth) plus binary cross entropy of the size
/// flags. `logits` is `[tokens, 4 * AUX]`, each token holding 2 x 2 cells; `cells` is per image row-major at twice
/// the grid. The gradient times `weight` is written over the logits.
pub fn aux_loss(logits: &mut [f32], cells: &[Cell], grid: usize, weight: f32) -> (f32, f32) {
    let token = |cell: usize| {
        let side = 2 * grid;
        let (image, y, x) = (cell / (side * side), cell / side % side, cell % side);
        ((image * grid + y / 2) * grid + x / 2, y % 2 * 2 + x % 2)
    };
    let share = |c: &Cell| 1.0 - 0.9 * c.shares[0];
    let total: f32 = cells.iter().map(share).sum();
    let flagged = cells.iter().filter(|c| c.flags.is_some()).count().max(1) as f32;
    let (mut loss, mut flag_loss) = (0.0, 0.0);
    for (i, cell) in cells.iter().enumerate() {
        let (token, part) = token(i);
        let l = &mut logits[(token * 4 + part) * AUX..][..AUX];
        let top = l[..CLASSES].iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = l[..CLASSES].iter().map(|v| exp(v - top)).sum();
        let log_sum = top + sum.ln();
        let w = share(cell) / total;
        for (v, &want) in l[..CLASSES].iter_mut().zip(&cell.shares) {
            loss += w * want * (log_sum - *v);
            *v = weight * w * (exp(*v - log_sum) - want);
        }
        for (v, j) in l[CLASSES..].iter_mut().zip(0..) {
            let Some(flags) = cell.flags else {
                *v = 0.0;
                continue;
            };
            let want = f32::from(u8::from(flags[j]));
            flag_loss += (v.max(0.0) - *v * want + exp(-v.abs()).ln_1p()) / flagged / 2.0;
            *v = weight * 0.5 * (1.0 / (1.0 + exp(-*v)) - want) / flagged / 2.0;
        }
    }
    (loss, flag_loss)
}
