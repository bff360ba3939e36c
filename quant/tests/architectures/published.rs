//! Checkpoints as they are published: a manifest names every tensor with its shape and type; the values are random.

#[path = "../../../tests/support/checkpoint.rs"]
mod checkpoint;

use std::path::Path;

use bitloupe_quant::exec::{Cancel, Engine, NoTap, Quantization, Value};
use bitloupe_quant::models::{InputShapes, Model, ModelFiles, open_for};
use serde_json::Value as Json;

/// Writes `config.json` and `model.safetensors` for the manifest of this name in `tests/fixtures/real_shapes` to a folder
/// that is removed again, opens it for inputs of the given shapes (those that are not named have their usual ones), and
/// returns the model with the manifest.
pub(crate) fn open(name: &str, shapes: &[(&str, &[usize])]) -> (Model, Json) {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/real_shapes");
    let path = manifests.join(format!("{name}.json"));
    let folder = tempfile::tempdir().unwrap();
    let manifest = checkpoint::write(&path, folder.path());
    let shapes: InputShapes = shapes.iter().map(|(name, shape)| (*name, shape.to_vec())).collect();
    let files = ModelFiles::Path(folder.path().to_owned());
    let model = open_for(&files, None, &shapes).unwrap_or_else(|e| panic!("{name}: {e}"));
    (model, manifest)
}

/// Opens a manifest and checks that every value of it became part of the graph.
pub(crate) fn open_whole(name: &str) {
    let (model, manifest) = open(name, &[]);
    assert_eq!(model.graph.parameters(), manifest["float_params"].as_u64().unwrap(), "{name}");
}

/// Runs a model on random inputs; every result must be a number. Inputs are zeros and ones where `whole` names them.
pub(crate) fn run_once(model: &Model, whole: &[&str]) {
    let engine = Engine::new(model.graph.clone());
    let mut state = 7;
    let inputs: Vec<Value> = model
        .graph
        .inputs()
        .iter()
        .map(|id| {
            let node = model.graph.node(*id);
            let number = |state: &mut u64| {
                let x = checkpoint::uniform(state);
                if whole.contains(&node.name.as_str()) { f32::from(x > 0.0) } else { x }
            };
            let data = (0..node.shape.iter().product()).map(|_| number(&mut state)).collect();
            Value::new(node.shape.clone(), data)
        })
        .collect();
    let none = Quantization::none(&model.graph);
    let run = engine.run(&inputs, &none, None, &mut NoTap, &Cancel::default()).unwrap();
    for ((name, _), value) in model.graph.outputs().iter().zip(&run.outputs) {
        assert!(!value.as_slice().is_empty() && value.as_slice().iter().all(|x| x.is_finite()), "{name}");
    }
}
