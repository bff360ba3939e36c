//! A sample of rows: one value of every channel, at places drawn from everything that was seen.

use crate::exec::kernels::dispatch::multiversion;
use crate::terms::Layout;
use std::cmp::Ordering;

/// Values that all rows hold together at most.
const MOST_VALUES: usize = 3 << 15;
/// And rows, however few or many channels there are.
const ROWS: std::ops::RangeInclusive<usize> = 32..=3072;
/// One in so many more rows than are kept are there before the highest go.
const SPARE: usize = 4;
/// Rows whose priorities are drawn together.
const PART: usize = 64;
/// Values of a call that its number is made of.
const SEEN: usize = 64;
/// Odd constants of `splitmix64` (Steele, Lea and Flood, OOPSLA 2014).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX: [u64; 2] = [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];

/// The rows of least priority of all that were seen; a row is one value of every channel.
///
/// The priority of a row is a pseudo-random number that depends on its place in the call and on some of the values of the
/// call: every row is as likely to stay as any other, and what stays does not depend on the order of the calls or of the
/// merges. Values are kept as they are, non-finite ones included.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    channels: usize,
    /// The rows that are kept and some more, in any order.
    candidates: Vec<Candidate>,
    /// Of the candidates by their slots, and what stood in slots that are free.
    values: Vec<f32>,
    free: Vec<u32>,
    most: usize,
    /// A row of a higher priority is none of the least.
    bar: u64,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    priority: u64,
    slot: u32,
}

/// Equal when the bits of the rows that are kept are: a NaN is itself.
impl PartialEq for Rows {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.kept(), other.kept());
        let same = |(a, b): (&Candidate, &Candidate)| {
            a.priority == b.priority && in_order(self.row(*a), other.row(*b)) == Ordering::Equal
        };
        ours.len() == theirs.len() && ours.iter().zip(&theirs).all(same)
    }
}

impl Rows {
    /// None yet, of `channels` values each.
    pub(super) fn new(channels: usize) -> Self {
        let (candidates, values, free) = Default::default();
        Self { channels, candidates, values, free, most: Self::most(channels), bar: u64::MAX }
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
        let candidates =
            priorities.iter().zip(0..).map(|(&priority, slot)| Candidate { priority, slot }).collect();
        let rows = Self { candidates, values: values.to_vec(), ..Self::new(channels) };
        let ordered = rows.candidates.is_sorted_by(|a, b| rows.order(*a, *b) != Ordering::Greater);
        ordered.then_some(rows)
    }

    /// The values of a candidate.
    fn row(&self, candidate: Candidate) -> &[f32] {
        row_of(&self.values, self.channels, candidate)
    }

    /// By priority; rows of one priority by their bits, so that it does not matter which came first.
    fn order(&self, a: Candidate, b: Candidate) -> Ordering {
        a.priority.cmp(&b.priority).then_with(|| in_order(self.row(a), self.row(b)))
    }

    /// The rows of least priority in their order.
    fn kept(&self) -> Vec<Candidate> {
        let mut rows = self.candidates.clone();
        rows.sort_unstable_by(|a, b| self.order(*a, *b));
        rows.truncate(self.most);
        rows
    }

    /// Priorities, ascending, and values row after row.
    pub(super) fn parts(&self) -> (Vec<u64>, Vec<f32>) {
        let rows = self.kept();
        let values = rows.iter().flat_map(|row| self.row(*row).iter().copied()).collect();
        (rows.iter().map(|row| row.priority).collect(), values)
    }

    /// The values of every channel.
    pub(super) fn by_channel(&self) -> Vec<Vec<f32>> {
        let rows = self.kept();
        let of = |c: usize| rows.iter().filter_map(|row| self.row(*row).get(c).copied()).collect();
        (0..self.channels).map(of).collect()
    }

