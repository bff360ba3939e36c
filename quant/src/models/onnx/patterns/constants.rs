//! Products of tables.

use super::super::flow::{Binary, Flow, Id, Op};

/// Computes what depends on no input. A Linear with a bias stays: a module applied to a table (the first attention of
/// a detector's decoder) is a layer of the model. One without is arithmetic (positions times frequencies).
pub(super) fn fold_products(flow: &mut Flow) -> Result<(), String> {
    keep_sums(flow);
    for index in 0..flow.steps.len() {
        let step = &flow.steps[index];
        if matches!(step.op, Op::Input | Op::Constant(_))
            || (matches!(step.op, Op::Linear) && step.inputs.len() > 2)
        {
            continue;
        }
        if flow.kept.contains(&Id(index)) || !step.inputs.iter().all(|&input| flow.data(input).is_some()) {
            continue;
        }
        let step = step.clone();
        if let Some(data) = flow.evaluate(&step)? {
            flow.become_step(Id(index), Op::Constant(data), vec![]);
        }
    }
    Ok(())
}

/// The operand of such a layer that is a sum of tables (what a decoder starts with, plus positions) stays a sum: that is
/// what the layer sees in the model.
fn keep_sums(flow: &mut Flow) {
    let needed = flow.needed();
    for index in (0..flow.steps.len()).filter(|&index| needed[index]) {
        let step = &flow.steps[index];
        let (Op::Linear, &[operand, _, _]) = (&step.op, step.inputs.as_slice()) else { continue };
        let sum = flow.sums.get(&operand).copied().filter(|_| flow.data(operand).is_some());
        if let Some(sum) = sum.filter(|sum| sum.iter().all(|&table| flow.shape(table).len() > 1)) {
            flow.become_step(operand, Op::Binary(Binary::Add), sum.to_vec());
            flow.kept.insert(operand);
        }
    }
}
