//! Sums that do not depend on their order.

/// Exponent of the unit: the smallest positive f32 is 2^-149, so every sum of f32 is a whole number of units.
const UNIT: i32 = -149;

/// A sum of f64 kept as a 256-bit two's complement integer in units of 2^-149.
///
/// Addition of integers is associative, so any order and any split of the addends gives the same bits. Sums of
/// f32 are held without loss; squares lose what lies below the unit (towards zero, per addend). The range is
/// ±2^106 ≈ ±8·10³¹; beyond it the sum saturates and [`Exact::saturated`] says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exact {
    high: i128,
    low: u128,
    saturated: bool,
}

impl Exact {
    /// Bytes of one sum in a file.
    pub(super) const BYTES: usize = 33;

    /// Adds one finite number; a number that is not finite saturates.
    pub fn add(&mut self, value: f64) {
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as i32;
        if exponent == 0x7ff {
            self.saturate();
            return;
        }
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
        let mantissa = u128::from(mantissa);
        let (mut high, mut low) = match shift {
            ..=-64 => (0, 0),
            -63..=-1 => (0, mantissa >> -shift),
            0 => (0, mantissa),
            1..=127 => (mantissa.checked_shr(128 - shift as u32).unwrap_or(0), mantissa << shift),
            _ => (mantissa << (shift - 128), 0),
        };
        if value.is_sign_negative() {
            low = low.wrapping_neg();
            high = (!high).wrapping_add(u128::from(low == 0));
        }
        self.add_parts(high as i128, low);
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        if other.saturated {
            self.saturate();
        } else {
            self.add_parts(other.high, other.low);
        }
    }

    /// The sum in f64, within two roundings.
    pub fn value(&self) -> f64 {
        // The magnitude first: the halves of a small negative number cancel almost completely.
        let negative = self.high < 0;
        let (mut high, mut low) = (self.high as u128, self.low);
        if negative {
            low = low.wrapping_neg();
            high = (!high).wrapping_add(u128::from(low == 0));
        }
        let magnitude = high as f64 * 2_f64.powi(128 + UNIT) + low as f64 * 2_f64.powi(UNIT);
        if negative { -magnitude } else { magnitude }
    }

    /// Whether the range was exceeded; the value is then a bound.
    pub(super) const fn saturated(&self) -> bool {
        self.saturated
    }

    fn add_parts(&mut self, high: i128, low: u128) {
        if self.saturated {
            return;
        }
        let (low, carry) = self.low.overflowing_add(low);
        let (sum, over) = self.high.overflowing_add(high);
        let (sum, over_carry) = sum.overflowing_add(i128::from(carry));
        // Overflow of both steps in opposite directions cancels.
        if over != over_carry {
            self.saturate();
            return;
        }
        self.high = sum;
        self.low = low;
    }

    /// Saturation is sticky and forgets the sign of what came first, so that it too is independent of order.
    fn saturate(&mut self) {
        *self = Self { high: i128::MAX, low: u128::MAX, saturated: true };
    }

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.low.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.high.to_le_bytes());
        bytes[32] = u8::from(self.saturated);
        bytes
    }

    /// The inverse of [`Exact::to_bytes`]; `None` for bytes that it never writes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let low = u128::from_le_bytes(bytes.get(..16)?.try_into().ok()?);
        let high = i128::from_le_bytes(bytes.get(16..32)?.try_into().ok()?);
        match bytes.get(32..)? {
            [0] => Some(Self { high, low, saturated: false }),
            [1] => {
                let mut sum = Self::default();
                sum.saturate();
                (sum.high == high && sum.low == low).then_some(sum)
            }
            _ => None,
        }
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
