//! What holds for the families that are step functions: AGQ, LNQ, AdaLog and Log-Int-Softmax.

use crate::quantizer::{
    Batch, Distribution, Family, Params, Product, RangeSearch, Scheme, agq_candidates, lnq_candidates,
    quantizer,
};
use crate::stats::Sketch;
use crate::stats::tests::shapes::{Random, gelu, softmax, values};
use crate::terms::{Bits, Layout};

const STEPPED: [Family; 4] = [Family::Agq, Family::Lnq, Family::Adalog, Family::LogIntSoftmax];

fn fit(data: &Distribution<'_>, scheme: &Scheme, bits: u8) -> Params {
    quantizer(scheme.family).fit(data, scheme, Bits::new(bits).unwrap()).unwrap()
}

fn fq(values: &[f32], params: &Params) -> Vec<f32> {
    let mut out = values.to_vec();
    quantizer(params.scheme.family).fake_quantize(&mut out, Layout::tensor(values.len()), params);
    out
}

fn mse(values: &[f32], params: &Params) -> f64 {
    let squares = values.iter().zip(fq(values, params)).map(|(&x, q)| (f64::from(x) - f64::from(q)).powi(2));
    squares.sum::<f64>() / values.len() as f64
}

fn raw(values: &[f32]) -> Distribution<'_> {
    Distribution::Raw { values, layout: Layout::tensor(values.len()) }
}

fn usual(family: Family) -> Scheme {
    Scheme::new(family, family.usual_range())
}

