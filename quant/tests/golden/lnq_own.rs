//! LNQ of AHCQ-SAM: an f32 implementation written from the released source.

use crate::ledger::{Golden, Section, Tolerance};
use crate::logs::{batches, calls, given, nearest_with_noise, quantized};
use bitloupe_quant::quantizer::{Distribution, Family, Params, Scheme, lnq_candidates, quantizer};
use bitloupe_quant::terms::Bits;

/// Without the smallest, 0.001.
const ALPHAS: [f32; 8] = [0.1, 1.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];
/// Of a bounded minimum of a noisy f32 function.
const SCALE: Tolerance = Tolerance::Relative(1e-3);
const ERROR: Tolerance = Tolerance::Relative(1e-4);
/// Of `1 + alpha · x` in f32, for the second smallest alpha.
const NOISE: f32 = 1.2e-6;
const OUT: Tolerance = Tolerance::Relative(1e-5);

pub fn check(golden: &mut Section) {
    let calls = calls(golden, "in.a", "in.v");
    for bits in [4, 5, 6, 8] {
        let width = Bits::new(bits).unwrap();
        let scheme = Scheme::new(Family::Lnq, Family::Lnq.usual_range());
        let candidates = |calls: &[(Golden, Golden)]| {
            lnq_candidates(&Distribution::Batches(&batches(calls)), &scheme, width).unwrap().split_off(1)
        };
        let (scales, errors) = (
            golden.tensor(&format!("b{bits}.scales")).values,
            golden.tensor(&format!("b{bits}.errors")).values,
        );
        for (call, (scales, errors)) in scales.chunks(9).zip(errors.chunks(9)).enumerate() {
            // With alpha 0.001 the f32 of the original leaves too little of 1 + alpha · x for its search to say anything.
            let (scales, errors) = (&scales[1..], &errors[1..]);
            let one = &calls[call..=call];
            let found = nearest_with_noise(one, scales, 1e-3, NOISE, |one| {
                candidates(one).iter().map(|candidate| candidate.scale).collect()
            });
            golden.compare_with(&format!("b{bits}.scales[{call}]"), &found, scales, SCALE);
            // At the scales of the original: its minima lie where a value goes over to another level.
            let found = nearest_with_noise(one, errors, 1e-4, NOISE, |one| {
                let at = |(alpha, scale): (&f32, &f32)| error(&one[0], bits, *alpha, *scale);
                ALPHAS.iter().zip(scales).map(at).collect()
            });
            golden.compare_with(&format!("b{bits}.errors[{call}]"), &found, errors, ERROR);
        }
        let all = batches(&calls);
        let params = quantizer(Family::Lnq).fit(&Distribution::Batches(&all), &scheme, width).unwrap();
        golden.compare(&format!("b{bits}.scale"), &params.scale, SCALE);
        golden.compare(&format!("b{bits}.alpha"), params.numbers("alpha"), Tolerance::Exact);
        let (scale, alpha) =
            (golden.number(&format!("b{bits}.scale")), golden.number(&format!("b{bits}.alpha")));
        let params = given(Family::Lnq, bits, scale, &[("alpha", alpha)]);
        if bits == 4 {
            golden.compare("b4.out_bbit", &quantized(&calls[0].0.values, &params), OUT);
        }
        let released = Params { scheme: params.scheme.clone().paper(), ..params };
        golden.compare(&format!("b{bits}.out_code"), &quantized(&calls[0].0.values, &released), OUT);
    }
}

/// The error of the product with given parameters.
fn error((a, v): &(Golden, Golden), bits: u8, alpha: f32, scale: f32) -> f32 {
    let [heads, inner, columns] = v.shape[1..] else { panic!("values of shape {:?}", v.shape) };
    let quantized = quantized(&a.values, &given(Family::Lnq, bits, scale, &[("alpha", alpha)]));
    let rows = a.values.len() / (heads * inner);
    let mut sum = 0.0;
    for (at, (row, exact)) in quantized.chunks(inner).zip(a.values.chunks(inner)).enumerate() {
        let v = &v.values[at / rows * inner * columns..];
        for column in 0..columns {
            let product = |k: usize| f64::from(row[k] - exact[k]) * f64::from(v[k * columns + column]);
            sum += (0..inner).map(product).sum::<f64>().abs().powf(2.4);
        }
    }
    (sum / (heads * rows * columns) as f64) as f32
}
