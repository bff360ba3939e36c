//! Predicted against actual errors.

use crate::quantizer::{
    Distribution, Family, Granularity, QuantizerError, RangeSearch, Scheme, Survey, predict, predict_scaled,
    quantizer,
};
use crate::stats::Sketch;
use crate::stats::tests::shapes::{Random, gelu, softmax, values};
use crate::terms::{Bits, Layout};

fn actual_db(values: &[f32], quantized: &[f32]) -> f64 {
    let signal: f64 = values.iter().map(|&x| f64::from(x).powi(2)).sum();
    let error: f64 = values.iter().zip(quantized).map(|(&x, &q)| (f64::from(x) - f64::from(q)).powi(2)).sum();
    if error == 0.0 { 200.0 } else { (10.0 * (signal / error).log10()).min(200.0) }
}

/// Name, values, layout: shapes of activations and weights at several sizes and scales.
pub(super) fn tensors() -> Vec<(String, Vec<f32>, Layout)> {
    let mut tensors = Vec::new();
    for (at, rows) in [24, 80, 400, 2000].into_iter().enumerate() {
        let channels = 24;
        let n = rows * channels;
        let scale = [1.0, 1e-4, 30.0, 1e4][at];
        let mut random = Random::new(100 + at as u64);
        let r = &mut random;
        let layout = Layout { outer: rows, channels, inner: 1 };
        let mut push = |name: &str, values: Vec<f32>| tensors.push((format!("{name}, {n}"), values, layout));
        push("normal", values(n, scale, || r.normal()));
        push("offset", values(n, scale, || r.normal() + 3.0));
        push("uniform", values(n, scale, || r.uniform() - 0.3));
        push("laplace", values(n, scale, || r.laplace()));
        push("t(4)", values(n, scale, || r.student(4)));
        push("gelu", values(n, scale, || gelu(r.normal())));
        push("relu", values(n, scale, || r.normal().max(0.0)));
        let mut i = 0;
        push(
            "channels",
            values(n, scale, || {
                i += 1;
                r.normal() * (1.0 + (i % channels) as f64 / 3.0) + (i % channels % 5) as f64
            }),
        );
        push("softmax", softmax(r, rows, channels, 1.5));
    }
    tensors
}

fn ranges() -> [RangeSearch; 4] {
    [RangeSearch::MinMax, RangeSearch::repq(), RangeSearch::Mse { p: 2.0 }, RangeSearch::Kl]
}

/// The worst difference in dB over all tensors, families, ranges and widths.
fn worst(granularity: Granularity, limit: f64) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut worst, mut sum, mut count) = (0.0_f64, 0.0, 0);
    for (name, values, layout) in tensors() {
        let mut sketch = Sketch::new(layout.channels);
        sketch.observe(&values, layout).unwrap();
        let softmax = name.starts_with("softmax");
        let families: &[Family] = if softmax { Family::ALL } else { &[Family::Uniform] };
        // Fitted to the tensor as a whole, and of several shapes: what is known of a channel says too little.
        let whole = |family: Family| matches!(family, Family::Agq | Family::Lnq);
        let known = |family: &&Family| granularity == Granularity::Tensor || !whole(**family);
        for &family in families.iter().filter(known) {
            for range in ranges() {
                if family != Family::Uniform && range == RangeSearch::Kl {
                    continue;
                }
                for bits in [2, 3, 4, 6, 8] {
                    let scheme = Scheme { granularity, ..Scheme::new(family, range.clone()) };
                    let quantizer = quantizer(family);
                    let bits = Bits::new(bits).unwrap();
                    let params = match quantizer.fit(&Distribution::Sketch(&sketch), &scheme, bits) {
                        Ok(params) => params,
                        Err(QuantizerError::Unsupported { .. }) => continue,
                        Err(error) => panic!("{name} {scheme} {bits}: {error}"),
                    };
                    let mut out = values.clone();
                    quantizer.fake_quantize(&mut out, layout, &params);
                    let actual = actual_db(&values, &out);
                    let predicted = predict(&sketch, &params).sqnr_db;
                    let off = (actual - predicted).abs();
                    worst = worst.max(off);
                    sum += off;
                    count += 1;
                    // Two dozen values do not show the shape of a channel.
                    let few = granularity == Granularity::Channel && layout.outer < 64;
                    if off > limit * if few { 1.5 } else { 1.0 } {
                        wrong.push(format!(
                            "{name} {scheme} {bits}: {predicted:.2} predicted, {actual:.2} dB"
                        ));
                    }
                }
            }
        }
    }
    println!(
        "{granularity}: worst {worst:.3} dB, mean {:.4} dB of {count}, beyond {limit}: {}",
        sum / f64::from(count),
        wrong.len()
    );
    wrong
}

