//! Softmax over rows, with scale and additive terms (position biases, masks) fused.

use super::dispatch::multiversion;
use super::reduce::{self, LANES, combine, copy_short};
use super::{math, parallel};

/// Values handled while they are in the first cache.
const GROUP: usize = 4096;

/// A term added to the logits before softmax, broadcast over leading dimensions.
///
/// The rows of the logits are numbered by `dims`, row-major; `strides` give, per dimension, how far the row's term
/// moves in `data` (0 where it is broadcast). Logits `[windows, heads, n, n]` with a bias `[heads, n, n]` have
/// `dims = [windows, heads, n]`, `strides = [0, n·n, n]`; a mask `[windows, n, n]` has `strides = [n·n, 0, n]`.
#[derive(Clone, Copy, Debug)]
pub struct RowTerm<'a> {
    /// The values; each row of the term is contiguous.
    pub data: &'a [f32],
    /// Leading dimensions of the logits; their product is the number of rows.
    pub dims: &'a [usize],
    /// Distance in `data` per step along each of `dims`.
    pub strides: &'a [usize],
}

impl RowTerm<'_> {
    fn row(&self, mut index: usize, cols: usize) -> &[f32] {
        let mut offset = 0;
        for (&dim, &stride) in self.dims.iter().zip(self.strides).rev() {
            offset += index % dim * stride;
            index /= dim;
        }
        &self.data[offset..][..cols]
    }
}

/// `x[r, :] = softmax(x[r, :])` in place. A row whose maximum is -∞ or that holds NaN or +∞ becomes NaN.
pub fn softmax_rows(x: &mut [f32], rows: usize, cols: usize) {
    softmax_rows_bias(x, rows, cols, 1.0, &[]);
}

/// `x[r, :] = softmax(scale · x[r, :] + Σ terms[r, :])` in place, terms added in order.
pub fn softmax_rows_bias(x: &mut [f32], rows: usize, cols: usize, scale: f32, terms: &[RowTerm]) {
    assert_eq!(x.len(), rows * cols, "logits of {rows} x {cols}");
    for term in terms {
        assert_eq!(term.dims.iter().product::<usize>(), rows, "dimensions of a term for {rows} rows");
        assert_eq!(term.dims.len(), term.strides.len(), "strides of a term");
    }
    parallel::for_rows(x, cols, cols * 4, |first, lines| {
        // A few rows at a time, so that they stay in the first cache between the steps.
        let group = (GROUP / cols).max(1);
        for (at, lines) in lines.chunks_mut(group * cols).enumerate() {
            if scale != 1.0 {
                multiply(lines, scale);
            }
            for term in terms {
                for (i, line) in lines.chunks_exact_mut(cols).enumerate() {
                    add(line, term.row(first + at * group + i, cols));
                }
            }
            normalize(lines, cols);
        }
    });
}

multiversion! {
    fn multiply(x: &mut [f32], scale: f32) {
        for v in x {
            *v *= scale;
        }
    }

    fn add(x: &mut [f32], term: &[f32]) {
        for (v, &t) in x.iter_mut().zip(term) {
            *v += t;
        }
    }

    /// Maximum, `exp(x - max)` and its sum in sixteen lanes, then one multiplication by the reciprocal.
    fn normalize(x: &mut [f32], cols: usize) {
        for row in x.chunks_exact_mut(cols) {
            let (whole, rest) = row.as_chunks_mut::<LANES>();
            let mut largest = [f32::NEG_INFINITY; LANES];
            for values in &*whole {
                for (m, &v) in largest.iter_mut().zip(values) {
                    *m = if v > *m { v } else { *m };
                }
            }
            let mut tail = [f32::NEG_INFINITY; LANES];
            if !rest.is_empty() {
                copy_short(rest, &mut tail);
                for (m, &v) in largest.iter_mut().zip(&tail) {
                    *m = if v > *m { v } else { *m };
                }
            }
            let top = reduce::largest(largest);
            let mut sums = [0.0; LANES];
            for values in &mut *whole {
                for (sum, v) in sums.iter_mut().zip(values) {
                    *v = math::exp(*v - top);
                    *sum += *v;
                }
            }
            if !rest.is_empty() {
                // The padding is -∞: it adds exact zeros, or NaN only where the row is NaN anyway.
                for (sum, v) in sums.iter_mut().zip(&mut tail) {
                    *v = math::exp(*v - top);
                    *sum += *v;
                }
            }
            let inverse = 1.0 / combine(sums);
            for v in whole.as_flattened_mut() {
                *v *= inverse;
            }
            if !rest.is_empty() {
                for v in &mut tail {
                    *v *= inverse;
                }
                copy_short(&tail[..rest.len()], rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, assert_same_everywhere, noise};
    use super::*;

    fn reference(row: &[f32]) -> Vec<f32> {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let e: Vec<f64> = row.iter().map(|&v| (f64::from(v) - f64::from(top)).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.iter().map(|v| (v / sum) as f32).collect()
    }

    #[test]
    fn agrees_with_f64() {
        for cols in [1, 2, 7, 14, 15, 16, 17, 64, 197, 1024] {
            let x: Vec<f32> = noise(9 * cols, 1).iter().map(|v| v * 5.0).collect();
            let expected: Vec<f32> = x.chunks(cols).flat_map(reference).collect();
            let mut got = x;
            softmax_rows(&mut got, 9, cols);
            // exp 1 ulp, the argument's rounding up to 2 ulp of its size (|x - max| < 32), sum and product 1 ulp.
            assert_close(&got, &expected, 1e-12, 1.5e-6);
        }
    }

    #[test]
    fn terms_broadcast_over_windows_and_heads() {
        let (windows, heads, n) = (3, 2, 5);
        let x = noise(windows * heads * n * n, 2);
        let (bias, mask) = (noise(heads * n * n, 3), noise(windows * n * n, 4));
        let dims = [windows, heads, n];
        let terms = [
            RowTerm { data: &bias, dims: &dims, strides: &[0, n * n, n] },
            RowTerm { data: &mask, dims: &dims, strides: &[n * n, 0, n] },
        ];
        let mut got = x.clone();
        softmax_rows_bias(&mut got, windows * heads * n, n, 0.5, &terms);
        let mut expected = x;
        for (i, v) in expected.iter_mut().enumerate() {
            let (window, within) = (i / (heads * n * n), i % (n * n));
            *v = *v * 0.5 + bias[i % (heads * n * n)] + mask[window * n * n + within];
        }
        softmax_rows(&mut expected, windows * heads * n, n);
        assert_eq!(got, expected);
    }

    #[test]
    fn masked_rows_and_special_values() {
        let mut x = [f32::NEG_INFINITY, 1.0, 1.0, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
        softmax_rows(&mut x, 2, 3);
        assert_eq!(x[..3], [0.0, 0.5, 0.5]);
        assert!(x[3..].iter().all(|v| v.is_nan()));
        let mut x = [f32::NAN, 1.0, 2.0];
        softmax_rows(&mut x, 1, 3);
        assert!(x.iter().all(|v| v.is_nan()));
        softmax_rows(&mut [], 0, 3);
        softmax_rows(&mut [], 3, 0);
    }

    #[test]
    fn same_bits_everywhere() {
        assert_same_everywhere(|| {
            let mut x = noise(501 * 197, 5);
            softmax_rows(&mut x, 501, 197);
            x
        });
    }
}
