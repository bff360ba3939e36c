//! Dual-region quantizers (hahnyuan/PTQ4ViT, gugu511yy/PTQ4RIS): given parameters, and the searches on their own error.

use crate::ledger::{Section, Tolerance};
use bitloupe_quant::quantizer::{Distribution, Family, Params, RangeSearch, Scheme, quantizer};
use bitloupe_quant::terms::{Bits, Layout};

const WIDTHS: [u8; 3] = [4, 6, 8];

/// Fits and then replaces one parameter.
fn params(x: &[f32], scheme: &Scheme, bits: u8, change: impl Fn(&mut Params)) -> Params {
    let data = Distribution::Raw { values: x, layout: Layout::tensor(x.len()) };
    let mut params = quantizer(scheme.family).fit(&data, scheme, Bits::new(bits).unwrap()).unwrap();
    change(&mut params);
    params.check(Layout::tensor(x.len())).unwrap();
    params
}

fn apply(x: &[f32], params: &Params) -> Vec<f32> {
    let mut out = x.to_vec();
    quantizer(params.scheme.family).fake_quantize(&mut out, Layout::tensor(x.len()), params);
    out
}

fn scheme(family: Family) -> Scheme {
    Scheme::new(family, RangeSearch::Mse { p: 2.0 })
}

fn ties(step: f32) -> Tolerance {
    Tolerance::Ties { share: 1e-5, flips: 1e-4, step: f64::from(step) }
}

/// Compares the output for a given split.
fn softmax(golden: &mut Section, name: &str, x: &[f32], scheme: &Scheme, bits: u8, split: f32) {
    let params = params(x, scheme, bits, |params| {
        params.extra.insert("split".to_owned(), vec![split]);
    });
    let step = params.scale[0];
    golden.compare(name, &apply(x, &params), ties(step));
}

fn gelu(golden: &mut Section, name: &str, x: &[f32], bits: u8, scale: f32) {
    let params = params(x, &scheme(Family::DrqGelu), bits, |params| params.scale = vec![scale]);
    golden.compare(name, &apply(x, &params), ties(scale));
}

/// `ptq4vit_twin`.
pub fn twin(golden: &mut Section) {
    let (x, a) = (golden.tensor("gelu.x").values, golden.tensor("softmax.A").values);
    for bits in WIDTHS {
        let fitted = params(&x, &scheme(Family::DrqGelu), bits, |_| {});
        golden.compare(
            &format!("gelu.b{bits}.interval_neg"),
            &fitted.extra["negative_scale"],
            Tolerance::Relative(1e-6),
        );
        for i in 0..2 {
            let scale = golden.number(&format!("gelu.b{bits}.iv{i}.interval_pos"));
            gelu(golden, &format!("gelu.b{bits}.iv{i}.out"), &x, bits, scale);
        }
        for i in [0, 2, 5, 7, 8, 10, 14] {
            let (split, softmax_scheme) = (2_f32.powi(-i), scheme(Family::DrqSoftmax));
            let name = |which: &str| format!("{which}.b{bits}.split2^-{i}");
            softmax(golden, &name("softmax_exclusive"), &a, &softmax_scheme, bits, split);
            softmax(golden, &name("softmax"), &a, &softmax_scheme.paper(), bits, split);
        }
    }
}

/// The same in `ptq4ris`, where more inputs are found.
pub fn ris(golden: &mut Section) {
    let (x, a) = (golden.tensor("in.vis.fc2.x").values, golden.tensor("in.vis.sv.A").values);
    let released = scheme(Family::DrqSoftmax).paper();
    for bits in WIDTHS {
        for i in [2, 5, 8] {
            softmax(golden, &format!("b{bits}.drq.softmax.split2^-{i}"), &a, &released, bits, 2_f32.powi(-i));
        }
        let split = golden.number(&format!("b{bits}.vis.sv.split"));
        softmax(golden, &format!("b{bits}.vis.sv.A_q"), &a, &released, bits, split);
        let scale = golden.number(&format!("b{bits}.vis.fc2.a_interval"));
        gelu(golden, &format!("b{bits}.vis.fc2.x_q"), &x, bits, scale);
    }
}

/// Outlier groups (`rorq`) in `ptq4ris`.
pub fn rorq(golden: &mut Section) {
    let released = scheme(Family::Rorq).paper();
    for bits in WIDTHS {
        for which in ["text", "text2", "text_single"] {
            let x = golden.tensor(&format!("in.{which}")).values;
            let name = |what: &str| format!("b{bits}.rorq.{which}.{what}");
            let params = params(&x, &released, bits, |_| {});
            // The threshold of a single outlier is NaN in the original.
            let mut thresholds = golden.tensor(&name("thresholds")).values;
            for i in 1..thresholds.len() {
                if thresholds[i].is_nan() {
                    thresholds[i] = thresholds[i - 1];
                }
            }
            let share = Tolerance::Relative(1e-5);
            golden.compare_with(&name("thresholds"), &params.extra["thresholds"], &thresholds, share);
            golden.compare(&name("deltas"), &params.scale, share);
            golden.compare(&name("zps"), &params.zero_point, Tolerance::Exact);
            let step = params.scale.iter().copied().fold(0.0, f32::max);
            golden.compare(&name("out"), &apply(&x, &params), ties(step));
            let wider: Vec<f32> = x.iter().map(|x| x * 1.5).collect();
            golden.compare(&name("out_x1p5"), &apply(&wider, &params), ties(step));
        }
    }
}
