//! Grids of regions: what predictions and sketches make of them.

use crate::quantizer::{Cells, Distribution, Family, Params, RangeSearch, Scheme, quantizer};
use crate::stats::Sketch;
use crate::stats::tests::shapes::{Random, gelu, softmax, values};
use crate::terms::{Bits, Layout};

/// The families of this kind that have one grid for the tensor.
const FAMILIES: [Family; 4] = [Family::DrqGelu, Family::DrqSoftmax, Family::Rorq, Family::Hluq];

fn widths() -> impl Iterator<Item = Bits> {
    [2, 3, 4, 6, 8].into_iter().filter_map(|bits| Bits::new(bits).ok())
}

/// Shapes for which the families were made, and others.
fn tensors() -> Vec<(&'static str, Vec<f32>)> {
    let n = 20_000;
    let mut random = Random::new(7);
    let r = &mut random;
    let mut tensors = vec![
        ("gelu", values(n, 1.0, || gelu(r.normal()))),
        ("normal", values(n, 1.0, || r.normal())),
        ("t(4)", values(n, 30.0, || r.student(4))),
        ("positive", values(n, 0.1, || r.laplace().abs())),
        ("softmax", softmax(r, 200, 100, 1.5)),
    ];
    let mut outliers = values(n, 1.0, || r.normal());
    outliers[77] = -60.0;
    tensors.push(("outlier", outliers));
    tensors
}

fn fitted(values: &[f32], scheme: &Scheme, bits: Bits, sketched: bool) -> Params {
    let layout = Layout::tensor(values.len());
    let mut sketch = Sketch::new(1);
    sketch.observe(values, layout).unwrap();
    let data = if sketched { Distribution::Sketch(&sketch) } else { Distribution::Raw { values, layout } };
    quantizer(scheme.family).fit(&data, scheme, bits).unwrap()
}

fn apply(values: &[f32], params: &Params) -> Vec<f32> {
    let mut out = values.to_vec();
    quantizer(params.scheme.family).fake_quantize(&mut out, Layout::tensor(values.len()), params);
    out
}

fn mse(values: &[f32], params: &Params) -> f64 {
    let error = |(&x, q): (&f32, f32)| (f64::from(x) - f64::from(q)).powi(2);
    values.iter().zip(apply(values, params)).map(error).sum::<f64>() / values.len() as f64
}

