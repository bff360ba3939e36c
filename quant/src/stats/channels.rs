//! What is known of every channel: extremes and moments.

use super::error::StatsError;
use super::exact::Exact;
use super::extremes::{Tail, Top};
use crate::exec::kernels::dispatch::multiversion;
use crate::terms::Layout;

/// Rows or values that are reduced together before anything is compared with the extremes kept.
const ROWS: usize = 8;
/// Values of one channel reduced together where they are contiguous.
const PIECE: usize = 256;
/// Independent accumulators of a contiguous reduction.
const LANES: usize = 8;

/// Extremes and moments of every channel over finite values.
///
/// Sums are partial sums in f64 of one call, taken in an order that depends on the layout alone, then added
/// exactly: the result does not depend on the order of the calls.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Channels {
    pub(super) finite: Vec<u64>,
    pub(super) sum: Vec<Exact>,
    pub(super) squares: Vec<Exact>,
    /// The largest values, and the largest of the negated values.
    pub(super) top: Vec<Top>,
    pub(super) bottom: Vec<Top>,
}

/// The partial sums of one call and scratch for the reductions; reused between calls.
#[derive(Default)]
pub(super) struct Partial {
    sum: Vec<f64>,
    squares: Vec<f64>,
    skipped: Vec<u64>,
    max: Vec<f32>,
    min: Vec<f32>,
    top_bar: Vec<f32>,
    bottom_bar: Vec<f32>,
}

impl Channels {
    pub(super) fn new(channels: usize) -> Self {
        Self {
            finite: vec![0; channels],
            sum: vec![Exact::default(); channels],
            squares: vec![Exact::default(); channels],
            top: vec![Top::EMPTY; channels],
            bottom: vec![Top::EMPTY; channels],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.finite.len()
    }

    pub(super) fn merge(&mut self, other: &Self) -> Result<(), StatsError> {
        if self.len() != other.len() {
            return Err(StatsError::Channels { expected: self.len(), found: other.len() });
        }
        for c in 0..self.len() {
            self.finite[c] = self.finite[c].saturating_add(other.finite[c]);
            self.sum[c].merge(&other.sum[c]);
            self.squares[c].merge(&other.squares[c]);
            self.top[c].merge(&other.top[c]);
            self.bottom[c].merge(&other.bottom[c]);
        }
        Ok(())
    }
}

/// A value that lies within both bars changes no extreme of its channel or the tensor.
#[derive(Clone, Copy)]
struct Bars {
    high: f32,
    low: f32,
}

impl Bars {
    fn new(top: &Top, bottom: &Top, tails: &[Tail; 2]) -> Self {
        Self { high: lesser(top.bar(), tails[0].bar()), low: -lesser(bottom.bar(), tails[1].bar()) }
    }

    #[inline(always)]
    fn beaten_by(self, value: f32) -> bool {
        value > self.high || value < self.low
    }
}

/// Takes a value into account and returns the new bars.
fn offer(value: f32, top: &mut Top, bottom: &mut Top, tails: &mut [Tail; 2]) -> Bars {
    // +0.0 turns −0 into +0: see `Tail`.
    let (value, negated) = (value + 0.0, 0.0 - value);
    top.offer(value);
    bottom.offer(negated);
    tails[0].offer(value);
    tails[1].offer(negated);
    Bars::new(top, bottom, tails)
}

impl Partial {
    /// Starts a call for `channels` channels.
    pub(super) fn begin(&mut self, channels: &Channels) {
        let n = channels.len();
        for sums in [&mut self.sum, &mut self.squares] {
            sums.clear();
            sums.resize(n, 0.0);
        }
        self.skipped.clear();
        self.skipped.resize(n, 0);
        self.top_bar.clear();
        self.top_bar.extend(channels.top.iter().map(Top::bar));
        self.bottom_bar.clear();
        self.bottom_bar.extend(channels.bottom.iter().map(Top::bar));
        self.min.resize(n, 0.0);
        self.max.resize(n, 0.0);
    }

    /// Ends a call that saw `layout`.
    pub(super) fn finish(&self, channels: &mut Channels, layout: Layout) {
        let each = (layout.outer * layout.inner) as u64;
        for c in 0..channels.len() {
            channels.finite[c] = channels.finite[c].saturating_add(each - self.skipped[c]);
            channels.sum[c].add(self.sum[c]);
            channels.squares[c].add(self.squares[c]);
        }
    }

    /// Whole rows of one value per channel, all finite.
    pub(super) fn rows(&mut self, values: &[f32], channels: &mut Channels, tails: &mut [Tail; 2]) {
        let n = channels.len();
        for block in values.chunks(ROWS * n) {
            let (min, max) = (&mut self.min[..n], &mut self.max[..n]);
            min.copy_from_slice(&block[..n]);
            max.copy_from_slice(&block[..n]);
            let (sum, squares) = (&mut self.sum[..n], &mut self.squares[..n]);
            reduce_rows(block, min, max, sum, squares);
            self.keep_extremes_of_rows(block, channels, tails);
        }
    }

