//! Buffers that are used again instead of being returned to the system: fresh pages cost more than most kernels.

use std::collections::BTreeMap;

/// Free buffers by capacity.
#[derive(Debug, Default)]
pub struct Buffers {
    free: BTreeMap<usize, Vec<Vec<f32>>>,
}

impl Buffers {
    /// A buffer of `len` numbers with unspecified contents.
    pub fn take(&mut self, len: usize) -> Vec<f32> {
        // The smallest that fits, unless it would waste more than it saves.
        let found = self.free.range(len..=len.saturating_mul(2)).next().map(|(&capacity, _)| capacity);
        let Some(capacity) = found else { return vec![0.0; len] };
        let mut buffer = self.free.get_mut(&capacity).and_then(Vec::pop).unwrap_or_default();
        if self.free.get(&capacity).is_some_and(Vec::is_empty) {
            self.free.remove(&capacity);
        }
        buffer.resize(len, 0.0);
        buffer
    }

    /// Keeps a buffer for later.
    pub fn give(&mut self, buffer: Vec<f32>) {
        if buffer.capacity() > 0 {
            self.free.entry(buffer.capacity()).or_default().push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Buffers;

    #[test]
    fn a_buffer_comes_back_when_it_fits() {
        let mut buffers = Buffers::default();
        let first = buffers.take(100);
        let address = first.as_ptr();
        buffers.give(first);
        let second = buffers.take(60);
        assert_eq!(second.as_ptr(), address, "60 of 100 is reused");
        buffers.give(vec![0.0; 1000]);
        assert_eq!(buffers.take(60).capacity(), 60, "a buffer of 1000 is not spent on 60");
    }
}
