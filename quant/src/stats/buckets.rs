//! Counts in buckets taken from the bits of the values.
//!
//! The key of a value is its sign, its exponent and the top 8 bits of its mantissa (17 bits). A bucket is
//! therefore at most 1/256 of its value wide, needs no range in advance and means the same in every sketch.

use crate::exec::kernels::dispatch::multiversion;

/// Bits of a value below its key.
const SHIFT: u32 = 15;
/// Buckets of one sign and exponent.
pub(super) const PAGE: usize = 256;
/// Pages: two signs, 256 exponents.
pub(super) const PAGES: usize = 512;
/// All buckets.
pub(super) const BUCKETS: usize = PAGE * PAGES;

/// The bucket of a value.
#[inline(always)]
pub(super) const fn key(value: f32) -> usize {
    (value.to_bits() >> SHIFT) as usize
}

/// Values between `lo` and `hi`; the density inside is taken as uniform.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Lower edge.
    pub lo: f64,
    /// Upper edge; equal to `lo` where the value is known exactly.
    pub hi: f64,
    /// Values inside.
    pub count: u64,
}

impl Bucket {
    /// The middle, which stands for all values inside.
    pub fn middle(&self) -> f64 {
        0.5 * (self.lo + self.hi)
    }

    /// The edges of bucket `key`, in ascending order.
    fn edges(key: usize) -> (f64, f64) {
        let (inner, outer) = ((key as u32) << SHIFT, ((key as u32) + 1) << SHIFT);
        if key < BUCKETS / 2 {
            (f64::from(f32::from_bits(inner)), f64::from(f32::from_bits(outer)))
        } else {
            // The last negative key wraps to +0; no finite value has it.
            (f64::from(f32::from_bits(outer)), f64::from(f32::from_bits(inner)))
        }
    }
}

/// Counts of finite non-zero values by key; a page is allocated when it is first touched.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pages(Vec<Option<Box<[u64; PAGE]>>>);

impl Pages {
    pub(super) fn new() -> Self {
        Self(vec![None; PAGES])
    }

    /// The counts of a page, made if need be; `None` if there is no such page.
    pub(super) fn page_mut(&mut self, page: usize) -> Option<&mut [u64; PAGE]> {
        Some(self.0.get_mut(page)?.get_or_insert_with(|| Box::new([0; PAGE])))
    }

    /// Pages in use with their numbers.
    pub(super) fn used(&self) -> impl Iterator<Item = (usize, &[u64; PAGE])> {
        self.0.iter().enumerate().filter_map(|(at, page)| Some((at, page.as_deref()?)))
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (at, theirs) in other.used() {
            if let Some(ours) = self.page_mut(at) {
                ours.iter_mut().zip(theirs).for_each(|(a, b)| *a = a.saturating_add(*b));
            }
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
            if let Some(counts) = &self.0[page] {
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
            if let Some(counts) = &self.0[page] {
                counts.iter().enumerate().for_each(|(slot, &count)| push(page, slot, count));
            }
        }
        if zeros > 0 {
            buckets.insert(negative, Bucket { lo: 0.0, hi: 0.0, count: zeros });
        }
        buckets
    }
}

/// Per-thread counters that one `observe` fills and flushes: no look-up of pages for every value.
pub(super) struct Counter {
    /// Two tables, used in turn, so that runs of equal values do not wait for their own increments.
    even: Box<[u32; BUCKETS]>,
    odd: Box<[u32; BUCKETS]>,
    touched: [u8; PAGES],
}

impl Counter {
    pub(super) fn new() -> Self {
        let table = || -> Box<[u32; BUCKETS]> {
            // Through a Vec, so that no half megabyte passes over the stack.
            vec![0; BUCKETS]
                .into_boxed_slice()
                .try_into()
                .unwrap_or_else(|_| unreachable!("length is BUCKETS"))
        };
        Self { even: table(), odd: table(), touched: [0; PAGES] }
    }

