//! Resampling of images `[c, h, w]`, as PyTorch's `interpolate` without antialiasing.

use super::dispatch::multiversion;
use super::parallel;
use super::scratch::with_scratch;

/// How values between pixels are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interpolation {
    /// The nearest pixel; at a half the one `Rounding` says.
    Nearest(Rounding),
    /// Two pixels along each axis.
    Bilinear,
    /// Four pixels along each axis, a = -0.75.
    Bicubic,
}

/// Which pixel is nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// The one at or before the place (PyTorch's `nearest`).
    Floor,
    /// The one at or after the place.
    Ceil,
    /// The nearer one, the first at a half.
    HalfDown,
    /// The nearer one, the second at a half (PyTorch's `nearest-exact` with half-pixel places).
    HalfUp,
}

/// Where the pixels of the output lie in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coordinates {
    /// Pixels are squares, and the images cover each other: `(i + 0.5) · from / to - 0.5`.
    HalfPixel,
    /// The same, but a single output pixel lies at the input's start.
    HalfPixelFromStart,
    /// The centres of the corner pixels are kept: `i · (from - 1) / (to - 1)`.
    AlignCorners,
    /// `i · from / to`.
    Asymmetric,
}

/// A way to resample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sampling {
    /// How values between pixels are made.
    pub interpolation: Interpolation,
    /// Where the pixels lie.
    pub coordinates: Coordinates,
}

impl Sampling {
    /// PyTorch's `interpolate(mode="bilinear")`.
    pub const fn bilinear(align_corners: bool) -> Self {
        let coordinates = if align_corners { Coordinates::AlignCorners } else { Coordinates::HalfPixel };
        Self { interpolation: Interpolation::Bilinear, coordinates }
    }

    /// PyTorch's `interpolate(mode="bicubic", align_corners=False)`.
    pub const fn bicubic() -> Self {
        Self { interpolation: Interpolation::Bicubic, coordinates: Coordinates::HalfPixel }
    }

    /// PyTorch's `interpolate(mode="nearest")`.
    pub const fn nearest() -> Self {
        Self { interpolation: Interpolation::Nearest(Rounding::Floor), coordinates: Coordinates::Asymmetric }
    }
}

/// Resamples `[c, h, w]` to `[c, h2, w2]`.
pub fn resample(x: &[f32], c: usize, from: [usize; 2], to: [usize; 2], how: Sampling, out: &mut [f32]) {
    let place = |axis: usize, i: usize| place(i, from[axis], to[axis], how.coordinates);
    match how.interpolation {
        Interpolation::Nearest(rounding) => {
            let tap = |axis: usize, i: usize| {
                // The product is exact only in wider numbers: 3 · (7 / 3) must not fall below 7.
                let exact = match how.coordinates {
                    Coordinates::Asymmetric => (i * from[axis]) as f64 / to[axis].max(1) as f64,
                    _ => f64::from(place(axis, i)),
                };
                let nearest = match rounding {
                    Rounding::Floor => exact.floor(),
                    Rounding::Ceil => exact.ceil(),
                    Rounding::HalfDown => (exact - 0.5).ceil(),
                    Rounding::HalfUp => (exact + 0.5).floor(),
                };
                Tap { at: [(nearest.max(0.0) as usize).min(from[axis].max(1) - 1); 2], weight: [1.0, 0.0] }
            };
            let taps = |axis: usize| (0..to[axis]).map(|i| tap(axis, i)).collect::<Vec<_>>();
            separable(x, c, from, to, &taps(0), &taps(1), out);
        }
        Interpolation::Bilinear => {
            let taps = |axis: usize| -> Vec<_> {
                (0..to[axis]).map(|i| linear_tap(place(axis, i), from[axis])).collect()
            };
            separable(x, c, from, to, &taps(0), &taps(1), out);
        }
        Interpolation::Bicubic => {
            let taps = |axis: usize| -> Vec<_> {
                (0..to[axis]).map(|i| cubic_tap(place(axis, i), from[axis])).collect()
            };
            separable(x, c, from, to, &taps(0), &taps(1), out);
        }
    }
}

