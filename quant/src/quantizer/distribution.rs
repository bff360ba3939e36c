//! What a quantizer is fitted on.

use super::error::QuantizerError;
use super::scheme::Granularity;
use super::survey::Survey;
use crate::stats::Sketch;
use crate::terms::Layout;
use std::borrow::Cow;

/// Values in memory, or the sketch of values seen before.
#[derive(Debug, Clone, Copy)]
pub enum Distribution<'a> {
    /// The values: fits are those of the papers, to the bit where stated.
    Raw {
        /// The tensor.
        values: &'a [f32],
        /// How to see it per channel.
        layout: Layout,
    },
    /// The same in several calibration batches, in their order, perhaps with what each is multiplied by: for methods
    /// that average over batches or look at the product.
    Batches(&'a [Batch<'a>]),
    /// Their sketch: fits take milliseconds whatever the number of values was.
    Sketch(&'a Sketch),
    /// The same, for many fits of one sketch.
    Survey(&'a Survey<'a>),
}

/// One calibration batch of a tensor.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The values.
    pub values: &'a [f32],
    /// How to see them per channel; all batches have the same channels.
    pub layout: Layout,
    /// What the values are multiplied by, if that is known.
    pub product: Option<Product<'a>>,
}

/// The right operand of the product whose left operand is a [`Batch`]: the values seen as `[batches, rows, inner]`
/// times `[batches, inner, columns]`.
#[derive(Debug, Clone, Copy)]
pub struct Product<'a> {
    /// `[batches, inner, columns]`, or `[batches, columns, inner]` if transposed; a weight `[out, in]` is one batch,
    /// transposed.
    pub other: &'a [f32],
    /// The summed dimension.
    pub inner: usize,
    /// Columns of the product.
    pub columns: usize,
    /// Whether `inner` comes last in `other`.
    pub transposed: bool,
}

impl<'a> Batch<'a> {
    /// Values without a product.
    pub const fn new(values: &'a [f32], layout: Layout) -> Self {
        Self { values, layout, product: None }
    }
}

impl Product<'_> {
    /// Products that are independent of each other.
    pub fn batches(&self) -> usize {
        self.other.len() / (self.inner * self.columns).max(1)
    }

    /// Whether `len` values can be the left operand.
    fn fits(&self, len: usize) -> bool {
        let one = self.inner.checked_mul(self.columns).filter(|&n| n > 0);
        one.is_some_and(|one| self.other.len().is_multiple_of(one))
            && self.batches().checked_mul(self.inner).is_some_and(|rows| rows > 0 && len.is_multiple_of(rows))
    }
}

impl<'a> Distribution<'a> {
    /// The number of channels.
    pub fn channels(&self) -> usize {
        match self {
            Self::Raw { layout, .. } => layout.channels,
            Self::Batches(batches) => batches.first().map_or(0, |batch| batch.layout.channels),
            Self::Sketch(sketch) => sketch.channels(),
            Self::Survey(survey) => survey.sketch().channels(),
        }
    }

    /// The calibration batches of values in memory; `None` for a sketch.
    pub(super) fn batches(&self) -> Option<Cow<'a, [Batch<'a>]>> {
        match *self {
            Self::Raw { values, layout } => Some(Cow::Owned(vec![Batch::new(values, layout)])),
            Self::Batches(batches) => Some(Cow::Borrowed(batches)),
            Self::Sketch(_) | Self::Survey(_) => None,
        }
    }

    /// All values in memory as one tensor, batches one after the other; `None` for a sketch.
    pub(super) fn joined(&self) -> Option<(Cow<'a, [f32]>, Layout)> {
        match *self {
            Self::Raw { values, layout } => Some((Cow::Borrowed(values), layout)),
            Self::Batches([one]) => Some((Cow::Borrowed(one.values), one.layout)),
            Self::Batches(batches) => {
                let first = batches.first()?.layout;
                let outer = batches.iter().map(|batch| batch.layout.outer).sum();
                let values = batches.iter().flat_map(|batch| batch.values).copied().collect();
                let layout = if first.channels == 1 {
                    Layout::tensor(len(batches))
                } else {
                    Layout { outer, ..first }
                };
                Some((Cow::Owned(values), layout))
            }
            Self::Sketch(_) | Self::Survey(_) => None,
        }
    }

    /// That there are values as the layouts say. Batches of several shapes must agree in their channels, and, to be
    /// joined, in what lies inside a channel.
    pub(super) fn check(&self) -> Result<(), QuantizerError> {
        let Some(batches) = self.batches() else { return Ok(()) };
        let Some(first) = batches.first().map(|batch| batch.layout) else {
            return Err(QuantizerError::NoData);
        };
        for batch in &*batches {
            let layout = batch.layout;
            let joins =
                layout.channels == first.channels && (layout.inner == first.inner || batches.len() == 1);
            if layout.checked_len() != Some(batch.values.len()) || !(joins || layout.channels == 1) {
                return Err(QuantizerError::Layout { len: batch.values.len(), layout });
            }
            if let Some(product) = &batch.product
                && !product.fits(batch.values.len())
            {
                return Err(QuantizerError::Product {
                    len: batch.values.len(),
                    other: product.other.len(),
                    inner: product.inner,
                });
            }
        }
        Ok(())
    }
}

fn len(batches: &[Batch<'_>]) -> usize {
    batches.iter().map(|batch| batch.values.len()).sum()
}

/// The values that share a scale: the finite ones of the tensor or of one channel.
pub(super) fn group(values: &[f32], layout: Layout, granularity: Granularity, c: usize) -> Cow<'_, [f32]> {
    let contiguous = if granularity == Granularity::Tensor || layout.channels == 1 {
        Some(values)
    } else if layout.outer == 1 {
        values.get(c * layout.inner..(c + 1) * layout.inner)
    } else {
        None
    };
    match contiguous {
        Some(values) if values.iter().all(|x| x.is_finite()) => Cow::Borrowed(values),
        Some(values) => values.iter().copied().filter(|x| x.is_finite()).collect(),
        None => values
            .chunks_exact(layout.channels * layout.inner)
            .flat_map(|block| &block[c * layout.inner..(c + 1) * layout.inner])
            .copied()
            .filter(|x| x.is_finite())
            .collect(),
    }
}
