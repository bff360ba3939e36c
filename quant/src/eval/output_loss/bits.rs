//! Divergences of probabilities that are given by one logit each, for many at once.

use crate::exec::kernels::dispatch::multiversion;

/// Terms that are added up apart, in a fixed order.
const LANES: usize = 16;
/// Adding and subtracting 1.5·2⁵² rounds to an integer, ties to even.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

multiversion! {
    /// The sum of [`divergence`] over pairs of logits.
    pub(super) fn sum(reference: &[f32], other: &[f32]) -> f64 {
        let mut sums = [0.0; LANES];
        for (a, b) in reference.chunks(LANES).zip(other.chunks(LANES)) {
            add(&mut sums, lanes(a), lanes(b));
        }
        total(sums)
    }

    /// The same for probabilities of two classes, whose logarithm of the odds is the difference of their logits: each pair
    /// holds the first and the second class.
    pub(super) fn sum_of_two(reference: (&[f32], &[f32]), other: (&[f32], &[f32])) -> f64 {
        let mut sums = [0.0; LANES];
        let (a, b) = (reference.0.chunks(LANES).zip(reference.1.chunks(LANES)), other.0.chunks(LANES));
        for ((a, c), (b, d)) in a.zip(b.zip(other.1.chunks(LANES))) {
            let (mut reference, mut other) = (lanes(c), lanes(d));
            reference.iter_mut().zip(lanes(a)).for_each(|(odds, first)| *odds -= first);
            other.iter_mut().zip(lanes(b)).for_each(|(odds, first)| *odds -= first);
            add(&mut sums, reference, other);
        }
        total(sums)
    }
}

/// Up to sixteen values; zeros after them, which diverge by nothing.
#[inline(always)]
fn lanes(values: &[f32]) -> [f64; LANES] {
    let mut all = [0.0; LANES];
    all.iter_mut().zip(values).for_each(|(lane, &x)| *lane = f64::from(x));
    all
}

#[inline(always)]
fn add(sums: &mut [f64; LANES], reference: [f64; LANES], other: [f64; LANES]) {
    for ((sum, a), b) in sums.iter_mut().zip(reference).zip(other) {
        *sum += divergence(a, b);
    }
}

#[inline(always)]
fn total(sums: [f64; LANES]) -> f64 {
    sums.into_iter().fold(0.0, |all, one| all + one)
}

/// `p ln(p / q) + (1 - p) ln((1 - p) / (1 - q))` with the sigmoids `p`, `q` of two logits; NaN if one is not finite.
#[inline(always)]
fn divergence(reference: f64, other: f64) -> f64 {
    let (small, others) = (exp_of_minus(reference.abs()), exp_of_minus(other.abs()));
    // ln(1 - sigmoid(x)) = -ln(1 + e^x), without overflow.
    let above = |x: f64| if x > 0.0 { x } else { 0.0 };
    let log_not = |x: f64, small: f64| -(above(x) + ln_one_plus(small));
    let p = if reference < 0.0 { small } else { 1.0 } / (1.0 + small);
    // ln p - ln q = (x + ln(1-p)) - (y + ln(1-q)) since ln(p / (1-p)) = x.
    let not = log_not(reference, small) - log_not(other, others);
    let found = p * (reference - other + not) + (1.0 - p) * not;
    // Rounding may leave it just below zero. What is no number stays none.
    if found < 0.0 { 0.0 } else { found }
}

