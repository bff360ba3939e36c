//! The range of least divergence.

use crate::stats::Bucket;
use crate::terms::Bits;

/// Bins of the histogram of magnitudes; fewer for fewer values, since the divergence of a histogram that is
/// mostly empty says nothing about the distribution.
const MOST_BINS: usize = 2048;
const FEWEST_BINS: usize = 128;
/// Least number of values per bin on average.
const VALUES_PER_BIN: u64 = 8;
/// Every how many bins a threshold is tried.
const STRIDE: usize = 4;

/// Calibration by entropy (Migacz, 8-bit inference with TensorRT, 2017): a histogram of the magnitudes in 2048
/// bins (fewer below 16 thousand values); for a threshold at bin `i` the reference `P` is bins `0..i` with the mass beyond added to the last, `Q`
/// the same bins (without that mass) quantized to the levels of one side and spread over their non-empty bins.
/// The threshold of least `KL(P ‖ Q)` clips both ends. Thresholds are tried every 4 bins; within a level `Q` is
/// constant, so the sum over bins is one over levels of prefix sums.
pub(in crate::quantizer) fn kl_range(buckets: &[Bucket], lo: f32, hi: f32, bits: Bits) -> (f32, f32) {
    let reach = f64::from(lo.abs().max(hi.abs()));
    // One side of a grid about zero has half of the levels.
    let both = lo < 0.0 && hi > 0.0;
    let levels = bits.levels().map_or(usize::MAX, |n| n as usize / if both { 2 } else { 1 });
    let count: u64 = buckets.iter().map(|bucket| bucket.count).sum();
    let all = ((count / VALUES_PER_BIN) as usize).clamp(FEWEST_BINS, MOST_BINS);
    if levels >= all || reach == 0.0 {
        return (lo, hi);
    }
    let prefix = Prefix::new(&histogram(buckets, reach, all));
    let mut best = (f64::INFINITY, all);
    let mut bins = levels.max(STRIDE);
    while bins <= all {
        let divergence = prefix.divergence(bins, levels);
        if divergence < best.0 {
            best = (divergence, bins);
        }
        bins += STRIDE;
    }
    let threshold = (reach * best.1 as f64 / all as f64) as f32;
    (lo.max(-threshold), hi.min(threshold))
}

/// Counts of the magnitudes in equal bins up to `reach`, zeros left out: every grid holds them.
fn histogram(buckets: &[Bucket], reach: f64, bins: usize) -> Vec<f64> {
    let mut counts = vec![0.0; bins];
    let bin = |x: f64| ((x.abs() / reach * bins as f64) as usize).min(bins - 1);
    for bucket in buckets.iter().filter(|bucket| bucket.lo != 0.0 || bucket.hi != 0.0) {
        let (a, b) = (bin(bucket.lo), bin(bucket.hi));
        let (a, b) = (a.min(b), a.max(b));
        let share = bucket.count as f64 / (b - a + 1) as f64;
        counts[a..=b].iter_mut().for_each(|count| *count += share);
    }
    counts
}

/// Sums of the first `i` bins.
struct Prefix {
    mass: Vec<f64>,
    /// Of `c ln c`.
    entropy: Vec<f64>,
    used: Vec<f64>,
}

impl Prefix {
    fn new(counts: &[f64]) -> Self {
        let sums = |term: fn(f64) -> f64| {
            let mut sums = vec![0.0; counts.len() + 1];
            for (at, &count) in counts.iter().enumerate() {
                sums[at + 1] = sums[at] + term(count);
            }
            sums
        };
        Self {
            mass: sums(|c| c),
            entropy: sums(|c| if c > 0.0 { c * c.ln() } else { 0.0 }),
            used: sums(|c| f64::from(u8::from(c > 0.0))),
        }
    }

    /// `KL(P ‖ Q)` of a threshold at `bins`, both normalised; infinite if nothing lies below it.
    fn divergence(&self, bins: usize, levels: usize) -> f64 {
        let total = self.mass.last().copied().unwrap_or(0.0);
        let inside = self.mass[bins];
        if inside <= 0.0 {
            return f64::INFINITY;
        }
        let last = inside - self.mass[bins - 1];
        let clipped = last + total - inside;
        // The clipped mass needs a bin of Q: an empty last one would make the divergence infinite, as it should.
        if clipped > 0.0 && last <= 0.0 {
            return f64::INFINITY;
        }
        let term = |c: f64| if c > 0.0 { c * c.ln() } else { 0.0 };
        let own = self.entropy[bins - 1] + term(clipped);
        let mut cross = 0.0;
        for level in 0..levels {
            let (from, upto) = (level * bins / levels, (level + 1) * bins / levels);
            let mass = self.mass[upto] - self.mass[from];
            let used = self.used[upto] - self.used[from];
            if mass > 0.0 {
                let reference = if upto == bins { mass - last + clipped } else { mass };
                cross += reference * (mass / used).ln();
            }
        }
        // Σ P/T ln((P/T) / (Q/I)) with T the total and I the mass inside.
        (own - cross) / total - total.ln() + inside.ln()
    }
}