/// Bilinear resampling of `[c, h, w]` to `[c, h2, w2]`, as `interpolate(mode="bilinear")`.
pub fn bilinear(x: &[f32], c: usize, from: [usize; 2], to: [usize; 2], align_corners: bool, out: &mut [f32]) {
    resample(x, c, from, to, Sampling::bilinear(align_corners), out);
}

/// Bicubic resampling (a = -0.75, `align_corners=False`) of `[c, h, w]` to `[c, h2, w2]`.
pub fn bicubic(x: &[f32], c: usize, from: [usize; 2], to: [usize; 2], out: &mut [f32]) {
    resample(x, c, from, to, Sampling::bicubic(), out);
}

/// The place of output pixel `i` among the inputs.
fn place(i: usize, from: usize, to: usize, coordinates: Coordinates) -> f32 {
    let scale = from as f32 / to as f32;
    match coordinates {
        Coordinates::HalfPixelFromStart if to <= 1 => 0.0,
        Coordinates::HalfPixel | Coordinates::HalfPixelFromStart => scale * (i as f32 + 0.5) - 0.5,
        Coordinates::AlignCorners => {
            let scale = if to > 1 { (from.max(1) - 1) as f32 / (to - 1) as f32 } else { 0.0 };
            scale * i as f32
        }
        Coordinates::Asymmetric => scale * i as f32,
    }
}

/// Where one output position reads along one axis: `N` inputs and their weights.
#[derive(Clone, Copy)]
struct Tap<const N: usize> {
    at: [usize; N],
    weight: [f32; N],
}

fn linear_tap(position: f32, from: usize) -> Tap<2> {
    let position = position.max(0.0);
    let last = from.max(1) - 1;
    let first = (position as usize).min(last);
    let far = (position - first as f32).clamp(0.0, 1.0);
    Tap { at: [first, (first + 1).min(last)], weight: [1.0 - far, far] }
}

fn cubic_tap(position: f32, from: usize) -> Tap<4> {
    const A: f32 = -0.75;
    let floor = position.floor();
    let t = position - floor;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let last = from.max(1) as isize - 1;
    let at = [-1, 0, 1, 2].map(|d| (floor as isize + d).clamp(0, last) as usize);
    Tap { at, weight: [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)] }
}

/// Resamples every row that is read, then combines rows.
fn separable<const N: usize>(
    x: &[f32],
    c: usize,
    [h, w]: [usize; 2],
    [h2, w2]: [usize; 2],
    rows: &[Tap<N>],
    columns: &[Tap<N>],
    out: &mut [f32],
) {
    assert_eq!(x.len(), c * h * w, "image of {c} x {h} x {w}");
    assert_eq!(out.len(), c * h2 * w2, "output of {c} x {h2} x {w2}");
    if out.is_empty() {
        return;
    }
    assert!(!x.is_empty(), "an empty image has nothing to resample");
    parallel::for_rows(out, h2 * w2, (h + h2) * w2 * N, |first, planes| {
        with_scratch(h * w2, |wide| {
            for (i, plane) in planes.chunks_exact_mut(h2 * w2).enumerate() {
                let source = &x[(first + i) * h * w..][..h * w];
                for (line, source) in wide.chunks_exact_mut(w2).zip(source.chunks_exact(w)) {
                    for (o, tap) in line.iter_mut().zip(columns) {
                        let mut sum = source[tap.at[0]] * tap.weight[0];
                        for n in 1..N {
                            sum = source[tap.at[n]].mul_add(tap.weight[n], sum);
                        }
                        *o = sum;
                    }
                }
                for (line, tap) in plane.chunks_exact_mut(w2).zip(rows) {
                    for n in (0..N).step_by(2) {
                        let pair = [0, 1].map(|i| &wide[tap.at[n + i] * w2..][..w2]);
                        let weights = [tap.weight[n], tap.weight[n + 1]];
                        if n == 0 {
                            combine_rows(pair, weights, line);
                        } else {
                            add_rows(pair, weights, line);
                        }
                    }
                }
            }
        });
    });
}

