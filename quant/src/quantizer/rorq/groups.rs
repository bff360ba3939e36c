//! Which magnitudes belong together: the thresholds of RORQ and the ranges between them.

use crate::quantizer::grid::Grid;
use crate::stats::Bucket;
use crate::terms::Bits;

/// Groups that are looked for.
const MOST: usize = 10;
/// Ranges beyond this have levels that overflow.
const LARGEST: f32 = f32::MAX / 4.0;
/// Steps from zero to the outermost level of a group: zero points stay exact.
const MOST_STEPS: f32 = 1_048_576.0;

/// The values of one group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    lowest: f32,
    highest: f32,
    /// Magnitudes above this belong to the group; negative for the first.
    above: f32,
    /// And those up to this.
    pub(super) upto: f32,
}

/// What is known of the magnitudes above a threshold.
#[derive(Debug, Clone, Copy)]
struct Moments {
    /// Values that are not zero.
    count: f64,
    sum: f64,
    squares: f64,
    largest: f32,
}

/// What a group's values are found from.
trait Source {
    /// Of the values whose magnitude is above `above`.
    fn moments(&self, above: f32) -> Moments;
    /// The lowest and the highest of the values whose magnitude is above `above` and at most `upto`.
    fn ends(&self, above: f32, upto: f32) -> Option<(f32, f32)>;
}

impl Range {
    /// The grid of the group.
    pub(super) fn grid(&self, bits: Bits, paper: bool) -> Grid {
        let (lowest, highest) = (self.lowest.clamp(-LARGEST, LARGEST), self.highest.clamp(-LARGEST, LARGEST));
        if lowest < highest {
            return Grid::over(lowest, highest, bits);
        }
        if paper || self.above < 0.0 {
            return Grid::containing_zero(lowest, highest, bits, false);
        }
        single(highest, self.above, bits)
    }
}

/// The grid from just below the threshold to `value`, which is its outermost level: between both there may be
/// other values.
fn single(value: f32, above: f32, bits: Bits) -> Grid {
    let grid = Grid::containing_zero(value, value, bits, false);
    let size = value.abs();
    // How many steps of the finest such grid lead to the value.
    let steps = (size / ((size - above) / grid.high)).floor();
    let steps = if steps.is_nan() { grid.high } else { steps.clamp(grid.high, MOST_STEPS) };
    let zero = if value < 0.0 { steps } else { grid.high - steps };
    Grid { step: (size / steps).max(f32::MIN_POSITIVE), zero, ..grid }
}

/// The groups of finite values.
pub(super) fn of_values(values: &[f32], paper: bool) -> Vec<Range> {
    find(&values, paper)
}

/// The groups from the buckets of a sketch.
pub(super) fn of_buckets(buckets: &[Bucket], paper: bool) -> Vec<Range> {
    find(&buckets, paper)
}

/// Groups from the innermost, each with what its round of the search says.
fn find(source: &impl Source, paper: bool) -> Vec<Range> {
    let mut found: Vec<Range> = Vec::new();
    let mut above = -1.0;
    for round in 1..=MOST {
        let rest = source.moments(above);
        if rest.count < 1.0 {
            break;
        }
        let inner = found.last().map(|range| range.upto);
        let range = if paper {
            released(source, above, &rest, inner)
        } else {
            own(source, above, &rest, round == MOST)
        };
        let all = range.upto >= rest.largest || rest.is_single();
        above = range.upto;
        found.push(range);
        if all {
            break;
        }
    }
    if found.is_empty() {
        found.push(Range { lowest: 0.0, highest: 0.0, above: -1.0, upto: 0.0 });
    }
    found
}

/// The next group: the range of its own values. The last takes all that is left.
fn own(source: &impl Source, above: f32, rest: &Moments, is_last: bool) -> Range {
    let threshold = rest.threshold();
    let is_last = is_last || rest.is_single() || threshold >= rest.largest;
    let inside = if is_last { None } else { source.ends(above, threshold) };
    if let Some((lowest, highest)) = inside {
        return Range { lowest, highest, above, upto: threshold };
    }
    let (lowest, highest) = source.ends(above, f32::INFINITY).unwrap_or((0.0, 0.0));
    // Of a single value, a bucket's outer end is known to be it.
    let single = if highest > 0.0 { highest } else { lowest };
    let (lowest, highest) = if rest.is_single() { (single, single) } else { (lowest, highest) };
    let upto = if threshold.is_finite() { threshold.max(rest.largest) } else { rest.largest };
    Range { lowest, highest, above, upto }
}

