//! Counting values by the bits of their magnitude, sixteen keys at a time and one increment a value.

#![allow(unsafe_code, reason = "an index check costs a third of the innermost loop")]

use super::dispatch::multiversion;

/// Values whose keys are taken together, in vector registers, before they are counted one by one.
const CHUNK: usize = 64;

/// Values without a place of their own are counted in so many places in turn, so that runs of equal ones, such as the
/// zeros after `ReLU`, do not wait for their own increments.
pub(crate) const ASIDE: usize = 16;

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
    /// Increments the count of every value; zeros and values outside the window are counted aside. A count must not
    /// overflow: the caller sees to that.
    ///
    /// # Panics
    /// If `counts` is not as long as the window says.
    pub(crate) fn count_values(values: &[f32], window: Window, counts: &mut [u16]) -> Tally {
        assert_eq!(counts.len(), window.places(), "counts and window disagree");
        let mut tally = Lanes::default();
        let mut places = [0; CHUNK];
        let (chunks, rest) = values.as_chunks::<CHUNK>();
        for chunk in chunks {
            take_places(chunk, window, &mut places, &mut tally);
            increment(&places, counts);
        }
        if !rest.is_empty() {
            // Filled up with what is neither zero nor without end.
            let mut chunk = [1.0; CHUNK];
            chunk[..rest.len()].copy_from_slice(rest);
            take_places(&chunk, window, &mut places, &mut tally);
            increment(&places[..rest.len()], counts);
        }
        Tally { zeros: tally.zeros.iter().sum(), non_finite: tally.non_finite.iter().sum() }
    }
}

/// A [`Tally`] for every lane.
#[derive(Default)]
struct Lanes {
    zeros: [u32; ASIDE],
    non_finite: [u32; ASIDE],
}

/// Where the values of a chunk are counted, each below [`Window::places`], and counts of what is special.
#[inline(always)]
fn take_places(chunk: &[f32; CHUNK], window: Window, places: &mut [u32; CHUNK], tally: &mut Lanes) {
    for (values, places) in chunk.as_chunks::<ASIDE>().0.iter().zip(places.as_chunks_mut::<ASIDE>().0) {
        for lane in 0..ASIDE {
            let bits = values[lane].to_bits();
            let magnitude = bits & 0x7fff_ffff;
            tally.zeros[lane] += u32::from(magnitude == 0);
            tally.non_finite[lane] += u32::from(magnitude >= f32::INFINITY.to_bits());
            let place = (magnitude >> KEY_SHIFT).wrapping_sub(window.first);
            let sign = ((bits as i32 >> 31) as u32) & window.span;
            let inside = place < window.span && magnitude != 0;
            places[lane] = if inside { ASIDE as u32 + sign + place } else { lane as u32 };
        }
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
