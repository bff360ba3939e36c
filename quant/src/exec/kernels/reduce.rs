//! Sums in a fixed order: sixteen f32 lanes per block, blocks added in f64.

/// Lanes of every reduction, on every CPU.
pub(crate) const LANES: usize = 16;

/// Values per block: each lane adds at most 64 of them in f32.
const BLOCK: usize = 64 * LANES;

/// Copies fewer than sixteen values in pieces of fixed length: a call of `memcpy` costs more than a short row.
#[inline(always)]
pub(crate) fn copy_short(mut src: &[f32], mut dst: &mut [f32]) {
    debug_assert!(src.len() < LANES && src.len() <= dst.len());
    for size in [8, 4, 2, 1] {
        if src.len() >= size {
            let (now, later) = dst.split_at_mut(size);
            now.copy_from_slice(&src[..size]);
            (src, dst) = (&src[size..], later);
        }
    }
}

/// Combines sixteen lanes pairwise, always in the same order.
#[inline(always)]
pub(crate) fn combine(lanes: [f32; LANES]) -> f32 {
    let a: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let b: [f32; 4] = std::array::from_fn(|i| a[i] + a[i + 4]);
    (b[0] + b[2]) + (b[1] + b[3])
}

/// The largest lane; NaN only where every comparison ignored it.
#[inline(always)]
pub(crate) fn largest(lanes: [f32; LANES]) -> f32 {
    let max = |a: f32, b: f32| if a > b { a } else { b };
    let a: [f32; 8] = std::array::from_fn(|i| max(lanes[i], lanes[i + 8]));
    let b: [f32; 4] = std::array::from_fn(|i| max(a[i], a[i + 4]));
    max(max(b[0], b[2]), max(b[1], b[3]))
}

/// `Σ term(x)`; `term` is applied to values only, never to padding.
#[inline(always)]
pub(crate) fn sum_by(x: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0_f64;
    for block in x.chunks(BLOCK) {
        let mut lanes = [0.0_f32; LANES];
        let (whole, rest) = block.as_chunks::<LANES>();
        for values in whole {
            for (lane, &value) in lanes.iter_mut().zip(values) {
                *lane += term(value);
            }
        }
        if !rest.is_empty() {
            // A loop of fixed length over a padded copy keeps the lanes in registers.
            let mut tail = [0.0_f32; LANES];
            copy_short(rest, &mut tail);
            for (i, lane) in lanes.iter_mut().enumerate() {
                *lane += if i < rest.len() { term(tail[i]) } else { 0.0 };
            }
        }
        total += f64::from(combine(lanes));
    }
    total
}

/// Mean and biased variance in two passes.
#[inline(always)]
pub(crate) fn mean_variance(x: &[f32]) -> (f32, f64) {
    let share = 1.0 / x.len() as f64;
    let mean = (sum_by(x, |v| v) * share) as f32;
    let variance = sum_by(x, |v| (v - mean) * (v - mean)) * share;
    (mean, variance)
}
