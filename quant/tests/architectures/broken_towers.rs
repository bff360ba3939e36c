//! BERT, CLIP and CLIPSeg with one wrong number: an error that names it, or a model, never a panic and never an allocation
//! of the size that the number asks for.

use std::path::Path;

use bitloupe_quant::models::{InputShapes, ModelFiles, open_for};
use serde_json::{Value, json};

const FIXTURES: [&str; 4] = ["bert_tiny_hf", "bert_bare_tiny_hf", "clip_tiny", "clipseg_tiny"];

fn bytes(fixture: &str, file: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    std::fs::read(fixtures.join(fixture).join(file)).unwrap()
}

/// What opening a folder with these files says.
fn message(config: &Value, weights: &[u8]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    let files = ModelFiles::Path(folder.path().to_owned());
    open_for(&files, None, &InputShapes::default()).err().map(|e| e.to_string())
}

/// Pointers to all values that are no objects.
fn leaves(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                leaves(field, format!("{at}/{name}"), found);
            }
        }
        _ => found.push(at),
    }
}

#[test]
fn any_value_of_a_configuration() {
    let wrong = [
        json!(0),
        json!(-3),
        json!(7),
        json!(u64::MAX),
        json!(1e30),
        json!("gelu_11"),
        json!([1, u64::MAX]),
        json!({"a": []}),
        json!(null),
        json!(true),
    ];
    for name in FIXTURES {
        let config: Value = serde_json::from_slice(&bytes(name, "config.json")).unwrap();
        let weights = bytes(name, "model.safetensors");
        let mut places = Vec::new();
        leaves(&config, String::new(), &mut places);
        let mut refused = 0;
        for place in &places {
            for value in &wrong {
                let mut config = config.clone();
                *config.pointer_mut(place).unwrap() = value.clone();
                let Some(message) = message(&config, &weights) else { continue };
                assert!(message.contains("config.json"), "{name}{place} = {value}: {message}");
                // Twenty names at most.
                assert!(message.len() < 2000, "{message}");
                refused += 1;
            }
        }
        assert!(refused > 40, "{name}: {refused}");
    }
}

/// A tensor that is missing, has one axis more or less, or another order of axes; those that nothing reads may.
#[test]
fn any_shape_of_a_tensor() {
    for name in FIXTURES {
        let config: Value = serde_json::from_slice(&bytes(name, "config.json")).unwrap();
        let weights = bytes(name, "model.safetensors");
        let (size, rest) = weights.split_first_chunk::<8>().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*size) as usize);
        let header: Value = serde_json::from_slice(header).unwrap();
        let file = |header: &Value| {
            let header = header.to_string().into_bytes();
            [&(header.len() as u64).to_le_bytes(), &header[..], data].concat()
        };
        let unread = |tensor: &str| {
            tensor == "__metadata__" || tensor.ends_with("position_ids") || tensor == "clip.logit_scale"
        };
        for tensor in header.as_object().unwrap().keys().filter(|tensor| !unread(tensor)) {
            let mut lost = header.clone();
            let entry = lost.as_object_mut().unwrap().remove(tensor).unwrap();
            lost["nobody.knows"] = entry.clone();
            assert!(message(&config, &file(&lost)).is_some(), "{name} without {tensor}");

            let shape: Vec<u64> = serde_json::from_value(entry["shape"].clone()).unwrap();
            let flat = vec![shape.iter().product::<u64>()];
            let deeper = [&shape[..], &[1]].concat();
            let turned: Vec<u64> = shape.iter().rev().copied().collect();
            for other in [flat, deeper, turned] {
                // Square matrices turned are what they were.
                if other == shape {
                    continue;
                }
                let mut header = header.clone();
                header[tensor]["shape"] = json!(other);
                assert!(message(&config, &file(&header)).is_some(), "{name}: {tensor} as {other:?}");
            }
        }
    }
}
