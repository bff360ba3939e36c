//! The distribution of one site, gathered in one streaming pass.

use super::buckets::Bucket;
use super::channels::{Channels, Partial};
use super::error::StatsError;
use super::extremes::Tops;
use super::pages::Pages;
use super::rows::Rows;
use super::tail::Tail;
use crate::exec::kernels::dispatch::multiversion;
use crate::terms::Layout;
use std::cell::RefCell;

/// Values handled while they are in the first-level cache.
const BLOCK: usize = 4096;

/// With fewer values than this most counts are not needed.
const FEW: usize = 512;

/// The distribution of one site.
///
/// Holds counts in buckets of the value's own bits (at most 1/256 of the value wide), exact counts of zeros and
/// non-finite values, the [`TAIL`](super::TAIL) extreme values of the tensor, and per channel the
/// [`CHANNEL_TAIL`](super::CHANNEL_TAIL) extreme values and the moments; if asked for, also a sample of rows. One pass, no
/// range in advance.
///
/// Two sketches of the same samples are equal bit for bit, whatever the order of the samples, the threads and
/// the merges were, as long as [`Sketch::observe`] is called once per sample and site: within a call partial
/// sums are rounded in an order that depends on the layout alone, between calls everything is exact.
#[derive(Debug, Clone, PartialEq)]
pub struct Sketch {
    pub(super) count: u64,
    pub(super) special: Special,
    pub(super) pages: Pages,
    pub(super) channels: Channels,
    /// The largest values, and the largest of the negated values.
    pub(super) tails: [Tail; 2],
    /// Of everything that was counted, if it is wanted.
    pub(super) rows: Option<Rows>,
}

/// Exact counts of values that have no place in the buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Special {
    pub(super) zero: u64,
    pub(super) negative_zero: u64,
    pub(super) nan: u64,
    pub(super) infinite: u64,
    pub(super) negative_infinite: u64,
}

/// Moments and range of one channel over its finite values; all zero if there are none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelStats {
    /// Finite values.
    pub count: u64,
    /// Smallest.
    pub min: f32,
    /// Largest.
    pub max: f32,
    /// Mean.
    pub mean: f64,
    /// Population standard deviation.
    pub std: f64,
}

impl ChannelStats {
    /// `max - min`.
    pub fn range(&self) -> f64 {
        f64::from(self.max) - f64::from(self.min)
    }

    /// The largest magnitude.
    pub fn reach(&self) -> f32 {
        self.max.abs().max(self.min.abs())
    }
}

thread_local! {
    /// Kept between calls.
    static PARTIAL: RefCell<Partial> = RefCell::default();
}

impl Sketch {
    /// Nothing observed yet, for tensors of `channels` channels.
    pub fn new(channels: usize) -> Self {
        Self {
            count: 0,
            special: Special::default(),
            pages: Pages::new(),
            channels: Channels::new(channels),
            tails: [Tail::new(), Tail::new()],
            rows: None,
        }
    }

    /// The same with a sample of rows, which shows the shape of every channel: 32 to 3072 rows, by the number of channels.
    /// Tensors of one channel have none.
    pub fn sampling(channels: usize) -> Self {
        Self { rows: (channels > 1).then(|| Rows::new(channels)), ..Self::new(channels) }
    }

    /// Takes the values of one sample into account.
    pub fn observe(&mut self, values: &[f32], layout: Layout) -> Result<(), StatsError> {
        if layout.channels != self.channels.len() {
            return Err(StatsError::Channels { expected: self.channels.len(), found: layout.channels });
        }
        if layout.checked_len() != Some(values.len()) {
            return Err(StatsError::Layout { len: values.len(), layout });
        }
        if values.is_empty() {
            return Ok(());
        }
        PARTIAL.with_borrow_mut(|partial| self.observe_with(partial, values, layout));
        Ok(())
    }

