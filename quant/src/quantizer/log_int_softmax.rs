//! Log-Int-Softmax (FQ-ViT, Lin et al., IJCAI 2022, §3.3; spec B §6): softmax of integers with results that are powers of
//! two.
//!
//! The exponentials are integers from the polynomial of I-BERT (Kim et al., ICML 2021, i-exp). Their sum over
//! one of them, rounded to a whole number `r` (half to even), gives the code: `⌊log2 r⌋`, one more if the mantissa of
//! `r` is at least 1.5. The value is `2^-code`, 0 for codes of `2^b` or more. As with log2, zero is one code more
//! than `b` bits hold: `2^b`.
//!
//! As a quantizer of probabilities `p` this is log2 with bounds at `r = 1/p`: 1.5, and `3 · 2^(k-1) - 1/2` between the
//! codes `k` and `k + 1`. There is nothing to fit; `scale` is 1.
//!
//! The release holds the exponentials, up to `2^30` times the square of `1 / scale`, in floats, and adds them with an f32's
//! precision; here they are integers.

use super::distribution::Distribution;
use super::error::QuantizerError;
use super::params::Params;
use super::scheme::{Family, Scheme};
use super::staircase::{Staircase, Stepped};
use crate::terms::Bits;
use std::collections::BTreeMap;

/// Powers of two that are normal f32.
const OCTAVES: u32 = 127;
/// `exp(x) ≈ A · (x² + B/A · x + 1/A)` for `x` in `-ln 2..=0`.
const A: f64 = 0.358_151_47;
const B: f64 = 0.969_632_38;
/// ln 2, as the release rounds it.
#[allow(clippy::approx_constant, reason = "these four digits, not the nearest number")]
const LN_2: f64 = 0.6931;
/// Exponentials are `2^30` times the polynomial.
const FRACTION_BITS: i64 = 30;
/// Scales for which the polynomial has a constant term and nothing overflows.
const SCALES: (f64, f64) = (1e-6, 1.6);

/// LIS.
#[derive(Debug)]
pub(super) struct LogIntSoftmax;

/// Softmax in integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegerSoftmax {
    /// The exponentials, all of a common unit.
    pub exponentials: Vec<i128>,
    /// Their sum, one per row.
    pub sums: Vec<i128>,
    /// The codes: the value is `2^-code`, and 0 for the code `2^bits`.
    pub codes: Vec<u32>,
}

/// The softmax of rows of `row` integers, each standing for `scale` times it.
///
/// # Errors
/// If the values are not whole rows, or the scale is so coarse that the polynomial vanishes (beyond 1.6) or so fine that
/// sums overflow (below 10⁻⁶).
pub fn integer_softmax(
    logits: &[i32],
    row: usize,
    scale: f64,
    bits: Bits,
) -> Result<IntegerSoftmax, QuantizerError> {
    if !(SCALES.0..=SCALES.1).contains(&scale) {
        return Err(QuantizerError::Setting { what: "scale of the logits", value: scale });
    }
    if row == 0 || !logits.len().is_multiple_of(row) {
        return Err(QuantizerError::Setting { what: "length of a row of logits", value: row as f64 });
    }
    let zero = bits.levels().ok_or(QuantizerError::Float)?;
    let octave = (-LN_2 / scale).floor() as i64;
    let (linear, constant) = ((B / A / scale).floor() as i64, (1.0 / A / (scale * scale)).floor() as i64);
    let exponential = |below: i64| {
        let below = below.max(FRACTION_BITS * octave);
        let (octaves, rest) = (below / octave, below % octave);
        let polynomial = i128::from(rest) * i128::from(rest + linear) + i128::from(constant);
        polynomial.max(0) << (FRACTION_BITS - octaves)
    };
    let mut out = IntegerSoftmax { exponentials: Vec::new(), sums: Vec::new(), codes: Vec::new() };
    for row in logits.chunks_exact(row) {
        let most = row.iter().copied().max().map_or(0, i64::from);
        let from = out.exponentials.len();
        out.exponentials.extend(row.iter().map(|&x| exponential(i64::from(x) - most)));
        let sum = out.exponentials[from..].iter().sum();
        out.sums.push(sum);
        out.codes.extend(out.exponentials[from..].iter().map(|&one| code(sum, one, zero)));
    }
    Ok(out)
}

