//! Derivatives of each task's loss by the outputs of layers, on miniatures, against finite differences in f64.

use bitloupe_quant::eval::differentiable::between_outputs;
use bitloupe_quant::exec::reference::Reference;
use bitloupe_quant::exec::{Cancel, Value};
use bitloupe_quant::graph::{Graph, NodeId};
use bitloupe_quant::quantizer::{Distribution, Family, RangeSearch, Scheme, quantizer};
use bitloupe_quant::terms::{Bits, Slot};
use candle_core::{DType, Device, Tensor};

use crate::fixture::Fixture;

/// Layers that are compared, evenly spread.
const COMPARED: usize = 6;

fn named(graph: &Graph, values: &[Tensor]) -> Vec<(String, Tensor)> {
    graph.outputs().iter().map(|(name, id)| (name.clone(), values[id.index()].clone())).collect()
}

/// The model with its weights on grids of 4 bits.
fn perturbed(graph: &Graph) -> Reference<'_> {
    let reference = Reference::new(graph, Device::Cpu, DType::F64);
    let scheme = Scheme::new(Family::Uniform, RangeSearch::MinMax).symmetric().per_channel();
    for site in graph.sites().iter().filter(|site| site.id.slot == Slot::Weight) {
        let weight = graph.node(site.node).op.params()[0];
        let mut values = graph.param(weight).data.to_vec();
        let data = Distribution::Raw { values: &values, layout: site.layout };
        let params = quantizer(scheme.family).fit(&data, &scheme, Bits::new(4).unwrap()).unwrap();
        quantizer(scheme.family).fake_quantize(&mut values, site.layout, &params);
        reference.replace(weight, &values).unwrap();
    }
    reference
}

/// The values of all nodes if `more` is added to that of one.
fn bumped(
    reference: &Reference<'_>,
    graph: &Graph,
    values: &[Tensor],
    at: NodeId,
    more: &Tensor,
) -> Vec<Tensor> {
    let mut values = values.to_vec();
    values[at.index()] = (&values[at.index()] + more).unwrap();
    for (index, node) in graph.nodes().iter().enumerate().skip(at.index() + 1) {
        if !node.inputs.is_empty() {
            let operands: Vec<&Tensor> = node.inputs.iter().map(|id| &values[id.index()]).collect();
            values[index] = reference.node(node, &operands).unwrap();
        }
    }
    values
}

fn compare(name: &str, given: &[(&str, &str)]) {
    let run = Fixture::open(name).run(given);
    let (graph, task) = (&*run.model.graph, &run.model.task);
    let inputs: &[Value] = &run.inputs[0];
    let full = named(graph, &Reference::new(graph, Device::Cpu, DType::F64).run(inputs).unwrap());
    let reference = perturbed(graph);
    let mut found: Vec<(NodeId, Tensor)> = Vec::new();
    let loss = reference
        .gradients(
            inputs,
            &Cancel::default(),
            |outputs| between_outputs(task, &full, outputs),
            |node, g| {
                found.push((node, g.clone()));
                Ok(())
            },
        )
        .unwrap();
    assert!(loss > 0.0, "{name}: {loss}");
    // What the loss does not depend on (scores beside masks) is left out.
    assert!(found.len() * 2 > graph.layers().len(), "{name}: {} of {}", found.len(), graph.layers().len());
    let values = reference.run(inputs).unwrap();
    for at in 0..COMPARED {
        let (node, gradient) = &found[at * (found.len() - 1) / (COMPARED - 1)];
        let gradient: Vec<f64> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        // Along signs of the derivative with gaps in a pattern: no cancelling, and still not all of it.
        let along: Vec<f64> =
            gradient.iter().enumerate().map(|(i, g)| g.signum() * (i as f64 * 1.3).sin().abs()).collect();
        let ours: f64 = gradient.iter().zip(&along).map(|(g, d)| g * d).sum();
        let shape = values[node.index()].shape().clone();
        let along = Tensor::from_vec(along, shape, &Device::Cpu).unwrap();
        let step = 1e-6;
        let [up, down] = [step, -step].map(|by| {
            let more = along.affine(by, 0.0).unwrap();
            let outputs = named(graph, &bumped(&reference, graph, &values, *node, &more));
            between_outputs(task, &full, &outputs).unwrap().to_scalar::<f64>().unwrap()
        });
        let expected = (up - down) / (2.0 * step);
        let gap = (ours - expected).abs();
        assert!(gap <= 1e-4 * ours.abs(), "{name} {}: {ours:e}, {expected:e}", graph.node(*node).name);
    }
}

const IMAGE: (&str, &str) = ("pixel_values", "pixel_values");
const IDS: (&str, &str) = ("input_ids", "input_ids");
const MASK: (&str, &str) = ("attention_mask", "attention_mask");

#[test]
fn of_masks() {
    compare("lavt_one_tiny", &[IMAGE, IDS, MASK]);
    compare("clipseg_tiny", &[IMAGE, IDS, MASK]);
    for sam in ["sam_tiny", "mobile_sam_tiny"] {
        compare(sam, &[IMAGE, ("input_points", "input_points"), ("input_labels", "input_labels")]);
    }
}

#[test]
fn of_classes_boxes_and_embeddings() {
    compare("deit_dist_tiny_hf", &[IMAGE]);
    compare("swin_tiny_hf", &[IMAGE]);
    compare("bert_tiny_hf", &[IDS, MASK, ("token_type_ids", "token_type_ids")]);
    compare("detr_tiny_hf", &[IMAGE, ("pixel_mask", "pixel_mask")]);
}
