//! The outermost values of a whole tensor, kept exactly.

use crate::exec::kernels::dispatch::multiversion;

/// Values compared at once.
const LANES: usize = 16;

/// Values kept at either end of the whole tensor.
pub const TAIL: usize = 256;

/// So many candidates are cut to those that matter.
const FULL: usize = 2 * TAIL;
/// Candidates that are kept beside the [`TAIL`] that count, if that spares the search for the last one of these.
const SLACK: usize = TAIL / 8;
const MOST: usize = TAIL + SLACK;
/// Halvings of the range in that search. Where they do not suffice, many candidates are nearly equal.
const HALVINGS: usize = 16;

/// The [`TAIL`] largest of all values seen. The smallest ones are kept by giving it the negated values.
///
/// The result is a multiset, so order and grouping of the values do not matter. Values are finite and never
/// −0, whose place among equal values would depend on the order.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    /// Room for candidates; empty until there is one.
    room: Vec<f32>,
    /// The candidates are so many of these, fewer than [`FULL`]; the largest [`TAIL`] count.
    len: usize,
    /// A value must exceed this to matter; all candidates do.
    bar: f32,
}

impl Tail {
    pub(super) fn new() -> Self {
        Self { room: Vec::new(), len: 0, bar: f32::NEG_INFINITY }
    }

    /// A value that does not exceed this changes nothing.
    #[inline(always)]
    pub(super) fn bar(&self) -> f32 {
        self.bar
    }

    /// Takes a finite value into account.
    #[inline]
    pub(super) fn offer(&mut self, value: f32) {
        if value > self.bar {
            self.take::<false>(&[value]);
        }
    }

    /// Takes finite values into account, at most [`LANES`], negated ones if `NEGATE`.
    #[inline(always)]
    fn take<const NEGATE: bool>(&mut self, values: &[f32]) {
        // Every value is written down, but the next one goes over it if it does not matter: a branch would be guessed
        // wrong about as often as there are candidates.
        self.room.resize(FULL + LANES, 0.0);
        for &value in values {
            // +0.0 turns −0 into +0.
            let value = if NEGATE { 0.0 - value } else { value + 0.0 };
            self.room[self.len] = value;
            self.len += usize::from(value > self.bar);
        }
        if self.len >= FULL {
            self.compact();
        }
    }

    /// Leaves fewer candidates, at least [`TAIL`].
    #[cold]
    fn compact(&mut self) {
        let candidates = &mut self.room[..self.len];
        if let Some(bar) = bar_among(candidates) {
            let mut kept = 0;
            for at in 0..candidates.len() {
                let value = candidates[at];
                candidates[kept] = value;
                kept += usize::from(value > bar);
            }
            (self.len, self.bar) = (kept, bar);
        } else {
            let (_, &mut bar, _) = candidates.select_nth_unstable_by(TAIL - 1, |a, b| b.total_cmp(a));
            (self.len, self.bar) = (TAIL, bar);
        }
    }

    /// Takes finite values into account, and their negatives in `bottom`.
    pub(super) fn offer_all(values: &[f32], tails: &mut [Self; 2]) {
        let [top, bottom] = tails;
        offer_both(values, top, bottom);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        other.room[..other.len].iter().for_each(|&value| self.offer(value));
    }

    /// The values from the largest down, at most [`TAIL`].
    pub(super) fn descending(&self) -> Vec<f32> {
        let mut values = self.room[..self.len].to_vec();
        values.sort_unstable_by(|a, b| b.total_cmp(a));
        values.truncate(TAIL);
        values
    }
}

/// Equal when the values that count are equal; leftover candidates are not compared.
impl PartialEq for Tail {
    fn eq(&self, other: &Self) -> bool {
        self.descending() == other.descending()
    }
}