/// The code of `one / sum`.
fn code(sum: i128, one: i128, zero: u32) -> u32 {
    if one <= 0 {
        return zero;
    }
    let (whole, rest) = (sum / one, sum % one);
    let up = match (2 * rest).cmp(&one) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => whole % 2,
        std::cmp::Ordering::Greater => 1,
    };
    let ratio = (whole + up).max(1);
    let octaves = ratio.ilog2();
    let beyond = ratio - (1_i128 << octaves);
    (octaves + u32::from(2 * beyond >= 1_i128 << octaves)).min(zero)
}

impl Stepped for LogIntSoftmax {
    const FAMILY: Family = Family::LogIntSoftmax;

    fn fit(&self, _: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
        let (scale, zero_point) = (vec![1.0], Vec::new());
        Ok(Params { scheme: scheme.clone(), bits, scale, zero_point, extra: BTreeMap::new() })
    }

    fn check(&self, _: &Params) -> Result<(), QuantizerError> {
        Ok(())
    }

    fn staircase(&self, params: &Params, c: usize) -> Staircase {
        let zero = params.bits.levels().unwrap_or(u32::MAX);
        let scale = params.scale_of(c);
        let step = |k: u32| {
            let octave = f64::from(k).exp2();
            let ratio = if k == 0 { 1.5 } else { 1.5 * octave - 0.5 };
            (f64::from(scale) / ratio, (f64::from(scale) / octave) as f32)
        };
        Staircase::powers((0..zero.min(OCTAVES)).map(step), zero)
    }
}

#[cfg(test)]
mod tests {
    use super::{LogIntSoftmax, integer_softmax};
    use crate::quantizer::{Distribution, Family, Quantizer, RangeSearch, Scheme};
    use crate::terms::{Bits, Layout};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_quantizer_does_to_probabilities_what_the_integers_do(
            logits in prop::collection::vec(-300_i32..300, 1..40), scale in 0.01_f64..0.2, bits in 2_u8..=8,
        ) {
            let bits = Bits::new(bits).unwrap();
            let softmax = integer_softmax(&logits, logits.len(), scale, bits).unwrap();
            let sum = softmax.sums[0] as f64;
            let values: Vec<f32> = softmax.exponentials.iter().map(|&one| (one as f64 / sum) as f32).collect();
            let layout = Layout::tensor(values.len());
            let scheme = Scheme::new(Family::LogIntSoftmax, RangeSearch::MinMax);
            let data = Distribution::Raw { values: &values, layout };
            let params = Quantizer::fit(&LogIntSoftmax, &data, &scheme, bits).unwrap();
            let codes = LogIntSoftmax.codes(&values, layout, &params);
            for (at, (ours, theirs)) in codes.iter().zip(&softmax.codes).enumerate() {
                // A probability next to a bound (2/3 is one) may round across it: an f32 cannot tell.
                let ratio = softmax.sums[0] as f64 / softmax.exponentials[at] as f64;
                let bound = |k: u32| if k == 0 { 1.5 } else { 1.5 * f64::from(k).exp2() - 0.5 };
                let near = (ratio / bound(*ours.min(theirs)) - 1.0).abs() <= 2.0 * f64::from(f32::EPSILON);
                prop_assert!(ours == theirs || (near && ours.abs_diff(*theirs) == 1), "{ours} {theirs} {ratio}");
            }
        }

        #[test]
        fn extreme_logits_do_not_overflow(
            logits in prop::collection::vec(any::<i32>(), 1..9), scale in 1e-6_f64..1.6,
        ) {
            let softmax = integer_softmax(&logits, logits.len(), scale, Bits::new(8).unwrap()).unwrap();
            prop_assert!(softmax.sums[0] > 0 && softmax.codes.iter().all(|code| *code <= 256));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let bits = Bits::new(4).unwrap();
        for (row, scale) in [(0, 0.1), (2, 0.1), (3, 0.0), (3, f64::NAN), (3, 2.0), (3, -0.1)] {
            assert!(integer_softmax(&[1, 2, 3], row, scale, bits).is_err(), "{row} {scale}");
        }
    }
}
