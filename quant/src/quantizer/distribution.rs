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
    /// Their sketch: fits take milliseconds whatever the number of values was.
    Sketch(&'a Sketch),
    /// The same, for many fits of one sketch.
    Survey(&'a Survey<'a>),
}

impl Distribution<'_> {
    /// The number of channels.
    pub fn channels(&self) -> usize {
        match self {
            Self::Raw { layout, .. } => layout.channels,
            Self::Sketch(sketch) => sketch.channels(),
            Self::Survey(survey) => survey.sketch().channels(),
        }
    }

    pub(super) fn check(&self) -> Result<(), QuantizerError> {
        match *self {
            Self::Raw { values, layout } if layout.checked_len() != Some(values.len()) => {
                Err(QuantizerError::Layout { len: values.len(), layout })
            }
            _ => Ok(()),
        }
    }
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