    /// Counts at most 2^31 values between two flushes.
    #[inline]
    pub(super) fn count(&mut self, values: &[f32]) {
        let (even, odd, touched) = (&mut *self.even, &mut *self.odd, &mut self.touched);
        let mut pairs = values.chunks_exact(2);
        for pair in &mut pairs {
            let (a, b) = (key(pair[0]), key(pair[1]));
            even[a] += 1;
            odd[b] += 1;
            touched[a / PAGE] = 1;
            touched[b / PAGE] = 1;
        }
        for &value in pairs.remainder() {
            let a = key(value);
            even[a] += 1;
            touched[a / PAGE] = 1;
        }
    }

    /// Whether a NaN or an infinity was counted since the last flush.
    pub(super) fn met_non_finite(&self) -> bool {
        self.touched[PAGES / 2 - 1] | self.touched[PAGES - 1] != 0
    }

    /// Whether a zero may have been counted since the last flush: its bucket is shared with denormals.
    pub(super) fn met_zero(&self) -> bool {
        let negative = BUCKETS / 2;
        (self.even[0] | self.odd[0] | self.even[negative] | self.odd[negative]) != 0
    }

    /// Moves the counts of finite values into `pages`; `zeros` are the exact ±0 among them, kept elsewhere.
    pub(super) fn flush(&mut self, pages: &mut Pages, zeros: [u64; 2]) {
        for at in 0..PAGES {
            if std::mem::take(&mut self.touched[at]) == 0 {
                continue;
            }
            let range = at * PAGE..(at + 1) * PAGE;
            let (even, odd) = (&mut self.even[range.clone()], &mut self.odd[range]);
            let finite = at % (PAGES / 2) != PAGES / 2 - 1;
            let zeros = [at == 0, at == PAGES / 2]
                .iter()
                .zip(zeros)
                .map(|(&here, count)| if here { count } else { 0 })
                .sum::<u64>();
            let only_zeros = zeros > 0 && {
                let total: u64 = even.iter().zip(&*odd).map(|(&a, &b)| u64::from(a) + u64::from(b)).sum();
                total == zeros
            };
            if finite
                && !only_zeros
                && let Some(page) = pages.page_mut(at)
            {
                pour(page, even, odd);
                page[0] -= zeros;
            }
            even.fill(0);
            odd.fill(0);
        }
    }
}

multiversion! {
    /// Adds both tables' counts of a page.
    fn pour(page: &mut [u64; PAGE], even: &[u32], odd: &[u32]) {
        for ((count, &a), &b) in page.iter_mut().zip(even).zip(odd) {
            *count += u64::from(a) + u64::from(b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bucket, Counter, Pages, key};

    #[test]
    fn a_bucket_holds_its_values_and_is_narrow() {
        for value in [1.0_f32, -1.0, 1e-4, -3.7e8, 0.3, f32::MAX, f32::MIN_POSITIVE, -1e-42] {
            let (lo, hi) = Bucket::edges(key(value));
            let value = f64::from(value);
            assert!(lo <= value && value <= hi, "{value} not in [{lo}, {hi}]");
            if value.abs() >= f64::from(f32::MIN_POSITIVE) && hi.is_finite() {
                assert!(hi - lo <= value.abs() / 256.0 + f64::EPSILON, "{value}");
            }
        }
    }

    #[test]
    fn buckets_ascend_with_zeros_between_the_signs() {
        let values = [3.0_f32, -2.0, 0.0, 0.5, -0.25, -0.0, 3.0];
        let (mut counter, mut pages) = (Counter::new(), Pages::new());
        counter.count(&values);
        assert!(counter.met_zero() && !counter.met_non_finite());
        counter.flush(&mut pages, [1, 1]);
        let buckets = pages.ascending(2, -2.0, 3.0);
        assert_eq!(buckets.iter().map(|bucket| bucket.count).collect::<Vec<_>>(), [1, 1, 2, 1, 2]);
        assert!(buckets.windows(2).all(|pair| pair[0].hi <= pair[1].lo));
        assert_eq!((buckets[0].lo, buckets[4].hi), (-2.0, 3.0));
        assert_eq!(pages.used().count(), 4);
    }
}