#[test]
fn a_grid_per_tensor_is_predicted_within_half_a_decibel() {
    let wrong = worst(Granularity::Tensor, 0.5);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_grid_per_channel_is_predicted_within_one_decibel() {
    let wrong = worst(Granularity::Channel, 1.0);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn fits_from_a_sketch_are_as_good_as_from_the_values() {
    for (name, values, layout) in tensors() {
        let mut sketch = Sketch::new(layout.channels);
        sketch.observe(&values, layout).unwrap();
        for range in ranges() {
            // KL minimises no error, and its histogram of few values says little.
            if range == RangeSearch::Kl && values.len() < 5000 {
                continue;
            }
            for bits in [3, 4, 8] {
                let scheme = Scheme::new(Family::Uniform, range.clone());
                let bits = Bits::new(bits).unwrap();
                let uniform = quantizer(Family::Uniform);
                let db = |data: &Distribution<'_>| {
                    let params = uniform.fit(data, &scheme, bits).unwrap();
                    let mut out = values.clone();
                    uniform.fake_quantize(&mut out, layout, &params);
                    actual_db(&values, &out)
                };
                let raw = db(&Distribution::Raw { values: &values, layout });
                let sketched = db(&Distribution::Sketch(&sketch));
                // A divergence decides between thresholds whose errors may differ.
                let slack = if range == RangeSearch::Kl { 3.0 } else { 0.5 };
                assert!(sketched > raw - slack, "{name} {scheme} {bits}: {raw} raw, {sketched} dB");
            }
        }
    }
}

#[test]
fn an_error_counts_as_the_values_were_before_their_channels_were_divided() {
    // Channels of deviation 1 were divided by numbers of 1/64 to 64 before they were quantized with one grid.
    let (rows, channels) = (1500, 13);
    let divisors: Vec<f64> = (0..channels).map(|c| 2_f64.powi(c - 6)).collect();
    let mut random = Random::new(7);
    let before: Vec<f32> = (0..rows * channels).map(|_| random.normal() as f32).collect();
    let divided: Vec<f32> =
        before.iter().enumerate().map(|(at, &x)| (f64::from(x) / divisors[at % 13]) as f32).collect();
    let layout = Layout { outer: rows as usize, channels: 13, inner: 1 };
    let mut sketch = Sketch::new(13);
    sketch.observe(&divided, layout).unwrap();
    let factors: Vec<f64> = divisors.iter().map(|s| s * s).collect();
    let signal = before.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / before.len() as f64;
    let tensor = Scheme::new(Family::Uniform, RangeSearch::MinMax);
    for scheme in [tensor.clone(), tensor.per_channel()] {
        let data = Distribution::Sketch(&sketch);
        let params = quantizer(scheme.family).fit(&data, &scheme, Bits::new(6).unwrap()).unwrap();
        let mut back = divided.clone();
        quantizer(scheme.family).fake_quantize(&mut back, layout, &params);
        back.iter_mut().enumerate().for_each(|(at, x)| *x = (f64::from(*x) * divisors[at % 13]) as f32);
        let predicted = predict_scaled(&Survey::new(&sketch), &params, &factors, signal).sqnr_db;
        let actual = actual_db(&before, &back);
        assert!((predicted - actual).abs() < 0.5, "{scheme}: {predicted} {actual}");
        // One grid for all is fine for the values as they were divided, and ruins most of what they were.
        let alone = predict(&sketch, &params).sqnr_db;
        assert!(alone > 20.0 && (actual < 3.0) != (params.scale.len() > 1), "{scheme}: {alone} {actual}");
    }
}
