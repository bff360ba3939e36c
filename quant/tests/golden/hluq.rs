//! HLUQ (Keio-CSG/AHCPTQ): losses of the candidates, what is chosen, and outputs.

use crate::ledger::{Section, Tolerance};
use bitloupe_quant::quantizer::{
    Batch, Distribution, Family, Params, Product, RangeSearch, Scheme, hluq_losses, quantizer,
};
use bitloupe_quant::terms::{Bits, Layout};

pub fn check(golden: &mut Section) {
    let (x0, x1) = (golden.tensor("in.x0").values, golden.tensor("in.x1").values);
    let weight = golden.tensor("in.weight");
    let product = Some(Product {
        other: &weight.values,
        inner: weight.shape[1],
        columns: weight.shape[0],
        transposed: true,
    });
    let batches = [&x0, &x1].map(|x| Batch { values: x, layout: Layout::tensor(x.len()), product });
    for bits in [4_u8, 5, 6, 8] {
        let name = |what: &str| format!("b{bits}.{what}");
        let width = Bits::new(bits).unwrap();
        let scheme = Scheme::new(Family::Hluq, RangeSearch::Mse { p: 2.0 }).paper();
        let losses: Vec<f32> =
            hluq_losses(&batches, width, true).iter().flatten().map(|&loss| loss as f32).collect();
        golden.compare(&name("losses"), &losses, Tolerance::Relative(2e-4));
        let params = quantizer(Family::Hluq).fit(&Distribution::Batches(&batches), &scheme, width).unwrap();
        let share = Tolerance::Relative(1e-5);
        golden.compare(&name("fp_min"), &params.extra["minimum"], share);
        golden.compare(&name("scale_log"), &params.scale, share);
        golden.compare(&name("scale_uni"), &params.extra["uniform_scale"], share);
        golden.compare(&name("grid_rate"), &params.extra["log_share"], share);
        let range = golden.number(&name("fp_max")) - golden.number(&name("fp_min"));
        golden.compare(&name("range_rate"), &[params.scale[0] / range], share);
        let rates =
            [0.1, 0.3, 0.5].into_iter().position(|rate| (params.scale[0] / range - rate).abs() < 0.01);
        let shares = [0.125, 0.25, 0.5].into_iter().position(|share| params.extra["log_share"][0] == share);
        golden.compare(&name("best"), &[(rates.unwrap() * 3 + shares.unwrap()) as f32], Tolerance::Exact);
        output(golden, &name("out"), &x0, &params);
        let mut found = x0.clone();
        quantizer(Family::Hluq).fake_quantize(&mut found, Layout::tensor(x0.len()), &params);
        let errors = x0.iter().zip(&found).map(|(a, b)| f64::from(a - b).powi(2));
        let mse = (errors.sum::<f64>() / x0.len() as f64) as f32;
        let expected = golden.tensor(&name("mse_vs_minmax_uniform")).values[0];
        golden.compare_with(&name("mse"), &[mse], &[expected], Tolerance::Relative(1e-4));
        wide(golden, &params);
    }
}

/// Compares with values that are stored as positions in a list of levels.
fn output(golden: &mut Section, name: &str, x: &[f32], params: &Params) {
    let grid = golden.tensor(&format!("{name}.grid")).values;
    let at = golden.tensor(&format!("{name}.idx")).values;
    let expected: Vec<f32> = at.iter().map(|&i| grid[i as usize]).collect();
    let mut found = x.to_vec();
    quantizer(params.scheme.family).fake_quantize(&mut found, Layout::tensor(x.len()), params);
    let step = f64::from(params.scale[0].max(params.extra["uniform_scale"][0]));
    golden.compare_with(name, &found, &expected, Tolerance::Ties { share: 1e-5, flips: 1e-4, step });
}

/// All candidates on values of which many meet the defect.
fn wide(golden: &mut Section, fitted: &Params) {
    let bits = fitted.bits;
    let x = golden.tensor("in.wide").values;
    let (lo, hi) = x.iter().fold((f32::MAX, f32::MIN), |(lo, hi), &x| (lo.min(x), hi.max(x)));
    let mut collapsed = Vec::new();
    for candidate in 0..9 {
        let (rate, share) = ([0.1, 0.3, 0.5][candidate / 3], [0.125, 0.25, 0.5][candidate % 3]);
        let steps = f64::from(bits.levels().unwrap() - 1) * (1.0 - share);
        let range = f64::from(hi - lo);
        let mut params = Params { scale: vec![(range * rate) as f32], ..fitted.clone() };
        params.extra.insert("minimum".to_owned(), vec![lo]);
        params.extra.insert("uniform_scale".to_owned(), vec![(range * (1.0 - rate) / steps) as f32]);
        params.extra.insert("log_share".to_owned(), vec![share as f32]);
        output(golden, &format!("b{bits}.wide.c{candidate}.out"), &x, &params);
        // What the defect changes, and what it leaves because it is the threshold's anyway.
        let logs = f64::from(bits.levels().unwrap()) * share;
        let leaks = |x: &&f32| {
            let u = **x - lo;
            u > params.scale[0] && f64::from(u) >= logs
        };
        collapsed.push(x.iter().filter(leaks).count() as f32);
    }
    golden.compare(&format!("b{bits}.wide.collapsed"), &collapsed, Tolerance::Exact);
}
