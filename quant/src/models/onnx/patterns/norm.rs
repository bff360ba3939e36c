//! Layer normalisation taken apart, and the frozen batch normalisation of detection backbones.

use super::super::flow::{Binary, Flow, Function, Id, Op, Reduce};
use super::super::tensor::{Data, Dtype};

/// `(x − mean) / √(mean of squares + ε) · gain + shift` over the last axis.
pub(super) fn layer_norms(flow: &mut Flow) {
    let count = flow.steps.len();
    for index in 0..count {
        let id = Id(index);
        let Some((scaled, shift)) = flow.with_constant(id, Binary::Add) else { continue };
        let Some((normal, gain)) = flow.with_constant(scaled, Binary::Mul) else { continue };
        let Some((x, eps)) = normalised(flow, normal) else { continue };
        let width = flow.shape(x).last().copied().unwrap_or(0);
        if flow.shape(gain) == [width] && flow.shape(shift) == [width] {
            flow.become_step(id, Op::LayerNorm { eps }, vec![x, gain, shift]);
        }
    }
    // What is still used without gain and shift has a gain of 1.
    let needed = flow.needed();
    for (index, _) in needed.iter().enumerate().filter(|(_, needed)| **needed) {
        let id = Id(index);
        let Some((x, eps)) = normalised(flow, id) else { continue };
        let width = flow.shape(x).last().copied().unwrap_or(0);
        flow.name = std::sync::Arc::clone(&flow.step(id).name);
        let (Ok(gain), Ok(shift)) = (filled(flow, width, 1.0), filled(flow, width, 0.0)) else { continue };
        flow.become_step(id, Op::LayerNorm { eps }, vec![x, gain, shift]);
    }
}

fn filled(flow: &mut Flow, len: usize, value: f32) -> Result<Id, String> {
    flow.reserve(&[len])?;
    let name = std::sync::Arc::clone(&flow.name);
    Ok(flow.named_constant(name, vec![len], Dtype::Float, Data::floats(vec![value; len])))
}

/// The operand and ε of `(x − mean) / √(variance + ε)`.
fn normalised(flow: &Flow, id: Id) -> Option<(Id, f32)> {
    let inverted = || {
        let (x, y) = flow.binary(id, Binary::Mul)?;
        match (flow.function(x, Function::Reciprocal), flow.function(y, Function::Reciprocal)) {
            (_, Some(deviation)) => Some((x, deviation)),
            (Some(deviation), _) => Some((y, deviation)),
            _ => None,
        }
    };
    let (centred, deviation) = flow.binary(id, Binary::Div).or_else(inverted)?;
    let (variance, eps) = flow.shifted(flow.function(deviation, Function::Sqrt)?)?;
    let squares = mean(flow, variance)?;
    let (a, b) = flow.binary(squares, Binary::Mul)?;
    let x = without_mean(flow, centred)?;
    let same = a == b && without_mean(flow, a)? == x;
    same.then_some((x, eps))
}

/// The operand of `x − mean(x)`.
fn without_mean(flow: &Flow, id: Id) -> Option<Id> {
    let (x, average) = flow.binary(id, Binary::Sub)?;
    (mean(flow, average)? == x).then_some(x)
}

/// The operand of a mean over the last axis.
fn mean(flow: &Flow, id: Id) -> Option<Id> {
    let step = flow.step(id);
    let x = *step.inputs.first()?;
    let last = flow.shape(x).len().checked_sub(1)?;
    match &step.op {
        Op::Reduce { kind: Reduce::Mean, axes } if *axes == [last] => Some(x),
        _ => None,
    }
}

/// A convolution followed by a factor and a summand per channel, `[1, C, 1, 1]`.
pub(super) fn batch_norms(flow: &mut Flow) -> Result<(), String> {
    for index in 0..flow.steps.len() {
        let id = Id(index);
        let Some((scaled, shift)) = flow.with_constant(id, Binary::Add) else { continue };
        let Some((x, gain)) = flow.with_constant(scaled, Binary::Mul) else { continue };
        if !matches!(flow.step(x).op, Op::Conv(_)) {
            continue;
        }
        let mut channels = vec![1; flow.shape(x).len()];
        channels[1] = flow.shape(x)[1];
        let per_channel = |id: Id| {
            let shape = flow.shape(id);
            shape == channels || shape == &channels[1..]
        };
        if !per_channel(gain) || !per_channel(shift) {
            continue;
        }
        let width = channels[1];
        flow.name = std::sync::Arc::clone(&flow.step(gain).name);
        let gain = flow.push(Op::Reshape(vec![width]), &[gain])?;
        let shift = flow.push(Op::Reshape(vec![width]), &[shift])?;
        let (mean, variance) = (filled(flow, width, 0.0)?, filled(flow, width, 1.0)?);
        flow.become_step(id, Op::BatchNorm { eps: 0.0 }, vec![x, gain, shift, mean, variance]);
    }
    Ok(())
}