    /// Takes the rows of one call into account.
    pub(super) fn observe(&mut self, values: &[f32], layout: Layout) {
        let seed = seed(values);
        let Layout { channels, inner, .. } = layout;
        let rows = layout.outer * inner;
        let mut priorities = [0; PART];
        for start in (0..rows).step_by(PART) {
            let priorities = &mut priorities[..PART.min(rows - start)];
            if !draw(seed, start as u64, self.bar, priorities) {
                continue;
            }
            for (at, &priority) in (start..).zip(priorities.iter()) {
                if priority <= self.bar {
                    let first = at / inner * channels * inner + at % inner;
                    if inner == 1 {
                        self.insert(priority, values[first..first + channels].iter().copied());
                    } else {
                        self.insert(priority, values[first..].iter().step_by(inner).take(channels).copied());
                    }
                }
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for row in &other.candidates {
            if row.priority <= self.bar {
                self.insert(row.priority, other.row(*row).iter().copied());
            }
        }
    }

    /// Puts a row among the candidates; when they are too many, those that cannot stay leave their slots.
    fn insert(&mut self, priority: u64, row: impl Iterator<Item = f32>) {
        let slot = if let Some(slot) = self.free.pop() {
            let first = slot as usize * self.channels;
            self.values[first..first + self.channels].iter_mut().zip(row).for_each(|(to, from)| *to = from);
            slot
        } else {
            self.values.extend(row);
            self.candidates.len() as u32
        };
        self.candidates.push(Candidate { priority, slot });
        if self.candidates.len() >= self.most + self.most / SPARE {
            let (values, channels) = (&self.values, self.channels);
            let order = |a: &Candidate, b: &Candidate| {
                let values = || in_order(row_of(values, channels, *a), row_of(values, channels, *b));
                a.priority.cmp(&b.priority).then_with(values)
            };
            let (_, last, _) = self.candidates.select_nth_unstable_by(self.most - 1, order);
            self.bar = last.priority;
            self.free.extend(self.candidates.drain(self.most..).map(|gone| gone.slot));
        }
    }
}

/// The values of a candidate among all.
fn row_of(values: &[f32], channels: usize, candidate: Candidate) -> &[f32] {
    let first = candidate.slot as usize * channels;
    &values[first..first + channels]
}

/// By their bits.
fn in_order(a: &[f32], b: &[f32]) -> Ordering {
    a.iter().map(|x| x.to_bits()).cmp(b.iter().map(|x| x.to_bits()))
}

multiversion! {
    /// The priorities of rows from `start` on, and whether one of them is at most `bar`.
    fn draw(seed: u64, start: u64, bar: u64, priorities: &mut [u64]) -> bool {
        let mut least = u64::MAX;
        for (at, priority) in priorities.iter_mut().enumerate() {
            *priority = mixed(seed.wrapping_add((start + at as u64).wrapping_mul(GOLDEN)));
            least = least.min(*priority);
        }
        least <= bar
    }
}

/// A number that hardly any other call has: from values spread over all of it.
fn seed(values: &[f32]) -> u64 {
    let step = (values.len() / SEEN).max(1);
    let start = values.len() as u64;
    values.iter().step_by(step).fold(start, |seed, x| mixed(seed ^ u64::from(x.to_bits())))
}

/// The output function of `splitmix64`.
#[inline(always)]
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
        let mut second = rows.by_channel()[1].clone();
        second.sort_by(f32::total_cmp);
        assert_eq!(second, [4.0, 5.0, 6.0, 7.0]);

        let mut rows = Rows::new(channels);
        for call in 0..10 {
            let values: Vec<f32> =
                (0..channels * 1600).map(|i| (call * 1600 + i / channels) as f32 + 0.25).collect();
            rows.observe(&values, Layout { outer: 1600, channels, inner: 1 });
        }
        // Whole rows, none twice, from everywhere: 307 of each call are expected, with a deviation of 16.
        let (priorities, values) = rows.parts();
        assert_eq!(priorities.len(), 3072);
        assert!(values.chunks(3).all(|row| row[0] == row[1] && row[1] == row[2]));
        let mut all = rows.by_channel().remove(0);
        all.sort_by(f32::total_cmp);
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        for call in 0..10 {
            let own = all.iter().filter(|x| (**x / 1600.0) as usize == call).count();
            assert!((245..=370).contains(&own), "{own}");
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
            rows(&(0..3073).collect::<Vec<_>>(), &std::iter::repeat_n(0.0, 6146).collect::<Vec<_>>())
                .is_none()
        );
        assert!(Rows::from_parts(0, &[1], &[]).is_none());
    }
}
