//! The counts of all buckets of one sketch.

use super::buckets::{Bucket, PAGE, PAGES, key};
use crate::exec::kernels::dispatch::multiversion;

/// Values whose keys are taken together, in vector registers, before they are counted one by one.
const CHUNK: usize = 64;
/// Zeros are counted in one bucket per position in a group of so many, so that runs of them do not wait for their
/// own increments.
const LANES: usize = 16;
/// Counts in a cache line.
const LINE: usize = 32;
/// Values counted before anything is checked.
const PART: usize = 4096;
/// Takes the keys of zeros; a page of non-finite values, which has no counts of its own.
const ASIDE: u32 = (PAGES as u32 - 1) * PAGE as u32;

/// Counts of finite non-zero values by key; a page is allocated when it is first touched.
///
/// The counts are incremented where they stay: copying them from a table of the thread would cost more than the
/// increments of a small tensor.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    /// What to add to a key, wrapping, for the place of its count. Pages without counts share the first [`PAGE`]
    /// places, whose content is not part of the sketch and is zero between calls.
    offsets: Box<[u32; PAGES]>,
    /// Narrow, because the counts of all sites together should stay in the caches while the model runs.
    counts: Vec<u16>,
    /// What no longer fitted into `counts`: empty or as long.
    carried: Vec<u64>,
    /// No count is larger.
    bound: u64,
}

/// What a block of values holds besides finite non-zero ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// Zeros of either sign.
    pub(super) zeros: u32,
    /// NaN and infinities.
    pub(super) non_finite: u32,
}

impl Pages {
    pub(super) fn new() -> Self {
        let offsets = Box::new(std::array::from_fn(|page| offset(page, 0)));
        Self { offsets, counts: vec![0; PAGE], carried: Vec::new(), bound: 0 }
    }

    /// Where the counts of a page begin; 0 if it has none.
    fn place(&self, page: usize) -> usize {
        self.offsets[page].wrapping_add(offset(0, page * PAGE)) as usize
    }

    /// The same, with counts made if need be.
    fn make(&mut self, page: usize) -> usize {
        if self.place(page) == 0 {
            self.offsets[page] = offset(page, self.counts.len());
            self.counts.resize(self.counts.len() + PAGE, 0);
            if !self.carried.is_empty() {
                self.carried.resize(self.counts.len(), 0);
            }
        }
        self.place(page)
    }

    /// Makes room for `more`, at most [`u16::MAX`], in every count.
    fn reserve(&mut self, more: u64) {
        let room = u64::from(u16::MAX) - more;
        if self.bound > room {
            self.bound = u64::from(largest(&self.counts));
        }
        if self.bound > room {
            self.carried.resize(self.counts.len(), 0);
            for (carried, count) in self.carried.iter_mut().zip(&mut self.counts) {
                *carried = carried.saturating_add(u64::from(std::mem::take(count)));
            }
            self.bound = 0;
        }
        self.bound += more;
    }

    /// Counts values and says what among them has no bucket.
    pub(super) fn count(&mut self, values: &[f32]) -> Tally {
        let mut all = Tally::default();
        for part in values.chunks(PART) {
            self.reserve(part.len() as u64);
            let tally = count(part, &self.offsets, &mut self.counts);
            let aside: u32 = self.counts[..PAGE].iter().map(|&count| u32::from(count)).sum();
            self.counts[..PAGE].fill(0);
            if aside != tally.zeros + tally.non_finite {
                self.count_new_pages(part);
            }
            all.zeros += tally.zeros;
            all.non_finite += tally.non_finite;
        }
        all
    }

    /// Reads the counts in order, which brings them into the cache sooner than the increments, in the order of the
    /// values, would.
    pub(super) fn touch(&self) {
        std::hint::black_box(self.counts.iter().step_by(LINE).fold(0, |all, count| all ^ count));
    }

    /// Counts the values of a block whose pages are not there yet.
    #[cold]
    fn count_new_pages(&mut self, values: &[f32]) {
        let mut new = [false; PAGES];
        for &value in values {
            let key = key(value);
            let page = key / PAGE;
            if value == 0.0 || !value.is_finite() {
                continue;
            }
            if self.place(page) == 0 {
                new[page] = true;
                self.make(page);
            }
            if new[page] {
                let place = self.place(page) + key % PAGE;
                self.counts[place] += 1;
            }
        }
    }

