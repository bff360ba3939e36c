//! Ranges and sums of values that are all finite.

use crate::exec::kernels::dispatch::multiversion;

/// Independent accumulators of a contiguous reduction.
const LANES: usize = 16;

/// `f32::min` also handles NaN, which costs instructions that finite values do not need.
#[inline(always)]
fn lesser(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The range and sums of some values.
pub(super) struct Reduced {
    pub(super) min: f32,
    pub(super) max: f32,
    pub(super) sum: f64,
    pub(super) squares: f64,
}

multiversion! {
    /// Adds rows of one value per channel to the channels' ranges and sums, four at a time.
    pub(super) fn reduce_rows(block: &[f32], min: &mut [f32], max: &mut [f32], sum: &mut [f64], squares: &mut [f64]) {
        let n = min.len();
        // The lengths are equal; said once, no index below is checked.
        let (max, sum, squares) = (&mut max[..n], &mut sum[..n], &mut squares[..n]);
        let mut fours = block.chunks_exact(4 * n);
        for four in &mut fours {
            let (a, rest) = four.split_at(n);
            let (b, rest) = rest.split_at(n);
            let (c, d) = rest.split_at(n);
            let d = &d[..n];
            for i in 0..n {
                let low = lesser(lesser(a[i], b[i]), lesser(c[i], d[i]));
                let high = greater(greater(a[i], b[i]), greater(c[i], d[i]));
                min[i] = lesser(low, min[i]);
                max[i] = greater(high, max[i]);
                let (a, b, c, d) = (f64::from(a[i]), f64::from(b[i]), f64::from(c[i]), f64::from(d[i]));
                sum[i] += (a + b) + (c + d);
                squares[i] += (a * a + b * b) + (c * c + d * d);
            }
        }
        for row in fours.remainder().chunks_exact(n) {
            for i in 0..n {
                min[i] = lesser(row[i], min[i]);
                max[i] = greater(row[i], max[i]);
                let value = f64::from(row[i]);
                sum[i] += value;
                squares[i] += value * value;
            }
        }
    }

    /// The range and sums of contiguous values of one channel.
    pub(super) fn reduce(values: &[f32]) -> Reduced {
        let (mut min, mut max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let (mut sum, mut squares) = ([0.0_f64; LANES], [0.0_f64; LANES]);
        let mut chunks = values.chunks_exact(LANES);
        for chunk in &mut chunks {
            for lane in 0..LANES {
                min[lane] = lesser(chunk[lane], min[lane]);
                max[lane] = greater(chunk[lane], max[lane]);
                let value = f64::from(chunk[lane]);
                sum[lane] += value;
                squares[lane] += value * value;
            }
        }
        for (lane, &value) in chunks.remainder().iter().enumerate() {
            min[lane] = lesser(value, min[lane]);
            max[lane] = greater(value, max[lane]);
            let value = f64::from(value);
            sum[lane] += value;
            squares[lane] += value * value;
        }
        Reduced {
            min: min.into_iter().fold(f32::INFINITY, lesser),
            max: max.into_iter().fold(f32::NEG_INFINITY, greater),
            sum: sum.iter().sum(),
            squares: squares.iter().sum(),
        }
    }
}
