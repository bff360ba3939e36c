//! Properties of every family, range and width.

use crate::quantizer::{
    Distribution, Family, Granularity, Params, QuantizerError, RangeSearch, Scheme, predict, quantizer,
};
use crate::stats::Sketch;
use crate::stats::tests::shapes::Random;
use crate::terms::{Bits, Layout};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn ranges() -> Vec<RangeSearch> {
    vec![
        RangeSearch::MinMax,
        RangeSearch::repq(),
        RangeSearch::Percentile(vec![0.9]),
        RangeSearch::Mse { p: 2.0 },
        RangeSearch::Mse { p: 2.4 },
        RangeSearch::Kl,
    ]
}

/// Those and what the uniform family has besides.
fn uniform_ranges() -> Vec<RangeSearch> {
    let mut all = ranges();
    all.extend([
        RangeSearch::AverageMinMax,
        RangeSearch::Ema { momentum: 0.1, p: None },
        RangeSearch::Ema { momentum: 0.25, p: Some(2.0) },
        RangeSearch::Bounded { p: 2.0 },
        RangeSearch::Shrink,
        RangeSearch::Omse,
    ]);
    all
}

fn schemes() -> impl Strategy<Value = Scheme> {
    let families = prop::sample::select(Family::ALL);
    let granularities = prop::sample::select(Granularity::ALL);
    (families, prop::sample::select(uniform_ranges()), any::<bool>(), granularities)
        .prop_map(|(family, range, symmetric, granularity)| {
            let has = family == Family::Uniform || ranges().contains(&range);
            (family, if has { range } else { RangeSearch::MinMax }, symmetric, granularity)
        })
        .prop_filter("log families have no KL search", |(family, range, ..)| {
            *family == Family::Uniform || *range != RangeSearch::Kl
        })
        .prop_filter("magnitudes are grouped per tensor", |(family, _, _, granularity)| {
            *family != Family::Rorq || *granularity == Granularity::Tensor
        })
        .prop_map(|(family, range, symmetric, granularity)| Scheme {
            family,
            range,
            symmetric,
            granularity,
            paper: false,
        })
}

fn widths() -> impl Strategy<Value = Bits> {
    prop::sample::select(vec![2_u8, 3, 4, 5, 8, 16]).prop_map(|bits| Bits::new(bits).unwrap())
}

fn data() -> impl Strategy<Value = (Vec<f32>, Layout)> {
    (1_usize..12, 1_usize..5, prop_oneof![Just(1_usize), 2_usize..12], 0_u64..10_000).prop_map(
        |(outer, channels, inner, seed)| {
            let mut random = Random::new(seed);
            let layout = Layout { outer, channels, inner };
            let offset = [0.0, 0.0, 4.0, -100.0][seed as usize % 4];
            let scale = [1.0, 1e-4, 1e4][seed as usize % 3];
            let positive = seed % 5 == 0;
            let value = |random: &mut Random| {
                let x = random.normal() + offset;
                ((if positive { x.abs() } else { x }) * scale) as f32
            };
            ((0..layout.len()).map(|_| value(&mut random)).collect(), layout)
        },
    )
}

fn fit(values: &[f32], layout: Layout, scheme: &Scheme, bits: Bits) -> Params {
    quantizer(scheme.family).fit(&Distribution::Raw { values, layout }, scheme, bits).unwrap()
}

