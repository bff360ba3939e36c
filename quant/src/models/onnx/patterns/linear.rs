//! Layers with their bias, and the scales of integer products, which belong to the weight.

use std::sync::Arc;

use super::super::flow::{Binary, Flow, Id, Op};
use super::super::tensor::{Data, Dtype};

/// A Linear or convolution without bias, and the number of its outputs.
fn bare(flow: &Flow, id: Id) -> Option<usize> {
    let step = flow.step(id);
    match (&step.op, step.inputs.as_slice()) {
        (Op::Linear | Op::Conv(_), &[_, w]) => flow.shape(w).first().copied(),
        (Op::ConvTranspose(_), &[_, w]) => flow.shape(w).get(1).copied(),
        _ => None,
    }
}

/// Whether a constant holds one value per output of a layer (or one for all), so that it keeps the layer's shape.
fn per_output(flow: &Flow, layer: Id, constant: Id, outputs: usize) -> bool {
    let shape = flow.shape(constant);
    let rank = flow.shape(layer).len();
    if shape.len() > rank {
        return false;
    }
    let axis = if matches!(flow.step(layer).op, Op::Linear) { rank - 1 } else { 1 };
    let lead = rank - shape.len();
    shape.iter().enumerate().all(|(i, &n)| n == 1 || (i + lead == axis && n == outputs))
}

/// One value per output.
fn vector(flow: &Flow, constant: Id, outputs: usize) -> Option<Vec<f32>> {
    let values = flow.data(constant)?.to_floats();
    match values.len() {
        1 => Some(vec![values[0]; outputs]),
        n if n == outputs => Some(values.to_vec()),
        _ => None,
    }
}

/// `layer(x) + b` becomes the layer with bias `b`.
pub(super) fn merge_biases(flow: &mut Flow) -> Result<(), String> {
    let uses = flow.uses();
    for index in 0..flow.steps.len() {
        let id = Id(index);
        let Some((x, y)) = flow.binary(id, Binary::Add) else { continue };
        for (layer, bias) in [(x, y), (y, x)] {
            let Some(outputs) = bare(flow, layer) else { continue };
            let fits = uses[layer.0] == 1
                && flow.data(bias).is_some()
                && flow.shape(layer) == flow.shape(id)
                && per_output(flow, layer, bias, outputs);
            if !fits {
                continue;
            }
            let Some(values) = vector(flow, bias, outputs) else { continue };
            flow.reserve(&[outputs])?;
            let name = Arc::clone(&flow.step(bias).name);
            let bias = flow.named_constant(name, vec![outputs], Dtype::Float, Data::floats(values));
            let step = flow.step(layer).clone();
            let mut inputs = step.inputs;
            inputs.push(bias);
            flow.become_step(id, step.op, inputs);
            // The node of the product says more about the module than that of the sum.
            flow.steps[index].name = step.name;
            flow.steps[index].scope = step.scope.or(flow.steps[index].scope.take());
            break;
        }
    }
    Ok(())
}

/// `layer(x) · s` with a weight of integers becomes the layer with weight `w · s`.
pub(super) fn merge_scales(flow: &mut Flow) {
    let uses = flow.uses();
    for index in 0..flow.steps.len() {
        let id = Id(index);
        let Some((layer, scale)) = flow.with_constant(id, Binary::Mul) else { continue };
        let Some(outputs) = bare(flow, layer) else { continue };
        let weight = flow.step(layer).inputs[1];
        let open = flow.codes.get(&weight).filter(|code| code.scale.is_empty()).cloned();
        let Some(mut code) = open.filter(|_| uses[layer.0] == 1) else { continue };
        if !per_output(flow, layer, scale, outputs) || matches!(flow.step(layer).op, Op::ConvTranspose(_)) {
            continue;
        }
        let (Some(data), Some(factors)) =
            (flow.data(weight).map(Data::to_floats), vector(flow, scale, outputs))
        else {
            continue;
        };
        let row = data.len() / outputs.max(1);
        let scaled = data.iter().enumerate().map(|(i, w)| w * factors[i / row.max(1)]).collect();
        let (name, shape) = (Arc::clone(&flow.step(weight).name), flow.shape(weight).to_vec());
        let weight = flow.named_constant(name, shape, Dtype::Float, Data::floats(scaled));
        code.axis = (flow.data(scale).map_or(0, Data::len) > 1).then_some(0);
        code.scale = if code.axis.is_some() { factors } else { factors[..1].to_vec() };
        flow.codes.insert(weight, code);
        let step = flow.step(layer).clone();
        flow.become_step(id, step.op, vec![step.inputs[0], weight]);
        flow.steps[index].name = step.name;
    }
}
