//! A sample of rows: one value of every channel, at places drawn from everything that was seen.

use crate::terms::Layout;
use std::cmp::Ordering;

/// Values that all rows hold together at most.
const MOST_VALUES: usize = 1 << 16;
/// And rows, however few or many channels there are.
const ROWS: std::ops::RangeInclusive<usize> = 32..=2048;
/// One in so many more rows than are kept are there before the highest go.
const SPARE: usize = 4;
/// Values of a call that its number is made of.
const SEEN: usize = 64;
/// Odd constants of `splitmix64` (Steele, Lea and Flood, OOPSLA 2014).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX: [u64; 2] = [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];

/// One value of every channel.
#[derive(Debug, Clone)]
struct Row {
    priority: u64,
    values: Box<[f32]>,
}

/// The rows of least priority of all that were seen.
///
/// The priority of a row is a pseudo-random number that depends on its place in the call and on some of the values of the
/// call: every row is as likely to stay as any other, and what stays does not depend on the order of the calls or of the
/// merges. Values are kept as they are, non-finite ones included.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    /// The rows that are kept and some more, in any order.
    candidates: Vec<Row>,
    most: usize,
    /// A row of a higher priority is none of the least.
    bar: u64,
}

impl Row {
    /// By priority; rows of one priority by their bits, so that it does not matter which came first.
    fn order(&self, other: &Self) -> Ordering {
        let bits = |row: &Self| row.values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        self.priority.cmp(&other.priority).then_with(|| bits(self).cmp(&bits(other)))
    }
}

/// Equal when the bits of the rows that are kept are: a NaN is itself.
impl PartialEq for Rows {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.kept(), other.kept());
        ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(a, b)| a.order(b) == Ordering::Equal)
    }
}

impl Rows {
    /// None yet, of `channels` values each.
    pub(super) fn new(channels: usize) -> Self {
        Self { candidates: Vec::new(), most: Self::most(channels), bar: u64::MAX }
    }

    /// Rows that are kept of `channels` values each.
    pub(super) fn most(channels: usize) -> usize {
        (MOST_VALUES / channels.max(1)).clamp(*ROWS.start(), *ROWS.end())
    }

    /// From parts as [`Rows::parts`] gives them; `None` if they are not in order or too many.
    pub(super) fn from_parts(channels: usize, priorities: &[u64], values: &[f32]) -> Option<Self> {
        let fits = priorities.len().checked_mul(channels) == Some(values.len()) && channels > 0;
        if !fits || priorities.len() > Self::most(channels) {
            return None;
        }
        let row = |(&priority, row): (&u64, &[f32])| Row { priority, values: row.into() };
        let kept: Vec<Row> = priorities.iter().zip(values.chunks_exact(channels)).map(row).collect();
        let ordered = kept.windows(2).all(|pair| pair[0].order(&pair[1]) != Ordering::Greater);
        ordered.then(|| Self { candidates: kept, ..Self::new(channels) })
    }

    /// The rows of least priority in their order.
    fn kept(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.candidates.iter().collect();
        rows.sort_unstable_by(|a, b| a.order(b));
        rows.truncate(self.most);
        rows
    }

    /// Priorities, ascending, and values row after row.
    pub(super) fn parts(&self) -> (Vec<u64>, Vec<f32>) {
        let rows = self.kept();
        let values = rows.iter().flat_map(|row| row.values.iter().copied()).collect();
        (rows.iter().map(|row| row.priority).collect(), values)
    }

    /// The values of every channel.
    pub(super) fn by_channel(&self, channels: usize) -> Vec<Vec<f32>> {
        let rows = self.kept();
        let of = |c: usize| rows.iter().filter_map(|row| row.values.get(c).copied()).collect();
        (0..channels).map(of).collect()
    }

    /// Takes the rows of one call into account.
    pub(super) fn observe(&mut self, values: &[f32], layout: Layout) {
        let seed = seed(values);
        let Layout { channels, inner, .. } = layout;
        for at in 0..layout.outer * inner {
            let priority = mixed(seed.wrapping_add((at as u64).wrapping_mul(GOLDEN)));
            if priority > self.bar {
                continue;
            }
            let first = at / inner * channels * inner + at % inner;
            let values = values[first..].iter().step_by(inner).take(channels).copied().collect();
            self.insert(Row { priority, values });
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for row in &other.candidates {
            if row.priority <= self.bar {
                self.insert(row.clone());
            }
        }
    }

    fn insert(&mut self, row: Row) {
        self.candidates.push(row);
        if self.candidates.len() >= self.most + self.most / SPARE {
            let (_, last, _) = self.candidates.select_nth_unstable_by(self.most - 1, Row::order);
            self.bar = last.priority;
            self.candidates.truncate(self.most);
        }
    }
}

/// A number that hardly any other call has: from values spread over all of it.
fn seed(values: &[f32]) -> u64 {
    let step = (values.len() / SEEN).max(1);
    let start = values.len() as u64;
    values.iter().step_by(step).fold(start, |seed, x| mixed(seed ^ u64::from(x.to_bits())))
}

/// The output function of `splitmix64`.
fn mixed(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(GOLDEN);
    bits = (bits ^ (bits >> 30)).wrapping_mul(MIX[0]);
    bits = (bits ^ (bits >> 27)).wrapping_mul(MIX[1]);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::Rows;
    use crate::terms::Layout;

    #[test]
    fn few_rows_are_all_kept_and_many_give_each_part_its_share() {
        let channels = 3;
        let few: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut rows = Rows::new(channels);
        // Channels of four values in a block.
        rows.observe(&few, Layout { outer: 1, channels, inner: 4 });
        let mut second = rows.by_channel(channels)[1].clone();
        second.sort_by(f32::total_cmp);
        assert_eq!(second, [4.0, 5.0, 6.0, 7.0]);

        let mut rows = Rows::new(channels);
        for call in 0..10 {
            let values: Vec<f32> =
                (0..channels * 1600).map(|i| (call * 1600 + i / channels) as f32 + 0.25).collect();
            rows.observe(&values, Layout { outer: 1600, channels, inner: 1 });
        }
        // Whole rows, none twice, from everywhere: 205 of each call are expected, with a deviation of 14.
        let (priorities, values) = rows.parts();
        assert_eq!(priorities.len(), 2048);
        assert!(values.chunks(3).all(|row| row[0] == row[1] && row[1] == row[2]));
        let mut all = rows.by_channel(channels).remove(0);
        all.sort_by(f32::total_cmp);
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        for call in 0..10 {
            let own = all.iter().filter(|x| (**x / 1600.0) as usize == call).count();
            assert!((150..=260).contains(&own), "{own}");
        }
    }

    #[test]
    fn parts_that_are_no_sample_are_refused() {
        let rows = |priorities: &[u64], values: &[f32]| Rows::from_parts(2, priorities, values);
        assert!(rows(&[1, 1, 5], &[f32::NAN; 6]).is_some());
        assert!(rows(&[2, 1], &[0.0; 4]).is_none());
        assert!(rows(&[1, 1], &[1.0, 0.0, 0.0, 0.0]).is_none());
        assert!(rows(&[1], &[0.0; 3]).is_none());
        assert!(
            rows(&(0..2049).collect::<Vec<_>>(), &std::iter::repeat_n(0.0, 4098).collect::<Vec<_>>())
                .is_none()
        );
        assert!(Rows::from_parts(0, &[1], &[]).is_none());
    }
}
