//! Buckets taken from the bits of the values.
//!
//! The key of a value is its sign, its exponent and the top 8 bits of its mantissa (17 bits). A bucket is
//! therefore at most 1/256 of its value wide, needs no range in advance and means the same in every sketch.

use crate::exec::kernels::count::KEY_SHIFT as SHIFT;

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
    pub(super) fn edges(key: usize) -> (f64, f64) {
        let (inner, outer) = ((key as u32) << SHIFT, ((key as u32) + 1) << SHIFT);
        if key < BUCKETS / 2 {
            (f64::from(f32::from_bits(inner)), f64::from(f32::from_bits(outer)))
        } else {
            // The last negative key wraps to +0; no finite value has it.
            (f64::from(f32::from_bits(outer)), f64::from(f32::from_bits(inner)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bucket, key};

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
}
