//! Resizing of known tables (position embeddings): any axes, one after another, as the ONNX operator defines it.

use super::super::flow::{Coordinates, Interpolation, Nearest, Resize};
use super::super::tensor::{places, strides};

/// Resizes `x` of shape `from`.
pub(super) fn resize(x: &[f32], from: &[usize], spec: &Resize) -> Vec<f32> {
    let mut shape = from.to_vec();
    let mut values: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    // Axes that shrink come first, so that nothing between is larger than both ends.
    let mut axes: Vec<usize> = (0..from.len()).filter(|&axis| from[axis] != spec.to[axis]).collect();
    axes.sort_by_key(|&axis| spec.to[axis] > from[axis]);
    for axis in axes {
        values = along(&values, &mut shape, axis, spec);
    }
    values.iter().map(|&x| x as f32).collect()
}

/// The input places that output place `i` of an axis is made of, and their shares.
fn shares(i: usize, from: usize, to: usize, scale: f64, spec: &Resize) -> Vec<(usize, f64)> {
    let last = from as i64 - 1;
    let i = i as f64;
    let place = match spec.coordinates {
        Coordinates::PytorchHalfPixel if to <= 1 => 0.0,
        Coordinates::HalfPixel | Coordinates::PytorchHalfPixel => (i + 0.5) / scale - 0.5,
        Coordinates::AlignCorners if to > 1 => i * last as f64 / (to - 1) as f64,
        Coordinates::AlignCorners => 0.0,
        Coordinates::Asymmetric => i / scale,
    };
    let low = place.floor();
    let part = place - low;
    let taps: Vec<(i64, f64)> = match spec.interpolation {
        Interpolation::Nearest(rule) => vec![(nearest(rule, place) as i64, 1.0)],
        Interpolation::Linear => vec![(low as i64, 1.0 - part), (low as i64 + 1, part)],
        Interpolation::Cubic { a } => {
            let a = f64::from(a);
            (-1..3).map(|tap| (low as i64 + tap, cubic(part - tap as f64, a))).collect()
        }
    };
    if spec.exclude_outside {
        let inside = |(place, _): &(i64, f64)| (0..=last).contains(place);
        let kept: Vec<_> = taps.into_iter().filter(inside).collect();
        let sum: f64 = kept.iter().map(|(_, share)| share).sum();
        return kept.iter().map(|&(place, share)| (place as usize, share / sum)).collect();
    }
    taps.iter().map(|&(place, share)| (place.clamp(0, last.max(0)) as usize, share)).collect()
}

fn nearest(rule: Nearest, x: f64) -> f64 {
    match rule {
        Nearest::Floor => x.floor(),
        Nearest::Ceil => x.ceil(),
        Nearest::PreferFloor => (x - 0.5).ceil(),
        Nearest::PreferCeil => (x + 0.5).floor(),
    }
}

/// Keys' cubic kernel.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

fn along(x: &[f64], shape: &mut [usize], axis: usize, spec: &Resize) -> Vec<f64> {
    let own = strides(shape);
    let (from, to) = (shape[axis], spec.to[axis]);
    let mut outer = shape.to_vec();
    outer[axis] = 1;
    shape[axis] = to;
    let new = strides(shape);
    let mut out = vec![0.0; shape.iter().product()];
    for i in 0..to {
        let taps = shares(i, from, to, f64::from(spec.scales[axis]), spec);
        for (start, target) in places(&outer, &own).zip(places(&outer, &new)) {
            let value = taps.iter().map(|&(place, share)| x[start + place * own[axis]] * share).sum();
            out[target + i * new[axis]] = value;
        }
    }
    out
}