multiversion! {
    fn offer_both(values: &[f32], top: &mut Tail, bottom: &mut Tail) {
        let (chunks, rest) = values.as_chunks::<LANES>();
        for chunk in chunks {
            let (high, low) = (top.bar, -bottom.bar);
            let mut any = 0;
            for &value in chunk {
                any |= u32::from(value > high) | u32::from(value < low);
            }
            if any != 0 {
                let (mut above, mut below) = (0, 0);
                for &value in chunk {
                    above |= u32::from(value > high);
                    below |= u32::from(value < low);
                }
                if above != 0 {
                    top.take::<false>(chunk);
                }
                if below != 0 {
                    bottom.take::<true>(chunk);
                }
            }
        }
        for &value in rest {
            top.offer(value + 0.0);
            bottom.offer(0.0 - value);
        }
    }

    /// What at least [`TAIL`] of the values exceed and at most [`SLACK`] more, if it is found soon.
    fn bar_among(values: &[f32]) -> Option<f32> {
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for &value in values {
            low = if value < low { value } else { low };
            high = if value > high { value } else { high };
        }
        for _ in 0..HALVINGS {
            let middle = low * 0.5 + high * 0.5;
            let above: u32 = values.iter().map(|&value| u32::from(value > middle)).sum();
            match above as usize {
                ..TAIL => high = middle,
                TAIL..=MOST => return Some(middle),
                _ => low = middle,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{FULL, LANES, TAIL, Tail};
    use crate::exec::kernels::dispatch::with_each_isa;
    use proptest::prelude::*;

    #[test]
    fn candidates_are_cut_whatever_they_are() {
        // Spread out, nearly all equal, of very different sizes, falling, rising.
        let cases: [fn(u32) -> f32; 5] = [
            |i| (i * 7919 % 4001) as f32,
            |i| if i % 100 == 0 { 2.0 + i as f32 } else { 1.0 },
            |i| f32::from_bits((i * 1_000_003) % 0x7f7f_ffff),
            |i| -(i as f32),
            |i| i as f32,
        ];
        for case in cases {
            let values: Vec<f32> = (0..4000).map(case).collect();
            let mut sorted = values.clone();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            let negated: Vec<f32> = sorted.iter().rev().take(TAIL).map(|x| 0.0 - x).collect();
            sorted.truncate(TAIL);
            with_each_isa(|_| {
                let mut tails = [Tail::new(), Tail::new()];
                for part in values.chunks(1021) {
                    Tail::offer_all(part, &mut tails);
                    assert!(tails.iter().all(|tail| tail.len < FULL && tail.room.len() == FULL + LANES));
                }
                assert_eq!(tails[0].descending(), sorted);
                assert_eq!(tails[1].descending(), negated);
            });
        }
    }

    proptest! {
        #[test]
        fn the_largest_survive(values in prop::collection::vec(-1e3_f32..1e3, 0..3000), cut in 0_usize..3000) {
            let mut sorted = values.clone();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            let cut = cut.min(values.len());
            let (mut left, mut right) = (Tail::new(), Tail::new());
            values[..cut].iter().for_each(|&v| left.offer(v));
            values[cut..].iter().for_each(|&v| right.offer(v));
            right.merge(&left);
            sorted.truncate(TAIL);
            prop_assert_eq!(right.descending(), sorted);
        }

        #[test]
        fn both_ends_at_once_are_as_value_by_value(values in prop::collection::vec(-60_i8..60, 0..3000)) {
            let values: Vec<f32> = values.into_iter().map(|x| f32::from(x) * 0.5).collect();
            let (mut both, mut top, mut bottom) = ([Tail::new(), Tail::new()], Tail::new(), Tail::new());
            for part in values.chunks(700) {
                Tail::offer_all(part, &mut both);
            }
            for &value in &values {
                top.offer(value + 0.0);
                bottom.offer(0.0 - value);
            }
            prop_assert!(both == [top, bottom]);
            let zeros = both.iter().flat_map(Tail::descending).filter(|x| *x == 0.0);
            prop_assert!(zeros.into_iter().all(f32::is_sign_positive));
        }
    }
}
