//! A tensor of one sample while the graph runs.

use std::sync::Arc;

/// A contiguous row-major f32 tensor; cloning and reshaping share the numbers.
///
/// Not a `candle_core::Tensor`: candle does not give a buffer back when its last user is gone, and reusing
/// buffers is what keeps page faults out of the run.
#[derive(Debug, Clone)]
pub struct Value {
    shape: Vec<usize>,
    data: Arc<Vec<f32>>,
    start: usize,
}

impl Value {
    /// A tensor; `data` must have as many values as `shape` says (checked in debug builds, sliced otherwise).
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Self { shape, data: Arc::new(data), start: 0 }
    }

    /// A tensor of numbers that are shared already.
    pub fn shared(shape: Vec<usize>, data: Arc<Vec<f32>>) -> Self {
        Self { shape, data, start: 0 }
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers in row-major order.
    pub fn as_slice(&self) -> &[f32] {
        self.data.get(self.start..self.start + self.len()).unwrap_or_default()
    }

    /// The same numbers under another shape of the same size.
    #[must_use]
    pub fn reshaped(&self, shape: Vec<usize>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), self.len());
        Self { shape, data: Arc::clone(&self.data), start: self.start }
    }

    /// The numbers from `start` on under `shape`, shared.
    #[must_use]
    pub fn part(&self, start: usize, shape: Vec<usize>) -> Self {
        Self { shape, data: Arc::clone(&self.data), start: self.start + start }
    }

    /// Whether both hold the same numbers, bit for bit, under the same shape.
    pub fn same(&self, other: &Self) -> bool {
        let alike = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
        self.shape == other.shape
            && ((Arc::ptr_eq(&self.data, &other.data) && self.start == other.start)
                || self.as_slice().iter().zip(other.as_slice()).all(alike))
    }

    /// Stands for the buffer behind it: equal for values that share one.
    pub fn buffer(&self) -> usize {
        Arc::as_ptr(&self.data) as usize
    }

    /// Bytes of the whole buffer behind it.
    pub fn buffer_bytes(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }

    /// The buffer, if nobody else uses it.
    pub(super) fn into_buffer(self) -> Option<Vec<f32>> {
        Arc::try_unwrap(self.data).ok()
    }

    /// The numbers for writing over, if they are the whole buffer and nobody else uses it; nothing is left then.
    pub(super) fn take_buffer(&mut self) -> Option<Vec<f32>> {
        if self.start != 0 || self.data.len() != self.len() {
            return None;
        }
        let data = std::mem::take(Arc::get_mut(&mut self.data)?);
        self.shape = vec![0];
        Some(data)
    }
}
