//! A tensor as it lies in a file: which bytes, of which type, in which order.

use std::ops::Range;
use std::sync::Arc;

use crate::models::mapping;

/// Values that are read at once where not all are kept (4 MiB of f32).
const BLOCK: usize = 1 << 20;

/// The bytes of a file.
pub(super) enum Bytes {
    Mapped(memmap2::Mmap),
    Embedded(&'static [u8]),
    Owned(Vec<u8>),
}

impl Bytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Embedded(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }

    /// Lets the system take back the memory behind a part; see [`mapping::release`].
    pub(super) fn release(&self, part: Range<usize>) {
        if let Self::Mapped(map) = self {
            mapping::release(map, part);
        }
    }
}

/// How the numbers of a tensor are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    F32,
    F16,
    BF16,
    F64,
    /// What weights are not: integers, truth values, eight-bit floats. Only name and shape are of use.
    Other(String),
}

impl Format {
    /// Bytes of one number, if it is one that can be read.
    pub(super) fn size(&self) -> Option<usize> {
        match self {
            Self::F16 | Self::BF16 => Some(2),
            Self::F32 => Some(4),
            Self::F64 => Some(8),
            Self::Other(_) => None,
        }
    }

    /// One number of [`Format::size`] bytes.
    fn number(&self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Self::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Self::F16, &[a, b]) => half::f16::from_le_bytes([a, b]).to_f32(),
            (Self::BF16, &[a, b]) => half::bf16::from_le_bytes([a, b]).to_f32(),
            (Self::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
            _ => 0.0,
        }
    }
}

/// Where the values of a tensor lie. Whoever makes one has checked that all of them are in the file.
#[derive(Clone)]
pub(super) struct Stored {
    /// The file.
    pub(super) bytes: Arc<Bytes>,
    /// From the first value to the end of the last.
    pub(super) part: Range<usize>,
    /// How they are written.
    pub(super) format: Format,
    /// Shape of the tensor.
    pub(super) shape: Vec<usize>,
    /// Distances between neighbours along each axis, in values, if the values do not lie one after another.
    pub(super) strides: Option<Vec<usize>>,
}

impl Stored {
    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    fn raw(&self) -> &[u8] {
        self.bytes.as_slice().get(self.part.clone()).unwrap_or_default()
    }

    /// The values where they are, if they need no conversion.
    pub(super) fn in_place(&self) -> Option<&[f32]> {
        if self.format != Format::F32 || self.strides.is_some() || cfg!(target_endian = "big") {
            return None;
        }
        bytemuck::try_cast_slice(self.raw()).ok()
    }

    /// All values.
    pub(super) fn to_vec(&self) -> Vec<f32> {
        if let Some(values) = self.in_place() {
            return values.to_vec();
        }
        let mut values = vec![0.0; self.len()];
        self.fill(0, &mut values);
        values
    }

    /// Calls `f` with all values, block by block, and keeps nothing.
    pub(super) fn in_blocks(&self, mut f: impl FnMut(&[f32])) {
        if let Some(values) = self.in_place() {
            for (i, block) in values.chunks(BLOCK).enumerate() {
                f(block);
                let start = self.part.start + i * BLOCK * size_of::<f32>();
                self.bytes.release(start..start + size_of_val(block));
            }
            return;
        }
        let len = self.len();
        let mut block = vec![0.0; len.min(BLOCK)];
        for from in (0..len).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(len - from)];
            self.fill(from, block);
            f(block);
        }
        self.release();
    }

    /// Lets the system take back the memory behind the bytes.
    pub(super) fn release(&self) {
        self.bytes.release(self.part.clone());
    }

    /// The values from number `from` on.
    fn fill(&self, from: usize, out: &mut [f32]) {
        let (raw, format) = (self.raw(), &self.format);
        let Some(size) = format.size() else { return };
        let Some(strides) = &self.strides else {
            let raw = raw.get(from * size..).unwrap_or_default();
            // One loop per format, so that each is a plain conversion of a slice.
            match format {
                Format::F32 => convert(raw, out, f32::from_le_bytes),
                Format::F16 => convert(raw, out, |b| half::f16::from_le_bytes(b).to_f32()),
                Format::BF16 => convert(raw, out, |b| half::bf16::from_le_bytes(b).to_f32()),
                Format::F64 => convert(raw, out, |b| f64::from_le_bytes(b) as f32),
                Format::Other(_) => {}
            }
            return;
        };
        // The place along each axis of value `from`, then one step at a time, the last axis first.
        let mut place = vec![0; self.shape.len()];
        let mut rest = from;
        for (at, &n) in place.iter_mut().zip(&self.shape).rev() {
            *at = rest % n.max(1);
            rest /= n.max(1);
        }
        let mut offset: usize = place.iter().zip(strides).map(|(at, stride)| at * stride).sum();
        for value in out {
            *value = format.number(raw.get(offset * size..(offset + 1) * size).unwrap_or_default());
            for axis in (0..place.len()).rev() {
                place[axis] += 1;
                offset += strides[axis];
                if place[axis] < self.shape[axis] {
                    break;
                }
                offset -= place[axis] * strides[axis];
                place[axis] = 0;
            }
        }
    }
}

