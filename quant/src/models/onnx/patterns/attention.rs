//! Scaled attention: factors of query, key and scores become the factor of their product, and a key that was turned
//! for the product is turned back.

use super::super::flow::{Flow, Id, Op};

/// Moves factors before and after a product of two values into it.
pub(super) fn fold_scales(flow: &mut Flow) {
    let (mut uses, needed) = (flow.uses(), flow.needed());
    for index in (0..flow.steps.len()).filter(|&index| needed[index]) {
        let id = Id(index);
        if let Op::MatMul { .. } = flow.step(id).op {
            let operands = flow.step(id).inputs.len();
            let mut factor = 1.0;
            for operand in 0..operands {
                while let Some(by) = lift(flow, id, operand, &mut uses) {
                    factor *= by;
                }
            }
            if let Op::MatMul { alpha, .. } = &mut flow.steps[index].op {
                *alpha *= factor;
            }
        }
        // The product itself times a number.
        if let Some((product, by)) = flow.scaled(id)
            && uses[product.0] == 1
            && let Op::MatMul { transpose_rhs, alpha } = flow.step(product).op
        {
            let step = flow.step(product).clone();
            flow.become_step(id, Op::MatMul { transpose_rhs, alpha: alpha * by }, step.inputs);
            flow.steps[index].name = step.name;
            flow.steps[index].scope = step.scope;
        }
    }
}

/// Takes one factor out of an operand of a product, through steps that only move values; the factor, if there is one.
fn lift(flow: &mut Flow, product: Id, operand: usize, uses: &mut [u32]) -> Option<f32> {
    // The step that uses what is looked at.
    let mut user = (product, operand);
    let mut at = flow.step(product).inputs[operand];
    loop {
        if uses[at.0] != 1 {
            return None;
        }
        if let Some((x, by)) = flow.scaled(at) {
            flow.steps[user.0.0].inputs[user.1] = x;
            uses[at.0] = 0;
            return Some(by);
        }
        let step = flow.step(at);
        if !matches!(step.op, Op::Reshape(_) | Op::Permute(_) | Op::Expand(_)) {
            return None;
        }
        user = (at, 0);
        at = *step.inputs.first()?;
    }
}

/// `a · permute(b)` becomes `a · bᵀ` where that leaves the channels of `b` last.
pub(super) fn unswap_keys(flow: &mut Flow) {
    let (uses, needed) = (flow.uses(), flow.needed());
    for index in (0..flow.steps.len()).filter(|&index| needed[index]) {
        let step = &flow.steps[index];
        let (Op::MatMul { transpose_rhs: false, alpha }, &[x, key]) = (&step.op, step.inputs.as_slice())
        else {
            continue;
        };
        let alpha = *alpha;
        let Op::Permute(order) = &flow.step(key).op else { continue };
        let mut order = order.clone();
        let rank = order.len();
        order.swap(rank - 1, rank - 2);
        if order[rank - 1] != rank - 1 {
            continue;
        }
        let op = Op::MatMul { transpose_rhs: true, alpha };
        if order.iter().enumerate().all(|(i, &axis)| i == axis) {
            let source = flow.step(key).inputs[0];
            flow.become_step(Id(index), op, vec![x, source]);
        } else if uses[key.0] == 1 {
            let key_step = &mut flow.steps[key.0];
            key_step.shape.swap(rank - 1, rank - 2);
            key_step.op = Op::Permute(order);
            flow.become_step(Id(index), op, vec![x, key]);
        }
    }
}
