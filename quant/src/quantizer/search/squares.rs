//! Squared errors of many grids on the same buckets.

use crate::quantizer::cells::Cells;
use crate::stats::Bucket;

/// Beyond this many levels going through the buckets is quicker than going through the levels.
const MOST_LEVELS: f64 = 600.0;

/// Running sums of `1`, `x` and `x²` over buckets. A level `l` with the cell `[a, b)` has the squared error
/// `Δ(x²) - 2 l Δ(x) + l² Δ(1)`, so a grid costs a look-up per level whatever the number of buckets. The sums cancel
/// to about 10⁻¹⁵ of the signal: errors are exact down to −140 dB.
pub(in crate::quantizer) struct Squares<'a> {
    buckets: &'a [Bucket],
    /// Sums over the buckets before each, and over all.
    before: Vec<[f64; 3]>,
}

impl<'a> Squares<'a> {
    pub(in crate::quantizer) fn new(buckets: &'a [Bucket]) -> Self {
        let mut sums = [0.0; 3];
        let mut before = vec![sums];
        for bucket in buckets {
            sums = add(sums, part(bucket, bucket.hi));
            before.push(sums);
        }
        Self { buckets, before }
    }

    /// The sum of `(x - q(x))²`, the same as by integrating every bucket.
    pub(in crate::quantizer) fn error(&self, cells: &Cells) -> f64 {
        let mut from = [0.0; 3];
        let mut sum = 0.0;
        let mut near = 0;
        let mut cell = |upto: f64, level: f64| {
            near = self.place(upto, near);
            let to = self.upto(upto, near);
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

    /// The first bucket that reaches beyond `x`, which is `near` or a later one: looked for in steps that double.
    fn place(&self, x: f64, near: usize) -> usize {
        let (mut from, mut step) = (near, 1);
        while self.buckets.get(from + step - 1).is_some_and(|bucket| bucket.hi <= x) {
            from += step;
            step *= 2;
        }
        let upto = (from + step - 1).min(self.buckets.len());
        from + self.buckets[from..upto].partition_point(|bucket| bucket.hi <= x)
    }

    /// The sums over values below `x`, which lies in or before bucket `at`.
    fn upto(&self, x: f64, at: usize) -> [f64; 3] {
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
