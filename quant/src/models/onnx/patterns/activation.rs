//! GELU in its forms, and the products of a value with its own sigmoid.

use super::super::flow::{Binary, Flow, Function, Id, Op, Unary};
use crate::exec::kernels::activation::Activation;

/// How far a factor in a file may be from the exact one.
const NEAR: f32 = 1e-3;

/// Replaces the last product of every activation that was taken apart.
pub(super) fn find(flow: &mut Flow) {
    let uses = flow.uses();
    for index in 0..flow.steps.len() {
        let id = Id(index);
        if flow.binary(id, Binary::Mul).is_none() && flow.binary(id, Binary::Div).is_none() {
            continue;
        }
        let product = Product::of(flow, id, &uses);
        let found = gelu(flow, &product, &uses).or_else(|| gated(flow, &product, &uses));
        if let Some((x, act)) = found {
            flow.become_step(id, Op::Unary(Unary::Activation(act)), vec![x]);
        }
    }
}

/// A product of values and one number.
struct Product {
    factor: f32,
    values: Vec<Id>,
}

impl Product {
    /// The factors of a product, those of inner products that nobody else uses among them.
    fn of(flow: &Flow, id: Id, uses: &[u32]) -> Self {
        let mut product = Self { factor: 1.0, values: Vec::new() };
        product.add(flow, id, uses, true, 0);
        product
    }

    fn add(&mut self, flow: &Flow, id: Id, uses: &[u32], open: bool, depth: usize) {
        if let Some(number) = flow.scalar(id) {
            self.factor *= number;
            return;
        }
        if (open || uses[id.0] == 1) && depth < 6 {
            if let Some((x, y)) = flow.binary(id, Binary::Mul) {
                self.add(flow, x, uses, false, depth + 1);
                self.add(flow, y, uses, false, depth + 1);
                return;
            }
            if let Some((x, y)) = flow.binary(id, Binary::Div)
                && let Some(number) = flow.scalar(y)
            {
                self.factor /= number;
                self.add(flow, x, uses, false, depth + 1);
                return;
            }
        }
        self.values.push(id);
    }

    fn is(&self, factor: f32, value: Id) -> bool {
        near(self.factor, factor) && self.values == [value]
    }
}

fn near(x: f32, y: f32) -> bool {
    (x - y).abs() <= NEAR * y.abs()
}

/// `x/2 · (1 + erf(x/√2))` and `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`.
fn gelu(flow: &Flow, product: &Product, uses: &[u32]) -> Option<(Id, Activation)> {
    let &[a, b] = product.values.as_slice() else { return None };
    if !near(product.factor, 0.5) {
        return None;
    }
    for (x, rest) in [(a, b), (b, a)] {
        let Some((inner, 1.0)) = flow.shifted(rest) else { continue };
        if let Some(u) = flow.function(inner, Function::Erf)
            && Product::of(flow, u, uses).is(std::f32::consts::FRAC_1_SQRT_2, x)
        {
            return Some((x, Activation::Gelu));
        }
        if let Op::Unary(Unary::Activation(Activation::Tanh)) = flow.step(inner).op
            && let Some(&v) = flow.step(inner).inputs.first()
            && tanh_argument(flow, v, x, uses)
        {
            return Some((x, Activation::GeluTanh));
        }
    }
    None
}

/// Whether `v` is `√(2/π) · (x + 0.044715 x³)`, in this form or as `√(2/π) · x · (1 + 0.044715 x²)`.
fn tanh_argument(flow: &Flow, v: Id, x: Id, uses: &[u32]) -> bool {
    const CUBIC: f32 = 0.044_715;
    let outer = Product::of(flow, v, uses);
    if !near(outer.factor, 0.797_884_6) {
        return false;
    }
    // Powers of x, of which some may be used twice and so stay whole.
    let power = |id: Id, factor: f32| -> Option<usize> {
        let mut count = 0;
        let product = Product::of(flow, id, uses);
        let mut open = product.values;
        while let Some(value) = open.pop() {
            if value == x {
                count += 1;
            } else {
                let (a, b) = flow.binary(value, Binary::Mul)?;
                open.extend([a, b]);
            }
            if count + open.len() > 8 {
                return None;
            }
        }
        near(product.factor, factor).then_some(count)
    };
    match *outer.values.as_slice() {
        [sum] => flow.binary(sum, Binary::Add).is_some_and(|(a, b)| {
            (a == x && power(b, CUBIC) == Some(3)) || (b == x && power(a, CUBIC) == Some(3))
        }),
        [a, b] => [(a, b), (b, a)].into_iter().any(|(value, sum)| {
            value == x && flow.shifted(sum).is_some_and(|(y, one)| one == 1.0 && power(y, CUBIC) == Some(2))
        }),
        _ => false,
    }
}

/// `x · sigmoid(x)` and `x · sigmoid(1.702 x)`.
fn gated(flow: &Flow, product: &Product, uses: &[u32]) -> Option<(Id, Activation)> {
    let &[a, b] = product.values.as_slice() else { return None };
    if product.factor != 1.0 {
        return None;
    }
    for (x, gate) in [(a, b), (b, a)] {
        let step = flow.step(gate);
        let (Op::Unary(Unary::Activation(Activation::Sigmoid)), [u]) = (&step.op, step.inputs.as_slice())
        else {
            continue;
        };
        if *u == x {
            return Some((x, Activation::Silu));
        }
        if Product::of(flow, *u, uses).is(1.702, x) {
            return Some((x, Activation::QuickGelu));
        }
    }
    None
}
