//! What is known of every channel: extremes and moments.

use super::error::StatsError;
use super::extremes::Tops;
use super::reduce::{reduce, reduce_rows};
use super::sums::Sums;
use super::tail::Tail;
use crate::exec::kernels::dispatch::multiversion;
use crate::terms::Layout;

/// Rows that are reduced together before anything is compared with the extremes kept: about as many values, but no
/// fewer and no more rows than this.
const ROW_VALUES: usize = 2048;
const ROWS: std::ops::RangeInclusive<usize> = 8..=64;
/// Values of one channel reduced together where they are contiguous.
const PIECE: usize = 512;

/// Extremes and moments of every channel over finite values.
///
/// Sums are partial sums in f64 of one call, taken in an order that depends on the layout alone, then added
/// exactly: the result does not depend on the order of the calls.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Channels {
    pub(super) finite: Vec<u64>,
    pub(super) sum: Sums,
    pub(super) squares: Sums,
    /// The largest values, and the largest of the negated values.
    pub(super) top: Tops,
    pub(super) bottom: Tops,
}

/// The partial sums of one call and scratch for the reductions; reused between calls.
#[derive(Default)]
pub(super) struct Partial {
    sum: Vec<f64>,
    squares: Vec<f64>,
    /// Values that are not finite; empty if there are none.
    skipped: Vec<u64>,
    max: Vec<f32>,
    min: Vec<f32>,
}

impl Channels {
    pub(super) fn new(channels: usize) -> Self {
        Self {
            finite: vec![0; channels],
            sum: Sums::new(channels),
            squares: Sums::new(channels),
            top: Tops::new(channels),
            bottom: Tops::new(channels),
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
        }
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
        self.top.merge(&other.top);
        self.bottom.merge(&other.bottom);
        Ok(())
    }
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
        self.min.resize(n, 0.0);
        self.max.resize(n, 0.0);
    }

    /// Ends a call that saw `layout`.
    pub(super) fn finish(&self, channels: &mut Channels, layout: Layout) {
        let each = (layout.outer * layout.inner) as u64;
        for (at, finite) in channels.finite.iter_mut().enumerate() {
            let skipped = self.skipped.get(at).copied().unwrap_or(0);
            *finite = finite.saturating_add(each - skipped);
        }
        channels.sum.add(&self.sum);
        channels.squares.add(&self.squares);
    }

    /// Whole rows of one value per channel, all finite.
    pub(super) fn rows(&mut self, values: &[f32], channels: &mut Channels, tails: &mut [Tail; 2]) {
        let n = channels.len();
        let rows = (ROW_VALUES / n / 4 * 4).clamp(*ROWS.start(), *ROWS.end());
        for block in values.chunks(rows * n) {
            let (min, max) = (&mut self.min[..n], &mut self.max[..n]);
            min.copy_from_slice(&block[..n]);
            max.copy_from_slice(&block[..n]);
            reduce_rows(block, min, max, &mut self.sum[..n], &mut self.squares[..n]);
            for min in min.iter_mut() {
                *min = 0.0 - *min;
            }
            channels.top.offer_rows(block, max, false);
            channels.bottom.offer_rows(block, min, true);
            if exceeded(max, tails[0].bar()) || exceeded(min, tails[1].bar()) {
                Tail::offer_all(block, tails);
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
            if reduced.max > channels.top.bars()[c] {
                channels.top.offer(c, piece, false);
            }
            if -reduced.min > channels.bottom.bars()[c] {
                channels.bottom.offer(c, piece, true);
            }
            if reduced.max > tails[0].bar() || -reduced.min > tails[1].bar() {
                Tail::offer_all(piece, tails);
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
        self.skipped.resize(channels.len(), 0);
        for (at, value) in values.iter().enumerate() {
            let c = layout.channel_of(first + at);
            if value.is_finite() {
                let wide = f64::from(*value);
                self.sum[c] += wide;
                self.squares[c] += wide * wide;
                let value = std::slice::from_ref(value);
                channels.top.offer(c, value, false);
                channels.bottom.offer(c, value, true);
                Tail::offer_all(value, tails);
            } else {
                self.skipped[c] += 1;
            }
        }
    }
}

multiversion! {
    /// Whether any value is above `bar`.
    fn exceeded(values: &[f32], bar: f32) -> bool {
        values.iter().fold(0, |any, &value| any | u32::from(value > bar)) != 0
    }
}
