//! Powers of errors, many at a time.

/// Added to a small number and subtracted again, this rounds half to even; the last bits of the sum are the whole number.
const MAGIC: f64 = 6_755_399_441_055_744.0;
/// 2^52: with these bits above it, a whole number below 2^52 is that much more as a float.
const WHOLE: u64 = 0x4330_0000_0000_0000;
/// The bits of the square root of a half.
const ROOT: u64 = 0x3fe6_a09e_667f_3bcd;
const BIAS: u64 = 1023;
/// Powers beyond 2^±1000 are cut to that.
const LARGEST: f64 = 1000.0;
/// `2 / (n ln 2)` for odd `n`: the logarithm to base 2 as a series in `(m - 1) / (m + 1)`.
const LOGARITHM: [f64; 8] = {
    let mut terms = [0.0; 8];
    let mut n = 0;
    while n < 8 {
        terms[n] = 2.0 * std::f64::consts::LOG2_E / (2 * n + 1) as f64;
        n += 1;
    }
    terms
};
/// `ln 2^n / n!`: the series of 2^x.
const EXPONENTIAL: [f64; 12] = {
    let mut terms = [1.0; 12];
    let mut n = 1;
    while n < 12 {
        terms[n] = terms[n - 1] * std::f64::consts::LN_2 / n as f64;
        n += 1;
    }
    terms
};

/// `x^p` for `x ≥ 0`, not NaN, to a relative error of 10⁻¹². Consists of sums and products alone, which vectorise;
/// `powf` takes most of the time of a search for the range of least `|x - q(x)|^p`.
#[inline(always)]
pub(super) fn positive_power(x: f64, p: f64) -> f64 {
    // x = m · 2^k with m from √½ to √2.
    let bits = x.to_bits();
    let exponent = bits.wrapping_sub(ROOT).wrapping_add(BIAS << 52) >> 52;
    let m = f64::from_bits(bits.wrapping_sub(exponent.wrapping_sub(BIAS) << 52));
    let k = f64::from_bits(exponent | WHOLE) - (f64::from_bits(WHOLE) + BIAS as f64);
    let t = (m - 1.0) / (m + 1.0);
    let square = t * t;
    let mut logarithm = LOGARITHM[7];
    for n in (0..7).rev() {
        logarithm = logarithm * square + LOGARITHM[n];
    }
    let y = p * (k + t * logarithm);
    let y = if y < -LARGEST { -LARGEST } else { y };
    let y = if y > LARGEST { LARGEST } else { y };
    let whole = y + MAGIC;
    let rest = y - (whole - MAGIC);
    let mut power = EXPONENTIAL[11];
    for n in (0..11).rev() {
        power = power * rest + EXPONENTIAL[n];
    }
    let power = f64::from_bits(power.to_bits().wrapping_add(whole.to_bits() << 52));
    if x == 0.0 { 0.0 } else { power }
}

#[cfg(test)]
mod tests {
    use super::positive_power;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_power(mantissa in 1.0_f64..2.0, exponent in -149_i32..127, p in 0.3_f64..6.0) {
            let x = mantissa * 2_f64.powi(exponent);
            let (found, expected) = (positive_power(x, p), x.powf(p));
            prop_assert!((found / expected - 1.0).abs() < 1e-12, "{} {} {} {}", x, p, found, expected);
        }
    }

    #[test]
    fn ends_are_exact_or_cut() {
        assert_eq!(positive_power(0.0, 2.4), 0.0);
        assert_eq!(positive_power(1.0, 2.4), 1.0);
        assert_eq!(positive_power(4.0, 0.5), 2.0);
        assert!(positive_power(f64::INFINITY, 2.4) >= 1e300 && positive_power(1e-300, 6.0) <= 1e-300);
    }
}
