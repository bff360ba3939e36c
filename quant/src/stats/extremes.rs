//! The outermost values of every channel, kept exactly.

use crate::exec::kernels::dispatch::multiversion;

/// Values compared at once.
const LANES: usize = 16;

/// Values kept at either end of every channel.
pub const CHANNEL_TAIL: usize = 8;

/// The [`CHANNEL_TAIL`] largest values of one channel from the largest down, −∞ where there are fewer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Top([f32; CHANNEL_TAIL]);

impl Top {
    #[cfg(test)]
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

/// A [`Top`] for every channel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tops {
    /// The largest values of all channels, then the second largest of all, and so on.
    slots: Vec<f32>,
    channels: usize,
}

impl Tops {
    pub(super) fn new(channels: usize) -> Self {
        Self { slots: vec![f32::NEG_INFINITY; channels * CHANNEL_TAIL], channels }
    }

    pub(super) fn from_channels(tops: &[Top]) -> Self {
        let mut all = Self::new(tops.len());
        tops.iter().enumerate().for_each(|(c, top)| all.put(c, *top));
        all
    }

    /// By channel, what a value must exceed to matter.
    pub(super) fn bars(&self) -> &[f32] {
        &self.slots[self.channels * (CHANNEL_TAIL - 1)..]
    }

    /// The values of channel `c`; `None` if there is no such channel.
    pub(super) fn get(&self, c: usize) -> Option<Top> {
        (c < self.channels).then(|| Top(std::array::from_fn(|slot| self.slots[slot * self.channels + c])))
    }

    /// The largest value of every channel, −∞ where there is none.
    pub(super) fn first(&self) -> &[f32] {
        &self.slots[..self.channels]
    }

    /// All channels in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Top> + '_ {
        (0..self.channels).filter_map(|c| self.get(c))
    }

    fn put(&mut self, c: usize, top: Top) {
        for (row, value) in self.slots.chunks_exact_mut(self.channels).zip(top.0) {
            row[c] = value;
        }
    }

    /// Takes finite values of channel `c` into account, negated ones if `negate`.
    pub(super) fn offer(&mut self, c: usize, values: &[f32], negate: bool) {
        let Some(mut top) = self.get(c) else { return };
        if negate {
            offer_run_negated(&mut top, values);
        } else {
            offer_run(&mut top, values);
        }
        self.put(c, top);
    }

    /// Takes whole rows of one finite value per channel into account, negated ones if `negate`. `fours` are the largest
    /// of every four rows (the smallest if `negate`), and `largest` those of all (the negated smallest): what these do
    /// not promise is not looked at.
    pub(super) fn offer_rows(&mut self, rows: &[f32], fours: &[f32], largest: &[f32], negate: bool) {
        let offer = if negate { offer_rows_negated } else { offer_rows };
        offer(&mut self.slots, self.channels, rows, fours, largest);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for row in other.slots.chunks_exact(other.channels.max(1)) {
            self.offer_rows(row, row, row, false);
        }
    }
}

#[inline(always)]
fn any_exceeds(values: &[f32; LANES], bars: &[f32; LANES]) -> bool {
    let mut any = 0;
    for lane in 0..LANES {
        any |= u32::from(values[lane] > bars[lane]);
    }
    any != 0
}

/// The values of some channels, −∞ where there are fewer than [`LANES`].
#[inline(always)]
fn take<const NEGATE: bool>(values: &[f32]) -> [f32; LANES] {
    let mut taken = [f32::NEG_INFINITY; LANES];
    for (taken, &value) in taken.iter_mut().zip(values) {
        // +0.0 turns −0 into +0.
        *taken = if NEGATE { 0.0 - value } else { value + 0.0 };
    }
    taken
}

/// Every slot becomes the median of itself, the slot before it and the value.
#[inline(always)]
fn insert(kept: &mut [[f32; LANES]; CHANNEL_TAIL], values: &[f32; LANES]) {
    for lane in 0..LANES {
        let value = values[lane];
        for slot in (1..CHANNEL_TAIL).rev() {
            let before = kept[slot - 1][lane];
            let shifted = if before < value { before } else { value };
            let own = kept[slot][lane];
            kept[slot][lane] = if own > shifted { own } else { shifted };
        }
        let own = kept[0][lane];
        kept[0][lane] = if own > value { own } else { value };
    }
}

/// Brings the values of every lane into descending order.
#[inline(always)]
fn sort(rows: &mut [[f32; LANES]; 4]) {
    let exchange = |a: f32, b: f32| if a > b { (a, b) } else { (b, a) };
    let [first, second, third, last] = rows;
    for lane in 0..LANES {
        let (a, b) = exchange(first[lane], second[lane]);
        let (c, d) = exchange(third[lane], last[lane]);
        let (most, c) = exchange(a, c);
        let (b, least) = exchange(b, d);
        let (b, c) = exchange(b, c);
        (first[lane], second[lane], third[lane], last[lane]) = (most, b, c, least);
    }
}

