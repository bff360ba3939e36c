//! Checkpoints as they are published: a manifest names every tensor with its shape and type; the values are random.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use bitloupe_quant::exec::{Cancel, Engine, NoTap, Quantization, Value};
use bitloupe_quant::models::{InputShapes, Model, ModelFiles, open_for};
use serde_json::{Map, Value as Json, json};

/// Bytes that are written at a time; a multiple of every type's size.
const BLOCK: usize = 1 << 20;

/// Writes `config.json` and `model.safetensors` for the manifest of this name in `tests/fixtures/real_shapes` to a folder
/// that is removed again, opens it for inputs of the given shapes (those that are not named have their usual ones), and
/// returns the model with the manifest.
pub(crate) fn open(name: &str, shapes: &[(&str, &[usize])]) -> (Model, Json) {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/real_shapes");
    let path = manifests.join(format!("{name}.json"));
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let manifest: Json = serde_json::from_slice(&text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), manifest["config"].to_string()).unwrap();
    write_weights(&folder.path().join("model.safetensors"), &manifest["tensors"]);
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
                let x = uniform(state);
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

/// The next number of a sequence, from -0.05 to 0.05.
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    ((*state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.1
}

/// One block of random numbers of a type; around 1 if they must be positive.
fn block(dtype: &str, positive: bool) -> Vec<u8> {
    let mut state = 1;
    let mut numbers = std::iter::from_fn(|| Some(uniform(&mut state) + f32::from(u8::from(positive))));
    match dtype {
        "F32" => numbers.by_ref().take(BLOCK / 4).flat_map(f32::to_le_bytes).collect(),
        "F16" => {
            numbers.by_ref().take(BLOCK / 2).flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect()
        }
        "BF16" => {
            numbers.by_ref().take(BLOCK / 2).flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect()
        }
        "I64" | "I32" | "U8" | "BOOL" => vec![0; BLOCK],
        _ => panic!("no numbers of type {dtype}"),
    }
}

/// Bytes of one number.
fn width(dtype: &str) -> usize {
    match dtype {
        "I64" => 8,
        "F32" | "I32" => 4,
        "F16" | "BF16" => 2,
        _ => 1,
    }
}

/// Writes a safetensors file with these tensors.
fn write_weights(path: &Path, tensors: &Json) {
    let (mut header, mut parts, mut end) = (Map::new(), Vec::new(), 0);
    for tensor in tensors.as_array().unwrap() {
        let dtype = tensor["dtype"].as_str().unwrap();
        let numbers: u64 = tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product();
        let bytes = numbers as usize * width(dtype);
        let entry = json!({"dtype": dtype, "shape": tensor["shape"], "data_offsets": [end, end + bytes]});
        header.insert(tensor["name"].as_str().unwrap().to_owned(), entry);
        // A variance is not negative.
        let positive = tensor["name"].as_str().unwrap().ends_with("running_var");
        parts.push((dtype, positive, bytes));
        end += bytes;
    }
    let header = Json::from(header).to_string();
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    let mut blocks: HashMap<(&str, bool), Vec<u8>> = HashMap::new();
    for (dtype, positive, mut bytes) in parts {
        let block = blocks.entry((dtype, positive)).or_insert_with(|| block(dtype, positive));
        while bytes > 0 {
            let now = bytes.min(block.len());
            file.write_all(&block[..now]).unwrap();
            bytes -= now;
        }
    }
}
