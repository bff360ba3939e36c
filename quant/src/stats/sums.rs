//! Exact sums of many channels, added to together.

use super::exact::{Exact, LIMBS, UNIT};
use crate::exec::kernels::dispatch::multiversion;

/// The largest exponent, as f64 stores it, of an addend that is added without a look at the range: of one below 2^104.
const SMALL: u64 = 1023 + 103;
/// Highest limbs within this of zero, which are of sums within ±2^105, leave room for such an addend.
const NEAR: u64 = 1 << 62;

/// An [`Exact`] for every channel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sums {
    /// The lowest limbs of all channels, then the next ones of all, and so on.
    limbs: [Vec<u64>; LIMBS],
}

impl Sums {
    pub(super) fn new(channels: usize) -> Self {
        Self { limbs: std::array::from_fn(|_| vec![0; channels]) }
    }

    pub(super) fn from_channels(sums: &[Exact]) -> Self {
        let mut all = Self::new(sums.len());
        sums.iter().enumerate().for_each(|(c, sum)| all.put(c, *sum));
        all
    }

    fn get(&self, c: usize) -> Exact {
        Exact::from_limbs(std::array::from_fn(|limb| self.limbs[limb][c]))
    }

    fn put(&mut self, c: usize, sum: Exact) {
        for (limbs, limb) in self.limbs.iter_mut().zip(sum.limbs()) {
            limbs[c] = limb;
        }
    }

    /// The sum of channel `c`.
    ///
    /// # Panics
    /// If there is no such channel.
    pub(super) fn value(&self, c: usize) -> f64 {
        self.get(c).value()
    }

    /// All sums in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Exact> + '_ {
        (0..self.limbs[0].len()).map(|c| self.get(c))
    }

    /// Adds a number to the sum of every channel, as [`Exact::add`] does.
    pub(super) fn add(&mut self, values: &[f64]) {
        let [a, b, c, d] = &mut self.limbs;
        if in_range(d, values) {
            add_in_range(a, b, c, d, values);
        } else {
            for (c, &value) in values.iter().enumerate() {
                let mut sum = self.get(c);
                sum.add(value);
                self.put(c, sum);
            }
        }
    }

    /// Adds the sums of as many channels.
    pub(super) fn merge(&mut self, other: &Self) {
        for (c, theirs) in other.iter().enumerate() {
            let mut sum = self.get(c);
            sum.merge(&theirs);
            self.put(c, sum);
        }
    }
}

multiversion! {
    /// Whether no sum can leave its range by these addends.
    fn in_range(highest: &[u64], values: &[f64]) -> bool {
        let mut beyond = 0;
        for (&limb, value) in highest.iter().zip(values) {
            let exponent = (value.to_bits() >> 52) & 0x7ff;
            beyond |= u64::from(exponent > SMALL) | u64::from(limb.wrapping_add(NEAR) > 2 * NEAR);
        }
        beyond == 0
    }

    /// [`Exact::add`] for addends and sums that [`in_range`] passed, without branches.
    fn add_in_range(a: &mut [u64], b: &mut [u64], c: &mut [u64], d: &mut [u64], values: &[f64]) {
        let n = values.len();
        let (a, b, c, d) = (&mut a[..n], &mut b[..n], &mut c[..n], &mut d[..n]);
        for i in 0..n {
            let bits = values[i].to_bits();
            let exponent = (bits >> 52) & 0x7ff;
            let fraction = bits & ((1 << 52) - 1);
            // All ones for negative numbers: their complement and one is added.
            let sign = ((bits as i64) >> 63) as u64;
            let normal = u64::from(exponent != 0);
            let mantissa = fraction | normal << 52;
            // Up by `shift` units if that is positive, else down, where what is below the unit is lost.
            let shift = (exponent + (1 - normal)) as i64 - (1075 + UNIT as i64);
            let down = (-shift).clamp(0, 63) as u64;
            let mantissa = mantissa >> down;
            let shift = shift.max(0) as u64;
            let (place, within) = (shift / 64, shift % 64);
            // In two steps, so that nothing is shifted by 64.
            let low = (mantissa << within) ^ sign;
            let high = (mantissa >> 1 >> (63 - within)) ^ sign;
            let mut carry = 0;
            let mut add = |sum: &mut u64, limb: u64| {
                let beyond = if limb == place + 1 { high } else { sign };
                let addend = if limb == place { low } else { beyond };
                let addend = if limb < place { 0 } else { addend };
                let one = if limb == place { sign & 1 } else { carry };
                let first = sum.wrapping_add(addend);
                let second = first.wrapping_add(one);
                carry = u64::from(first < addend) | u64::from(second < one);
                *sum = second;
            };
            add(&mut a[i], 0);
            add(&mut b[i], 1);
            add(&mut c[i], 2);
            add(&mut d[i], 3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Exact, Sums};
    use crate::exec::kernels::dispatch::with_each_isa;
    use proptest::prelude::*;

    /// Values of all sizes, some of them special.
    fn addend() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => -1e12_f64..1e12,
            4 => any::<f32>().prop_map(f64::from),
            2 => any::<f64>(),
            1 => prop::sample::select(vec![
                0.0, -0.0, f64::INFINITY, f64::MIN_POSITIVE, -f64::from_bits(1), 2_f64.powi(-149), -2_f64.powi(-150),
                2_f64.powi(103), -2_f64.powi(104), 2_f64.powi(105), 7e31, -7e31, f64::MAX,
            ]),
        ]
    }

    proptest! {
        #[test]
        fn channels_together_are_as_each_alone(
            rows in (1_usize..40).prop_flat_map(|n| prop::collection::vec(prop::collection::vec(addend(), n), 1..9)),
        ) {
            let n = rows[0].len();
            let mut alone = vec![Exact::default(); n];
            for row in &rows {
                alone.iter_mut().zip(row).for_each(|(sum, &value)| sum.add(value));
            }
            with_each_isa(|_| {
                let mut together = Sums::new(n);
                for row in &rows {
                    together.add(row);
                }
                assert!(together.iter().eq(alone.iter().copied()));
            });
            let (mut left, mut right) = (Sums::new(n), Sums::new(n));
            for (at, row) in rows.iter().enumerate() {
                if at % 2 == 0 { left.add(row) } else { right.add(row) }
            }
            left.merge(&right);
            prop_assert_eq!(left, Sums::from_channels(&alone));
        }

        #[test]
        fn ordinary_addends_are_too(rows in prop::collection::vec(prop::collection::vec(-1e9_f64..1e9, 21), 1..9)) {
            let mut alone = vec![Exact::default(); 21];
            let mut together = Sums::new(21);
            for row in &rows {
                together.add(row);
                alone.iter_mut().zip(row).for_each(|(sum, &value)| sum.add(value));
            }
            prop_assert_eq!(together, Sums::from_channels(&alone));
        }
    }
}
