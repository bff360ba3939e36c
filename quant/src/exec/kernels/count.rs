//! Counting values by the bits of their magnitude, sixteen keys at a time and one increment a value.

#![allow(unsafe_code, reason = "an index check costs a third of the innermost loop")]

use super::dispatch::multiversion;

/// Values whose keys are taken together, in vector registers.
const CHUNK: usize = 64;

/// Values whose keys are taken before they are counted one by one: an increment whose place was written just before
/// waits for that.
const HELD: usize = 8 * CHUNK;

/// Values without a place of their own are counted in so many places in turn, so that runs of equal ones, such as the
/// zeros after `ReLU`, do not wait for their own increments.
pub(crate) const ASIDE: usize = 16;

/// The place of every value of a chunk if it has none of its own.
const PLACES_ASIDE: [u32; CHUNK] = {
    let mut places = [0; CHUNK];
    let mut at = 0;
    while at < CHUNK {
        places[at] = (at % ASIDE) as u32;
        at += 1;
    }
    places
};

/// Bits of a value below its key.
pub(crate) const KEY_SHIFT: u32 = 15;

/// The magnitudes that have places: `span` keys from `first` on.
///
/// The counts are [`ASIDE`] places for all other values, `span` for positive values and `span` for negative ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Window {
    /// The key (bits without the sign, without the lowest [`KEY_SHIFT`]) of the first place.
    pub(crate) first: u32,
    /// Keys of either sign.
    pub(crate) span: u32,
}

impl Window {
    /// Places of all counts.
    pub(crate) const fn places(self) -> usize {
        ASIDE + 2 * self.span as usize
    }
}

/// What a block of values holds besides finite non-zero ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    /// Zeros of either sign.
    pub(crate) zeros: u32,
    /// NaN and infinities.
    pub(crate) non_finite: u32,
}

multiversion! {
    /// Increments the count of every value; zeros and values outside the window are counted aside. The counts aside must
    /// be zero before, and no count may overflow: the caller sees to that.
    ///
    /// # Panics
    /// If `counts` is not as long as the window says.
    pub(crate) fn count_values(values: &[f32], window: Window, counts: &mut [u16]) -> Tally {
        assert_eq!(counts.len(), window.places(), "counts and window disagree");
        if window.first == 0 {
            count_all::<true>(values, window, counts);
        } else {
            count_all::<false>(values, window, counts);
        }
        // What is special was counted aside.
        if counts[..ASIDE].iter().all(|&count| count == 0) { Tally::default() } else { tally(values) }
    }
}

#[inline(always)]
fn count_all<const FROM_ZERO: bool>(values: &[f32], window: Window, counts: &mut [u16]) {
    let mut held = [0; HELD];
    for part in values.chunks(HELD) {
        let mut places = held.as_chunks_mut::<CHUNK>().0.iter_mut();
        let (chunks, rest) = part.as_chunks::<CHUNK>();
        for (chunk, places) in chunks.iter().zip(&mut places) {
            take_places::<FROM_ZERO>(chunk, window, places);
        }
        if let Some(places) = places.next().filter(|_| !rest.is_empty()) {
            let mut chunk = [1.0; CHUNK];
            chunk[..rest.len()].copy_from_slice(rest);
            take_places::<FROM_ZERO>(&chunk, window, places);
        }
        // Out of the compiler's sight, or it computes the places one by one.
        increment(&std::hint::black_box(&held)[..part.len()], counts);
    }
}

/// Counts what is special.
#[inline(always)]
fn tally(values: &[f32]) -> Tally {
    let (mut zeros, mut non_finite) = (0, 0);
    for value in values {
        let magnitude = value.to_bits() & 0x7fff_ffff;
        zeros += u32::from(magnitude == 0);
        non_finite += u32::from(magnitude >= f32::INFINITY.to_bits());
    }
    Tally { zeros, non_finite }
}

/// Where the values of a chunk are counted, each below [`Window::places`]. Only a window that begins at zero has to tell
/// zeros from the smallest magnitudes.
#[inline(always)]
fn take_places<const FROM_ZERO: bool>(chunk: &[f32; CHUNK], window: Window, places: &mut [u32; CHUNK]) {
    // One loop without another inside, or it is vectorized across the registers.
    for ((to, value), aside) in places.iter_mut().zip(chunk).zip(&PLACES_ASIDE) {
        let bits = value.to_bits();
        let magnitude = bits & 0x7fff_ffff;
        let place = (magnitude >> KEY_SHIFT).wrapping_sub(window.first);
        let sign = ((bits as i32 >> 31) as u32) & window.span;
        let inside = place < window.span && (!FROM_ZERO || magnitude != 0);
        *to = if inside { ASIDE as u32 + sign + place } else { *aside };
    }
}

#[inline(always)]
fn increment(places: &[u32], counts: &mut [u16]) {
    for &place in places {
        debug_assert!((place as usize) < counts.len());
        // SAFETY: `take_places` gives a lane, below ASIDE, or ASIDE + (0 or span) + less than span, and
        // `count_values` checked that there are ASIDE + 2 · span counts.
        let count = unsafe { counts.get_unchecked_mut(place as usize) };
        *count = count.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::{ASIDE, KEY_SHIFT, Tally, Window, count_values};
    use crate::exec::kernels::dispatch::with_each_isa;

    /// One value at a time, as the documentation says.
    fn plainly(values: &[f32], window: Window) -> (Vec<u16>, Tally) {
        let (mut counts, mut tally) = (vec![0; window.places()], Tally::default());
        for (at, value) in values.iter().enumerate() {
            let key = value.abs().to_bits() >> KEY_SHIFT;
            tally.zeros += u32::from(*value == 0.0);
            tally.non_finite += u32::from(!value.is_finite());
            let place = if *value != 0.0 && (window.first..window.first + window.span).contains(&key) {
                let sign = if value.is_sign_negative() { window.span } else { 0 };
                ASIDE + (sign + key - window.first) as usize
            } else {
                at % ASIDE
            };
            counts[place] += 1;
        }
        (counts, tally)
    }

    #[test]
    fn every_value_has_the_place_that_its_bits_say() {
        let special =
            [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-45, -1e-45, f32::MAX, f32::MIN];
        let values: Vec<f32> = (0..1003)
            .map(|i: i32| {
                let cube = (i as f32 - 500.0).powi(3) * 1e-3;
                if i % 7 == 0 { special[i as usize % special.len()] } else { cube }
            })
            .collect();
        let one = 1_f32.to_bits() >> KEY_SHIFT;
        let windows = [(0, 0), (0, 0x7f80 << 1), (one, 256), (one, 1), (one - 512, 4096), (0, 1)];
        for (first, span) in windows {
            let window = Window { first, span };
            let expected = plainly(&values, window);
            with_each_isa(|_| {
                let mut counts = vec![0; window.places()];
                let tally = count_values(&values, window, &mut counts);
                assert_eq!((counts, tally), expected, "{window:?}");
            });
        }
    }

    #[test]
    #[should_panic(expected = "disagree")]
    fn too_few_counts_are_refused() {
        count_values(&[1.0], Window { first: 0, span: 4 }, &mut [0; ASIDE + 7]);
    }
}
