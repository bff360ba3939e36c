//! The largest and smallest values, kept exactly.

/// Values kept at either end of the whole tensor.
pub const TAIL: usize = 256;
/// Values kept at either end of every channel.
pub const CHANNEL_TAIL: usize = 8;

/// The [`TAIL`] largest of all values seen. The smallest ones are kept by giving it the negated values.
///
/// The result is a multiset, so order and grouping of the values do not matter. Values are finite and never
/// −0, whose place among equal values would depend on the order.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    /// At most `2 * TAIL` candidates, of which the largest `TAIL` count.
    values: Vec<f32>,
    /// A value must exceed this to matter.
    bar: f32,
}

impl Tail {
    pub(super) fn new() -> Self {
        Self { values: Vec::new(), bar: f32::NEG_INFINITY }
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
            self.values.push(value);
            if self.values.len() >= 2 * TAIL {
                self.compact();
            }
        }
    }

    #[cold]
    fn compact(&mut self) {
        let (_, &mut bar, _) = self.values.select_nth_unstable_by(TAIL - 1, |a, b| b.total_cmp(a));
        self.values.truncate(TAIL);
        self.bar = bar;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        other.values.iter().for_each(|&value| self.offer(value));
    }

    /// The values from the largest down, at most [`TAIL`].
    pub(super) fn descending(&self) -> Vec<f32> {
        let mut values = self.values.clone();
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

/// The [`CHANNEL_TAIL`] largest values of one channel from the largest down, −∞ where there are fewer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Top([f32; CHANNEL_TAIL]);

impl Top {
    pub(super) const EMPTY: Self = Self([f32::NEG_INFINITY; CHANNEL_TAIL]);

    /// A value that does not exceed this changes nothing.
    #[inline(always)]
    pub(super) const fn bar(&self) -> f32 {
        self.0[CHANNEL_TAIL - 1]
    }

    #[inline]
    pub(super) fn offer(&mut self, value: f32) {
        if value <= self.bar() {
            return;
        }
        // Every slot becomes the median of itself, its left neighbour and the value: an insertion without branches.
        let mut left = [f32::INFINITY; CHANNEL_TAIL];
        left[1..].copy_from_slice(&self.0[..CHANNEL_TAIL - 1]);
        for (slot, left) in self.0.iter_mut().zip(left) {
            let shifted = if left < value { left } else { value };
            *slot = if shifted > *slot { shifted } else { *slot };
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        other.values().for_each(|value| self.offer(value));
    }

    /// The values there are.
    pub(super) fn values(&self) -> impl Iterator<Item = f32> + '_ {
        self.0.iter().copied().take_while(|value| *value > f32::NEG_INFINITY)
    }

    pub(super) const fn slots(&self) -> &[f32; CHANNEL_TAIL] {
        &self.0
    }

    /// From slots as [`Top::slots`] gives them; `None` if they do not descend or hold a NaN or +∞.
    pub(super) fn from_slots(slots: [f32; CHANNEL_TAIL]) -> Option<Self> {
        let fine = slots.iter().all(|value| *value < f32::INFINITY)
            && slots.windows(2).all(|pair| pair[0] >= pair[1]);
        fine.then_some(Self(slots))
    }
}

#[cfg(test)]
mod tests {
    use super::{CHANNEL_TAIL, TAIL, Tail, Top};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_largest_survive(values in prop::collection::vec(-1e3_f32..1e3, 0..3000), cut in 0_usize..3000) {
            let mut sorted = values.clone();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            let cut = cut.min(values.len());
            let (mut left, mut right, mut top) = (Tail::new(), Tail::new(), Top::EMPTY);
            values[..cut].iter().for_each(|&v| left.offer(v));
            values[cut..].iter().for_each(|&v| right.offer(v));
            for &v in &values {
                top.offer(v);
            }
            right.merge(&left);
            let expected: Vec<f32> = sorted.iter().copied().take(TAIL).collect();
            prop_assert_eq!(right.descending(), expected);
            let expected: Vec<f32> = sorted.iter().copied().take(CHANNEL_TAIL).collect();
            prop_assert_eq!(top.values().collect::<Vec<_>>(), expected);
        }
    }
}
