//! Quantiles of a sketch.

use super::buckets::Bucket;
use super::sketch::Sketch;

/// The sorted values of a sketch, as far as it knows them: exact within the tails and at zero, elsewhere
/// spread evenly over their bucket (off by at most 1/256 of the value).
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
        let buckets = sketch.buckets();
        let upto = buckets
            .iter()
            .scan(0_u64, |total, bucket| {
                *total = total.saturating_add(bucket.count);
                Some(*total)
            })
            .collect();
        Self { buckets, upto, smallest: sketch.smallest(), largest: sketch.largest() }
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
