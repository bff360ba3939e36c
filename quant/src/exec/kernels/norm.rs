//! Normalisations. Mean and biased variance are taken in two passes, f32 lanes joined in f64.

use super::dispatch::multiversion;
use super::scratch::with_scratch;
use super::{parallel, reduce};

/// `out[r, c] = (x[r, c] - mean_r) / √(var_r + eps) · gamma[c] + beta[c]` over rows of `c` values.
pub fn layer_norm(x: &[f32], rows: usize, c: usize, gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32]) {
    assert_eq!(x.len(), rows * c, "input of {rows} x {c}");
    assert_eq!(out.len(), x.len(), "output of {rows} x {c}");
    assert!(gamma.len() == c && beta.len() == c, "scale and shift of {c}");
    parallel::for_rows(out, c, 2 * c, |first, lines| {
        layer_norm_rows(&x[first * c..][..lines.len()], gamma, beta, eps, lines);
    });
}

/// `out = (x - mean) / √(var + eps)` per channel over the positions of `[channels, positions]`.
pub fn instance_norm_channels_first(x: &[f32], channels: usize, positions: usize, eps: f32, out: &mut [f32]) {
    assert_eq!(x.len(), channels * positions, "input of {channels} x {positions}");
    assert_eq!(out.len(), x.len(), "output of {channels} x {positions}");
    parallel::for_rows(out, positions, 2 * positions, |first, lines| {
        normalize_rows(&x[first * positions..][..lines.len()], positions, eps, lines);
    });
}

/// `out = (x - mean) / √(var + eps)` per channel over the positions of `[positions, channels]`.
pub fn instance_norm_channels_last(x: &[f32], positions: usize, channels: usize, eps: f32, out: &mut [f32]) {
    assert_eq!(x.len(), positions * channels, "input of {positions} x {channels}");
    assert_eq!(out.len(), x.len(), "output of {positions} x {channels}");
    if x.is_empty() {
        return;
    }
    with_scratch(2 * channels, |facts| {
        let (mean, inverse) = facts.split_at_mut(channels);
        column_sums(x, &[], mean);
        for v in &mut *mean {
            *v /= positions as f32;
        }
        column_sums(x, mean, inverse);
        for v in &mut *inverse {
            *v = inverse_deviation(f64::from(*v) / positions as f64, eps);
        }
        let (mean, inverse) = (&*mean, &*inverse);
        parallel::for_rows(out, channels, channels, |first, lines| {
            standardize_columns(&x[first * channels..][..lines.len()], mean, inverse, lines);
        });
    });
}

/// `out[c, p] = x[c, p] · scale[c] + shift[c]` over `[channels, positions]`: a folded BatchNorm.
pub fn channel_affine(
    x: &[f32],
    channels: usize,
    positions: usize,
    scale: &[f32],
    shift: &[f32],
    out: &mut [f32],
) {
    assert_eq!(x.len(), channels * positions, "input of {channels} x {positions}");
    assert_eq!(out.len(), x.len(), "output of {channels} x {positions}");
    assert!(scale.len() == channels && shift.len() == channels, "scale and shift of {channels}");
    parallel::for_rows(out, positions, positions, |first, lines| {
        let from = first * positions;
        affine_rows(&x[from..][..lines.len()], positions, &scale[first..], &shift[first..], lines);
    });
}

#[inline(always)]
fn inverse_deviation(variance: f64, eps: f32) -> f32 {
    (1.0 / (variance + f64::from(eps)).sqrt()) as f32
}

/// Rows of positions that one partial sum covers.
const SUM_ROWS: usize = 64;

/// Per column, `Σ x` or (with means) `Σ (x - mean)²`: rows in order, partial sums of 64 rows added in order.
fn column_sums(x: &[f32], mean: &[f32], sums: &mut [f32]) {
    let channels = sums.len();
    with_scratch(channels, |partial| {
        sums.fill(0.0);
        for block in x.chunks(SUM_ROWS * channels) {
            partial.fill(0.0);
            if mean.is_empty() {
                add_rows(block, partial);
            } else {
                add_squares(block, mean, partial);
            }
            for (sum, &value) in sums.iter_mut().zip(&*partial) {
                *sum += value;
            }
        }
    });
}

