//! Checkpoints of Hugging Face without their `config.json`: the sizes are those of the tensors.

use std::path::Path;

use bitloupe_quant::models::{InputShapes, Model, ModelError, ModelFiles, open_for};
use serde_json::{Value, json};

fn fixture(name: &str, file: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name);
    std::fs::read(folder.join(file)).unwrap()
}

/// A checkpoint of zeros with a fixture's names, axes of some lengths exchanged for others: miniatures are narrower than
/// a head of the published models.
fn resized(name: &str, lengths: &[(u64, u64)], prefix: &str) -> Vec<u8> {
    let weights = fixture(name, "model.safetensors");
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&weights[8..8 + length]).unwrap();
    let (mut fields, mut end) = (serde_json::Map::new(), 0);
    for (tensor, entry) in header.as_object().unwrap().iter().filter(|(tensor, _)| *tensor != "__metadata__")
    {
        let axis = |n: &Value| {
            let n = n.as_u64().unwrap();
            lengths.iter().find(|(old, _)| *old == n).map_or(n, |(_, new)| *new)
        };
        let shape: Vec<u64> = entry["shape"].as_array().unwrap().iter().map(axis).collect();
        let start = end;
        end += 4 * shape.iter().product::<u64>();
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
        fields.insert(format!("{prefix}{tensor}"), entry);
    }
    let text = Value::Object(fields).to_string();
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &vec![0; end as usize]].concat()
}

fn open(weights: &[u8], config: Option<&Value>) -> Result<Model, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    if let Some(config) = config {
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    }
    open_for(&ModelFiles::Path(folder.path().to_owned()), None, &InputShapes::default())
}

/// Both ways to the same graph; what is assumed is said only without the configuration.
#[track_caller]
fn same(name: &str, weights: &[u8], changes: &[(&str, Value)], assumed: &str) {
    let mut config: Value = serde_json::from_slice(&fixture(name, "config.json")).unwrap();
    for (field, value) in changes {
        config[field] = value.clone();
    }
    let with = open(weights, Some(&config)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let without = open(weights, None).unwrap_or_else(|e| panic!("{name}: {e}"));
    let nodes = |model: &Model| -> Vec<(String, Vec<usize>)> {
        model.graph.nodes().iter().map(|node| (node.name.clone(), node.shape.clone())).collect()
    };
    assert_eq!(with.architecture, without.architecture);
    assert_eq!(nodes(&with), nodes(&without), "{name}");
    assert!(with.warnings.is_empty(), "{name}: {:?}", with.warnings);
    assert!(without.warnings.iter().any(|w| w.contains(assumed)), "{name}: {:?}", without.warnings);
}

#[test]
fn sizes_are_those_of_the_tensors() {
    let wide = [("hidden_size", json!(128)), ("num_attention_heads", json!(2))];
    for name in ["vit_tiny_hf", "deit_dist_tiny_hf"] {
        same(name, &resized(name, &[(32, 128)], ""), &wide, "2 heads");
    }
    // A square table, as no other tells its sides: 7 x 7 patches, one token before and eight after them.
    let mut yolos = wide.to_vec();
    yolos.push(("image_size", json!(56)));
    for name in ["yolos_tiny", "yolos_mid_tiny"] {
        same(name, &resized(name, &[(32, 128), (57, 58)], ""), &yolos, "2 heads");
    }
    same("swin_tiny_hf", &fixture("swin_tiny_hf", "model.safetensors"), &[], "64x64");
}

/// What DataParallel puts before every name is no part of it.
#[test]
fn the_prefix_of_data_parallel_is_taken_off() {
    let plain = open(&resized("swin_tiny_hf", &[], ""), None).unwrap();
    let parallel = open(&resized("swin_tiny_hf", &[], "module."), None).unwrap();
    assert_eq!(plain.fingerprint, parallel.fingerprint);
    assert!(parallel.graph.params().iter().all(|param| !param.name.starts_with("module.")));
}

#[test]
fn what_tensors_do_not_tell_is_asked_for() {
    for (name, field) in [("vit_tiny_hf", "num_attention_heads"), ("yolos_tiny", "image_size")] {
        let error = open(&fixture(name, "model.safetensors"), None).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("config.json"), "{name}: {error}");
    }
}

#[test]
fn a_field_of_another_type_is_named() {
    for (name, field) in [
        ("vit_tiny_hf", "hidden_size"),
        ("swin_tiny_hf", "depths"),
        ("detr_tiny_hf", "encoder_attention_heads"),
    ] {
        let mut config: Value = serde_json::from_slice(&fixture(name, "config.json")).unwrap();
        config[field] = json!("a");
        let error = open(&fixture(name, "model.safetensors"), Some(&config)).unwrap_err().to_string();
        assert!(error.contains(&format!("`{field}`")) && error.contains("invalid type"), "{name}: {error}");
    }
}
