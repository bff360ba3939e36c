//! Gradients of the model's loss by the outputs of layers.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::Targets;
use super::rows::{Sizes, outputs};
use crate::eval::differentiable::{between_outputs, released_divergence};
use crate::exec::reference::Reference;
use crate::exec::{Cancel, Engine, ExecError, NoTap, Quantization, Value};
use crate::graph::{Graph, NodeId, Op};
use crate::plan::{Plan, SitePlan};
use crate::quantizer::{Distribution, Family, RangeSearch, Scheme, quantizer};
use crate::session::{Session, SessionError};
use crate::terms::{Bits, Slot};

/// By layer and sample the picked rows, `[pieces, rows, columns]`.
pub(super) type Gradients = HashMap<NodeId, Vec<Vec<f32>>>;

/// By layer the picked rows of one sample.
type OfSample = HashMap<NodeId, Vec<f32>>;

impl Session {
    /// The gradient of the loss (that of the task, see [`output_loss`](crate::eval::output_loss), against full
    /// precision) by the outputs of the target layers, at the rows that are looked at.
    ///
    /// At full precision the loss is least and its gradient zero: PTQ4ViT and PTQ4RIS square the rounding of f32 there.
    /// Here the model that is differentiated has weights on symmetric min–max grids per output channel at the bits of
    /// the plan (8 where the plan leaves all in full precision), its activations are not quantized; and the gradients
    /// of every sample at a layer are brought to a mean square of 1. In the release they come as they are: then
    /// the few samples that the quantized model gets most wrong decide for all. A plan "as released" keeps point,
    /// loss and sizes of the release.
    ///
    /// As many samples as threads are worked on at a time, each with all its values; of a layer only the picked rows
    /// are kept, at most 1024 numbers per output channel for all samples together.
    pub(super) fn layer_gradients(
        &self,
        engine: &Engine,
        plan: &Plan,
        targets: &Targets,
        samples: &[Vec<Value>],
        cancel: &Cancel,
        step: &mut (dyn FnMut() + Send),
    ) -> Result<Gradients, SessionError> {
        let graph = &**engine.graph();
        let released = targets.released();
        let reference = Reference::new(graph, Device::Cpu, DType::F32);
        if !released {
            perturb(graph, plan, &reference)?;
        }
        let task = &self.model.task;
        let of_sample = |(at, inputs): (usize, &Vec<Value>)| -> Result<OfSample, ExecError> {
            let full = if released { Vec::new() } else { full_precision(engine, inputs, cancel)? };
            let loss = |found: &[(String, Tensor)]| {
                if released {
                    let fixed: Vec<_> = found.iter().map(|(name, t)| (name.clone(), t.detach())).collect();
                    return released_divergence(task, &fixed, found);
                }
                between_outputs(task, &full, found)
            };
            let mut kept = HashMap::new();
            reference.gradients(inputs, cancel, loss, |node, gradient| {
                if let Some(target) = targets.0.get(&node) {
                    let values = gradient.flatten_all()?.to_vec1::<f32>()?;
                    let picked = Sizes::of(graph, target).pick(at, samples.len());
                    kept.insert(node, outputs(graph, target, &values, &picked));
                }
                Ok(())
            })?;
            Ok(kept)
        };
        let mut gradients: Gradients = HashMap::new();
        let indexed: Vec<(usize, &Vec<Value>)> = samples.iter().enumerate().collect();
        for some in indexed.chunks(rayon::current_num_threads().max(1)) {
            let found = some.par_iter().map(|one| of_sample(*one)).collect::<Result<Vec<_>, _>>()?;
            for ((at, _), of_sample) in some.iter().zip(found) {
                for (node, mut rows) in of_sample {
                    if !released {
                        to_unit(&mut rows);
                    }
                    let of_layer = gradients.entry(node).or_insert_with(|| vec![Vec::new(); samples.len()]);
                    of_layer[*at] = rows;
                }
                step();
            }
        }
        Ok(gradients)
    }
}

/// Brings numbers to a mean square of 1; zeros stay.
fn to_unit(numbers: &mut [f32]) {
    let squares: f64 = numbers.iter().map(|x| f64::from(*x).powi(2)).sum();
    if squares > 0.0 {
        let factor = (numbers.len() as f64 / squares).sqrt();
        for x in numbers {
            *x = (f64::from(*x) * factor) as f32;
        }
    }
}

/// The outputs in full precision by name.
fn full_precision(
    engine: &Engine,
    inputs: &[Value],
    cancel: &Cancel,
) -> Result<Vec<(String, Tensor)>, ExecError> {
    let graph = engine.graph();
    let run = engine.run(inputs, &Quantization::none(graph), None, &mut NoTap, cancel)?;
    let tensor = |((name, _), value): (&(String, NodeId), Value)| {
        Ok((name.clone(), Tensor::from_slice(value.as_slice(), value.shape(), &Device::Cpu)?))
    };
    graph.outputs().iter().zip(run.outputs).map(tensor).collect()
}

/// Puts the weights that the plan quantizes on symmetric min–max grids per output channel.
fn perturb(graph: &Graph, plan: &Plan, reference: &Reference<'_>) -> Result<(), SessionError> {
    let weights = || graph.sites().iter().filter(|site| site.id.slot == Slot::Weight);
    let said = |site: &crate::graph::Site| match plan.site(&site.id) {
        Some(SitePlan::Quantized { bits, .. }) if !bits.is_float() => Some(*bits),
        _ => None,
    };
    let any = weights().any(|site| said(site).is_some());
    let scheme = Scheme::new(Family::Uniform, RangeSearch::MinMax).symmetric().per_channel();
    let uniform = quantizer(scheme.family);
    for site in weights() {
        let Some(bits) = said(site).or(if any { None } else { Some(Bits::EIGHT) }) else { continue };
        let (Op::Linear { weight, .. } | Op::Conv { weight, .. } | Op::ConvTranspose { weight, .. }) =
            &graph.node(site.node).op
        else {
            continue;
        };
        let mut values = graph.param(*weight).data.to_vec();
        let data = Distribution::Raw { values: &values, layout: site.layout };
        let params = uniform
            .fit(&data, &scheme, bits)
            .map_err(|source| SessionError::Fit { site: site.id.to_string(), source })?;
        uniform.fake_quantize(&mut values, site.layout, &params);
        reference.replace(*weight, &values)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::to_unit;

    #[test]
    fn samples_weigh_the_same_however_wrong_they_are() {
        let (mut small, mut large) = ([1e-9_f32, -3e-9, 0.0], [10.0, -30.0, 0.0]);
        to_unit(&mut small);
        to_unit(&mut large);
        for (a, b) in small.iter().zip(&large) {
            assert!((a - b).abs() < 1e-6, "{small:?} {large:?}");
        }
        assert!((large.iter().map(|x| x * x).sum::<f32>() - 3.0).abs() < 1e-5);
        let mut zeros = [0.0; 3];
        to_unit(&mut zeros);
        assert_eq!(zeros, [0.0; 3]);
    }
}