    fn observe_with(&mut self, partial: &mut Partial, values: &[f32], layout: Layout) {
        self.count = self.count.saturating_add(values.len() as u64);
        partial.begin(&self.channels);
        if values.len() > FEW {
            self.pages.touch();
        }
        // One value per channel in a row: blocks are whole rows.
        let by_rows = layout.inner == 1 && layout.channels > 1;
        let block = if by_rows { (BLOCK / layout.channels / 8 * 8).max(8) * layout.channels } else { BLOCK };
        for (at, block_values) in values.chunks(block).enumerate() {
            let tally = self.pages.count(block_values);
            if tally.zeros > 0 {
                let negative = negative_zeros(block_values);
                self.special.zero += u64::from(tally.zeros) - negative;
                self.special.negative_zero += negative;
            }
            if tally.non_finite > 0 {
                self.count_non_finite(block_values);
                partial.scattered(block_values, at * block, layout, &mut self.channels, &mut self.tails);
            } else if by_rows {
                partial.rows(block_values, &mut self.channels, &mut self.tails);
            } else {
                self.observe_runs(partial, block_values, at * block, layout);
            }
        }
        partial.finish(&mut self.channels, layout);
        if let Some(rows) = &mut self.rows {
            rows.observe(values, layout);
        }
    }

    /// Finite values from index `first` on, cut where the channel changes.
    fn observe_runs(&mut self, partial: &mut Partial, values: &[f32], first: usize, layout: Layout) {
        // A single channel is one run whatever the layout calls its blocks.
        let inner = if layout.channels == 1 { layout.len() } else { layout.inner };
        let mut channel = first / inner % layout.channels;
        let (head, body) = values.split_at((inner - first % inner).min(values.len()));
        for run in std::iter::once(head).chain(body.chunks(inner)) {
            partial.run(channel, run, &mut self.channels, &mut self.tails);
            channel = if channel + 1 == layout.channels { 0 } else { channel + 1 };
        }
    }

    fn count_non_finite(&mut self, values: &[f32]) {
        for value in values {
            if value.is_nan() {
                self.special.nan += 1;
            } else if *value == f32::INFINITY {
                self.special.infinite += 1;
            } else if *value == f32::NEG_INFINITY {
                self.special.negative_infinite += 1;
            }
        }
    }

    /// Adds what another sketch of the same site saw. If one of them counted values without sampling rows, there is no
    /// sample of all.
    pub fn merge(&mut self, other: &Self) -> Result<(), StatsError> {
        self.channels.merge(&other.channels)?;
        match (&mut self.rows, &other.rows) {
            (Some(rows), Some(more)) => rows.merge(more),
            (None, Some(more)) if self.count == 0 => self.rows = Some(more.clone()),
            (Some(_), None) if other.count > 0 => self.rows = None,
            _ => {}
        }
        self.count = self.count.saturating_add(other.count);
        self.pages.merge(&other.pages);
        let (ours, theirs) = (&mut self.special, &other.special);
        for (a, b) in [
            (&mut ours.zero, theirs.zero),
            (&mut ours.negative_zero, theirs.negative_zero),
            (&mut ours.nan, theirs.nan),
            (&mut ours.infinite, theirs.infinite),
            (&mut ours.negative_infinite, theirs.negative_infinite),
        ] {
            *a = a.saturating_add(b);
        }
        self.tails[0].merge(&other.tails[0]);
        self.tails[1].merge(&other.tails[1]);
        Ok(())
    }

    /// Values observed, non-finite ones included.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Finite values observed; every other figure is about these.
    pub fn finite(&self) -> u64 {
        self.count.saturating_sub(self.nan()).saturating_sub(self.infinite())
    }

    /// Exact zeros of either sign.
    pub fn zeros(&self) -> u64 {
        self.special.zero.saturating_add(self.special.negative_zero)
    }

    /// Zeros with the sign bit set.
    pub fn negative_zeros(&self) -> u64 {
        self.special.negative_zero
    }

    /// NaN values observed.
    pub fn nan(&self) -> u64 {
        self.special.nan
    }

