//! BERT: under `bert.` with the old names of its norms and the pretraining heads; bare; without a configuration.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bitloupe_quant::exec::{Cancel, Engine, NoTap, Quantization, Value};
use bitloupe_quant::models::{InputShapes, ModelFiles, Task, open_for};
use safetensors::SafeTensors;

use crate::fixture::Fixture;
use crate::{published, roles, texts};

/// Ten times the gap between f32 and f64 that the README names for `prediction_logits`, the largest values.
const TOLERANCE: f32 = 1.2e-4;
const INPUTS: [(&str, &str); 3] =
    [("input_ids", "input_ids"), ("attention_mask", "attention_mask"), ("token_type_ids", "token_type_ids")];

#[test]
fn everything_recorded_is_reproduced() {
    let fixture = Fixture::open("bert_tiny_hf");
    let run = fixture.run(&INPUTS);
    fixture.compare_output(&run, "prediction_logits", "out.prediction_logits", TOLERANCE);
    fixture.compare_output(&run, "seq_relationship_logits", "out.seq_relationship_logits", 2.4e-6);
    fixture.compare_output(&run, "pooler_output", "out.pooler_output", TOLERANCE);
    fixture.compare_output(&run, "last_hidden_state", "out.hidden.2", TOLERANCE);
    for (name, recorded) in [
        ("bert.embeddings.LayerNorm", "out.hidden.0"),
        ("bert.encoder.layer.0.output.LayerNorm", "out.hidden.1"),
        ("bert.encoder.layer.1.output.LayerNorm", "out.hidden.2"),
    ] {
        fixture.compare_node(&run, run.node(name), recorded, TOLERANCE);
    }
    fixture.compare_activations(&run, TOLERANCE, 49, |_| None);
    assert_eq!(run.model.architecture, "bert");
    let Task::Embeddings { outputs } = &run.model.task else { panic!("{:?}", run.model.task) };
    assert_eq!(outputs, &["sentence_embedding"]);
}

/// The same encoder without `bert.`, with the new names.
#[test]
fn a_bare_encoder_is_reproduced() {
    let fixture = Fixture::open("bert_bare_tiny_hf");
    let run = fixture.run(&INPUTS);
    fixture.compare_output(&run, "last_hidden_state", "out.last_hidden_state", TOLERANCE);
    fixture.compare_output(&run, "pooler_output", "out.pooler_output", TOLERANCE);
}

#[test]
fn fused_kernels_agree_with_the_reference() {
    Fixture::open("bert_tiny_hf").run(&INPUTS).compare_reference(f64::from(TOLERANCE));
}

/// Padding and its length leave the tokens as they are; without segments all tokens are of the first.
#[test]
fn padding_changes_nothing() {
    let fixture = Fixture::open("bert_bare_tiny_hf");
    let embedding = |length: usize| -> Vec<f32> {
        let shapes: InputShapes = [("input_ids", vec![1, length])].into_iter().collect();
        let model = open_for(&fixture.files(), None, &shapes).unwrap();
        let mut ids = vec![5.0, 123.0, 108.0, 6.0];
        let mut mask = vec![1.0; ids.len()];
        ids.resize(length, 0.0);
        mask.resize(length, 0.0);
        let names: Vec<_> = model.graph.inputs().iter().map(|id| &model.graph.node(*id).name).collect();
        assert_eq!(names, ["input_ids", "attention_mask"]);
        let inputs = [Value::new(vec![1, length], ids), Value::new(vec![1, length], mask)];
        output(&model, &inputs, "sentence_embedding")
    };
    let (short, long) = (embedding(4), embedding(23));
    let gap = short.iter().zip(&long).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(gap < 1e-6, "{gap:e}");
    let length: f32 = short.iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-6, "{length}");
}

#[test]
fn sites_hold_what_their_roles_say() {
    let fixture = Fixture::open("bert_tiny_hf");
    let run = fixture.run(&INPUTS);
    roles::compare(
        &run.model,
        "bert.encoder.layer.1.",
        &[
            "attention.self.query:input post-layernorm",
            "attention.self.key:input post-layernorm",
            "attention.self.value:input post-layernorm",
            "attention.self.qk:lhs query",
            "attention.self.qk:rhs key",
            "attention.self.pv:lhs post-softmax",
            "attention.self.pv:rhs value",
            "attention.output.dense:input other",
            "intermediate.dense:input post-layernorm",
            "output.dense:input post-gelu",
        ],
    );
    roles::compare(&run.model, "bert.pooler.", &["dense:input post-layernorm"]);
    roles::compare(
        &run.model,
        "cls.",
        &[
            "predictions.transform.dense:input post-layernorm",
            "predictions.decoder:input post-layernorm",
            "seq_relationship:input post-tanh",
        ],
    );
}

