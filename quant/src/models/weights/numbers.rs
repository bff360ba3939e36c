//! The values of a weight tensor: in memory, or in the file they came from.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use super::stored::Stored;

/// The values of a weight tensor as f32, row-major; cheap to clone. Those of a mapped file stay there: if they are
/// f32 and aligned they are read in place, otherwise they are converted the first time they are asked for as a slice.
#[derive(Clone)]
pub struct Numbers(Place);

#[derive(Clone)]
enum Place {
    Memory(Arc<Vec<f32>>),
    File(Arc<InFile>),
}

struct InFile {
    stored: Stored,
    converted: OnceLock<Vec<f32>>,
}

impl InFile {
    /// The values, if they can be had without a conversion.
    fn ready(&self) -> Option<&[f32]> {
        self.stored.in_place().or_else(|| self.converted.get().map(Vec::as_slice))
    }
}

impl Numbers {
    /// The values of a tensor in a file.
    pub(super) fn in_file(stored: Stored) -> Self {
        Self(Place::File(Arc::new(InFile { stored, converted: OnceLock::new() })))
    }

    /// How many there are; converts nothing.
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Memory(values) => values.len(),
            Place::File(file) => file.stored.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values. Those that need a conversion stay in memory from now on; [`Numbers::once`] and
    /// [`Numbers::in_blocks`] do not keep them.
    pub fn as_slice(&self) -> &[f32] {
        match &self.0 {
            Place::Memory(values) => values,
            Place::File(file) => {
                let Some(values) = file.stored.in_place() else {
                    return file.converted.get_or_init(|| file.stored.to_vec());
                };
                values
            }
        }
    }

    /// A copy of the values.
    pub fn to_vec(&self) -> Vec<f32> {
        self.once(<[f32]>::to_vec)
    }

    /// Calls `f` with the values when they will not be needed again soon: nothing more stays in memory than before.
    pub fn once<R>(&self, f: impl FnOnce(&[f32]) -> R) -> R {
        let file = match &self.0 {
            Place::Memory(values) => return f(values),
            Place::File(file) => file,
        };
        let result = match file.ready() {
            Some(values) => f(values),
            None => f(&file.stored.to_vec()),
        };
        file.stored.release();
        result
    }

    /// Calls `f` with all values in order, some at a time; nothing more stays in memory than before.
    pub fn in_blocks(&self, mut f: impl FnMut(&[f32])) {
        match &self.0 {
            Place::Memory(values) => f(values),
            Place::File(file) => match file.converted.get() {
                Some(values) => f(values),
                None => file.stored.in_blocks(f),
            },
        }
    }

    /// The first value that is no finite number, with its place.
    pub(super) fn not_finite(&self) -> Option<(usize, f32)> {
        let (mut found, mut before) = (None, 0);
        self.in_blocks(|block| {
            // Without an early exit the test is vectorised; the search follows only where it is due.
            let finite = block.iter().fold(true, |all, x| all & x.is_finite());
            if !finite && found.is_none() {
                found = block.iter().position(|x| !x.is_finite()).map(|i| (before + i, block[i]));
            }
            before += block.len();
        });
        found
    }

    /// Whether both are one and the same tensor (not only equal values).
    pub fn same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Place::Memory(a), Place::Memory(b)) => Arc::ptr_eq(a, b),
            (Place::File(a), Place::File(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Bytes of some values, little-endian, as they are written to files and hashed.
pub(crate) fn little_endian(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        Cow::Owned(values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }
}

impl Deref for Numbers {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.as_slice()
    }
}

impl From<Vec<f32>> for Numbers {
    fn from(values: Vec<f32>) -> Self {
        Self(Place::Memory(Arc::new(values)))
    }
}

impl From<Arc<Vec<f32>>> for Numbers {
    fn from(values: Arc<Vec<f32>>) -> Self {
        Self(Place::Memory(values))
    }
}

impl PartialEq for Numbers {
    fn eq(&self, other: &Self) -> bool {
        self.same(other) || self.as_slice() == other.as_slice()
    }
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Numbers({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stored::{Bytes, Format};
    use super::*;

    fn halves(numbers: &[f32]) -> Numbers {
        let raw: Vec<u8> = numbers.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
        Numbers::in_file(Stored {
            part: 0..raw.len(),
            bytes: Arc::new(Bytes::Owned(raw)),
            format: Format::F16,
            shape: vec![numbers.len()],
            strides: None,
        })
    }

    #[test]
    fn both_places_read_alike() {
        let numbers = [1.0, -2.5, 0.0];
        let (memory, file) = (Numbers::from(numbers.to_vec()), halves(&numbers));
        for data in [&memory, &file] {
            assert_eq!((data.len(), data.is_empty()), (3, false));
            assert_eq!(data.once(|x| x.iter().sum::<f32>()), -1.5);
            assert_eq!(data.to_vec(), numbers);
            assert_eq!(data[1], -2.5);
            assert_eq!(data.not_finite(), None);
        }
        assert_eq!(memory, file);
        assert!(!memory.same(&file) && file.same(&file.clone()));
    }

    #[test]
    fn only_a_slice_keeps_what_was_converted() {
        let file = halves(&[1.0, 2.0]);
        let Place::File(inner) = &file.0 else { panic!("not in a file") };
        file.once(|_| ());
        file.in_blocks(|_| ());
        assert!(inner.converted.get().is_none());
        assert_eq!(*file, [1.0, 2.0]);
        assert!(inner.converted.get().is_some());
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_found() {
        let found = halves(&[0.0, 1.0, f32::INFINITY, f32::NAN]).not_finite();
        assert_eq!(found, Some((2, f32::INFINITY)));
    }
}