#[test]
fn a_fit_from_a_sketch_is_as_good_as_one_on_the_values() {
    let mut wrong = Vec::new();
    for (name, values) in tensors() {
        for family in FAMILIES {
            for bits in widths() {
                let scheme = Scheme::new(family, RangeSearch::Mse { p: 2.0 });
                let [exact, sketched] =
                    [false, true].map(|sketched| mse(&values, &fitted(&values, &scheme, bits, sketched)));
                if sketched > exact * 1.02 {
                    wrong.push(format!("{name} {family} {bits}: {exact:e} exact, {sketched:e}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cells_are_the_function_that_is_applied() {
    for (name, values) in tensors() {
        for family in FAMILIES {
            for paper in [false, true] {
                for bits in widths() {
                    let scheme = Scheme { paper, ..Scheme::new(family, RangeSearch::MinMax) };
                    let params = fitted(&values, &scheme, bits, false);
                    let Cells::Steps { bounds, levels } = quantizer(family).cells(&params, 0) else {
                        panic!("{family} has regions")
                    };
                    assert_eq!(levels.len(), bounds.len() + 1);
                    assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{family} {bounds:?}");
                    let most = bits.levels().unwrap() as usize * params.scale.len();
                    let known = quantizer(family).levels(&params, 0);
                    assert!(known.len() <= most, "{family} {bits}: {} levels", known.len());
                    // Wider than what was fitted.
                    let x: Vec<f32> = values.iter().step_by(7).map(|x| x * 1.7).collect();
                    for (&x, &q) in x.iter().zip(&apply(&x, &params)) {
                        assert!(known.contains(&q), "{name} {scheme} {bits} {x}: {q}");
                        let near = |bound: &f64| (bound - f64::from(x)).abs() <= 1e-5 * f64::from(x.abs());
                        let cell = bounds.partition_point(|bound| *bound <= f64::from(x));
                        let on_a_bound =
                            bounds[cell.saturating_sub(1)..(cell + 1).min(bounds.len())].iter().any(near);
                        assert!(
                            levels[cell] as f32 == q || on_a_bound,
                            "{name} {scheme} {bits} {x}: {q}, {}",
                            levels[cell]
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_is_crushed_to_the_inner_groups() {
    let mut random = Random::new(3);
    let mut x = values(4000, 1.0, || random.normal());
    x[5] = 80.0;
    for sketched in [false, true] {
        let params =
            fitted(&x, &Scheme::new(Family::Rorq, RangeSearch::MinMax), Bits::new(4).unwrap(), sketched);
        let out = apply(&[80.0, 120.0, 40.0, -90.0, 1e9, f32::INFINITY], &params);
        assert!((out[0] - 80.0).abs() < 0.01, "{out:?} {params:?}");
        assert!((out[1] - 80.0).abs() < 10.0 && (out[2] - 40.0).abs() < 6.0, "{out:?}");
        assert!(out[3] < -3.0 && out[4] >= 80.0 - 0.01 && out[5] == out[4], "{out:?}");
    }
}

#[test]
fn parameters_of_strangers_never_panic() {
    let odd = [f32::NAN, f32::INFINITY, -1.0, 0.0, 1e-45, 0.3, 1.0, 1e7, f32::MAX];
    let names =
        ["negative_scale", "split", "thresholds", "uniform_scale", "minimum", "log_share", "factor", "group"];
    let x =
        [0.0, -0.0, 0.1, -0.2, 3.0, 1e-40, f32::MAX, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -5.0, 2.5];
    let layout = Layout { outer: 3, channels: 4, inner: 1 };
    let families = [Family::Ptf, Family::ChannelGroups];
    for family in FAMILIES.into_iter().chain(families) {
        for paper in [false, true] {
            let scheme = Scheme { paper, ..Scheme::new(family, RangeSearch::MinMax) };
            let good = fitted(&[0.5, -0.2, 4.0, 30.0, 0.1], &scheme, Bits::new(4).unwrap(), false);
            for value in odd {
                for count in [0, 1, 2, 5, 70] {
                    let mut tried = vec![
                        Params { scale: vec![value; count], ..good.clone() },
                        Params { zero_point: vec![value; count], ..good.clone() },
                    ];
                    tried.extend(names.iter().map(|name| {
                        let mut params = good.clone();
                        params.extra.insert((*name).to_owned(), vec![value; count]);
                        params
                    }));
                    for params in tried {
                        let quantizer = quantizer(family);
                        let sound = params.check(layout).is_ok();
                        let mut out = x.to_vec();
                        quantizer.fake_quantize(&mut out, layout, &params);
                        let codes = quantizer.codes(&x, layout, &params);
                        let back = quantizer.dequantize(&codes, layout, &params);
                        if sound {
                            let _ = (quantizer.cells(&params, 3), quantizer.levels(&params, 0));
                            for ((x, q), back) in x.iter().zip(&out).zip(&back) {
                                assert_eq!(x.is_nan(), q.is_nan(), "{params:?} {x}");
                                assert!(!q.is_infinite() && back.is_finite(), "{params:?} {x} {q} {back}");
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn grids_that_channels_share_are_as_good_from_a_sketch() {
    let layout = Layout { outer: 500, channels: 48, inner: 1 };
    let mut random = Random::new(11);
    let mut i = 0;
    let x = values(layout.len(), 1.0, || {
        i += 1;
        let c = (i % layout.channels) as f64;
        random.normal() * (0.1 + (c / 12.0).powi(3)) + (c % 5.0 - 2.0) * 0.3
    });
    let mut sketch = Sketch::new(layout.channels);
    sketch.observe(&x, layout).unwrap();
    let per_channel = |params: &Params| {
        let mut out = x.clone();
        quantizer(params.scheme.family).fake_quantize(&mut out, layout, params);
        x.iter().zip(out).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
    };
    for family in [Family::Ptf, Family::ChannelGroups] {
        for bits in widths() {
            let scheme = Scheme::new(family, RangeSearch::MinMax).per_channel();
            let fit = |data: &Distribution<'_>| quantizer(family).fit(data, &scheme, bits).unwrap();
            let exact = per_channel(&fit(&Distribution::Raw { values: &x, layout }));
            let sketched = per_channel(&fit(&Distribution::Sketch(&sketch)));
            // A sketch knows ranges exactly, but guesses the shape of a channel: where two factors are nearly as good,
            // it may take the other one. Here the channels differ by a factor of 600.
            let limit = if family == Family::Ptf { 1.03 } else { 1.0 };
            assert!(sketched <= exact * limit, "{family} {bits}: {exact} exact, {sketched}");
            let uniform = Scheme::new(Family::Uniform, RangeSearch::MinMax);
            let shared = fitted(&x, &uniform, bits, false);
            assert!(sketched < per_channel(&shared), "{family} {bits}: {sketched}");
        }
    }
}