multiversion! {
    fn layer_norm_rows(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32]) {
        let c = gamma.len();
        for (row, line) in x.chunks_exact(c).zip(out.chunks_exact_mut(c)) {
            let (mean, variance) = reduce::mean_variance(row);
            let inverse = inverse_deviation(variance, eps);
            for (((o, &v), &g), &b) in line.iter_mut().zip(row).zip(gamma).zip(beta) {
                *o = ((v - mean) * inverse).mul_add(g, b);
            }
        }
    }

    fn normalize_rows(x: &[f32], positions: usize, eps: f32, out: &mut [f32]) {
        for (row, line) in x.chunks_exact(positions).zip(out.chunks_exact_mut(positions)) {
            let (mean, variance) = reduce::mean_variance(row);
            let inverse = inverse_deviation(variance, eps);
            for (o, &v) in line.iter_mut().zip(row) {
                *o = (v - mean) * inverse;
            }
        }
    }

    fn add_rows(x: &[f32], sums: &mut [f32]) {
        for row in x.chunks_exact(sums.len()) {
            for (sum, &v) in sums.iter_mut().zip(row) {
                *sum += v;
            }
        }
    }

    fn add_squares(x: &[f32], mean: &[f32], sums: &mut [f32]) {
        for row in x.chunks_exact(sums.len()) {
            for ((sum, &v), &mean) in sums.iter_mut().zip(row).zip(mean) {
                *sum += (v - mean) * (v - mean);
            }
        }
    }

    fn standardize_columns(x: &[f32], mean: &[f32], inverse: &[f32], out: &mut [f32]) {
        for (row, line) in x.chunks_exact(mean.len()).zip(out.chunks_exact_mut(mean.len())) {
            for (((o, &v), &mean), &inverse) in line.iter_mut().zip(row).zip(mean).zip(inverse) {
                *o = (v - mean) * inverse;
            }
        }
    }

    fn affine_rows(x: &[f32], positions: usize, scale: &[f32], shift: &[f32], out: &mut [f32]) {
        let lines = x.chunks_exact(positions).zip(out.chunks_exact_mut(positions));
        for ((row, line), (&scale, &shift)) in lines.zip(scale.iter().zip(shift)) {
            for (o, &v) in line.iter_mut().zip(row) {
                *o = v.mul_add(scale, shift);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, assert_same_everywhere, noise};
    use super::*;

    fn standardized(row: &[f32], eps: f64) -> Vec<f64> {
        let n = row.len() as f64;
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        row.iter().map(|&v| (f64::from(v) - mean) / (variance + eps).sqrt()).collect()
    }

    #[test]
    fn layer_norm_agrees_with_f64_far_from_zero() {
        for c in [1, 2, 15, 16, 17, 96, 768, 1031] {
            let rows = 5;
            let x: Vec<f32> = noise(rows * c, 1).iter().map(|v| 100.0 + v).collect();
            let (gamma, beta) = (noise(c, 2), noise(c, 3));
            let mut out = vec![0.0; x.len()];
            layer_norm(&x, rows, c, &gamma, &beta, 1e-5, &mut out);
            let expected: Vec<f32> = x
                .chunks(c)
                .flat_map(|row| standardized(row, f64::from(1e-5_f32)))
                .enumerate()
                .map(|(i, v)| (v * f64::from(gamma[i % c]) + f64::from(beta[i % c])) as f32)
                .collect();
            // The mean of values near 100 is known to about 1e-5.
            assert_close(&out, &expected, 6e-5, 1e-5);
        }
    }

    #[test]
    fn instance_norms_agree_with_each_other_and_f64() {
        for (channels, positions) in [(1, 1), (3, 7), (48, 64), (33, 1025)] {
            let x = noise(channels * positions, 4);
            let turned: Vec<f32> = (0..x.len()).map(|i| x[i % channels * positions + i / channels]).collect();
            let (mut first, mut last) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            instance_norm_channels_first(&x, channels, positions, 1e-5, &mut first);
            instance_norm_channels_last(&turned, positions, channels, 1e-5, &mut last);
            let back: Vec<f32> =
                (0..x.len()).map(|i| last[i % positions * channels + i / positions]).collect();
            let expected: Vec<f32> =
                x.chunks(positions).flat_map(|row| standardized(row, 1e-5)).map(|v| v as f32).collect();
            assert_close(&first, &expected, 2e-6, 2e-6);
            assert_close(&back, &expected, 2e-6, 2e-6);
        }
    }

    #[test]
    fn channel_affine_is_one_fused_step() {
        let x = noise(3 * 5, 5);
        let mut out = vec![0.0; 15];
        channel_affine(&x, 3, 5, &[2.0, -1.0, 0.5], &[0.1, 0.2, 0.3], &mut out);
        assert_eq!(out[7], x[7].mul_add(-1.0, 0.2));
        channel_affine(&[], 0, 5, &[], &[], &mut []);
    }

    #[test]
    fn same_bits_everywhere() {
        let x = noise(601 * 203, 6);
        let (gamma, beta) = (noise(203, 7), noise(203, 8));
        assert_same_everywhere(|| {
            let mut out = vec![0.0; x.len()];
            layer_norm(&x, 601, 203, &gamma, &beta, 1e-5, &mut out);
            let mut first = vec![0.0; x.len()];
            instance_norm_channels_first(&x, 203, 601, 1e-5, &mut first);
            let mut last = vec![0.0; x.len()];
            instance_norm_channels_last(&x, 601, 203, 1e-5, &mut last);
            [out, first, last].concat()
        });
    }

    #[test]
    fn special_values_and_empty_inputs_do_not_panic() {
        let mut out = [0.0; 3];
        layer_norm(&[f32::NAN, 1.0, 2.0], 1, 3, &[1.0; 3], &[0.0; 3], 1e-5, &mut out);
        assert!(out[1].is_nan());
        layer_norm(&[], 0, 3, &[1.0; 3], &[0.0; 3], 1e-5, &mut []);
        layer_norm(&[], 3, 0, &[], &[], 1e-5, &mut []);
        instance_norm_channels_last(&[], 0, 4, 1e-5, &mut []);
    }
}
