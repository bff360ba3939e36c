//! Fourier features: places times fixed frequencies, then sines and cosines.

use super::super::flow::{Binary, Flow, Function, Id, Op, Unary};

/// More coordinates than this are no place in a picture.
const MAX_COORDINATES: usize = 4;

/// The product of places and frequencies is arithmetic, not a layer: it becomes a sum of products with each row.
pub(super) fn spell_out(flow: &mut Flow) -> Result<(), String> {
    let count = flow.steps.len();
    let mut users: Vec<Vec<Id>> = vec![vec![]; count];
    let needed = flow.needed();
    for (index, step) in flow.steps.iter().enumerate().filter(|(index, _)| needed[*index]) {
        for id in &step.inputs {
            users[id.0].push(Id(index));
        }
    }
    let turns = |flow: &Flow, id: Id| {
        let sine = |user: &Id| {
            let op = &flow.step(*user).op;
            matches!(op, Op::Unary(Unary::Function(Function::Sin | Function::Cos)))
        };
        !users[id.0].is_empty() && users[id.0].iter().all(sine)
    };
    let mut found = Vec::new();
    for (index, users_here) in users.iter().enumerate() {
        let id = Id(index);
        let (Op::Linear, &[x, frequencies]) = (&flow.step(id).op, flow.step(id).inputs.as_slice()) else {
            continue;
        };
        let next = match users_here.as_slice() {
            &[user] if flow.scaled(user).is_some() => user,
            _ => id,
        };
        if turns(flow, next) && flow.shape(frequencies)[1] <= MAX_COORDINATES {
            found.push((id, x, frequencies));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    rebuild(flow, &found)
}

/// Steps are in execution order, so new ones in between mean new numbers.
fn rebuild(flow: &mut Flow, found: &[(Id, Id, Id)]) -> Result<(), String> {
    let steps = std::mem::take(&mut flow.steps);
    let codes = std::mem::take(&mut flow.codes);
    // Constants may stand behind their users; they come first now.
    let mut new: Vec<Option<Id>> = vec![None; steps.len()];
    for (index, step) in steps.iter().enumerate().filter(|(_, step)| matches!(step.op, Op::Constant(_))) {
        new[index] = Some(Id(flow.steps.len()));
        flow.steps.push(step.clone());
    }
    for (index, mut step) in steps.into_iter().enumerate() {
        if new[index].is_some() {
            continue;
        }
        let moved = |id: Id| new[id.0].ok_or_else(|| "a value is used before it is made".to_owned());
        if let Some(&(_, x, frequencies)) = found.iter().find(|(id, ..)| id.0 == index) {
            let (x, frequencies) = (moved(x)?, moved(frequencies)?);
            flow.name = step.name;
            flow.scope = step.scope;
            let axis = flow.shape(x).len() - 1;
            let width = flow.shape(frequencies)[0];
            let mut sum = None;
            for coordinate in 0..flow.shape(frequencies)[1] {
                let place = flow.push(Op::Slice { axis, start: coordinate, len: 1 }, &[x])?;
                let row = flow.push(Op::Slice { axis: 1, start: coordinate, len: 1 }, &[frequencies])?;
                let row = flow.push(Op::Reshape(vec![width]), &[row])?;
                let product = flow.push(Op::Binary(Binary::Mul), &[place, row])?;
                sum = Some(match sum {
                    None => product,
                    Some(sum) => flow.push(Op::Binary(Binary::Add), &[sum, product])?,
                });
            }
            new[index] = sum;
            continue;
        }
        for input in &mut step.inputs {
            *input = moved(*input)?;
        }
        new[index] = Some(Id(flow.steps.len()));
        flow.steps.push(step);
    }
    for (_, id) in &mut flow.outputs {
        *id = new[id.0].ok_or("an output is not made")?;
    }
    flow.codes = codes.into_iter().filter_map(|(id, code)| Some((new[id.0]?, code))).collect();
    Ok(())
}
