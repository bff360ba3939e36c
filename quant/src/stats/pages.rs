//! The counts of all buckets of one sketch.

use std::collections::BTreeMap;

use super::buckets::{Bucket, PAGE, PAGES, key};
use crate::exec::kernels::count::{ASIDE, Tally, Window, count_values};
use crate::exec::kernels::dispatch::multiversion;

/// Counts in a cache line.
const LINE: usize = 32;
/// Values counted before anything is checked.
const PART: usize = 4096;
/// Pages of either sign.
const HALF: usize = PAGES / 2;
/// Pages made below and above the magnitudes that are there, because the next samples go a little further: the more
/// values, the closer to zero the smallest one is.
const ROOM: (usize, usize) = (3, 1);

/// Counts of finite non-zero values by key.
///
/// What is observed is counted in a window of magnitudes that widens as values come. The counts are incremented where
/// they stay: copying them from a table of the thread would cost more than the increments of a small tensor.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    /// Whole pages.
    window: Window,
    /// Of the window; narrow, because the counts of all sites together should stay in the caches while the model runs.
    /// What is counted aside is not part of the sketch and is zero between calls.
    counts: Vec<u16>,
    /// What no longer fitted into `counts`, and what came from other sketches. Few pages, however far apart.
    carried: BTreeMap<usize, Box<[u64; PAGE]>>,
    /// No count of the window is larger.
    bound: u64,
}

impl Pages {
    pub(super) fn new() -> Self {
        let window = Window::default();
        Self { window, counts: vec![0; window.places()], carried: BTreeMap::new(), bound: 0 }
    }

    /// Pages of the window with the places where their counts begin.
    fn windowed(window: Window) -> impl Iterator<Item = (usize, usize)> {
        let (first, pages) = (window.first as usize / PAGE, window.span as usize / PAGE);
        (0..2).flat_map(move |sign| {
            (0..pages).map(move |page| (sign * HALF + first + page, ASIDE + (sign * pages + page) * PAGE))
        })
    }

    /// Where the counts of a page of the window begin.
    fn place(window: Window, page: usize) -> Option<usize> {
        let (first, pages) = (window.first as usize / PAGE, window.span as usize / PAGE);
        let at = (page % HALF).checked_sub(first).filter(|&at| at < pages)?;
        Some(ASIDE + (page / HALF * pages + at) * PAGE)
    }

    /// Makes room for `more`, at most [`u16::MAX`], in every count.
    fn reserve(&mut self, more: u64) {
        let room = u64::from(u16::MAX) - more;
        if self.bound > room {
            self.bound = u64::from(largest(&self.counts));
        }
        if self.bound > room {
            for (page, place) in Self::windowed(self.window) {
                let counts = &mut self.counts[place..place + PAGE];
                if counts.iter().any(|&count| count > 0) {
                    let carried = self.carried.entry(page).or_insert_with(|| Box::new([0; PAGE]));
                    for (carried, count) in carried.iter_mut().zip(counts) {
                        *carried = carried.saturating_add(u64::from(std::mem::take(count)));
                    }
                }
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
            let tally = count_values(part, self.window, &mut self.counts);
            let aside: u32 = self.counts[..ASIDE].iter().map(|&count| u32::from(count)).sum();
            self.counts[..ASIDE].fill(0);
            if aside != tally.zeros + tally.non_finite {
                self.count_beyond(part);
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

    /// Widens the window to all values of a block and counts those that it did not hold.
    #[cold]
    fn count_beyond(&mut self, values: &[f32]) {
        let before = self.window;
        let old = before.first as usize / PAGE..(before.first + before.span) as usize / PAGE;
        let mut pages = old.clone();
        let beyond: Vec<usize> = values
            .iter()
            .filter(|value| **value != 0.0 && value.is_finite())
            .map(|value| key(*value))
            .filter(|key| !old.contains(&(key / PAGE % HALF)))
            .collect();
        for page in beyond.iter().map(|key| key / PAGE % HALF) {
            let (low, high) = (page.saturating_sub(ROOM.0), (page + 1 + ROOM.1).min(HALF - 1));
            pages = if pages.is_empty() {
                low..high
            } else if page < pages.start {
                low..pages.end
            } else if page >= pages.end {
                pages.start..high
            } else {
                pages
            };
        }
        self.window = Window { first: (pages.start * PAGE) as u32, span: (pages.len() * PAGE) as u32 };
        let counts = std::mem::replace(&mut self.counts, vec![0; self.window.places()]);
        for (page, from) in Self::windowed(before) {
            if let Some(to) = Self::place(self.window, page) {
                self.counts[to..to + PAGE].copy_from_slice(&counts[from..from + PAGE]);
            }
        }
        for key in beyond {
            if let Some(place) = Self::place(self.window, key / PAGE) {
                self.counts[place + key % PAGE] += 1;
            }
        }
    }

    /// Adds counts to a page; `false` if there is no such page.
    pub(super) fn add(&mut self, page: usize, counts: &[u64; PAGE]) -> bool {
        if page % HALF >= HALF - 1 || page >= PAGES {
            return false;
        }
        let carried = self.carried.entry(page).or_insert_with(|| Box::new([0; PAGE]));
        for (ours, &more) in carried.iter_mut().zip(counts) {
            *ours = ours.saturating_add(more);
        }
        true
    }

    /// The counts of a page, if there are any.
    fn page(&self, page: usize) -> Option<[u64; PAGE]> {
        let carried = self.carried.get(&page);
        let place = Self::place(self.window, page);
        let own = place.map(|place| &self.counts[place..place + PAGE]).filter(|own| largest(own) > 0);
        // Most of all pages are none.
        if carried.is_none() && own.is_none() {
            return None;
        }
        let mut counts = carried.map_or([0; PAGE], |carried| **carried);
        for (all, &count) in counts.iter_mut().zip(own.unwrap_or_default()) {
            *all = all.saturating_add(u64::from(count));
        }
        counts.iter().any(|&count| count > 0).then_some(counts)
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
        let (min, max) = (f64::from(min), f64::from(max));
        let mut buckets = Vec::with_capacity(1024);
        let mut push = |page: usize, slot: usize, count: u64| {
            if count > 0 {
                let (lo, hi) = Bucket::edges(page * PAGE + slot);
                buckets.push(Bucket { lo: lo.clamp(min, max), hi: hi.clamp(min, max), count });
            }
        };
        for page in (HALF..PAGES).rev() {
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
        for page in 0..HALF {
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

/// Equal when the counts are: how wide the window is does not matter.
impl PartialEq for Pages {
    fn eq(&self, other: &Self) -> bool {
        self.used().eq(other.used())
    }
}

multiversion! {
    /// The largest count.
    fn largest(counts: &[u16]) -> u16 {
        counts.iter().fold(0, |largest, &count| largest.max(count))
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
