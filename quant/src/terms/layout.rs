//! How a contiguous tensor is seen channel by channel.

use serde::{Deserialize, Serialize};

/// A contiguous tensor seen as `[outer, channels, inner]`:
/// element `i` of channel `c` in block `o` lies at index `(o * channels + c) * inner + i`.
///
/// The last axis of `[batch, tokens, width]` is `outer = batch * tokens, channels = width, inner = 1`;
/// a weight `[out, in]` by rows is `outer = 1, channels = out, inner = in`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layout {
    /// Number of blocks before the channel axis.
    pub outer: usize,
    /// Number of channels.
    pub channels: usize,
    /// Contiguous values of one channel in one block.
    pub inner: usize,
}

/// A shape that has no such view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The axis does not exist.
    #[error("shape {shape:?} has no axis {axis}")]
    Axis {
        /// The shape asked about.
        shape: Vec<usize>,
        /// The axis asked for; negative counts from the end.
        axis: isize,
    },
    /// The number of elements does not fit the address space.
    #[error("shape {shape:?} has too many elements")]
    TooLarge {
        /// The shape asked about.
        shape: Vec<usize>,
    },
}

impl Layout {
    /// One channel of `len` values.
    pub const fn tensor(len: usize) -> Self {
        Self { outer: 1, channels: 1, inner: len }
    }

    /// The view of `shape` with `axis` as the channel axis; a negative axis counts from the end.
    pub fn axis(shape: &[usize], axis: isize) -> Result<Self, LayoutError> {
        let at = if axis < 0 { axis + shape.len() as isize } else { axis };
        let no_axis = || LayoutError::Axis { shape: shape.to_vec(), axis };
        let at = usize::try_from(at).map_err(|_| no_axis())?;
        let channels = *shape.get(at).ok_or_else(no_axis)?;
        let product = |dims: &[usize]| dims.iter().try_fold(1_usize, |a, &b| a.checked_mul(b));
        let too_large = || LayoutError::TooLarge { shape: shape.to_vec() };
        product(shape).ok_or_else(too_large)?;
        Ok(Self {
            outer: product(&shape[..at]).ok_or_else(too_large)?,
            channels,
            inner: product(&shape[at + 1..]).ok_or_else(too_large)?,
        })
    }

    /// The number of values, or `None` if it does not fit the address space.
    pub fn checked_len(&self) -> Option<usize> {
        self.outer.checked_mul(self.channels)?.checked_mul(self.inner)
    }

    /// The number of values (saturating: a layout that large matches no slice).
    pub fn len(&self) -> usize {
        self.checked_len().unwrap_or(usize::MAX)
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The channel of the value at `index`.
    pub fn channel_of(&self, index: usize) -> usize {
        index / self.inner.max(1) % self.channels.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::Layout;

    #[test]
    fn axes_count_from_both_ends() {
        let shape = [2, 3, 4, 5];
        assert_eq!(Layout::axis(&shape, -1).unwrap(), Layout { outer: 24, channels: 5, inner: 1 });
        assert_eq!(Layout::axis(&shape, 1).unwrap(), Layout { outer: 2, channels: 3, inner: 20 });
        assert_eq!(Layout::axis(&shape, 0).unwrap(), Layout { outer: 1, channels: 2, inner: 60 });
        assert!(Layout::axis(&shape, 4).is_err());
        assert!(Layout::axis(&shape, -5).is_err());
        assert!(Layout::axis(&[], 0).is_err());
        assert!(Layout::axis(&[usize::MAX, 2], 0).is_err());
    }

    #[test]
    fn channel_of_follows_the_formula() {
        let layout = Layout { outer: 2, channels: 3, inner: 4 };
        for (o, c, i) in [(0, 0, 0), (1, 2, 3), (0, 1, 2), (1, 0, 1)] {
            assert_eq!(layout.channel_of((o * 3 + c) * 4 + i), c);
        }
        assert_eq!(layout.len(), 24);
    }
}