    /// Infinities of either sign.
    pub fn infinite(&self) -> u64 {
        self.special.infinite.saturating_add(self.special.negative_infinite)
    }

    /// Whether a sum left the range that is kept (±2^106); means and deviations are then meaningless.
    pub fn saturated(&self) -> bool {
        let of = &self.channels;
        of.sum.iter().chain(of.squares.iter()).any(|sum| sum.saturated())
    }

    /// Channels of the layout.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Smallest finite value; 0 if there is none.
    pub fn min(&self) -> f32 {
        extreme(&self.channels.bottom).map_or(0.0, |x| 0.0 - x)
    }

    /// Largest finite value; 0 if there is none.
    pub fn max(&self) -> f32 {
        extreme(&self.channels.top).unwrap_or(0.0)
    }

    /// Moments and range of channel `c`; `None` if there is no such channel.
    pub fn channel(&self, c: usize) -> Option<ChannelStats> {
        let count = *self.channels.finite.get(c)?;
        let n = (count as f64).max(1.0);
        let mean = self.channels.sum.value(c) / n;
        let variance = (self.channels.squares.value(c) / n - mean * mean).max(0.0);
        let first = |tops: &Tops| tops.get(c).and_then(|top| top.values().next());
        let min = first(&self.channels.bottom).map_or(0.0, |x| 0.0 - x);
        let max = first(&self.channels.top).unwrap_or(0.0);
        let std = if min == max { 0.0 } else { variance.sqrt() };
        Some(ChannelStats { count, min, max, mean, std })
    }

    /// The statistics of every channel in order.
    pub fn channel_stats(&self) -> Vec<ChannelStats> {
        (0..self.channels()).filter_map(|c| self.channel(c)).collect()
    }

    /// The smallest values of channel `c` in ascending order, at most [`CHANNEL_TAIL`](super::CHANNEL_TAIL).
    pub fn channel_smallest(&self, c: usize) -> Vec<f32> {
        self.channels.bottom.get(c).map_or_else(Vec::new, |bottom| bottom.values().map(|x| 0.0 - x).collect())
    }

    /// The largest values of channel `c` in descending order, at most [`CHANNEL_TAIL`](super::CHANNEL_TAIL).
    pub fn channel_largest(&self, c: usize) -> Vec<f32> {
        self.channels.top.get(c).map_or_else(Vec::new, |top| top.values().collect())
    }

    /// Finite values of every channel that were drawn from all of it, and whether they are all; `None` without a sample.
    pub(crate) fn channel_samples(&self) -> Option<(Vec<Vec<f32>>, bool)> {
        let rows = self.rows.as_ref()?;
        let mut samples = rows.by_channel();
        let drawn = samples.first().map_or(0, Vec::len) as u64;
        for values in &mut samples {
            values.retain(|x| x.is_finite());
        }
        Some((samples, drawn == self.count / (self.channels() as u64).max(1)))
    }

    /// The smallest values of the tensor in ascending order, at most [`TAIL`](super::TAIL).
    pub fn smallest(&self) -> Vec<f32> {
        self.tails[1].descending().into_iter().map(|x| 0.0 - x).collect()
    }

    /// The largest values of the tensor in descending order, at most [`TAIL`](super::TAIL).
    pub fn largest(&self) -> Vec<f32> {
        self.tails[0].descending()
    }

    /// Non-empty buckets of the finite values from the lowest to the highest; zeros are a bucket of width 0.
    pub fn buckets(&self) -> Vec<Bucket> {
        self.pages.ascending(self.zeros(), self.min(), self.max())
    }
}

/// The largest value of all channels.
fn extreme(tops: &Tops) -> Option<f32> {
    tops.first().iter().copied().reduce(f32::max).filter(|value| *value > f32::NEG_INFINITY)
}

multiversion! {
    /// The number of zeros with the sign bit set.
    fn negative_zeros(values: &[f32]) -> u64 {
        let count: u32 = values.iter().map(|value| u32::from(value.to_bits() == 1 << 31)).sum();
        u64::from(count)
    }
}