#[test]
fn texts_become_the_published_ids() {
    let fixture = Fixture::open("bert_tiny_hf");
    for length in [12, 40] {
        let shapes: InputShapes = [("input_ids", vec![1, length])].into_iter().collect();
        texts::compare(&fixture, &open_for(&fixture.files(), None, &shapes).unwrap(), 0);
    }
    // The same from vocab.txt alone.
    let folder = folder_with(&fixture, &["config.json", "model.safetensors", "vocab.txt"]);
    let model = open_for(&ModelFiles::Path(folder.path().to_owned()), None, &InputShapes::default()).unwrap();
    texts::compare(&fixture, &model, 0);
}

/// Without `config.json` the names tell that it is BERT; that no published model has this width is said.
#[test]
fn a_file_alone_is_recognised() {
    let fixture = Fixture::open("bert_tiny_hf");
    let folder = folder_with(&fixture, &["model.safetensors"]);
    let path = folder.path().join("model.safetensors");
    let error = open_for(&ModelFiles::Path(path), None, &InputShapes::default()).unwrap_err().to_string();
    assert!(
        error.contains("config.json") && error.contains("width 32") && error.contains("copy it"),
        "{error}"
    );
}

#[test]
fn lengths_that_the_positions_do_not_reach_are_errors() {
    let fixture = Fixture::open("bert_tiny_hf");
    for length in [0, 41, usize::MAX] {
        let shapes: InputShapes = [("input_ids", vec![1, length])].into_iter().collect();
        let error = open_for(&fixture.files(), None, &shapes).unwrap_err().to_string();
        assert!(error.contains("max_position_embeddings"), "{error}");
    }
}

#[test]
#[ignore = "writes checkpoints of 440 MB"]
fn published_checkpoints_open() {
    for name in ["bert-base-uncased-bare", "bert-base-uncased"] {
        published::open_whole(name);
    }
    let (model, _) = published::open("bert-base-uncased", &[("input_ids", &[1, 16])]);
    published::run_once(&model, &["input_ids", "attention_mask"]);
}

/// all-MiniLM-L6-v2 makes the sentence vectors that onnxruntime made. `BITLOUPE_REAL_MODELS` names the folder that
/// `minilm-l6`, `minilm-io.safetensors` and `minilm-texts.json` lie in.
#[test]
#[ignore = "needs downloaded models"]
fn minilm_is_reproduced() {
    let folder =
        PathBuf::from(std::env::var("BITLOUPE_REAL_MODELS").expect("BITLOUPE_REAL_MODELS names a folder"));
    let texts = std::fs::read(folder.join("minilm-texts.json")).unwrap();
    let texts: Vec<String> = serde_json::from_slice(&texts).unwrap();
    let bytes = std::fs::read(folder.join("minilm-io.safetensors")).unwrap();
    let recorded = SafeTensors::deserialize(&bytes).unwrap();
    // With its configuration, and by its tensors alone.
    let alone = tempfile::tempdir().unwrap();
    for file in ["model.safetensors", "vocab.txt"] {
        std::fs::copy(folder.join("minilm-l6").join(file), alone.path().join(file)).unwrap();
    }
    for path in [folder.join("minilm-l6"), alone.path().to_owned()] {
        let model = open_for(&ModelFiles::Path(path), None, &InputShapes::default()).unwrap();
        for (i, text) in texts.iter().enumerate() {
            let encoded = model.text.as_ref().unwrap().encode(text).unwrap();
            let ids = recorded.tensor(&format!("{i}.ids")).unwrap();
            let ids: Vec<i64> =
                ids.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
            assert_eq!(encoded.input_ids[..ids.len()], ids, "{text}");
            assert_eq!(encoded.attention_mask.iter().sum::<i64>() as usize, ids.len());
            let value =
                |ids: &[i64]| Value::new(vec![1, ids.len()], ids.iter().map(|&id| id as f32).collect());
            let inputs = [value(&encoded.input_ids), value(&encoded.attention_mask)];
            let ours = output(&model, &inputs, "sentence_embedding");
            let theirs = recorded.tensor(&format!("{i}.embedding")).unwrap();
            let theirs = theirs.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
            let gap = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{text}: {gap:e}");
            assert!(gap <= 1e-5, "{text}: {gap:e}");
        }
    }
}

/// A folder with some of a fixture's files.
pub(crate) fn folder_with(fixture: &Fixture, files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        std::fs::copy(fixture.path(file), Path::new(folder.path()).join(file)).unwrap();
    }
    folder
}

/// Runs a model; the values of one output.
pub(crate) fn output(model: &bitloupe_quant::models::Model, inputs: &[Value], name: &str) -> Vec<f32> {
    let engine = Engine::new(model.graph.clone());
    let none = Quantization::none(&model.graph);
    let run = engine.run(inputs, &none, None, &mut NoTap, &Cancel::default()).unwrap();
    let outputs: HashMap<&str, &Value> =
        model.graph.outputs().iter().map(|(name, _)| name.as_str()).zip(&run.outputs).collect();
    outputs[name].as_slice().to_vec()
}
