//! The standard's own tests of single operators, where they are at hand: `ONNX_NODE_TESTS` is a folder of folders with
//! `model.onnx`, `input_0.pb`… and `output_0.pb`…

use std::path::Path;
use std::sync::Arc;

use super::proto::Tensor;
use super::*;
use crate::exec::{Cancel, Engine, NoTap, Quantization, Value};

fn tensor(path: &Path) -> Option<(String, Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(path).ok()?;
    // A file of one tensor is a graph of one initializer without its frame.
    let tensor: Tensor<'_> = proto::single_tensor(&bytes).unwrap();
    let (shape, _, data) = Files::default().tensor(&tensor).ok()?;
    Some((tensor.name.clone(), shape, data.to_floats().to_vec()))
}

/// What became of one test.
fn check(folder: &Path) -> Result<(), String> {
    let bytes = std::fs::read(folder.join("model.onnx")).unwrap();
    let model = read("model.onnx", &bytes, folder, (&InputShapes::default(), Usual::default()), Some(1))
        .map_err(|e| e.to_string())?;
    if let Some(node) = model.unsupported.first() {
        return Err(format!("unsupported: {}", node.reason));
    }
    let engine = Engine::new(Arc::new(model.graph));
    let graph = engine.graph();
    let given: Vec<_> = (0..).map_while(|i| tensor(&folder.join(format!("input_{i}.pb")))).collect();
    let fits = |id: &crate::graph::NodeId| {
        let node = graph.node(*id);
        given.iter().any(|(name, shape, _)| *name == node.name && *shape == node.shape)
    };
    if !graph.inputs().iter().all(fits) {
        return Err("unsupported: inputs without values".into());
    }
    let inputs: Vec<Value> = graph
        .inputs()
        .iter()
        .map(|&id| {
            let node = graph.node(id);
            let (_, _, data) = given.iter().find(|(name, ..)| *name == node.name).unwrap();
            Value::new(node.shape.clone(), data.clone())
        })
        .collect();
    let run = engine
        .run(&inputs, &Quantization::none(graph), None, &mut NoTap, &Cancel::default())
        .map_err(|e| e.to_string())?;
    let expected: Vec<_> = (0..).map_while(|i| tensor(&folder.join(format!("output_{i}.pb")))).collect();
    for ((name, _), value) in graph.outputs().iter().zip(&run.outputs) {
        let Some((_, shape, data)) = expected.iter().find(|(n, ..)| n == name) else {
            return Err("unsupported: the type of its output".into());
        };
        if value.shape() != shape.as_slice() {
            return Err(format!("WRONG shape {:?}, expected {shape:?}", value.shape()));
        }
        for (a, b) in value.as_slice().iter().zip(data) {
            let near = (a - b).abs() <= 1e-4 * b.abs().max(1.0) || a == b || (a.is_nan() && b.is_nan());
            if !near {
                return Err(format!("WRONG {name}: {a} for {b}"));
            }
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs the standard's tests"]
fn single_operators_do_what_the_standard_says() {
    let folder = std::env::var("ONNX_NODE_TESTS").unwrap();
    let (mut right, mut wrong, mut refused) = (0, Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match std::panic::catch_unwind(|| check(&path)) {
            Ok(Ok(())) => right += 1,
            Ok(Err(message)) if message.starts_with("WRONG") => wrong.push(format!("{name}: {message}")),
            Ok(Err(message)) => refused.push(format!("{name}: {message}")),
            Err(_) => wrong.push(format!("{name}: it panicked")),
        }
    }
    refused.sort();
    wrong.sort();
    println!("{right} right; {} refused:\n{}", refused.len(), refused.join("\n"));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