multiversion! {
    fn combine_rows(rows: [&[f32]; 2], weight: [f32; 2], out: &mut [f32]) {
        for ((o, &a), &b) in out.iter_mut().zip(rows[0]).zip(rows[1]) {
            *o = b.mul_add(weight[1], a * weight[0]);
        }
    }

    fn add_rows(rows: [&[f32]; 2], weight: [f32; 2], out: &mut [f32]) {
        for ((o, &a), &b) in out.iter_mut().zip(rows[0]).zip(rows[1]) {
            *o = b.mul_add(weight[1], a.mul_add(weight[0], *o));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, assert_same_everywhere, noise};
    use super::*;

    #[test]
    fn bilinear_reproduces_known_values() {
        // torch.nn.functional.interpolate of [[1, 2], [3, 4]] to 3x3.
        let x = [1.0, 2.0, 3.0, 4.0];
        let mut out = [0.0; 9];
        bilinear(&x, 1, [2, 2], [3, 3], true, &mut out);
        assert_eq!(out, [1.0, 1.5, 2.0, 2.0, 2.5, 3.0, 3.0, 3.5, 4.0]);
        bilinear(&x, 1, [2, 2], [3, 3], false, &mut out);
        assert_close(&out, &[1.0, 1.5, 2.0, 2.0, 2.5, 3.0, 3.0, 3.5, 4.0], 1e-6, 0.0);
        let mut wide = [0.0; 4];
        bilinear(&[0.0, 4.0], 1, [1, 2], [1, 4], false, &mut wide);
        assert_eq!(wide, [0.0, 1.0, 3.0, 4.0]);
        bilinear(&[0.0, 1.0, 2.0, 3.0], 1, [1, 4], [1, 2], false, &mut wide[..2]);
        assert_eq!(wide[..2], [0.5, 2.5]);
    }

    #[test]
    fn bicubic_reproduces_known_values() {
        // The weights of t = 0.75 and 0.25 for a = -0.75, with the border repeated.
        let mut out = [0.0; 4];
        bicubic(&[0.0, 1.0], 1, [1, 2], [1, 4], &mut out);
        assert_close(&out, &[-0.105_468_75, 0.226_562_5, 0.773_437_5, 1.105_468_8], 1e-6, 0.0);
    }

    #[test]
    fn the_same_size_copies_and_constants_stay() {
        let x = noise(3 * 5 * 7, 1);
        for align in [false, true] {
            let mut out = vec![0.0; x.len()];
            bilinear(&x, 3, [5, 7], [5, 7], align, &mut out);
            assert_eq!(out, x);
        }
        let mut out = vec![0.0; x.len()];
        bicubic(&x, 3, [5, 7], [5, 7], &mut out);
        assert_eq!(out, x);
        let mut out = vec![0.0; 11 * 13];
        bicubic(&[2.5; 20], 1, [4, 5], [11, 13], &mut out);
        // Weights of both axes sum to 1 within a few ulp.
        assert_close(&out, &[2.5; 11 * 13], 3e-6, 0.0);
        bilinear(&[1.0], 1, [1, 1], [3, 2], true, &mut out[..6]);
        assert_eq!(out[..6], [1.0; 6]);
        bilinear(&[], 0, [1, 1], [3, 2], true, &mut []);
    }

    #[test]
    fn same_bits_everywhere() {
        let x = noise(32 * 33 * 31, 2);
        assert_same_everywhere(|| {
            let mut out = vec![0.0; 32 * 61 * 70];
            bilinear(&x, 32, [33, 31], [61, 70], false, &mut out);
            out
        });
    }
}