fn convert<const N: usize>(raw: &[u8], out: &mut [f32], one: impl Fn([u8; N]) -> f32) {
    for (value, bytes) in out.iter_mut().zip(raw.as_chunks::<N>().0) {
        *value = one(*bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(raw: Vec<u8>, format: Format, shape: &[usize], strides: Option<&[usize]>) -> Stored {
        let part = 0..raw.len();
        let (shape, strides) = (shape.to_vec(), strides.map(<[usize]>::to_vec));
        Stored { bytes: Arc::new(Bytes::Owned(raw)), part, format, shape, strides }
    }

    fn all(stored: &Stored) -> Vec<f32> {
        let mut seen = Vec::new();
        stored.in_blocks(|block| seen.extend_from_slice(block));
        assert_eq!(seen, stored.to_vec());
        seen
    }

    #[test]
    fn every_format_is_read() {
        let numbers = [0.5_f32, -3.0, 1024.0];
        let raw = |one: fn(f32) -> Vec<u8>| numbers.iter().flat_map(|&x| one(x)).collect::<Vec<u8>>();
        let cases = [
            (raw(|x| x.to_le_bytes().to_vec()), Format::F32),
            (raw(|x| f64::from(x).to_le_bytes().to_vec()), Format::F64),
            (raw(|x| half::f16::from_f32(x).to_le_bytes().to_vec()), Format::F16),
            (raw(|x| half::bf16::from_f32(x).to_le_bytes().to_vec()), Format::BF16),
        ];
        for (raw, format) in cases {
            assert_eq!(all(&stored(raw, format.clone(), &[3], None)), numbers, "{format:?}");
        }
    }

    #[test]
    fn views_are_gathered_in_the_order_of_their_axes() {
        let raw: Vec<u8> = (0..24).flat_map(|i| (i as f32).to_le_bytes()).collect();
        // A [2, 3, 4] tensor seen with its axes as (2, 0, 1).
        let view = stored(raw.clone(), Format::F32, &[4, 2, 3], Some(&[1, 12, 4]));
        let expected: Vec<f32> = (0..4)
            .flat_map(|c| (0..2).flat_map(move |a| (0..3).map(move |b| (a * 12 + b * 4 + c) as f32)))
            .collect();
        assert_eq!(all(&view), expected);
        let mut tail = vec![0.0; 5];
        view.fill(11, &mut tail);
        assert_eq!(tail, expected[11..16]);
        // Every second value, and a scalar.
        assert_eq!(all(&stored(raw.clone(), Format::F32, &[3], Some(&[2]))), [0.0, 2.0, 4.0]);
        assert_eq!(all(&stored(raw, Format::F32, &[], Some(&[]))), [0.0]);
    }

    #[test]
    fn more_values_than_a_block_come_in_order() {
        let numbers: Vec<f32> = (0..BLOCK + 7).map(|i| i as f32).collect();
        let raw: Vec<u8> = numbers.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect();
        let long = stored(raw, Format::F64, &[numbers.len()], None);
        let mut sizes = Vec::new();
        long.in_blocks(|block| sizes.push(block.len()));
        assert_eq!(sizes, [BLOCK, 7]);
        assert_eq!(all(&long), numbers);
    }
}