fn fq(values: &[f32], layout: Layout, params: &Params) -> Vec<f32> {
    let mut out = values.to_vec();
    quantizer(params.scheme.family).fake_quantize(&mut out, layout, params);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn quantizing_is_idempotent_and_stays_on_the_grid(
        (values, layout) in data(), scheme in schemes(), bits in widths(), sketched in any::<bool>(),
    ) {
        let family = quantizer(scheme.family);
        let params = if sketched {
            let mut sketch = Sketch::new(layout.channels);
            sketch.observe(&values, layout).unwrap();
            family.fit(&Distribution::Sketch(&sketch), &scheme, bits).unwrap()
        } else {
            fit(&values, layout, &scheme, bits)
        };
        prop_assert!(params.check(layout).is_ok());
        let once = fq(&values, layout, &params);
        // A level at the edge of a region may belong to the next one, and the table of AdaLog rounds a power away from
        // the values that it stands for when there are few codes.
        if ![Family::DrqSoftmax, Family::Rorq, Family::Adalog].contains(&scheme.family) {
            prop_assert_eq!(&once, &fq(&once, layout, &params));
        }
        // Codes and levels describe the same function.
        let codes = family.codes(&values, layout, &params);
        let most = bits.levels().unwrap() - u32::from(scheme.family == Family::Uniform);
        // Codes of groups have the number of the group above the bits.
        let own = |code: u32| if scheme.family == Family::Rorq { code % (most + 1) } else { code };
        prop_assert!(codes.iter().all(|code| own(*code) <= most));
        let back: Vec<u32> = family.dequantize(&codes, layout, &params).iter().map(|x| x.to_bits()).collect();
        prop_assert_eq!(back, once.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        if bits.levels().unwrap() <= 256 {
            for c in 0..layout.channels {
                let levels = family.levels(&params, c);
                prop_assert!(levels.windows(2).all(|pair| pair[0] < pair[1]));
                let own = |at: &usize| layout.channel_of(*at) == c;
                for at in (0..once.len()).filter(own) {
                    prop_assert!(levels.contains(&once[at]), "{} not in {:?}", once[at], levels);
                }
            }
        }
    }

    #[test]
    fn the_order_of_values_is_kept((values, layout) in data(), scheme in schemes(), bits in widths()) {
        let scheme = Scheme { granularity: Granularity::Tensor, ..scheme };
        let params = fit(&values, layout, &scheme, bits);
        let mut sorted = values.clone();
        sorted.extend([0.0, f32::INFINITY, f32::NEG_INFINITY]);
        sorted.sort_unstable_by(f32::total_cmp);
        let out = fq(&sorted, Layout::tensor(sorted.len()), &params);
        prop_assert!(out.windows(2).all(|pair| pair[0] <= pair[1]), "{:?}", out);
    }

    #[test]
    fn inside_the_range_the_error_is_half_a_step((values, layout) in data(), bits in widths()) {
        for symmetric in [false, true] {
            let scheme = Scheme { symmetric, ..Scheme::new(Family::Uniform, RangeSearch::MinMax) };
            let params = fit(&values, layout, &scheme, bits);
            let step = params.scale[0];
            let slack = values.iter().fold(0.0_f32, |m, x| m.max(x.abs())) * 1e-6;
            for (x, q) in values.iter().zip(fq(&values, layout, &params)) {
                // The zero point is rounded, so an end may be half a step short.
                let bound = if symmetric { 0.5 } else { 1.0 };
                prop_assert!((x - q).abs() <= step * bound + slack, "{x} {q} {step}");
                let levels = quantizer(Family::Uniform).levels(&params, 0);
                if *x >= levels[0] && *x <= levels[levels.len() - 1] {
                    prop_assert!((x - q).abs() <= 0.5 * step + slack, "{x} {q} {step}");
                }
            }
        }
    }

    #[test]
    fn powers_of_two_scale_everything(
        (values, layout) in data(), scheme in schemes(), bits in widths(), shift in -8_i32..8,
    ) {
        // The others are for values in 0..=1: a scale of 1, curvatures or a shift that are numbers of their own.
        prop_assume!(!matches!(scheme.family, Family::Lnq | Family::Adalog | Family::LogIntSoftmax));
        // Made for the fixed ranges of GELU's negative part and of probabilities.
        prop_assume!(![Family::DrqGelu, Family::DrqSoftmax].contains(&scheme.family));
        let factor = 2_f32.powi(shift);
        let scaled: Vec<f32> = values.iter().map(|x| x * factor).collect();
        let (a, b) = (fit(&values, layout, &scheme, bits), fit(&scaled, layout, &scheme, bits));
        // The exponent 2.4 rounds differently at another scale, so a search may choose another of near equals.
        prop_assume!(!matches!(scheme.range, RangeSearch::Mse { p: 2.4 } | RangeSearch::Shrink));
        // Nothing but zeros, or nothing positive for a logarithm: any scale will do.
        let expected: Vec<f32> = fq(&values, layout, &a).iter().map(|x| x * factor).collect();
        prop_assert_eq!(fq(&scaled, layout, &b), expected);
    }

    #[test]
    fn one_channel_is_the_tensor((values, _) in data(), scheme in schemes(), bits in widths()) {
        // Has no scale per channel.
        prop_assume!(scheme.family != Family::Rorq);
        let layout = Layout::tensor(values.len());
        let tensor = Scheme { granularity: Granularity::Tensor, ..scheme.clone() };
        let channel = Scheme { granularity: Granularity::Channel, ..scheme };
        let (a, b) = (fit(&values, layout, &tensor, bits), fit(&values, layout, &channel, bits));
        prop_assert_eq!((&a.scale, &a.zero_point), (&b.scale, &b.zero_point));
        prop_assert_eq!(fq(&values, layout, &a), fq(&values, layout, &b));
    }

    #[test]
    fn any_parameters_are_applied_as_the_formula_says(
        step in 1e-4_f32..10.0, zero in prop_oneof![-10.0_f32..300.0, -1e7_f32..1e7], bits in widths(), seed in 0_u64..1000,
    ) {
        let mut random = Random::new(seed);
        let scheme = Scheme::new(Family::Uniform, RangeSearch::MinMax);
        let top = (bits.levels().unwrap() - 1) as f32;
        let params = Params { scheme, bits, scale: vec![step; 3], zero_point: vec![zero; 3], extra: BTreeMap::default() };
        let one = Params { scale: vec![step], zero_point: vec![zero], ..params.clone() };
        let mut values: Vec<f32> = (0..300).map(|_| ((random.normal() * 40.0 - f64::from(zero)) * f64::from(step)) as f32).collect();
        // Ties, ends, and what is far outside.
        values.extend((0..30).map(|i| (i as f32 - 14.5) * step));
        values.extend([0.0, -0.0, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -1e-40, 1e9, -1e9, 1.0, 2.0]);
        let expected: Vec<u32> = values
            .iter()
            .map(|x| (((x / step).round_ties_even() + zero).clamp(0.0, top) - zero) * step)
            .map(f32::to_bits)
            .collect();
        let bits_of = |out: Vec<f32>| out.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let n = values.len() / 3;
        let values = &values[..n * 3];
        prop_assert_eq!(&bits_of(fq(values, Layout::tensor(n * 3), &one))[..], &expected[..n * 3]);
        for layout in [Layout { outer: n, channels: 3, inner: 1 }, Layout { outer: 1, channels: 3, inner: n }] {
            prop_assert_eq!(&bits_of(fq(values, layout, &params))[..], &expected[..n * 3]);
        }
        let levels = quantizer(Family::Uniform).levels(&one, 0);
        if top < 300.0 {
            for x in fq(values, Layout::tensor(n * 3), &one) {
                prop_assert!(levels.contains(&x), "{x} not in {levels:?}");
            }
        }
    }
}

#[test]
fn degenerate_data_is_fitted_and_predicted_without_panic() {
    let cases: [&[f32]; 12] = [
        &[],
        &[0.0; 6],
        &[3.0; 6],
        &[-3.0; 6],
        &[f32::NAN; 6],
        &[f32::NAN, 1.0, -2.0, f32::INFINITY, f32::NEG_INFINITY, 0.5],
        &[1e-45, 2e-45, 0.0],
        &[-1e-45, 1e-42, 1e-38],
        &[f32::MAX, f32::MIN, 0.0],
        &[f32::MAX, f32::MAX * 0.999, f32::MAX * 0.99],
        &[7.25],
        &[1000.0, 1000.0001, 1000.0002],
    ];
    for values in cases {
        for layout in [
            Layout::tensor(values.len()),
            Layout { outer: 1, channels: values.len().max(1), inner: usize::from(!values.is_empty()) },
        ] {
            let mut sketch = Sketch::new(layout.channels);
            sketch.observe(values, layout).unwrap();
            for &family in Family::ALL {
                for range in uniform_ranges() {
                    for &granularity in Granularity::ALL {
                        for &bits in Bits::ALL {
                            let scheme = Scheme { granularity, ..Scheme::new(family, range.clone()) };
                            check(values, layout, &sketch, &scheme, bits);
                            check(values, layout, &sketch, &scheme.symmetric(), bits);
                        }
                    }
                }
            }
        }
    }
}

fn check(values: &[f32], layout: Layout, sketch: &Sketch, scheme: &Scheme, bits: Bits) {
    let what = || format!("{values:?} {scheme} {bits}");
    for data in [Distribution::Raw { values, layout }, Distribution::Sketch(sketch)] {
        match quantizer(scheme.family).fit(&data, scheme, bits) {
            Ok(params) => {
                params.check(layout).unwrap_or_else(|error| panic!("{} {error}", what()));
                let out = fq(values, layout, &params);
                for (x, q) in values.iter().zip(&out) {
                    assert!(x.is_nan() == q.is_nan() && !q.is_infinite(), "{} {x} {q} {params:?}", what());
                }
                let prediction = predict(sketch, &params);
                assert!(prediction.sqnr_db.is_finite() && prediction.mse >= 0.0, "{} {prediction:?}", what());
                let _ = quantizer(scheme.family).codes(values, layout, &params);
            }
            Err(error) => assert!(
                bits.is_float() || matches!(error, QuantizerError::Unsupported { .. }),
                "{} {error}",
                what()
            ),
        }
    }
}

#[test]
fn a_constant_is_held_exactly() {
    for value in [3.7_f32, -0.001, 0.0, 1e20] {
        for range in uniform_ranges() {
            let scheme = Scheme::new(Family::Uniform, range);
            let values = [value; 50];
            let layout = Layout::tensor(50);
            let out = fq(&values, layout, &fit(&values, layout, &scheme, Bits::new(4).unwrap()));
            assert!((out[0] - value).abs() <= value.abs() * 1e-6, "{scheme} {value} {}", out[0]);
        }
    }
}

#[test]
fn schemes_and_parameters_survive_text_and_json() {
    for range in uniform_ranges() {
        assert_eq!(range.to_string().parse::<RangeSearch>(), Ok(range.clone()));
        let scheme = Scheme::new(Family::Uniform, range).per_channel();
        let params = fit(
            &[1.0, -2.0, 0.3],
            Layout { outer: 1, channels: 3, inner: 1 },
            &scheme,
            Bits::new(4).unwrap(),
        );
        let json = serde_json::to_string(&params).unwrap();
        assert_eq!(serde_json::from_str::<Params>(&json).unwrap(), params);
    }
    let shown = |scheme: &Scheme, text: &str| {
        assert_eq!(scheme.to_string(), text);
        assert_eq!(text.parse::<Scheme>().as_ref(), Ok(scheme));
    };
    for &family in Family::ALL {
        for scheme in [
            Scheme::published(family),
            Scheme::published(family).per_channel().paper(),
            Scheme::new(family, RangeSearch::Mse { p: 3.0 }).symmetric(),
            Scheme::new(family, RangeSearch::Percentile(vec![0.9, 0.99])),
        ] {
            shown(&scheme, &scheme.to_string());
        }
    }
    shown(&Scheme::published(Family::Agq), "agq");
    shown(&Scheme::published(Family::Ptf), "ptf");
    shown(&Scheme::new(Family::Ptf, RangeSearch::MinMax), "ptf per tensor");
    shown(&Scheme::published(Family::Hluq).paper(), "hluq as released");
    assert_eq!(Scheme::new(Family::Uniform, RangeSearch::repq()).to_string(), "uniform percentile");
    assert_eq!("log-sqrt2".parse(), Ok(Family::LogSqrt2));
    for text in [
        "",
        "percentile:",
        "percentile:1.5",
        "mse:0",
        "mse:nan",
        "max",
        "ema",
        "ema:0",
        "ema:0.1,",
        "ema:0.5,0",
        "bounded:17",
    ] {
        assert!(text.parse::<RangeSearch>().is_err(), "{text}");
    }
}

#[test]
fn parameters_of_strangers_are_checked() {
    let scheme = Scheme::new(Family::Uniform, RangeSearch::MinMax).per_channel();
    let params = |scale: Vec<f32>, zero_point: Vec<f32>| Params {
        scheme: scheme.clone(),
        bits: Bits::new(4).unwrap(),
        scale,
        zero_point,
        extra: BTreeMap::default(),
    };
    let layout = Layout { outer: 2, channels: 3, inner: 1 };
    assert!(params(vec![1.0], vec![0.0]).check(layout).is_ok());
    assert!(params(vec![1.0; 3], vec![0.5; 3]).check(layout).is_ok());
    for bad in [
        params(vec![1.0; 2], vec![0.0; 2]),
        params(vec![], vec![]),
        params(vec![0.0], vec![0.0]),
        params(vec![f32::NAN], vec![0.0]),
        params(vec![1.0], vec![f32::INFINITY]),
        params(vec![1.0; 3], vec![0.0]),
    ] {
        assert!(bad.check(layout).is_err());
    }
    let mut shared = params(vec![1.0; 3], vec![0.5; 3]);
    shared.scheme.granularity = Granularity::Tensor;
    assert!(shared.check(layout).is_err());
}
