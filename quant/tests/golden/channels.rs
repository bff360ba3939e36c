//! Grids that channels share: CAG (Keio-CSG/AHCPTQ, k-means by scikit-learn) and PTF (megvii-research/FQ-ViT).

use crate::ledger::{Section, Tolerance};
use bitloupe_quant::quantizer::{
    Batch, Distribution, Family, Params, RangeSearch, Scheme, cluster_from, fit_channel_groups, quantizer,
};
use bitloupe_quant::terms::{Bits, Layout};

fn scheme(family: Family) -> Scheme {
    Scheme::new(family, RangeSearch::MinMax).per_channel()
}

fn apply(x: &[f32], layout: Layout, params: &Params) -> Vec<f32> {
    params.check(layout).unwrap();
    let mut out = x.to_vec();
    quantizer(params.scheme.family).fake_quantize(&mut out, layout, params);
    out
}

fn mse(x: &[f32], q: &[f32]) -> f64 {
    x.iter().zip(q).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / x.len() as f64
}

/// `fqvit`.
pub fn ptf(golden: &mut Section) {
    let x = golden.tensor("ptf.x");
    let layout = Layout::axis(&x.shape, -1).unwrap();
    let data = Distribution::Raw { values: &x.values, layout };
    let params =
        quantizer(Family::Ptf).fit(&data, &scheme(Family::Ptf).paper(), Bits::new(8).unwrap()).unwrap();
    golden.compare("ptf.scale", &params.scale, Tolerance::Relative(1e-5));
    golden.compare("ptf.zero_point", &params.zero_point[..1], Tolerance::Exact);
    let step = params.scale.iter().copied().fold(0.0, f32::max);
    let ties = Tolerance::Ties { share: 1e-5, flips: 1e-4, step: f64::from(step) };
    golden.compare("ptf.y", &apply(&x.values, layout, &params), ties);
}

/// `cag`.
pub fn cag(golden: &mut Section) {
    let (a0, a1) = (golden.tensor("in.a0"), golden.tensor("in.a1").values);
    let layout = Layout::axis(&a0.shape, -1).unwrap();
    let batches = [&a0.values, &a1].map(|x| Batch::new(x, layout));
    let data = Distribution::Batches(&batches);
    let mut moved = 0;
    for bits in [4_u8, 5, 6, 8] {
        let width = Bits::new(bits).unwrap();
        let released = scheme(Family::ChannelGroups).paper();
        let own = fit_channel_groups(&data, &released, width, layout.channels).unwrap();
        let name = |what: &str| format!("b{bits}.{what}");
        golden.compare(&name("ch.scale"), &own.scale, Tolerance::Relative(1e-5));
        golden.compare(&name("ch.zp"), &own.zero_point, Tolerance::Exact);
        let of_channel = (0..layout.channels).collect::<Vec<_>>();
        output(golden, &name("ch"), &a0.values, layout, &own, &of_channel);
        let errors = golden.tensor(&name("mse")).values;
        let error = mse(&a0.values, &apply(&a0.values, layout, &own)) as f32;
        golden.compare_with(&name("mse per channel"), &[error], &errors[..1], Tolerance::Relative(1e-4));
        // Our groups, on scales and zero points of equal weight, against the same found by scikit-learn.
        let ours = fit_channel_groups(&data, &scheme(Family::ChannelGroups), width, 4).unwrap();
        let error = mse(&a0.values, &apply(&a0.values, layout, &ours));
        println!(
            "{bits} bits: 4 groups {error:.4}, original of equal weight {:.4}, per tensor {:.4}, per channel {:.4}",
            errors[7], errors[5], errors[0]
        );
        if error > f64::from(errors[7]) * 1.02 {
            golden.fail(format!("{bits} bits: 4 groups have error {error}, the original {}", errors[7]));
        }
        for groups in [32, 16, 8, 4] {
            moved += stage(golden, &format!("b{bits}.g{groups}"));
        }
        for groups in [8, 4] {
            let name = format!("b{bits}.g{groups}");
            let labels: Vec<usize> =
                golden.tensor(&format!("{name}.labels")).values.iter().map(|&label| label as usize).collect();
            output(golden, &name, &a0.values, layout, &own, &labels);
        }
    }
    // One of the 16 groupings depends on the precision of the distances.
    if moved > 4 {
        golden.fail(format!("{moved} channels are in other groups"));
    }
}

/// Compares the output for given grids of groups.
fn output(golden: &mut Section, name: &str, x: &[f32], layout: Layout, fitted: &Params, labels: &[usize]) {
    let (scale, zero) =
        (golden.tensor(&format!("{name}.scale_eff")).values, golden.tensor(&format!("{name}.zp")).values);
    let params = Params {
        scale: labels.iter().map(|&label| scale[label]).collect(),
        zero_point: labels.iter().map(|&label| zero[label]).collect(),
        ..fitted.clone()
    };
    let codes = golden.tensor(&format!("{name}.out.code")).values;
    let value = |(i, code): (usize, &f32)| {
        let c = layout.channel_of(i);
        (code - params.zero_point[c]) * params.scale[c]
    };
    let expected: Vec<f32> = codes.iter().enumerate().map(value).collect();
    let step = f64::from(scale.iter().copied().fold(0.0, f32::max));
    let ties = Tolerance::Ties { share: 1e-5, flips: 1e-4, step };
    golden.compare_with(&format!("{name}.out"), &apply(x, layout, &params), &expected, ties);
}

/// One grouping from the original's seeds; the number of channels in another group.
fn stage(golden: &mut Section, name: &str) -> usize {
    let tensor = |what: &str| golden.tensor(&format!("{name}.{what}")).values;
    let points: Vec<[f64; 2]> =
        tensor("vec").chunks_exact(2).map(|row| [f64::from(row[0]), f64::from(row[1])]).collect();
    let seeds = tensor("init_idx").iter().map(|&i| points[i as usize]).collect();
    let (labels, inertia) = (tensor("labels"), tensor("inertia"));
    let found = cluster_from(&points, seeds);
    let moved = found.labels.iter().zip(&labels).filter(|(a, b)| **a as f32 != **b).count();
    golden.compare_with(
        &format!("{name}.inertia"),
        &[found.inertia as f32],
        &inertia[1..2],
        Tolerance::Relative(0.02),
    );
    if moved == 0 {
        let axis =
            |axis: usize| found.centroids.iter().map(|centroid| centroid[axis] as f32).collect::<Vec<_>>();
        golden.compare(&format!("{name}.scale"), &axis(0), Tolerance::Relative(1e-5));
        let zero: Vec<f32> = axis(1).iter().map(|zero| zero.round_ties_even()).collect();
        golden.compare(&format!("{name}.zp"), &zero, Tolerance::Exact);
    }
    moved
}
