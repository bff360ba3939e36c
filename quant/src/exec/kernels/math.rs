//! Elementary functions as fixed polynomials, so that no system library decides a digit.
//!
//! All are branch-free `#[inline(always)]` bodies that vectorise inside a `multiversion!` kernel.

/// Adding and subtracting 1.5·2²³ rounds a small float to an integer, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// `e^x`; about 1 ulp, with infinities and NaN. Results below the smallest normal number (x < -87.336) are 0:
/// masked logits would otherwise cost the processor's slow path for subnormal numbers.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Beyond these bounds the result is 0 or infinity; NaN passes all comparisons.
    let vanishes = x < -87.336;
    let x = if x > 90.0 { 90.0 } else { x };
    let x = if vanishes { 0.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_2e-4_f32;
    let p = p.mul_add(r, 1.398_2e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 5.0e-1);
    let y = p.mul_add(r * r, r) + 1.0;
    // 2^n in two factors: n reaches 130, outside of one exponent field.
    let n = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()) as i32;
    let half = n >> 1;
    let y = y * power_of_two(half) * power_of_two(n.wrapping_sub(half));
    if vanishes { 0.0 } else { y }
}

/// `2^n` for `n` in -126..=127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// The error function; about 1 ulp (coefficients after N. Juffa's `erff`).
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let t = x.abs();
    let s = x * x;
    let high = (-1.728_534_7e-5_f32).mul_add(t, 3.831_971_3e-4);
    let low = (-3.883_964_4e-3_f32).mul_add(t, 2.425_462_2e-2);
    let far = high.mul_add(s, low);
    let far = far.mul_add(t, -1.067_778_8e-1);
    let far = far.mul_add(t, -6.348_467e-1);
    let far = far.mul_add(t, -1.287_175_1e-1);
    let far = far.mul_add(t, -t);
    let far = (1.0 - exp(far)).copysign(x);
    let near = -5.967_617e-4_f32;
    let near = near.mul_add(s, 4.991_194e-3);
    let near = near.mul_add(s, -2.676_813_5e-2);
    let near = near.mul_add(s, 1.128_199_2e-1);
    let near = near.mul_add(s, -3.761_253_4e-1);
    let near = near.mul_add(s, 1.283_791_7e-1);
    let near = near.mul_add(x, x);
    if t > 0.927_734_4 { far } else { near }
}

/// The hyperbolic tangent; about 2 ulp (the small-argument polynomial is that of Cephes).
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let t = x.abs();
    let s = x * x;
    let far = (1.0 - 2.0 / (exp(2.0 * t) + 1.0)).copysign(x);
    let near = -5.704_988_7e-3_f32;
    let near = near.mul_add(s, 2.063_909e-2);
    let near = near.mul_add(s, -5.373_971_6e-2);
    let near = near.mul_add(s, 1.333_144_2e-1);
    let near = near.mul_add(s, -3.333_328e-1);
    let near = (near * s).mul_add(x, x);
    if t > 0.625 { far } else { near }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `clamp(round_ties_even(x / scale) + zero_point, 0, q_max)`, back on the real axis. NaN stays NaN.
#[inline(always)]
pub(crate) fn fake_quantize(x: f32, scale: f32, zero_point: f32, q_max: f32) -> f32 {
    let q = (x / scale).round_ties_even() + zero_point;
    let q = if q < 0.0 { 0.0 } else { q };
    let q = if q > q_max { q_max } else { q };
    (q - zero_point) * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    /// f64 erf by its series or by the continued fraction of erfc.
    fn erf64(x: f64) -> f64 {
        if x.abs() < 3.0 {
            let (mut term, mut sum, mut n) = (x, x, 0.0);
            while term.abs() > 1e-18 * sum.abs() && n < 200.0 {
                n += 1.0;
                term *= -x * x / n;
                sum += term / (2.0 * n + 1.0);
            }
            sum * std::f64::consts::FRAC_2_SQRT_PI
        } else {
            let a = x.abs();
            let mut fraction = a;
            for k in (1..200).rev() {
                fraction = a + f64::from(k) / 2.0 / fraction;
            }
            (1.0 - (-a * a).exp() / fraction / std::f64::consts::PI.sqrt()).copysign(x)
        }
    }

    fn sweep(low: f32, high: f32) -> impl Iterator<Item = f32> {
        (0..=200_000).map(move |i| low + (high - low) * i as f32 / 200_000.0)
    }

    #[test]
    fn exp_is_within_two_ulp_and_keeps_special_values() {
        for x in sweep(-86.0, 88.7) {
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 1.5e-7 * exact, "exp({x})");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!((exp(-87.34), exp(-1e30)), (0.0, 0.0));
        assert!(exp(-87.336) >= f32::MIN_POSITIVE);
    }

    #[test]
    fn erf_and_tanh_are_accurate() {
        for x in sweep(-6.0, 6.0) {
            let wide = f64::from(x);
            assert!((f64::from(erf(x)) - erf64(wide)).abs() <= 1e-7, "erf({x})");
            assert!((f64::from(tanh(x)) - wide.tanh()).abs() <= 1.5e-7, "tanh({x})");
        }
        assert!(erf(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
        assert_eq!((erf(f32::INFINITY), erf(f32::NEG_INFINITY)), (1.0, -1.0));
        assert_eq!((tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
    }

    #[test]
    fn fake_quantize_rounds_half_to_even_and_keeps_nan() {
        let q = |x| fake_quantize(x, 1.0, 0.0, 15.0);
        assert_eq!([q(0.5), q(1.5), q(2.5), q(-3.0), q(99.0)], [0.0, 2.0, 2.0, 0.0, 15.0]);
        assert!(q(f32::NAN).is_nan());
    }
}