/// The next group as released: zeros stand for the values of earlier groups, except in the last group, which leaves them
/// out. A single outlier has no threshold; here that of the group inside, so that its group is empty.
fn released(source: &impl Source, above: f32, rest: &Moments, inner: Option<f32>) -> Range {
    let threshold = rest.threshold();
    if threshold > rest.largest && !rest.is_single() {
        let (lowest, highest) = source.ends(above.max(0.0), f32::INFINITY).unwrap_or((0.0, 0.0));
        return Range { lowest, highest, above, upto: threshold.min(f32::MAX) };
    }
    let most = if rest.is_single() { f32::INFINITY } else { threshold };
    let (lowest, highest) = source.ends(above, most).unwrap_or((0.0, 0.0));
    let (lowest, highest) =
        if inner.is_some() { (lowest.min(0.0), highest.max(0.0)) } else { (lowest, highest) };
    let upto = if rest.is_single() { inner.unwrap_or(rest.largest) } else { threshold };
    Range { lowest, highest, above, upto }
}

impl Moments {
    const NONE: Self = Self { count: 0.0, sum: 0.0, squares: 0.0, largest: 0.0 };

    /// Whether there is one value; shares of a bucket's count are no whole numbers.
    fn is_single(&self) -> bool {
        self.count < 1.5
    }

    /// Mean and three (unbiased) standard deviations; of no use for a single value.
    fn threshold(&self) -> f32 {
        let mean = self.sum / self.count;
        let variance = (self.squares - self.count * mean * mean) / (self.count - 1.0).max(0.5);
        (mean + 3.0 * variance.max(0.0).sqrt()) as f32
    }
}

impl Source for &[f32] {
    fn moments(&self, above: f32) -> Moments {
        let mut moments = Moments::NONE;
        for size in self.iter().map(|x| x.abs()).filter(|&size| size > above && size > 0.0) {
            let x = f64::from(size);
            moments.count += 1.0;
            moments.sum += x;
            moments.squares += x * x;
            moments.largest = moments.largest.max(size);
        }
        moments
    }

    fn ends(&self, above: f32, upto: f32) -> Option<(f32, f32)> {
        let own = self.iter().copied().filter(|x| x.abs() > above && x.abs() <= upto);
        own.fold(None, |ends, x| Some(ends.map_or((x, x), |(lo, hi): (f32, f32)| (lo.min(x), hi.max(x)))))
    }
}

/// The magnitudes of a bucket, from the smallest to the largest. None lies on both sides of zero.
fn sizes(bucket: &Bucket) -> (f64, f64) {
    let (a, b) = (bucket.lo.abs(), bucket.hi.abs());
    (a.min(b), a.max(b))
}

impl Source for &[Bucket] {
    fn moments(&self, above: f32) -> Moments {
        let mut moments = Moments::NONE;
        for bucket in *self {
            let (from, to) = sizes(bucket);
            let start = from.max(f64::from(above));
            if to <= f64::from(above) || to == 0.0 {
                continue;
            }
            let share = if to > from { (to - start) / (to - from) } else { 1.0 };
            let count = bucket.count as f64 * share;
            moments.count += count;
            moments.sum += count * 0.5 * (start + to);
            moments.squares += count * (start * start + start * to + to * to) / 3.0;
            moments.largest = moments.largest.max(to as f32);
        }
        moments
    }

    fn ends(&self, above: f32, upto: f32) -> Option<(f32, f32)> {
        let (above, upto) = (f64::from(above), f64::from(upto));
        let mut ends: Option<(f64, f64)> = None;
        for bucket in *self {
            let (from, to) = sizes(bucket);
            if to <= above || from > upto {
                continue;
            }
            // A threshold inside a bucket: its values are on both sides. The outermost of them is to be expected one gap
            // inside the end.
            let width = to - from;
            let (from, to) = (from.max(above), to.min(upto));
            let count = if width > 0.0 { bucket.count as f64 * (to - from) / width } else { 1.0 };
            let gap = (to - from) / (count + 1.0);
            let (from, to) = (from + gap, to - gap);
            let (lo, hi) = if bucket.lo < 0.0 { (-to, -from) } else { (from, to) };
            ends = Some(ends.map_or((lo, hi), |(low, high)| (low.min(lo), high.max(hi))));
        }
        ends.map(|(lo, hi)| (lo as f32, hi as f32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_outlier_is_a_group_from_the_threshold_to_itself() {
        let mut values: Vec<f32> = (0..400).map(|i| (i as f32 * 0.7).sin()).collect();
        values.push(-50.0);
        let bits = Bits::new(4).unwrap();
        let groups = of_values(&values, false);
        assert_eq!(groups.len(), 2);
        let levels = groups[1].grid(bits, false).levels();
        assert!((levels[0] + 50.0).abs() < 1e-4, "{levels:?}");
        assert!(levels[15] >= -groups[0].upto * 1.5 && levels[15] < 0.0, "{levels:?}");
        assert!(groups[0].grid(bits, false).levels()[0] > -1.2);
    }

    #[test]
    fn values_of_one_size_and_zeros_are_one_group() {
        for values in [&[0.0_f32; 5][..], &[3.0; 5], &[-2.0, 2.0, 0.0], &[]] {
            assert_eq!(of_values(values, false).len(), 1, "{values:?}");
            assert!(!of_values(values, true).is_empty(), "{values:?}");
        }
    }
}
