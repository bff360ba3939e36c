//! Squared errors of many grids on the same buckets.

use crate::quantizer::cells::Cells;
use crate::stats::Bucket;

/// Beyond this many levels going through the buckets is quicker than going through the levels.
const MOST_LEVELS: f64 = 600.0;
/// Points of the table that finds buckets.
const PLACES: usize = 2048;

/// Running sums of `1`, `x` and `x²` over buckets. A level `l` with the cell `[a, b)` has the squared error
/// `Δ(x²) - 2 l Δ(x) + l² Δ(1)`, so a grid costs a look-up per level whatever the number of buckets. The sums cancel
/// to about 10⁻¹⁵ of the signal: errors are exact down to −140 dB.
pub(in crate::quantizer) struct Squares<'a> {
    buckets: &'a [Bucket],
    /// Sums over the buckets before each, and over all.
    before: Vec<[f64; 3]>,
    places: Places,
}

/// How many buckets end at or below equally spaced points: narrows the search for the bucket of a value.
struct Places {
    lo: f64,
    /// Points per unit.
    density: f64,
    buckets: Vec<u32>,
}

impl Places {
    fn new(buckets: &[Bucket]) -> Self {
        let lo = buckets.first().map_or(0.0, |bucket| bucket.lo);
        let width = buckets.last().map_or(0.0, |bucket| bucket.hi) - lo;
        let density = if width > 0.0 { (PLACES as f64 / width).min(f64::MAX) } else { 0.0 };
        let mut counts = vec![0; PLACES + 2];
        let places = Self { lo, density, buckets: Vec::new() };
        for bucket in buckets {
            counts[places.at(bucket.hi) + 1] += 1;
        }
        for at in 1..counts.len() {
            counts[at] += counts[at - 1];
        }
        Self { buckets: counts, ..places }
    }

    /// The number of the last point that is not above `x`.
    fn at(&self, x: f64) -> usize {
        // Saturates at both ends.
        (((x - self.lo) * self.density) as usize).min(PLACES)
    }

    /// Numbers of buckets between which the first one that ends above `x` lies.
    fn around(&self, x: f64) -> (usize, usize) {
        let at = self.at(x);
        (self.buckets[at] as usize, self.buckets[at + 1] as usize)
    }
}

impl<'a> Squares<'a> {
    pub(in crate::quantizer) fn new(buckets: &'a [Bucket]) -> Self {
        let mut sums = [0.0; 3];
        let mut before = vec![sums];
        for bucket in buckets {
            sums = add(sums, part(bucket, bucket.hi));
            before.push(sums);
        }
        Self { buckets, before, places: Places::new(buckets) }
    }

    /// The sum of `(x - q(x))²`, the same as by integrating every bucket.
    pub(in crate::quantizer) fn error(&self, cells: &Cells) -> f64 {
        let mut from = [0.0; 3];
        let mut sum = 0.0;
        let mut cell = |upto: f64, level: f64| {
            let to = self.upto(upto);
            sum += (to[2] - from[2]) - level * (2.0 * (to[1] - from[1]) - level * (to[0] - from[0]));
            from = to;
        };
        match cells {
            Cells::Uniform { lowest, highest, .. } if highest - lowest > MOST_LEVELS => {
                return super::bucket_error(self.buckets, cells, 2.0);
            }
            Cells::Uniform { step, lowest, highest } => {
                let (first, last) = (lowest.ceil() as i64, highest.floor() as i64);
                if (first as f64) > *lowest {
                    cell((first as f64 - 0.5) * step, lowest * step);
                }
                for n in first..=last {
                    let end = n == last && (last as f64) == *highest;
                    let upto = if end { f64::INFINITY } else { (n as f64 + 0.5) * step };
                    cell(upto, n as f64 * step);
                }
                if (last as f64) < *highest {
                    cell(f64::INFINITY, highest * step);
                }
            }
            Cells::Steps { bounds, levels } => {
                for (at, &level) in levels.iter().enumerate() {
                    cell(bounds.get(at).copied().unwrap_or(f64::INFINITY), level);
                }
            }
        }
        sum.max(0.0)
    }

    /// The sums of `1`, `x` and `x²` over values below `x`.
    pub(in crate::quantizer) fn upto(&self, x: f64) -> [f64; 3] {
        let (from, upto) = self.places.around(x);
        let at = from + self.buckets[from..upto].partition_point(|bucket| bucket.hi <= x);
        match self.buckets.get(at) {
            Some(bucket) if bucket.lo < x => add(self.before[at], part(bucket, x)),
            _ => self.before[at],
        }
    }
}

/// The sums over the part of a bucket below `x`.
fn part(bucket: &Bucket, x: f64) -> [f64; 3] {
    let (lo, width) = (bucket.lo, bucket.hi - bucket.lo);
    let count = bucket.count as f64 * if width > 0.0 { (x - lo) / width } else { 1.0 };
    [count, count * 0.5 * (lo + x), count * (lo * lo + lo * x + x * x) / 3.0]
}

fn add(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

#[cfg(test)]
mod tests {
    use super::Squares;
    use crate::quantizer::cells::Cells;
    use crate::quantizer::search::bucket_error;
    use crate::stats::Bucket;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_ways_agree(
            widths in prop::collection::vec((0.0_f64..0.3, 0.01_f64..0.5, 1_u64..50), 1..60),
            start in -8.0_f64..4.0, step in 0.02_f64..2.0, lowest in -40.0_f64..3.0, levels in 1.0_f64..60.0,
        ) {
            let mut lo = start;
            let buckets: Vec<Bucket> = widths
                .into_iter()
                .map(|(gap, width, count)| {
                    let bucket = Bucket { lo: lo + gap, hi: lo + gap + width, count };
                    lo = bucket.hi;
                    bucket
                })
                .collect();
            let whole = Cells::Uniform { step, lowest: lowest.floor(), highest: lowest.floor() + levels.floor() };
            let part = Cells::Uniform { step, lowest, highest: lowest + levels };
            let steps = Cells::Steps { bounds: vec![-1.0, 0.3, 2.0], levels: vec![-2.0, 0.0, 1.0, 3.0] };
            for cells in [whole, part, steps] {
                let (quick, slow) = (Squares::new(&buckets).error(&cells), bucket_error(&buckets, &cells, 2.0));
                prop_assert!((quick - slow).abs() <= 1e-9 * (1.0 + slow), "{quick} {slow} {cells:?}");
            }
        }
    }
}
