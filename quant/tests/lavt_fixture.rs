//! The miniature LAVT recorded from the authors' code: every activation, by name, fused and reference kernels.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bitloupe_quant::exec::reference::Reference;
use bitloupe_quant::exec::{Cancel, Engine, NoTap, Quantization, Tap, Value};
use bitloupe_quant::graph::{Graph, NodeId, Op};
use bitloupe_quant::models::{Model, ModelFiles, open};
use candle_core::{DType, Device};
use safetensors::{Dtype, SafeTensors};

/// Ten times the gap between f32 and f64 that the fixture's README names for the logits.
const TOLERANCE: f32 = 1e-3;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lavt_one_tiny")
}

fn model() -> Model {
    open(&ModelFiles::Path(folder()), None).unwrap()
}

/// Tensors of a file as f32 (integers converted), with their shapes.
fn tensors(file: &str) -> HashMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(folder().join(file)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .filter_map(|(name, view)| {
            let data = match view.dtype() {
                Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                Dtype::I64 => {
                    view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect()
                }
                _ => return None, // masks stored as integers of other widths are compared by their logits
            };
            Some((name.to_owned(), (view.shape().to_vec(), data)))
        })
        .collect()
}

/// The inputs of sample `i`.
fn inputs(graph: &Graph, given: &HashMap<String, (Vec<usize>, Vec<f32>)>, i: usize) -> Vec<Value> {
    graph
        .inputs()
        .iter()
        .map(|&id| {
            let node = graph.node(id);
            let len: usize = node.shape.iter().product();
            Value::new(node.shape.clone(), given[&node.name].1[i * len..][..len].to_vec())
        })
        .collect()
}

/// Keeps everything.
struct Everything(HashMap<usize, Value>);

impl Tap for Everything {
    fn wants(&self, _: NodeId) -> bool {
        true
    }

    fn value(&mut self, node: NodeId, value: &Value) {
        self.0.insert(node.index(), value.clone());
    }
}

/// The node whose value a recorded activation is.
fn node_of(graph: &Graph, recorded: &str) -> NodeId {
    if let Some(path) = recorded.strip_prefix("attn.") {
        return graph.find(&format!("{path}.softmax")).unwrap_or_else(|| panic!("{recorded}"));
    }
    let path = recorded.strip_prefix("act.").unwrap();
    let (module, end) = path.rsplit_once('.').unwrap();
    let id = graph.find(module).unwrap_or_else(|| panic!("no node for {recorded}"));
    if end == "output" { id } else { graph.node(id).inputs[0] }
}

#[test]
fn every_recorded_activation_is_reproduced() {
    let model = model();
    let engine = Engine::new(model.graph.clone());
    let graph = &*model.graph;
    let given = tensors("inputs.safetensors");
    let expected = tensors("outputs.safetensors");
    let listed: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(folder().join("activations.json")).unwrap()).unwrap();
    let none = Quantization::none(graph);
    let mut runs = Vec::new();
    for i in 0..2 {
        let mut tap = Everything(HashMap::new());
        engine.run(&inputs(graph, &given, i), &none, None, &mut tap, &Cancel::default()).unwrap();
        runs.push(tap.0);
    }
    let (mut compared, mut worst, mut bad) = (0, 0.0_f32, Vec::new());
    for entry in &listed {
        let name = entry["name"].as_str().unwrap();
        let node = node_of(graph, name);
        let Some(tensor) = entry["tensor"].as_str() else { continue };
        let ours: Vec<f32> = runs.iter().flat_map(|run| run[&node.index()].as_slice().to_vec()).collect();
        let theirs = &expected[tensor].1;
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let gap = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        worst = worst.max(gap);
        compared += 1;
        if gap.is_nan() || gap > TOLERANCE {
            bad.push(format!("{name}: {gap:e}"));
        }
    }
    assert!(bad.is_empty(), "{} of {compared} differ:\n{}", bad.len(), bad.join("\n"));
    assert!(compared > 100, "only {compared} compared");
    println!("{compared} activations, largest difference {worst:e}");
}

#[test]
fn logits_are_reproduced() {
    let model = model();
    let engine = Engine::new(model.graph.clone());
    let (given, expected) = (tensors("inputs.safetensors"), tensors("outputs.safetensors"));
    let none = Quantization::none(&model.graph);
    let mut ours = Vec::new();
    for i in 0..2 {
        let run = engine
            .run(&inputs(&model.graph, &given, i), &none, None, &mut NoTap, &Cancel::default())
            .unwrap();
        ours.extend_from_slice(run.outputs[0].as_slice());
    }
    let theirs = &expected["out.logits"].1;
    assert_eq!(ours.len(), theirs.len());
    let gap = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(gap <= TOLERANCE, "{gap:e}");
}

/// The f64 reference shows how far f32 kernels may be off; fused kernels stay within ten times the f32 gap.
#[test]
fn fused_kernels_agree_with_the_reference() {
    let model = model();
    let engine = Engine::new(model.graph.clone());
    let given = inputs(&model.graph, &tensors("inputs.safetensors"), 0);
    let mut tap = Everything(HashMap::new());
    engine.run(&given, &Quantization::none(&model.graph), None, &mut tap, &Cancel::default()).unwrap();
    let exact = Reference::new(&model.graph, Device::Cpu, DType::F64).run(&given).unwrap();
    for (index, node) in model.graph.nodes().iter().enumerate() {
        if matches!(node.op, Op::Input | Op::Constant(_)) {
            continue;
        }
        let theirs: Vec<f64> = exact[index].flatten_all().unwrap().to_vec1().unwrap();
        let ours = tap.0[&index].as_slice();
        let scale = theirs.iter().fold(1.0_f64, |m, x| m.max(x.abs()));
        let gap = ours.iter().zip(&theirs).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(
            gap <= f64::from(TOLERANCE) * scale,
            "{} ({}): {gap:e} of {scale}",
            node.name,
            node.op.kind()
        );
    }
}