/// `e^-t` for `t ≥ 0`; relative error below 4·10⁻¹⁶. Below the smallest normal number it is 0.
#[inline(always)]
fn exp_of_minus(t: f64) -> f64 {
    let vanishes = t > 708.0;
    let t = if vanishes { 0.0 } else { t };
    let shifted = t.mul_add(-std::f64::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    // ln 2 in two parts, the first with zeros at its end (fdlibm).
    let r = n.mul_add(-6.931_471_803_691_238e-1, -t);
    let r = n.mul_add(-1.908_214_929_270_587_7e-10, r);
    // The series of e^r; |r| is at most ½ ln 2.
    let mut sum = 1.0 / 6_227_020_800.0;
    for factorial in [
        479_001_600.0,
        39_916_800.0,
        3_628_800.0,
        362_880.0,
        40_320.0,
        5_040.0,
        720.0,
        120.0,
        24.0,
        6.0,
        2.0,
        1.0,
        1.0,
    ] {
        sum = r.mul_add(sum, 1.0 / factorial);
    }
    let n = shifted.to_bits().wrapping_sub(ROUNDER.to_bits());
    let power = f64::from_bits(n.wrapping_add(1023) << 52);
    if vanishes { 0.0 } else { sum * power }
}

/// `ln(1 + s)` for `s` in `[0, 1]`; relative error below 4·10⁻¹⁶.
#[inline(always)]
fn ln_one_plus(s: f64) -> f64 {
    // 2 artanh(u), whose series has only odd powers; u² is at most 1/9.
    let u = s / (2.0 + s);
    let square = u * u;
    let mut sum = 1.0 / 33.0;
    for odd in [31.0, 29.0, 27.0, 25.0, 23.0, 21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = square.mul_add(sum, 1.0 / odd);
    }
    2.0 * u * sum
}

#[cfg(test)]
mod tests {
    use super::{divergence, exp_of_minus, ln_one_plus, sum, sum_of_two};
    use crate::exec::kernels::dispatch::with_each_isa;

    #[test]
    fn functions_are_those_of_the_system() {
        let close = |ours: f64, theirs: f64| (ours - theirs).abs() <= 1e-15 * theirs;
        for step in 0..7000_i32 {
            let t = f64::from(step) * 0.1;
            assert!(close(exp_of_minus(t), (-t).exp()), "{t}: {} {}", exp_of_minus(t), (-t).exp());
            let s = f64::from(step) / 6999.0;
            assert!(close(ln_one_plus(s), s.ln_1p()), "{s}: {} {}", ln_one_plus(s), s.ln_1p());
        }
        assert_eq!((exp_of_minus(0.0), exp_of_minus(1e300), exp_of_minus(f64::INFINITY)), (1.0, 0.0, 0.0));
        assert!(exp_of_minus(f64::NAN).is_nan());
    }

    #[test]
    fn divergences_are_those_of_the_definition() {
        for (x, y) in [(0.0, 1.4), (-3.0, 2.5), (6.0, 5.0), (0.3, 0.3), (-8.0, -7.5)] {
            let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
            let (p, q) = (sigmoid(x), sigmoid(y));
            let expected = p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
            assert!((divergence(x, y) - expected).abs() < 1e-12, "{x} {y}: {} {expected}", divergence(x, y));
        }
        assert_eq!(divergence(900.0, 900.0), 0.0);
        assert!(divergence(900.0, -900.0) > 899.0);
        assert!(divergence(0.0, f64::NAN).is_nan() && divergence(f64::INFINITY, 0.0).is_nan());
    }

    #[test]
    fn every_instruction_set_gives_the_same_sum() {
        let values = |seed: f32| -> Vec<f32> { (0..203).map(|i| (i as f32 * seed).sin() * 9.0).collect() };
        let (a, b, c, d) = (values(0.7), values(0.9), values(1.1), values(1.3));
        let mut found = Vec::new();
        with_each_isa(|_| found.push((sum(&a, &b), sum_of_two((&a, &b), (&c, &d)))));
        assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
        let one = |(a, b): (&f32, &f32)| divergence(f64::from(*a), f64::from(*b));
        let expected: f64 = a.iter().zip(&b).map(one).sum();
        assert!((found[0].0 - expected).abs() < 1e-12 * expected);
        let odds = |at: usize| {
            let of = |x: &[f32], y: &[f32]| f64::from(y[at]) - f64::from(x[at]);
            divergence(of(&a, &b), of(&c, &d))
        };
        let expected: f64 = (0..a.len()).map(odds).sum();
        assert!((found[0].1 - expected).abs() < 1e-12 * expected);
    }
}