    /// Adds counts to a page; `false` if there is no such page.
    pub(super) fn add(&mut self, page: usize, counts: &[u64; PAGE]) -> bool {
        if page % (PAGES / 2) >= PAGES / 2 - 1 || page >= PAGES {
            return false;
        }
        let place = self.make(page);
        let largest = counts.iter().copied().max().unwrap_or(0);
        if u16::try_from(largest).is_ok() {
            self.reserve(largest);
            for (ours, &more) in self.counts[place..].iter_mut().zip(counts) {
                *ours += more as u16;
            }
        } else {
            self.carried.resize(self.counts.len(), 0);
            for (ours, &more) in self.carried[place..].iter_mut().zip(counts) {
                *ours = ours.saturating_add(more);
            }
        }
        true
    }

    /// The counts of a page, if there are any.
    fn page(&self, page: usize) -> Option<[u64; PAGE]> {
        let place = self.place(page);
        if place == 0 {
            return None;
        }
        let mut counts = [0; PAGE];
        for (all, &count) in counts.iter_mut().zip(&self.counts[place..]) {
            *all = u64::from(count);
        }
        if let Some(carried) = self.carried.get(place..) {
            counts.iter_mut().zip(carried).for_each(|(all, &more)| *all = all.saturating_add(more));
        }
        Some(counts)
    }

    /// Pages in use with their numbers.
    pub(super) fn used(&self) -> impl Iterator<Item = (usize, [u64; PAGE])> {
        (0..PAGES).filter_map(|at| Some((at, self.page(at)?)))
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (at, theirs) in other.used() {
            self.add(at, &theirs);
        }
    }

    /// Non-empty buckets from the lowest value to the highest, `zeros` exact zeros among them, edges cut to
    /// `[min, max]`.
    pub(super) fn ascending(&self, zeros: u64, min: f32, max: f32) -> Vec<Bucket> {
        let half = PAGES / 2;
        let (min, max) = (f64::from(min), f64::from(max));
        let mut buckets = Vec::with_capacity(1024);
        let mut push = |page: usize, slot: usize, count: u64| {
            if count > 0 {
                let (lo, hi) = Bucket::edges(page * PAGE + slot);
                buckets.push(Bucket { lo: lo.clamp(min, max), hi: hi.clamp(min, max), count });
            }
        };
        for page in (half..PAGES).rev() {
            if let Some(counts) = self.page(page) {
                counts.iter().enumerate().rev().for_each(|(slot, &count)| push(page, slot, count));
            }
        }
        let negative = buckets.len();
        let mut push = |page: usize, slot: usize, count: u64| {
            if count > 0 {
                let (lo, hi) = Bucket::edges(page * PAGE + slot);
                buckets.push(Bucket { lo: lo.clamp(min, max), hi: hi.clamp(min, max), count });
            }
        };
        for page in 0..half {
            if let Some(counts) = self.page(page) {
                counts.iter().enumerate().for_each(|(slot, &count)| push(page, slot, count));
            }
        }
        if zeros > 0 {
            buckets.insert(negative, Bucket { lo: 0.0, hi: 0.0, count: zeros });
        }
        buckets
    }
}

/// Equal when the counts are: in which order pages were made does not matter.
impl PartialEq for Pages {
    fn eq(&self, other: &Self) -> bool {
        self.used().eq(other.used())
    }
}

/// What leads from the keys of `page` to `place` and the places after it.
const fn offset(page: usize, place: usize) -> u32 {
    (place as u32).wrapping_sub((page * PAGE) as u32)
}

multiversion! {
    /// Increments the counts of all values; zeros and what has no page are counted in the first [`PAGE`] places.
    fn count(values: &[f32], offsets: &[u32; PAGES], counts: &mut [u16]) -> Tally {
        let (mut zeros, mut non_finite) = ([0; LANES], [0; LANES]);
        let mut keys = [0; CHUNK];
        let (chunks, rest) = values.as_chunks::<CHUNK>();
        for chunk in chunks {
            take_keys(chunk, &mut keys, &mut zeros, &mut non_finite);
            increment(&keys, offsets, counts);
        }
        if !rest.is_empty() {
            // Filled up with what is neither zero nor without end.
            let mut chunk = [1.0; CHUNK];
            chunk[..rest.len()].copy_from_slice(rest);
            take_keys(&chunk, &mut keys, &mut zeros, &mut non_finite);
            increment(&keys[..rest.len()], offsets, counts);
        }
        Tally { zeros: zeros.iter().sum(), non_finite: non_finite.iter().sum() }
    }
}

