//! Range searches: from a sketch as good as from the values, and over batches.

use super::prediction::tensors;
use crate::quantizer::{Batch, Distribution, Family, Params, RangeSearch, Scheme, quantizer};
use crate::stats::Sketch;
use crate::terms::{Bits, Layout};

fn fit(data: &Distribution<'_>, range: RangeSearch, bits: u8) -> Params {
    let scheme = Scheme::new(Family::Uniform, range);
    quantizer(Family::Uniform).fit(data, &scheme, Bits::new(bits).unwrap()).unwrap()
}

fn error(values: &[f32], layout: Layout, params: &Params) -> f64 {
    let mut out = values.to_vec();
    quantizer(Family::Uniform).fake_quantize(&mut out, layout, params);
    values.iter().zip(&out).map(|(x, q)| f64::from(x - q).powi(2)).sum()
}

/// Of a few hundred values a sketch does not show which of nearly equal grids happens to fit them best.
#[test]
fn a_sketch_gives_the_error_of_the_values_within_two_percent() {
    let mut wrong = Vec::new();
    for (name, values, layout) in tensors().into_iter().filter(|(_, values, _)| values.len() < 20_000) {
        let mut sketch = Sketch::new(layout.channels);
        sketch.observe(&values, layout).unwrap();
        let few = values.len() < 5000;
        // The minimiser looks at all values for every one of a thousand ranges.
        let minimiser = [RangeSearch::Bounded { p: 2.0 }, RangeSearch::Ema { momentum: 0.1, p: Some(2.4) }];
        let plain =
            [RangeSearch::Mse { p: 2.0 }, RangeSearch::AverageMinMax, RangeSearch::Shrink, RangeSearch::Omse];
        let ranges = plain.iter().chain(minimiser.iter().filter(|_| few));
        for (range, bits) in ranges.flat_map(|range| (2..=8).map(move |bits| (range, bits))) {
            let raw = fit(&Distribution::Raw { values: &values, layout }, range.clone(), bits);
            let sketched = fit(&Distribution::Sketch(&sketch), range.clone(), bits);
            let (exact, found) = (error(&values, layout, &raw), error(&values, layout, &sketched));
            if found > (if few { 1.06 } else { 1.02 }) * exact {
                wrong.push(format!("{name} {range} {bits}: {:.4} times as large", found / exact));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), wrong.len());
}

#[test]
fn ranges_of_batches_are_averaged_in_their_order() {
    let values = [[0.0_f32, 4.0], [-1.0, 8.0], [-2.0, 3.0]];
    let batches: Vec<Batch<'_>> = values.iter().map(|v| Batch::new(v, Layout::tensor(2))).collect();
    let data = Distribution::Batches(&batches);
    let scale = |range| fit(&data, range, 4).scale[0];
    assert_eq!(scale(RangeSearch::AverageMinMax), (5.0 + 1.0) / 15.0);
    // ((0, 4) · ½ + (-1, 8) · ½) · ½ + (-2, 3) · ½
    assert_eq!(scale(RangeSearch::Ema { momentum: 0.5, p: None }), (4.5 + 1.25) / 15.0);
    assert_eq!(scale(RangeSearch::Ema { momentum: 1.0, p: None }), 5.0 / 15.0);
    assert_eq!(scale(RangeSearch::MinMax), 10.0 / 15.0);
}

#[test]
fn batches_without_a_finite_value_do_not_count() {
    let values = [[f32::NAN; 2], [-1.0, 2.0]];
    let batches: Vec<Batch<'_>> = values.iter().map(|v| Batch::new(v, Layout::tensor(2))).collect();
    for range in [RangeSearch::AverageMinMax, RangeSearch::Ema { momentum: 0.1, p: None }] {
        assert_eq!(fit(&Distribution::Batches(&batches), range.clone(), 4).scale, [3.0 / 15.0]);
        assert_eq!(fit(&Distribution::Batches(&batches[..1]), range, 4).scale, [1.0]);
    }
}

#[test]
fn the_clamped_zero_point_of_the_release_clips_what_lies_on_one_side() {
    let values: Vec<f32> = (0..64).map(|i| 4.0 + i as f32 / 64.0).collect();
    let layout = Layout::tensor(64);
    let data = Distribution::Raw { values: &values, layout };
    let sound = fit(&data, RangeSearch::Omse, 4);
    let scheme = Scheme::new(Family::Uniform, RangeSearch::Omse).paper();
    let released = quantizer(Family::Uniform).fit(&data, &scheme, Bits::new(4).unwrap()).unwrap();
    assert!(error(&values, layout, &released) > 100.0 * error(&values, layout, &sound));
}

#[test]
fn the_minimiser_of_the_release_is_useless_for_small_values() {
    let values: Vec<f32> =
        (0..200).map(|i| ((i as f32 * 0.7).sin() + (i as f32 * 0.13).cos()) * 1e-6).collect();
    let data = Distribution::Raw { values: &values, layout: Layout::tensor(200) };
    let of = |params: &Params| error(&values, Layout::tensor(200), params);
    let best = of(&fit(&data, RangeSearch::Mse { p: 2.0 }, 4));
    let scheme = Scheme::new(Family::Uniform, RangeSearch::Bounded { p: 2.0 });
    let bounded =
        |scheme: &Scheme| quantizer(Family::Uniform).fit(&data, scheme, Bits::new(4).unwrap()).unwrap();
    assert!(of(&bounded(&scheme)) < 1.1 * best);
    assert!(of(&bounded(&scheme.paper())) > 1.2 * best);
}
