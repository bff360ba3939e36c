//! Products of tables.

use super::super::flow::{Flow, Id, Op};

/// Computes what depends on no input. A Linear with a bias stays: a module applied to a table (the first attention of
/// a detector's decoder) is a layer of the model. One without is arithmetic (positions times frequencies).
pub(super) fn fold_products(flow: &mut Flow) -> Result<(), String> {
    for index in 0..flow.steps.len() {
        let step = &flow.steps[index];
        if matches!(step.op, Op::Input | Op::Constant(_))
            || (matches!(step.op, Op::Linear) && step.inputs.len() > 2)
        {
            continue;
        }
        if !step.inputs.iter().all(|&input| flow.data(input).is_some()) {
            continue;
        }
        let step = step.clone();
        if let Some(data) = flow.evaluate(&step)? {
            flow.become_step(Id(index), Op::Constant(data), vec![]);
        }
    }
    Ok(())
}