/// The largest count.
fn largest(counts: &[u16]) -> u16 {
    counts.iter().fold(0, |largest, &count| largest.max(count))
}

/// The keys of a chunk, those of zeros replaced, and counts of what is special.
#[inline(always)]
fn take_keys(
    chunk: &[f32; CHUNK],
    keys: &mut [u32; CHUNK],
    zeros: &mut [u32; LANES],
    non_finite: &mut [u32; LANES],
) {
    for (values, keys) in chunk.as_chunks::<LANES>().0.iter().zip(keys.as_chunks_mut::<LANES>().0) {
        for lane in 0..LANES {
            let magnitude = values[lane].to_bits() & 0x7fff_ffff;
            let zero = magnitude == 0;
            zeros[lane] += u32::from(zero);
            non_finite[lane] += u32::from(magnitude >= f32::INFINITY.to_bits());
            keys[lane] = if zero { ASIDE + lane as u32 } else { key(values[lane]) as u32 };
        }
    }
}

#[inline(always)]
fn increment(keys: &[u32], offsets: &[u32; PAGES], counts: &mut [u16]) {
    for &key in keys {
        let place = key.wrapping_add(offsets[key as usize / PAGE % PAGES]);
        counts[place as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE, Pages, Tally};
    use crate::exec::kernels::dispatch::with_each_isa;

    #[test]
    fn buckets_ascend_with_zeros_between_the_signs() {
        let values = [3.0_f32, -2.0, 0.0, 0.5, -0.25, -0.0, 3.0];
        let mut pages = Pages::new();
        assert_eq!(pages.count(&values), Tally { zeros: 2, non_finite: 0 });
        let buckets = pages.ascending(2, -2.0, 3.0);
        assert_eq!(buckets.iter().map(|bucket| bucket.count).collect::<Vec<_>>(), [1, 1, 2, 1, 2]);
        assert!(buckets.windows(2).all(|pair| pair[0].hi <= pair[1].lo));
        assert_eq!((buckets[0].lo, buckets[4].hi), (-2.0, 3.0));
        assert_eq!(pages.used().count(), 4);
    }

    #[test]
    fn every_instruction_set_counts_alike() {
        let special = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-45, -1e-45, f32::MAX];
        let values: Vec<f32> = (0..1000)
            .map(
                |i: i32| if i % 7 == 0 { special[i as usize % 8] } else { (i as f32 - 500.0).powi(3) * 1e-3 },
            )
            .collect();
        let finite = values.iter().filter(|x| x.is_finite() && **x != 0.0).count() as u64;
        let mut first: Option<(Pages, Tally)> = None;
        with_each_isa(|_| {
            let mut pages = Pages::new();
            let tally = pages.count(&values);
            // A second time, when all pages are there.
            assert_eq!(pages.count(&values), tally);
            assert_eq!(pages.used().flat_map(|(_, counts)| counts).sum::<u64>(), 2 * finite);
            assert_eq!(values.len() as u64, finite + u64::from(tally.zeros + tally.non_finite));
            let expected = first.get_or_insert_with(|| (pages.clone(), tally));
            assert_eq!(*expected, (pages, tally));
        });
    }

    #[test]
    fn counts_beyond_16_bits_are_carried() {
        let mut large = [0; PAGE];
        large[3] = u64::from(u16::MAX) - 1;
        large[4] = 7;
        let (mut a, mut b) = (Pages::new(), Pages::new());
        for _ in 0..3 {
            assert!(a.add(127, &large));
            a.count(&[1.0; 5]);
        }
        b.add(126, &[1; PAGE]);
        b.merge(&a);
        a.add(126, &[1; PAGE]);
        assert_eq!(a, b);
        let (_, counts) = a.used().last().unwrap();
        assert_eq!((counts[0], counts[3], counts[4]), (15, 3 * large[3], 21));
        large[3] = u64::MAX;
        assert!(a.add(127, &large) && a.add(127, &large) && !a.add(255, &large) && !a.add(512, &large));
        assert_eq!(a.used().last().unwrap().1[3], u64::MAX);
    }
}
