//! Pooling over one image in NCHW order.

use super::parallel;

/// Which number a window becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The largest value; padding never is.
    Max,
    /// The mean of the values inside the image.
    Average,
    /// The mean with padding as zeros.
    AverageWithPadding,
}

impl PoolKind {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Max => "MaxPool",
            Self::Average | Self::AverageWithPadding => "AveragePool",
        }
    }
}

/// Windows of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pooling {
    /// Which number a window becomes.
    pub kind: PoolKind,
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Rows and columns added at the top, left, bottom and right.
    pub padding: [usize; 4],
}

/// Pools `[c, h, w]` to `[c, h2, w2]`.
pub fn pool(x: &[f32], [h, w]: [usize; 2], pooling: Pooling, [h2, w2]: [usize; 2], out: &mut [f32]) {
    let Pooling { kind, kernel, stride, padding } = pooling;
    assert!(h * w > 0 && x.len().is_multiple_of(h * w), "image of {h} x {w}");
    assert_eq!(out.len() * h * w, x.len() * h2 * w2, "output of {h2} x {w2}");
    let inside = |i: usize, axis: usize, size: usize| {
        let start = i * stride[axis];
        let from = start.saturating_sub(padding[axis]);
        from..(start + kernel[axis]).saturating_sub(padding[axis]).min(size).max(from)
    };
    let area = kernel[0] * kernel[1];
    parallel::for_rows(out, h2 * w2, h2 * w2 * area, |first, planes| {
        for (i, plane) in planes.chunks_exact_mut(h2 * w2).enumerate() {
            let source = &x[(first + i) * h * w..][..h * w];
            for (y, line) in plane.chunks_exact_mut(w2).enumerate() {
                let rows = inside(y, 0, h);
                for (x, out) in line.iter_mut().enumerate() {
                    let columns = inside(x, 1, w);
                    let values = rows.clone().flat_map(|row| &source[row * w..][columns.clone()]);
                    let count = rows.len() * columns.len();
                    *out = match kind {
                        PoolKind::Max => {
                            values.fold(f32::NEG_INFINITY, |a, &b| if b > a || b.is_nan() { b } else { a })
                        }
                        PoolKind::Average => values.map(|&x| f64::from(x)).sum::<f64>() as f32 / count as f32,
                        PoolKind::AverageWithPadding => {
                            values.map(|&x| f64::from(x)).sum::<f64>() as f32 / area as f32
                        }
                    };
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_same_everywhere, noise};
    use super::*;

    const WINDOWS: Pooling = Pooling { kind: PoolKind::Max, kernel: [3; 2], stride: [2; 2], padding: [1; 4] };

    #[test]
    fn known_windows() {
        let x: Vec<f32> = (0..16).map(|i| -(i as f32)).collect();
        let mut out = [0.0; 4];
        pool(&x, [4, 4], WINDOWS, [2, 2], &mut out);
        // Padding is not 0 here: all values are negative.
        assert_eq!(out, [-0.0, -1.0, -4.0, -5.0]);
        pool(&x, [4, 4], Pooling { kind: PoolKind::Average, ..WINDOWS }, [2, 2], &mut out);
        assert_eq!(out, [-2.5, -4.0, -8.5, -10.0]);
        pool(&x, [4, 4], Pooling { kind: PoolKind::AverageWithPadding, ..WINDOWS }, [2, 2], &mut out);
        assert_eq!(out, [-10.0 / 9.0, -24.0 / 9.0, -51.0 / 9.0, -10.0]);
        let flat = Pooling { kind: PoolKind::Max, kernel: [1, 2], stride: [1, 2], padding: [0; 4] };
        let mut out = [0.0; 8];
        pool(&x, [4, 4], flat, [4, 2], &mut out);
        assert_eq!(out, [-0.0, -2.0, -4.0, -6.0, -8.0, -10.0, -12.0, -14.0]);
    }

    #[test]
    fn same_bits_everywhere() {
        let x = noise(64 * 31 * 29, 9);
        assert_same_everywhere(|| {
            let mut out = vec![0.0; 64 * 16 * 15];
            pool(&x, [31, 29], Pooling { kind: PoolKind::Average, ..WINDOWS }, [16, 15], &mut out);
            out
        });
    }
}
