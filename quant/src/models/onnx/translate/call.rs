//! One node while it is translated: its operands and attributes.

use std::sync::Arc;

use super::super::external::Files;
use super::super::flow::{Binary, Flow, Id, Op, Reduce, Unary};
use super::super::proto::Node;
use super::super::tensor::Data;

/// Why a node cannot be translated.
#[derive(Debug)]
pub(in super::super) enum Fail {
    /// The file is wrong.
    Wrong(String),
    /// The file asks for something that is not supported.
    Unsupported(String),
}

impl From<String> for Fail {
    fn from(message: String) -> Self {
        Self::Wrong(message)
    }
}

impl From<&str> for Fail {
    fn from(message: &str) -> Self {
        Self::Wrong(message.to_owned())
    }
}

/// A node with its operands.
pub(in super::super) struct Call<'c, 'a> {
    pub(in super::super) flow: &'c mut Flow,
    pub(in super::super) node: &'c Node<'a>,
    pub(in super::super) operands: &'c [Option<Id>],
    pub(in super::super) opset: i64,
    pub(in super::super) files: &'c Files,
}

impl Call<'_, '_> {
    /// An operand that must be there.
    pub(super) fn operand(&self, index: usize) -> Result<Id, Fail> {
        self.optional(index).ok_or_else(|| Fail::Wrong(format!("operand {index} is missing")))
    }

    /// An operand that may be there.
    pub(super) fn optional(&self, index: usize) -> Option<Id> {
        self.operands.get(index).copied().flatten()
    }

    /// All operands.
    pub(super) fn operands(&self) -> Vec<Id> {
        self.operands.iter().copied().flatten().collect()
    }

    pub(super) fn shape(&self, id: Id) -> Vec<usize> {
        self.flow.shape(id).to_vec()
    }

    pub(super) fn rank(&self, id: Id) -> usize {
        self.flow.shape(id).len()
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.node.attribute(name).map_or(default, |a| a.int)
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> bool {
        self.int(name, i64::from(default)) != 0
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        self.node.attribute(name).map_or(default, |a| a.float)
    }

    pub(super) fn text(&self, name: &str, default: &str) -> String {
        self.node.attribute(name).map_or(default.to_owned(), |a| a.text.clone())
    }

    pub(super) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.node.attribute(name).map(|a| a.ints.clone())
    }

    /// A list of integers: an attribute in old versions, an operand in new ones. An operand must be known.
    pub(super) fn list(&self, name: &str, index: usize) -> Result<Option<Vec<i64>>, Fail> {
        match self.optional(index) {
            Some(id) => self.known(id).map(|data| Some(data.to_ints().to_vec())),
            None => Ok(self.ints(name)),
        }
    }

    /// The values of an operand that must be known while the file is read.
    pub(super) fn known(&self, id: Id) -> Result<Data, Fail> {
        let unknown =
            || Fail::Unsupported("an operand that gives shapes or places depends on the inputs".into());
        self.flow.data(id).cloned().ok_or_else(unknown)
    }

    /// The axis that an attribute names.
    pub(super) fn axis(&self, name: &str, default: i64, rank: usize) -> Result<usize, Fail> {
        axis(self.int(name, default), rank)
    }

    pub(super) fn push(&mut self, op: Op, inputs: &[Id]) -> Result<Id, Fail> {
        Ok(self.flow.push(op, inputs)?)
    }

    pub(super) fn unary(&mut self, function: Unary, x: Id) -> Result<Id, Fail> {
        self.push(Op::Unary(function), &[x])
    }

    pub(super) fn binary(&mut self, kind: Binary, x: Id, y: Id) -> Result<Id, Fail> {
        self.push(Op::Binary(kind), &[x, y])
    }

    /// A function of a value and a number.
    pub(super) fn with(&mut self, kind: Binary, x: Id, number: f32) -> Result<Id, Fail> {
        let number = self.flow.float(number);
        self.binary(kind, x, number)
    }

    pub(super) fn reshape(&mut self, x: Id, shape: Vec<usize>) -> Result<Id, Fail> {
        self.push(Op::Reshape(shape), &[x])
    }

    pub(super) fn permute(&mut self, x: Id, order: &[usize]) -> Result<Id, Fail> {
        self.push(Op::Permute(order.to_vec()), &[x])
    }

    pub(super) fn expand(&mut self, x: Id, shape: Vec<usize>) -> Result<Id, Fail> {
        self.push(Op::Expand(shape), &[x])
    }

    pub(super) fn slice(&mut self, x: Id, axis: usize, start: usize, len: usize) -> Result<Id, Fail> {
        self.push(Op::Slice { axis, start, len }, &[x])
    }

    pub(super) fn concat(&mut self, parts: &[Id], axis: usize) -> Result<Id, Fail> {
        self.push(Op::Concat { axis }, parts)
    }

    pub(super) fn reduce(&mut self, kind: Reduce, x: Id, axes: Vec<usize>) -> Result<Id, Fail> {
        self.push(Op::Reduce { kind, axes }, &[x])
    }

    /// Entries of `axis` at known places.
    pub(super) fn pick(&mut self, x: Id, axis: usize, places: Vec<i64>) -> Result<Id, Fail> {
        let places = self.flow.ints(places)?;
        self.push(Op::Gather { axis }, &[x, places])
    }

    /// A known float tensor.
    pub(super) fn floats(&mut self, shape: Vec<usize>, values: Vec<f32>) -> Result<Id, Fail> {
        let data = Data::Float(Arc::new(values));
        Ok(self.flow.constant(shape, super::Dtype::Float, data)?)
    }
}

/// An axis counted from either end.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, Fail> {
    let place = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let place = place.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < rank);
    place.ok_or_else(|| Fail::Wrong(format!("axis {axis} of {rank}")))
}

/// A size that must not be negative.
pub(super) fn size(value: i64) -> Result<usize, Fail> {
    usize::try_from(value).map_err(|_| Fail::Wrong(format!("a size of {value}")))
}
