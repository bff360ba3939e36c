//! Quantiles of a sketch.

use super::buckets::Bucket;
use super::sketch::Sketch;

/// The sorted values of a sketch, as far as it knows them: exact within the tails and at zero, elsewhere
/// spread evenly over their bucket (off by at most 1/256 of the value). Buckets are what is left of them beside the tails,
/// whose values are buckets of their own, without width.
#[derive(Debug, Clone)]
pub struct Ranks {
    buckets: Vec<Bucket>,
    /// Number of values up to and including each bucket.
    upto: Vec<u64>,
    smallest: Vec<f32>,
    largest: Vec<f32>,
}

impl Sketch {
    /// The value below which a fraction `p` of the finite values lies, interpolated linearly between order
    /// statistics at rank `p * (n - 1)` (the convention of numpy and torch). NaN if there are none.
    pub fn percentile(&self, p: f64) -> f64 {
        Ranks::new(self).percentile(p)
    }
}

impl Ranks {
    /// Prepares the ranks of `sketch`; worth keeping for more than one question.
    pub fn new(sketch: &Sketch) -> Self {
        let (smallest, largest) = (sketch.smallest(), sketch.largest());
        let buckets = sharpened(sketch.buckets(), &smallest, &largest);
        let upto = buckets
            .iter()
            .scan(0_u64, |total, bucket| {
                *total = total.saturating_add(bucket.count);
                Some(*total)
            })
            .collect();
        Self { buckets, upto, smallest, largest }
    }

    /// The number of values.
    pub fn len(&self) -> u64 {
        self.upto.last().copied().unwrap_or(0)
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buckets, lowest values first.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// See [`Sketch::percentile`]; `p` outside `[0, 1]` is clamped.
    pub fn percentile(&self, p: f64) -> f64 {
        let n = self.len();
        if n == 0 || p.is_nan() {
            return f64::NAN;
        }
        let rank = p.clamp(0.0, 1.0) * (n - 1) as f64;
        let (below, above) = (self.value(rank.floor() as u64), self.value(rank.ceil() as u64));
        below + (above - below) * rank.fract()
    }

    /// The value at `rank` (0 is the smallest), for `rank < len`.
    pub fn value(&self, rank: u64) -> f64 {
        if let Some(&value) = usize::try_from(rank).ok().and_then(|rank| self.smallest.get(rank)) {
            return f64::from(value);
        }
        let from_top = self.len().saturating_sub(1).saturating_sub(rank);
        if let Some(&value) = usize::try_from(from_top).ok().and_then(|rank| self.largest.get(rank)) {
            return f64::from(value);
        }
        let at = self.upto.partition_point(|&upto| upto <= rank);
        let Some(bucket) = self.buckets.get(at) else { return f64::NAN };
        let before = if at == 0 { 0 } else { self.upto[at - 1] };
        let place = ((rank - before) as f64 + 0.5) / bucket.count as f64;
        let value = bucket.lo + (bucket.hi - bucket.lo) * place;
        // What is not in a tail lies between the two.
        let low = self.smallest.last().map_or(value, |&low| value.max(f64::from(low)));
        self.largest.last().map_or(low, |&high| low.min(f64::from(high)))
    }
}

/// Ascending buckets with the outermost values in the place of their counts; `smallest` ascends, `largest` descends.
fn sharpened(mut buckets: Vec<Bucket>, smallest: &[f32], largest: &[f32]) -> Vec<Bucket> {
    let top =
        split_off(buckets.iter_mut().rev(), largest, |bucket, x| bucket.hi = x.clamp(bucket.lo, bucket.hi));
    let bottom =
        split_off(buckets.iter_mut(), smallest, |bucket, x| bucket.lo = x.clamp(bucket.lo, bucket.hi));
    let rest = buckets.into_iter().filter(|bucket| bucket.count > 0);
    bottom.into_iter().chain(rest).chain(top.into_iter().rev()).collect()
}

/// Takes `values`, the outermost first, out of the counts of buckets in the same order: what no bucket holds any more is not
/// among them. `cut` moves the end of a bucket that holds others, too. Equal values are one bucket.
fn split_off<'b>(
    buckets: impl Iterator<Item = &'b mut Bucket>,
    values: &[f32],
    cut: impl Fn(&mut Bucket, f64),
) -> Vec<Bucket> {
    let mut points: Vec<Bucket> = Vec::with_capacity(values.len());
    let mut values = values.iter().map(|&x| f64::from(x));
    for bucket in buckets {
        let taken = usize::try_from(bucket.count).unwrap_or(usize::MAX);
        for x in values.by_ref().take(taken) {
            bucket.count -= 1;
            cut(bucket, x);
            match points.last_mut() {
                Some(last) if last.lo == x => last.count += 1,
                _ => points.push(Bucket { lo: x, hi: x, count: 1 }),
            }
        }
        if values.len() == 0 {
            break;
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::sharpened;
    use crate::stats::Bucket;

    #[test]
    fn known_values_are_points_and_the_rest_stays_between_them() {
        let bucket = |lo: f64, hi: f64, count: u64| Bucket { lo, hi, count };
        let buckets = vec![bucket(-2.0, -1.0, 3), bucket(0.0, 0.0, 2), bucket(1.0, 2.0, 5)];
        let found = sharpened(buckets.clone(), &[-1.75, -1.5], &[2.0, 2.0, 1.5]);
        let expected = [
            bucket(-1.75, -1.75, 1),
            bucket(-1.5, -1.5, 1),
            bucket(-1.5, -1.0, 1),
            bucket(0.0, 0.0, 2),
            bucket(1.0, 1.5, 2),
            bucket(1.5, 1.5, 1),
            bucket(2.0, 2.0, 2),
        ];
        assert_eq!(found, expected);
        // Tails that reach each other: every value once.
        let values = [-1.75, -1.5, -1.25, 0.0, 0.0, 1.0, 1.125, 1.5, 2.0, 2.0];
        let descending: Vec<f32> = values[4..].iter().rev().copied().collect();
        let found = sharpened(buckets, &values[..7], &descending);
        assert_eq!(found.iter().map(|b| b.count).sum::<u64>(), 10);
        assert!(found.iter().all(|b| b.lo == b.hi) && found.windows(2).all(|pair| pair[0].hi <= pair[1].lo));
    }
}