#[test]
fn a_sketch_is_as_good_as_the_values() {
    let mut r = Random::new(5);
    let tensors = [
        softmax(&mut r, 60, 49, 1.5),
        softmax(&mut r, 800, 196, 3.0),
        softmax(&mut r, 20, 400, 0.3),
        values(20_000, 1.0, || gelu(2.0 * r.normal())),
        values(5_000, 3.0, || r.normal().abs()),
    ];
    for (at, values) in tensors.iter().enumerate() {
        let mut sketch = Sketch::new(1);
        sketch.observe(values, Layout::tensor(values.len())).unwrap();
        for family in STEPPED {
            for range in [RangeSearch::MinMax, RangeSearch::repq(), RangeSearch::Mse { p: 2.0 }] {
                for bits in [2, 3, 4, 6, 8] {
                    let scheme = Scheme::new(family, range.clone());
                    let exact = mse(values, &fit(&raw(values), &scheme, bits));
                    let params = fit(&Distribution::Sketch(&sketch), &scheme, bits);
                    let sketched = mse(values, &params);
                    assert!(
                        sketched <= 1.02 * exact,
                        "tensor {at}, {scheme} {bits}: {sketched:e}, exact {exact:e}, {params:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn searches_beat_the_whole_range_and_each_other_as_published() {
    let mut r = Random::new(6);
    let a = softmax(&mut r, 64, 64, 2.0);
    for family in [Family::Agq, Family::Lnq] {
        for bits in [3, 4, 6] {
            let of = |range| mse(&a, &fit(&raw(&a), &Scheme::new(family, range), bits));
            assert!(of(RangeSearch::Mse { p: 2.0 }) <= of(RangeSearch::MinMax) * 1.0001, "{family} {bits}");
        }
    }
    // Post-softmax values: a scale of 1, as published; the base follows the width.
    let (few, many) = (fit(&raw(&a), &usual(Family::Adalog), 3), fit(&raw(&a), &usual(Family::Adalog), 6));
    assert_eq!((few.scale[0], many.scale[0], few.number("shift", 1.0)), (1.0, 1.0, 0.0));
    assert!(few.number("q", 0.0) >= many.number("q", 0.0));
}

#[test]
fn the_product_decides_per_batch_and_per_head() {
    let mut r = Random::new(7);
    let (heads, tokens, width) = (3, 24, 8);
    let layout = Layout { outer: 1, channels: heads, inner: tokens * tokens };
    let a = softmax(&mut r, heads * tokens, tokens, 2.0);
    let v: Vec<f32> = values(heads * tokens * width, 1.0, || r.normal());
    let product = Product { other: &v, inner: tokens, columns: width, transposed: false };
    for family in [Family::Agq, Family::Lnq, Family::Adalog] {
        let batch = Batch { values: &a, layout, product: Some(product) };
        let scheme = usual(family).per_channel();
        let params = fit(&Distribution::Batches(&[batch]), &scheme, 4);
        assert_eq!(params.scale.len(), heads, "{family}");
        for head in 0..heads {
            let own = &a[head * tokens * tokens..(head + 1) * tokens * tokens];
            let product =
                Product { other: &v[head * tokens * width..(head + 1) * tokens * width], ..product };
            let batch = Batch { values: own, layout: Layout::tensor(own.len()), product: Some(product) };
            let alone = fit(&Distribution::Batches(&[batch]), &usual(family), 4);
            assert_eq!(alone.scale[0], params.scale[head], "{family} {head}");
        }
        // The same right operand, transposed.
        let mut transposed = vec![0.0; v.len()];
        for (at, &x) in v.iter().enumerate() {
            let (head, row, column) = (at / (tokens * width), at / width % tokens, at % width);
            transposed[(head * width + column) * tokens + row] = x;
        }
        let product = Product { other: &transposed, transposed: true, ..product };
        let batch = Batch { values: &a, layout, product: Some(product) };
        assert_eq!(fit(&Distribution::Batches(&[batch]), &scheme, 4), params, "{family}");
    }
}

#[test]
fn values_that_are_not_finite_do_not_reach_the_fit() {
    let mut r = Random::new(8);
    let mut a = softmax(&mut r, 16, 16, 2.0);
    let v: Vec<f32> = values(16 * 4, 1.0, || r.normal());
    let layout = Layout::tensor(a.len());
    (a[3], a[40]) = (f32::NAN, f32::INFINITY);
    let mut spoilt = v.clone();
    spoilt[5] = f32::NAN;
    for family in STEPPED {
        for other in [&v, &spoilt] {
            let product = Product { other, inner: 16, columns: 4, transposed: false };
            let batch = Batch { values: &a, layout, product: Some(product) };
            let params = fit(&Distribution::Batches(&[batch]), &usual(family), 4);
            assert!(params.check(layout).is_ok(), "{params:?}");
            let out = fq(&a, &params);
            assert!(out[3].is_nan() && out[40].is_finite(), "{family}");
        }
    }
    let data = Distribution::Batches(&[]);
    assert!(quantizer(Family::Agq).fit(&data, &usual(Family::Agq), Bits::new(4).unwrap()).is_err());
    assert!(agq_candidates(&data, &usual(Family::Agq), Bits::new(4).unwrap()).is_err());
    assert!(lnq_candidates(&raw(&a), &usual(Family::Agq), Bits::new(4).unwrap()).is_err());
}

#[test]
fn a_log_of_larger_values_scales_with_them() {
    let mut r = Random::new(9);
    let positive: Vec<f32> = values(3000, 1.0, || 1.5 + r.normal().abs());
    for shift in [1, 4, 20] {
        let factor = 2_f32.powi(shift);
        let scaled: Vec<f32> = positive.iter().map(|x| x * factor).collect();
        for range in [RangeSearch::MinMax, RangeSearch::repq(), RangeSearch::Mse { p: 2.0 }] {
            for bits in [2, 4, 8] {
                let scheme = Scheme::new(Family::Adalog, range.clone());
                let (a, b) = (fit(&raw(&positive), &scheme, bits), fit(&raw(&scaled), &scheme, bits));
                let expected: Vec<f32> = fq(&positive, &a).iter().map(|x| x * factor).collect();
                assert_eq!(fq(&scaled, &b), expected, "{scheme} {bits}");
            }
        }
    }
}

#[test]
fn adalog_shifts_by_the_minimum_of_gelu_or_of_the_data() {
    let mut r = Random::new(10);
    let activations: Vec<f32> = values(4000, 1.0, || gelu(2.0 * r.normal()));
    let other: Vec<f32> = values(4000, 1.0, || r.normal());
    let least = other.iter().copied().fold(0.0, f32::min);
    let gelu_shift = 0.169_971_24;
    let scheme = usual(Family::Adalog);
    let shift = |values: &[f32], scheme: &Scheme| fit(&raw(values), scheme, 4).number("shift", 0.0);
    assert_eq!(shift(&activations, &scheme), gelu_shift);
    assert_eq!((shift(&other, &scheme), shift(&other, &scheme.clone().paper())), (-least, gelu_shift));
    // Zero of the logarithm is the least level.
    let params = fit(&raw(&activations), &scheme, 4);
    assert_eq!(quantizer(Family::Adalog).levels(&params, 0)[0], -gelu_shift);
}

#[test]
fn lnq_has_as_many_codes_as_bits_hold_and_one_more_as_released() {
    for bits in [2, 4, 8] {
        let mut params = fit(&raw(&[0.0, 0.5, 1.0]), &usual(Family::Lnq), bits);
        let levels = |params: &Params| quantizer(Family::Lnq).levels(params, 0).len();
        assert_eq!(levels(&params), 1 << bits);
        params.scheme.paper = true;
        assert_eq!(levels(&params), (1 << bits) + 1);
    }
}

#[test]
fn settings_of_strangers_are_checked_and_never_panic() {
    let layout = Layout { outer: 2, channels: 3, inner: 2 };
    let odd = [f32::NAN, f32::INFINITY, -1.0, 0.0, 0.3, 3.0, 1e-30, 1e30, f32::MAX];
    let x = [0.0, 1.0, -1.0, 1e-30, 3e38, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.3, 0.6, 0.7, 0.1];
    let names =
        [(Family::Agq, "tau"), (Family::Lnq, "alpha"), (Family::Adalog, "q"), (Family::Adalog, "shift")];
    for (family, name) in names {
        let of = quantizer(family);
        let good = fit(&raw(&x), &usual(family).per_channel(), 8);
        let mut none = good.clone();
        none.extra.clear();
        assert!(none.check(layout).is_err(), "{family} without {name}");
        for values in odd.map(|value| vec![value; 3]).into_iter().chain([vec![], vec![1.0, 2.0]]) {
            for scale in [1e-38, 1.0, f32::MAX] {
                let mut params = Params { scale: vec![scale; 3], ..good.clone() };
                params.extra.insert(name.to_owned(), values.clone());
                let valid = params.check(layout).is_ok();
                let mut out = x.to_vec();
                of.fake_quantize(&mut out, layout, &params);
                let back = of.dequantize(&of.codes(&x, layout, &params), layout, &params);
                let _ = (of.levels(&params, 1), of.cells(&params, 2));
                if valid {
                    for ((x, q), back) in x.iter().zip(&out).zip(back) {
                        assert!(
                            x.is_nan() || (q.is_finite() && q.to_bits() == back.to_bits()),
                            "{x} {q} {params:?}"
                        );
                    }
                }
            }
        }
    }
}
