//! Values known while a file is read: floats, integers and truth values with their shape.

use std::sync::Arc;

/// What a value is made of. At run time everything is f32; the type decides what division and casts mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dtype {
    /// Any float.
    Float,
    /// An integer of a width; 64 bits unless it is a quantized code.
    Int {
        /// Width.
        bits: u8,
        /// Whether it has a sign.
        signed: bool,
    },
    /// True or false.
    Bool,
}

impl Dtype {
    /// The integers of shapes and indices.
    pub(super) const INT: Self = Self::Int { bits: 64, signed: true };

    /// By the number of `TensorProto.DataType`; none for strings, complex numbers and 8-bit floats.
    pub(super) fn of(number: i64) -> Option<Self> {
        let int = |bits, signed| Some(Self::Int { bits, signed });
        match number {
            1 | 10 | 11 | 16 => Some(Self::Float),
            2 => int(8, false),
            3 => int(8, true),
            4 => int(16, false),
            5 => int(16, true),
            6 => int(32, true),
            7 => int(64, true),
            9 => Some(Self::Bool),
            12 => int(32, false),
            13 => int(64, false),
            21 => int(4, false),
            22 => int(4, true),
            _ => None,
        }
    }

    /// Whether it is an integer narrow enough to be a quantized code.
    pub(super) fn is_code(self) -> bool {
        matches!(self, Self::Int { bits: 4 | 8 | 16, .. })
    }

    pub(super) fn is_int(self) -> bool {
        matches!(self, Self::Int { .. })
    }
}

/// The word of `TensorProto.DataType` for a number.
pub(super) fn type_name(number: i64) -> String {
    const NAMES: [&str; 24] = [
        "UNDEFINED",
        "FLOAT",
        "UINT8",
        "INT8",
        "UINT16",
        "INT16",
        "INT32",
        "INT64",
        "STRING",
        "BOOL",
        "FLOAT16",
        "DOUBLE",
        "UINT32",
        "UINT64",
        "COMPLEX64",
        "COMPLEX128",
        "BFLOAT16",
        "FLOAT8E4M3FN",
        "FLOAT8E4M3FNUZ",
        "FLOAT8E5M2",
        "FLOAT8E5M2FNUZ",
        "UINT4",
        "INT4",
        "FLOAT4E2M1",
    ];
    let name = usize::try_from(number).ok().and_then(|number| NAMES.get(number));
    name.map_or_else(|| format!("number {number}"), |name| (*name).to_owned())
}

/// The values themselves.
#[derive(Debug, Clone)]
pub(super) enum Data {
    Float(Arc<Vec<f32>>),
    /// Integers, and truth values as 0 and 1.
    Int(Arc<Vec<i64>>),
}

impl Data {
    pub(super) fn floats(values: Vec<f32>) -> Self {
        Self::Float(Arc::new(values))
    }

    pub(super) fn ints(values: Vec<i64>) -> Self {
        Self::Int(Arc::new(values))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Float(values) => values.len(),
            Self::Int(values) => values.len(),
        }
    }

    /// As f32, sharing them if they are.
    pub(super) fn to_floats(&self) -> Arc<Vec<f32>> {
        match self {
            Self::Float(values) => Arc::clone(values),
            Self::Int(values) => Arc::new(values.iter().map(|&x| x as f32).collect()),
        }
    }

    /// As integers; floats are cut off towards zero.
    pub(super) fn to_ints(&self) -> Arc<Vec<i64>> {
        match self {
            Self::Float(values) => Arc::new(values.iter().map(|&x| x as i64).collect()),
            Self::Int(values) => Arc::clone(values),
        }
    }

    /// The values at `places`, in that order.
    pub(super) fn pick(&self, places: impl Iterator<Item = usize>) -> Self {
        match self {
            Self::Float(values) => Self::floats(places.map(|i| values[i]).collect()),
            Self::Int(values) => Self::ints(places.map(|i| values[i]).collect()),
        }
    }
}

/// Number of values of a shape; none if it does not fit a machine word.
pub(super) fn numbers(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |a, &b| a.checked_mul(b))
}

/// Distance between neighbours along each axis.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    strides
}

/// For every value of `shape`, in order, its place in a tensor with the given stride per axis.
pub(super) fn places<'s>(shape: &'s [usize], strides: &'s [usize]) -> impl Iterator<Item = usize> + 's {
    let count = shape.iter().product::<usize>();
    let mut index = vec![0_usize; shape.len()];
    let mut at = 0;
    (0..count).map(move |_| {
        let now = at;
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
        now
    })
}

/// Strides with which a tensor of shape `from` is read as one of shape `to`.
pub(super) fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<usize> {
    let own = strides(from);
    let lead = to.len() - from.len();
    (0..to.len())
        .map(|axis| if axis < lead || from[axis - lead] == 1 { 0 } else { own[axis - lead] })
        .collect()
}