    /// Offers the columns of `block` that reach beyond what is kept.
    fn keep_extremes_of_rows(&mut self, block: &[f32], channels: &mut Channels, tails: &mut [Tail; 2]) {
        const GROUP: usize = 16;
        let n = channels.len();
        for start in (0..n).step_by(GROUP) {
            let range = start..(start + GROUP).min(n);
            let (tail_top, tail_bottom) = (tails[0].bar(), tails[1].bar());
            let all = range.clone();
            let (max, min) = (&self.max[all.clone()], &self.min[all.clone()]);
            if !reaches_beyond(
                max,
                &self.top_bar[all.clone()],
                tail_top,
                min,
                &self.bottom_bar[all],
                tail_bottom,
            ) {
                continue;
            }
            for i in range {
                let over = self.max[i] > self.top_bar[i] || self.max[i] > tails[0].bar();
                let under = -self.min[i] > self.bottom_bar[i] || -self.min[i] > tails[1].bar();
                if over || under {
                    let (top, bottom) = (&mut channels.top[i], &mut channels.bottom[i]);
                    // Bars in registers: most values of a block that is looked at beat none of them.
                    let mut bars = Bars::new(top, bottom, tails);
                    for &value in block[i..].iter().step_by(n) {
                        if bars.beaten_by(value) {
                            bars = offer(value, top, bottom, tails);
                        }
                    }
                    self.top_bar[i] = top.bar();
                    self.bottom_bar[i] = bottom.bar();
                }
            }
        }
    }

    /// Contiguous finite values of channel `c`.
    pub(super) fn run(&mut self, c: usize, values: &[f32], channels: &mut Channels, tails: &mut [Tail; 2]) {
        let (mut sum, mut squares) = (0.0, 0.0);
        for piece in values.chunks(PIECE) {
            let reduced = reduce(piece);
            sum += reduced.sum;
            squares += reduced.squares;
            let over = reduced.max > self.top_bar[c] || reduced.max > tails[0].bar();
            let under = -reduced.min > self.bottom_bar[c] || -reduced.min > tails[1].bar();
            if over || under {
                let (top, bottom) = (&mut channels.top[c], &mut channels.bottom[c]);
                let mut bars = Bars::new(top, bottom, tails);
                for &value in piece {
                    if bars.beaten_by(value) {
                        bars = offer(value, top, bottom, tails);
                    }
                }
                self.top_bar[c] = top.bar();
                self.bottom_bar[c] = bottom.bar();
            }
        }
        self.sum[c] += sum;
        self.squares[c] += squares;
    }

    /// Values some of which are not finite; `first` is the index of the first one in the tensor.
    pub(super) fn scattered(
        &mut self,
        values: &[f32],
        first: usize,
        layout: Layout,
        channels: &mut Channels,
        tails: &mut [Tail; 2],
    ) {
        for (at, &value) in values.iter().enumerate() {
            let c = layout.channel_of(first + at);
            if value.is_finite() {
                self.sum[c] += f64::from(value);
                self.squares[c] += f64::from(value) * f64::from(value);
                offer(value, &mut channels.top[c], &mut channels.bottom[c], tails);
            } else {
                self.skipped[c] += 1;
            }
        }
        self.top_bar.iter_mut().zip(&channels.top).for_each(|(bar, top)| *bar = top.bar());
        self.bottom_bar.iter_mut().zip(&channels.bottom).for_each(|(bar, bottom)| *bar = bottom.bar());
    }
}

/// `f32::min` also handles NaN, which costs instructions that finite values do not need.
#[inline(always)]
fn lesser(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

struct Reduced {
    min: f32,
    max: f32,
    sum: f64,
    squares: f64,
}

multiversion! {
    /// Adds rows of one value per channel to the channels' ranges and sums, four at a time.
    fn reduce_rows(block: &[f32], min: &mut [f32], max: &mut [f32], sum: &mut [f64], squares: &mut [f64]) {
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

    /// Whether any channel of a group reaches beyond what is kept of it or of the tensor. Without branches, so that
    /// the usual answer, no, comes from a few vector comparisons.
    fn reaches_beyond(
        max: &[f32], top: &[f32], tail_top: f32, min: &[f32], bottom: &[f32], tail_bottom: f32,
    ) -> bool {
        let mut any = 0_u32;
        for (((&max, &top), &min), &bottom) in max.iter().zip(top).zip(min).zip(bottom) {
            any |= u32::from(max > top) | u32::from(max > tail_top);
            any |= u32::from(-min > bottom) | u32::from(-min > tail_bottom);
        }
        any != 0
    }

    fn reduce(values: &[f32]) -> Reduced {
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
