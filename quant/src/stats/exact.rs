//! Sums that do not depend on their order.

/// Exponent of the unit: the smallest positive f32 is 2^-149, so every sum of f32 is a whole number of units.
pub(super) const UNIT: i32 = -149;
pub(super) const LIMBS: usize = 4;

/// A sum of f64 kept as a 256-bit two's complement integer in units of 2^-149.
///
/// Addition of integers is associative, so any order and any split of the addends gives the same bits. Sums of
/// f32 are held without loss; squares lose what lies below the unit (towards zero, per addend). The range is
/// ±2^106 ≈ ±8·10³¹; beyond it the sum saturates and [`Exact::saturated`] says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exact {
    /// From the lowest to the highest. The largest number stands for a sum that is out of range.
    limbs: [u64; LIMBS],
}

impl Exact {
    /// Bytes of one sum in a file.
    pub(super) const BYTES: usize = 33;

    const SATURATED: Self = Self { limbs: [u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 1] };

    pub(super) const fn from_limbs(limbs: [u64; LIMBS]) -> Self {
        Self { limbs }
    }

    pub(super) const fn limbs(self) -> [u64; LIMBS] {
        self.limbs
    }

    /// Adds one finite number; a number that is not finite saturates.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as i32;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, shift) = if exponent == 0 {
            (fraction, -1074 - UNIT)
        } else {
            (fraction | 1 << 52, exponent - 1075 - UNIT)
        };
        // 53 mantissa bits must stay below the sign bit of 256.
        if shift > 255 - 54 {
            self.saturate();
            return;
        }
        let (mantissa, shift) =
            if shift < 0 { (mantissa.unbounded_shr(-shift as u32), 0) } else { (mantissa, shift as u32) };
        let wide = u128::from(mantissa) << (shift % 64);
        // All ones for negative numbers: their complement and one is added.
        let sign = (value.is_sign_negative() as u64).wrapping_neg();
        let (low, high) = (wide as u64 ^ sign, (wide >> 64) as u64 ^ sign);
        match shift / 64 {
            0 => self.add_limbs([low, high, sign, sign], 0, sign),
            1 => self.add_limbs([0, low, high, sign], 1, sign),
            2 => self.add_limbs([0, 0, low, high], 2, sign),
            _ => self.add_limbs([0, 0, 0, low], 3, sign),
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        if other.saturated() {
            self.saturate();
        } else {
            self.add_limbs(other.limbs, 0, 0);
        }
    }

    /// The sum in f64, within two roundings.
    pub fn value(&self) -> f64 {
        // The magnitude first: the halves of a small negative number cancel almost completely.
        let [a, b, c, d] = self.limbs.map(u128::from);
        let (mut high, mut low) = (c | d << 64, a | b << 64);
        let negative = high >> 127 == 1;
        if negative {
            low = low.wrapping_neg();
            high = (!high).wrapping_add(u128::from(low == 0));
        }
        let magnitude = high as f64 * 2_f64.powi(128 + UNIT) + low as f64 * 2_f64.powi(UNIT);
        if negative { -magnitude } else { magnitude }
    }

    /// Whether the range was exceeded; the value is then a bound.
    #[inline(always)]
    pub(super) fn saturated(&self) -> bool {
        self.limbs[LIMBS - 1] == u64::MAX >> 1 && *self == Self::SATURATED
    }

    /// Adds the limbs from `first` on and a carry of 1 if `sign` is odd. Those below `first` are not looked at.
    #[inline(always)]
    fn add_limbs(&mut self, more: [u64; LIMBS], first: usize, sign: u64) {
        if self.saturated() {
            return;
        }
        let before = self.limbs[LIMBS - 1];
        let mut carry = sign & 1 == 1;
        for (limb, more) in self.limbs[first..].iter_mut().zip(&more[first..]) {
            (*limb, carry) = limb.carrying_add(*more, carry);
        }
        let after = self.limbs[LIMBS - 1];
        // Two numbers of one sign gave one of the other.
        if ((before ^ after) & (more[LIMBS - 1] ^ after)) >> 63 == 1 {
            self.saturate();
        }
    }

    /// Saturation is sticky and forgets the sign of what came first, so that it too is independent of order.
    #[cold]
    fn saturate(&mut self) {
        *self = Self::SATURATED;
    }

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (bytes, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.limbs) {
            *bytes = limb.to_le_bytes();
        }
        bytes[32] = u8::from(self.saturated());
        bytes
    }

    /// The inverse of [`Exact::to_bytes`]; `None` for bytes that it never writes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (limbs, flag) = bytes.as_chunks::<8>();
        let sum = Self { limbs: <[[u8; 8]; LIMBS]>::try_from(limbs).ok()?.map(u64::from_le_bytes) };
        let saturated = match flag {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        (saturated == sum.saturated()).then_some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::Exact;
    use proptest::prelude::*;

    fn sum(values: impl IntoIterator<Item = f64>) -> Exact {
        let mut sum = Exact::default();
        values.into_iter().for_each(|value| sum.add(value));
        sum
    }

    #[test]
    fn small_sums_are_exact() {
        for values in
            [&[1.0, 2.0, -4.5][..], &[1e20, 1.0, -1e20], &[-1.0, 1.0], &[-1e-30, -1e30, 1e30], &[-0.25]]
        {
            let expected: f64 = match values.len() {
                3 if values[0] == 1e20 => 1.0,
                3 if values[1] == -1e30 => {
                    // Truncated to the unit, towards zero.
                    (-1e-30 / 2_f64.powi(-149)).trunc() * 2_f64.powi(-149)
                }
                _ => values.iter().sum(),
            };
            assert_eq!(sum(values.iter().copied()).value(), expected, "{values:?}");
        }
        let denormal = f64::from(f32::from_bits(1));
        assert_eq!(sum([denormal, denormal, -denormal]).value(), denormal);
    }

    #[test]
    fn overflow_saturates_in_any_order() {
        let a = sum([1e31, 7e31, 3e31, -5.0]);
        let b = sum([-5.0, 3e31, 7e31, 1e31]);
        assert!(a.saturated() && a == b);
        assert!(sum([f64::INFINITY]).saturated() && sum([1e300]).saturated());
        assert_eq!(Exact::from_bytes(&a.to_bytes()), Some(a));
    }

    proptest! {
        #[test]
        fn order_and_grouping_do_not_matter(values in prop::collection::vec(-1e12_f64..1e12, 1..60), cut in 0_usize..60) {
            let whole = sum(values.iter().copied());
            prop_assert_eq!(whole, sum(values.iter().rev().copied()));
            let cut = cut.min(values.len());
            let mut halves = sum(values[cut..].iter().copied());
            halves.merge(&sum(values[..cut].iter().copied()));
            prop_assert_eq!(whole, halves);
            prop_assert_eq!(Exact::from_bytes(&whole.to_bytes()), Some(whole));
            let plain: f64 = values.iter().sum();
            prop_assert!((whole.value() - plain).abs() <= 1e-2);
        }
    }
}