/// [`Tops::offer_rows`] for `len` channels from `start` on.
#[inline(always)]
fn offer_columns<const NEGATE: bool>(
    slots: &mut [f32],
    channels: usize,
    (start, len): (usize, usize),
    (rows, fours): (&[f32], &[f32]),
    largest: &[f32],
) {
    let at = |slot: usize| slot * channels + start..slot * channels + start + len;
    let bars = take::<false>(&slots[at(CHANNEL_TAIL - 1)]);
    if !any_exceeds(&take::<false>(&largest[start..start + len]), &bars) {
        return;
    }
    // By slots in registers while the rows pass.
    let mut kept = [[0.0; LANES]; CHANNEL_TAIL];
    for (slot, kept) in kept.iter_mut().enumerate() {
        *kept = take::<false>(&slots[at(slot)]);
    }
    for (rows, outermost) in rows.chunks(4 * channels).zip(fours.chunks_exact(channels)) {
        if !any_exceeds(&take::<NEGATE>(&outermost[start..start + len]), &kept[CHANNEL_TAIL - 1]) {
            continue;
        }
        let mut values = [[f32::NEG_INFINITY; LANES]; 4];
        for (values, row) in values.iter_mut().zip(rows.chunks_exact(channels)) {
            *values = take::<NEGATE>(&row[start..start + len]);
        }
        // Most often only the first ones matter then.
        sort(&mut values);
        for values in &values {
            if !any_exceeds(values, &kept[CHANNEL_TAIL - 1]) {
                break;
            }
            insert(&mut kept, values);
        }
    }
    for (slot, kept) in kept.iter().enumerate() {
        slots[at(slot)].copy_from_slice(&kept[..len]);
    }
}

/// [`Tops::offer_rows`] for all channels.
#[inline(always)]
fn offer_all_columns<const NEGATE: bool>(
    slots: &mut [f32],
    channels: usize,
    rows: (&[f32], &[f32]),
    largest: &[f32],
) {
    let whole = channels / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        offer_columns::<NEGATE>(slots, channels, (start, LANES), rows, largest);
    }
    if whole < channels {
        offer_columns::<NEGATE>(slots, channels, (whole, channels - whole), rows, largest);
    }
}

/// Takes values of one channel into account.
#[inline(always)]
fn offer_values<const NEGATE: bool>(top: &mut Top, values: &[f32]) {
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        let chunk = take::<NEGATE>(chunk);
        if any_exceeds(&chunk, &[top.bar(); LANES]) {
            for value in chunk {
                top.offer(value);
            }
        }
    }
    for &value in &take::<NEGATE>(rest)[..rest.len()] {
        top.offer(value);
    }
}

multiversion! {
    fn offer_run(top: &mut Top, values: &[f32]) {
        offer_values::<false>(top, values);
    }

    fn offer_run_negated(top: &mut Top, values: &[f32]) {
        offer_values::<true>(top, values);
    }

    fn offer_rows(slots: &mut [f32], channels: usize, rows: &[f32], fours: &[f32], largest: &[f32]) {
        offer_all_columns::<false>(slots, channels, (rows, fours), largest);
    }

    fn offer_rows_negated(slots: &mut [f32], channels: usize, rows: &[f32], fours: &[f32], largest: &[f32]) {
        offer_all_columns::<true>(slots, channels, (rows, fours), largest);
    }
}

#[cfg(test)]
mod tests {
    use super::{CHANNEL_TAIL, Top, Tops};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_largest_of_a_channel_survive(values in prop::collection::vec(-1e3_f32..1e3, 0..300)) {
            let mut sorted = values.clone();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            sorted.truncate(CHANNEL_TAIL);
            let mut top = Top::EMPTY;
            for &v in &values {
                top.offer(v);
            }
            prop_assert_eq!(top.values().collect::<Vec<_>>(), sorted);
        }

        #[test]
        fn channels_side_by_side_are_as_each_alone(
            values in prop::collection::vec(-20_i8..20, 0..2000), channels in 1_usize..70, negate: bool,
        ) {
            let values: Vec<f32> = values.into_iter().map(f32::from).collect();
            let rows = values.len() / channels * channels;
            let (mut together, mut alone) = (Tops::new(channels), Tops::new(channels));
            for block in values[..rows].chunks(channels * 5) {
                let sign = if negate { -1.0 } else { 1.0 };
                let of_channel = |c: usize| block[c..].iter().step_by(channels).copied();
                let outermost = |rows: &[f32], c: usize| {
                    let own = rows[c..].iter().step_by(channels);
                    sign * own.fold(f32::NEG_INFINITY, |m, x| m.max(sign * x))
                };
                let fours: Vec<f32> = block
                    .chunks(4 * channels)
                    .flat_map(|rows| (0..channels).map(move |c| outermost(rows, c)))
                    .collect();
                let largest: Vec<f32> = (0..channels).map(|c| sign * outermost(block, c)).collect();
                together.offer_rows(block, &fours, &largest, negate);
                for c in 0..channels {
                    alone.offer(c, &of_channel(c).collect::<Vec<_>>(), negate);
                }
            }
            prop_assert_eq!(&together, &alone);
            for c in 0..channels {
                let mut top = Top::EMPTY;
                let own = values[..rows].iter().skip(c).step_by(channels);
                own.for_each(|x| top.offer(if negate { 0.0 - x } else { *x }));
                prop_assert_eq!(alone.get(c), Some(top));
            }
            let mut merged = Tops::new(channels);
            merged.merge(&together);
            prop_assert_eq!(merged, together);
        }
    }
}
