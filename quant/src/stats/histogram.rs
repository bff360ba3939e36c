//! Histograms for drawing.

use super::buckets::Bucket;
use super::sketch::Sketch;

/// Counts in equal bins over a range.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Lower edge of the first bin; with `log_x`, log10 of the magnitude.
    pub lo: f64,
    /// Upper edge of the last bin.
    pub hi: f64,
    /// Values per bin; fractions come from buckets that span several bins.
    pub counts: Vec<f64>,
    /// Whether the axis is log10 of the magnitude (zeros are then left out).
    pub log_x: bool,
}

impl Histogram {
    /// The edges of bin `at`.
    pub fn edges(&self, at: usize) -> (f64, f64) {
        let width = (self.hi - self.lo) / self.counts.len().max(1) as f64;
        (self.lo + width * at as f64, self.lo + width * (at + 1) as f64)
    }

    /// The bin of the value `x` of the axis; `None` outside the range.
    pub fn bin(&self, x: f64) -> Option<usize> {
        if !(self.lo..=self.hi).contains(&x) || self.counts.is_empty() {
            return None;
        }
        let at = (x - self.lo) / (self.hi - self.lo) * self.counts.len() as f64;
        Some((at as usize).min(self.counts.len() - 1))
    }

    /// Spreads `count` values evenly between `lo` and `hi` over the bins; what lies outside is dropped.
    fn spread(&mut self, lo: f64, hi: f64, count: f64) {
        let bins = self.counts.len();
        let scale = bins as f64 / (self.hi - self.lo);
        let (a, b) = ((lo - self.lo) * scale, (hi - self.lo) * scale);
        if b < 0.0 || a > bins as f64 {
            return;
        }
        // Narrower than anything that can be seen: a point.
        if b - a < 1e-9 {
            self.counts[(a.max(0.0) as usize).min(bins - 1)] += count;
            return;
        }
        let first = a.max(0.0) as usize;
        let last = (b.min(bins as f64).ceil() as usize).min(bins);
        for bin in first..last {
            let overlap = b.min((bin + 1) as f64) - a.max(bin as f64);
            self.counts[bin] += count * overlap.max(0.0) / (b - a);
        }
    }
}

impl Sketch {
    /// Counts in `bins` bins (at least one) over `range`, by default from the smallest value to the largest;
    /// with `log_x` over log10 of the magnitude. A bucket is spread over the bins that it overlaps.
    pub fn histogram(&self, bins: usize, range: Option<(f64, f64)>, log_x: bool) -> Histogram {
        let buckets = self.buckets();
        let usable = |range: &(f64, f64)| range.0.is_finite() && range.1.is_finite() && range.0 < range.1;
        let (lo, hi) = range.filter(usable).unwrap_or_else(|| widen(default_range(self, &buckets, log_x)));
        let mut histogram = Histogram { lo, hi, counts: vec![0.0; bins.max(1)], log_x };
        for bucket in &buckets {
            let count = bucket.count as f64;
            if !log_x {
                histogram.spread(bucket.lo, bucket.hi, count);
            } else if let Some((lo, hi)) = magnitude(bucket) {
                histogram.spread(lo.log10(), hi.log10(), count);
            }
        }
        histogram
    }
}

/// The magnitudes of a bucket, the smallest denormal standing for 0 at its edge; `None` for zeros.
fn magnitude(bucket: &Bucket) -> Option<(f64, f64)> {
    let tiny = f64::from(f32::from_bits(1));
    let (a, b) = (bucket.lo.abs(), bucket.hi.abs());
    (a.max(b) > 0.0).then(|| (a.min(b).max(tiny), a.max(b).max(tiny)))
}

fn default_range(sketch: &Sketch, buckets: &[Bucket], log_x: bool) -> (f64, f64) {
    if !log_x {
        return (f64::from(sketch.min()), f64::from(sketch.max()));
    }
    let magnitudes = buckets.iter().filter_map(magnitude);
    let (lo, hi) = magnitudes.fold((f64::INFINITY, 0.0_f64), |(lo, hi), (a, b)| (lo.min(a), hi.max(b)));
    if hi > 0.0 { (lo.log10(), hi.log10()) } else { (0.0, 0.0) }
}

/// A range with room for one bin at least.
fn widen((lo, hi): (f64, f64)) -> (f64, f64) {
    if lo < hi {
        return (lo, hi);
    }
    let room = if lo == 0.0 { 0.5 } else { lo.abs() * 1e-3 };
    (lo - room, hi + room)
}
