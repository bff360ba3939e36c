//! Recognises what exporters take apart: normalisations, activations, linear layers with their bias, scaled attention.
//!
//! A pattern is found from its last step backwards; that step becomes the whole, the others are left to nobody.

mod activation;
mod attention;
mod constants;
mod fourier;
mod linear;
mod norm;

use super::flow::{Binary, Flow, Function, Id, Op, Unary};

/// Rewrites a flow into the operations that layers are made of.
pub(super) fn simplify(flow: &mut Flow) -> Result<(), String> {
    linear::merge_scales(flow);
    linear::merge_biases(flow)?;
    constants::fold_products(flow)?;
    fourier::spell_out(flow)?;
    norm::layer_norms(flow);
    norm::batch_norms(flow)?;
    activation::find(flow);
    attention::fold_scales(flow);
    attention::unswap_keys(flow);
    Ok(())
}

/// Questions about the steps before one.
impl Flow {
    pub(super) fn binary(&self, id: Id, kind: Binary) -> Option<(Id, Id)> {
        match (&self.step(id).op, self.step(id).inputs.as_slice()) {
            (Op::Binary(found), &[x, y]) if *found == kind => Some((x, y)),
            _ => None,
        }
    }

    pub(super) fn function(&self, id: Id, function: Function) -> Option<Id> {
        match &self.step(id).op {
            Op::Unary(Unary::Function(found)) if *found == function => self.step(id).inputs.first().copied(),
            _ => None,
        }
    }

    /// A commutative operation with a constant: the other operand and the constant.
    pub(super) fn with_constant(&self, id: Id, kind: Binary) -> Option<(Id, Id)> {
        let (x, y) = self.binary(id, kind)?;
        match (self.data(x).is_some(), self.data(y).is_some()) {
            (false, true) => Some((x, y)),
            (true, false) => Some((y, x)),
            _ => None,
        }
    }

    /// A value times a number that keeps its shape: `x · c`, `c · x` or `x / c`.
    pub(super) fn scaled(&self, id: Id) -> Option<(Id, f32)> {
        let (x, factor) = if let Some((x, c)) = self.with_constant(id, Binary::Mul) {
            (x, self.scalar(c)?)
        } else {
            let (x, c) = self.binary(id, Binary::Div)?;
            (x, 1.0 / self.scalar(c).filter(|_| self.data(x).is_none())?)
        };
        (self.shape(x) == self.shape(id)).then_some((x, factor))
    }

    /// A value plus a number that keeps its shape.
    pub(super) fn shifted(&self, id: Id) -> Option<(Id, f32)> {
        let (x, c) = self.with_constant(id, Binary::Add)?;
        let c = self.scalar(c)?;
        (self.shape(x) == self.shape(id)).then_some((x, c))
    }

    /// Puts another operation in the place of a step.
    pub(super) fn become_step(&mut self, id: Id, op: Op, inputs: Vec<Id>) {
        let step = &mut self.steps[id.0];
        step.op = op;
        step.inputs = inputs;
    }
}
