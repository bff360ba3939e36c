//! Fake-quantization in place: values go to their code and back.

use super::dispatch::multiversion;
use super::{math, parallel};

pub use super::log_grid::{LogForm, LogGrid};

/// `x = (clamp(round_ties_even(x/scale) + zero_point, 0, q_max) - zero_point) · scale`; NaN stays NaN.
pub fn uniform(x: &mut [f32], scale: f32, zero_point: f32, q_max: f32) {
    parallel::for_chunks(x, 1, |_, chunk| uniform_serial(chunk, scale, zero_point, q_max));
}

/// [`uniform`] with a grid per channel of `[outer, channels, inner]`.
pub fn uniform_per_channel(
    x: &mut [f32],
    [outer, channels, inner]: [usize; 3],
    scale: &[f32],
    zero_point: &[f32],
    q_max: f32,
) {
    assert_eq!(x.len(), outer * channels * inner, "tensor of {outer} x {channels} x {inner}");
    assert!(scale.len() == channels && zero_point.len() == channels, "grids of {channels} channels");
    if inner == 1 {
        parallel::for_rows(x, channels, channels, |_, rows| uniform_columns(rows, scale, zero_point, q_max));
        return;
    }
    parallel::for_rows(x, inner, inner, |first, rows| {
        for (i, row) in rows.chunks_exact_mut(inner).enumerate() {
            let channel = (first + i) % channels;
            uniform_serial(row, scale[channel], zero_point[channel], q_max);
        }
    });
}

/// Sends every value to the nearest level of a logarithmic grid (see [`LogGrid`]).
pub fn logarithmic(x: &mut [f32], grid: &LogGrid) {
    parallel::for_chunks(x, 2, |_, chunk| grid.apply_serial(chunk));
}

multiversion! {
    /// [`uniform`] on this thread.
    pub(crate) fn uniform_serial(x: &mut [f32], scale: f32, zero_point: f32, q_max: f32) {
        for v in x {
            *v = math::fake_quantize(*v, scale, zero_point, q_max);
        }
    }

    fn uniform_columns(x: &mut [f32], scale: &[f32], zero_point: &[f32], q_max: f32) {
        for row in x.chunks_exact_mut(scale.len()) {
            for ((v, &s), &z) in row.iter_mut().zip(scale).zip(zero_point) {
                *v = math::fake_quantize(*v, s, z, q_max);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_same_everywhere, noise};
    use super::*;

    #[test]
    fn per_channel_uses_the_channels_grid() {
        for [outer, channels, inner] in [[1, 1, 1], [3, 7, 1], [2, 5, 13], [0, 3, 4], [4, 3, 0]] {
            let x = noise(outer * channels * inner, 1);
            let scale: Vec<f32> = (0..channels).map(|c| 0.1 + c as f32 / 20.0).collect();
            let zero: Vec<f32> = (0..channels).map(|c| 3.0 + c as f32 / 3.0).collect();
            let mut got = x.clone();
            uniform_per_channel(&mut got, [outer, channels, inner], &scale, &zero, 7.0);
            for (i, (&x, &got)) in x.iter().zip(&got).enumerate() {
                let c = i / inner % channels;
                assert_eq!(got, math::fake_quantize(x, scale[c], zero[c], 7.0));
            }
        }
    }

    #[test]
    fn same_bits_everywhere() {
        assert_same_everywhere(|| {
            let mut x = noise(300_007, 2);
            uniform(&mut x, 0.037, 6.5, 15.0);
            x
        });
    }
}
