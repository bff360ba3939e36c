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

/// Four rows of one value per channel.
struct Rows<'a>([&'a [f32]; 4]);

impl<'a> Rows<'a> {
    #[inline(always)]
    fn of(four: &'a [f32], n: usize) -> Self {
        let (a, rest) = four.split_at(n);
        let (b, rest) = rest.split_at(n);
        let (c, d) = rest.split_at(n);
        Self([a, b, c, &d[..n]])
    }

    #[inline(always)]
    fn at(&self, i: usize) -> Reduced {
        let [a, b, c, d] = self.0.map(|row| row[i]);
        let min = lesser(lesser(a, b), lesser(c, d));
        let max = greater(greater(a, b), greater(c, d));
        let [a, b, c, d] = [a, b, c, d].map(f64::from);
        Reduced { min, max, sum: (a + b) + (c + d), squares: (a * a + b * b) + (c * c + d * d) }
    }
}

multiversion! {
    /// Adds rows of one value per channel to the channels' ranges and sums, four at a time. The ranges of every four
    /// rows, of fewer at the end, are left in `lows` and `highs`.
    pub(super) fn reduce_rows(
        block: &[f32],
        lows: &mut [f32],
        highs: &mut [f32],
        min: &mut [f32],
        max: &mut [f32],
        sum: &mut [f64],
        squares: &mut [f64],
    ) {
        let n = min.len();
        // The lengths are equal; said once, no index below is checked.
        let (max, sum, squares) = (&mut max[..n], &mut sum[..n], &mut squares[..n]);
        let (mut lows, mut highs) = (lows.chunks_exact_mut(n), highs.chunks_exact_mut(n));
        let eights = block.chunks_exact(8 * n);
        let last = eights.remainder();
        // Two fours at once, so that sums are read and written half as often.
        for eight in eights {
            let (Some(low), Some(high), Some(lower), Some(higher)) =
                (lows.next(), highs.next(), lows.next(), highs.next())
            else {
                break;
            };
            let (low, high, lower, higher) = (&mut low[..n], &mut high[..n], &mut lower[..n], &mut higher[..n]);
            let (upper, under) = eight.split_at(4 * n);
            let (upper, under) = (Rows::of(upper, n), Rows::of(under, n));
            for i in 0..n {
                let (a, b) = (upper.at(i), under.at(i));
                (low[i], high[i], lower[i], higher[i]) = (a.min, a.max, b.min, b.max);
                min[i] = lesser(lesser(a.min, b.min), min[i]);
                max[i] = greater(greater(a.max, b.max), max[i]);
                sum[i] = (sum[i] + a.sum) + b.sum;
                squares[i] = (squares[i] + a.squares) + b.squares;
            }
        }
        let mut fours = last.chunks_exact(4 * n);
        for ((four, lows), highs) in (&mut fours).zip(&mut lows).zip(&mut highs) {
            let (lows, highs) = (&mut lows[..n], &mut highs[..n]);
            let rows = Rows::of(four, n);
            for i in 0..n {
                let a = rows.at(i);
                (lows[i], highs[i]) = (a.min, a.max);
                min[i] = lesser(a.min, min[i]);
                max[i] = greater(a.max, max[i]);
                sum[i] += a.sum;
                squares[i] += a.squares;
            }
        }
        let rest = fours.remainder();
        if let (Some(first), Some(lows), Some(highs)) = (rest.get(..n), lows.next(), highs.next()) {
            lows.copy_from_slice(first);
            highs.copy_from_slice(first);
            for row in rest[n..].chunks_exact(n) {
                for i in 0..n {
                    lows[i] = lesser(row[i], lows[i]);
                    highs[i] = greater(row[i], highs[i]);
                }
            }
        }
        for row in rest.chunks_exact(n) {
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
