//! The data in a pickle (protocols 0 to 5), read without running anything.
//!
//! A pickle is a program for a small stack machine; Python's own reader may call any function it names. This one
//! builds lists, tuples, dicts, texts and integers, and knows four names: `collections.OrderedDict` and the three
//! functions of `torch._utils` that put a tensor together. Every other class, function or call becomes
//! [`Object::Opaque`], which nothing can be done with; a call that only an attack makes is an error (see [`deny`]). Containers refer to their members by number, so that pickles
//! that contain themselves or double at every level cost no more than their bytes.

mod deny;
mod machine;
mod opcode;
mod torch;

pub(super) use machine::read;

/// Why a pickle is not read.
#[derive(Debug)]
pub(super) enum Problem {
    /// What is wrong and where.
    Broken(String),
    /// What it asks to be called, by module and name.
    Harmful(String),
}

impl Problem {
    /// The same with the place in the file.
    fn at(self, byte: usize) -> Self {
        match self {
            Self::Broken(message) => Self::Broken(format!("its pickle at byte {byte}: {message}")),
            Self::Harmful(function) => Self::Harmful(function),
        }
    }
}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        Self::Broken(message)
    }
}

#[cfg(test)]
impl From<Problem> for String {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Broken(message) | Problem::Harmful(message) => message,
        }
    }
}

/// A value: an integer, or the number of an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    /// A number, truth value, byte string or `None`: of no use for finding tensors.
    Plain,
    /// An integer of up to 64 bits.
    Int(i64),
    /// A place in [`Pickle`].
    Object(u32),
}

/// What values refer to.
#[derive(Debug)]
pub(super) enum Object<'a> {
    Text(&'a str),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    /// Keys and values in the order they were set; of equal keys the last counts.
    Dict(Vec<(Value, Value)>),
    /// A class or function, by module and name.
    Global(&'a str, &'a str),
    /// The file that holds a tensor's values.
    Storage(Storage<'a>),
    Tensor(Tensor),
    /// An object of this class, or what this function would return.
    Opaque(&'a str, &'a str),
}

/// Values in a file of their own, `data/<key>` in the checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'a> {
    /// `FloatStorage` and the like.
    pub(super) class: &'a str,
    pub(super) key: &'a str,
    /// Number of values.
    pub(super) len: u64,
}

/// A view of a storage. Nothing about it is checked yet.
#[derive(Debug)]
pub(super) struct Tensor {
    /// The number of the storage object.
    storage: u32,
    /// The first value, in values.
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    /// Distance between neighbours along each axis, in values; as many as there are sizes.
    pub(super) strides: Vec<u64>,
}

/// Everything a pickle holds.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    root: Value,
}

impl<'a> Pickle<'a> {
    /// What the pickle is of.
    pub(super) fn root(&self) -> Value {
        self.root
    }

    /// What a value refers to.
    pub(super) fn object(&self, value: Value) -> Option<&Object<'a>> {
        match value {
            Value::Object(number) => self.objects.get(number as usize),
            Value::Plain | Value::Int(_) => None,
        }
    }

    /// A value as text.
    pub(super) fn text(&self, value: Value) -> Option<&'a str> {
        match self.object(value)? {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A value as a dict.
    pub(super) fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.object(value)? {
            Object::Dict(items) => Some(items),
            _ => None,
        }
    }

    /// A value as a tensor.
    pub(super) fn tensor(&self, value: Value) -> Option<&Tensor> {
        match self.object(value)? {
            Object::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Where a tensor's values are.
    pub(super) fn storage(&self, tensor: &Tensor) -> Option<Storage<'a>> {
        match self.object(Value::Object(tensor.storage))? {
            Object::Storage(storage) => Some(*storage),
            _ => None,
        }
    }
}
