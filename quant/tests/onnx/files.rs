//! Exported miniatures against what onnxruntime made of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bitloupe_quant::exec::{Cancel, Engine, NoTap, Quantization, Value};
use bitloupe_quant::models::InputShapes;
use bitloupe_quant::models::onnx;
use safetensors::{Dtype, SafeTensors};

type Tensors = HashMap<String, (Vec<usize>, Vec<f32>)>;

fn tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let data = match view.dtype() {
            Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::I64 => {
                view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect()
            }
            _ => return None,
        };
        Some((name, (view.shape().to_vec(), data)))
    };
    file.tensors().into_iter().filter_map(read).collect()
}

/// Runs a file on every sample of its inputs and compares the outputs; the largest difference over the tolerance.
fn compare(folder: &Path, name: &str, entry: &serde_json::Value) -> Result<f32, String> {
    let file = folder.join(entry["file"].as_str().unwrap());
    let given = tensors(&folder.join(entry["inputs_file"].as_str().unwrap()));
    let expected = tensors(
        &folder.join(format!("{}.ort_outputs.safetensors", file.file_stem().unwrap().to_string_lossy())),
    );
    let model = onnx::open(&file, &InputShapes::default()).map_err(|e| e.to_string())?;
    let engine = Engine::new(std::sync::Arc::new(model.graph));
    let graph = engine.graph();
    let batch = expected.values().next().unwrap().0[0];
    let mut worst = 0.0_f32;
    for sample in 0..batch {
        let inputs: Vec<Value> = graph
            .inputs()
            .iter()
            .map(|&id| {
                let node = graph.node(id);
                let len: usize = node.shape.iter().product();
                let all =
                    &given.get(&node.name).unwrap_or_else(|| panic!("{name}: no input {}", node.name)).1;
                Value::new(node.shape.clone(), all[sample * len..][..len].to_vec())
            })
            .collect();
        let run = engine
            .run(&inputs, &Quantization::none(graph), None, &mut NoTap, &Cancel::default())
            .map_err(|e| e.to_string())?;
        for ((output, _), value) in graph.outputs().iter().zip(&run.outputs) {
            let (shape, all) = expected.get(output).ok_or_else(|| format!("no recorded output {output}"))?;
            // Image-text scores cross the samples of a batch; one sample has those of itself.
            let crossed = output == "logits_per_image";
            let len = all.len() / batch;
            let theirs =
                if crossed { &all[sample * batch + sample..][..1] } else { &all[sample * len..][..len] };
            if value.as_slice().len() != theirs.len() {
                return Err(format!("{output}: {:?} for {shape:?}", value.shape()));
            }
            let gap = value.as_slice().iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            if gap.is_nan() || value.as_slice().iter().any(|x| x.is_nan()) {
                return Err(format!("{output}: not a number"));
            }
            let allowed = 10.0 * entry["max_abs_diff_vs_torch"][output].as_f64().unwrap() as f32;
            worst = worst.max(gap / allowed);
            if gap > allowed {
                return Err(format!("{output}, sample {sample}: {gap:e}, allowed {allowed:e}"));
            }
        }
    }
    Ok(worst)
}

fn compare_all(folder: &Path) {
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let mut failed = Vec::new();
    let only = std::env::var("ONNX_ONLY").ok();
    for (name, forms) in index.as_object().unwrap() {
        for form in ["legacy", "dynamo"] {
            let mut entry = forms[form].clone();
            if entry["file"].is_null() || !folder.join(entry["file"].as_str().unwrap()).exists() {
                continue;
            }
            if only.as_ref().is_some_and(|only| !entry["file"].as_str().unwrap().contains(only.as_str())) {
                continue;
            }
            entry["inputs_file"] = forms["inputs_file"].clone();
            match compare(folder, name, &entry) {
                Ok(worst) => println!("{name}.{form}: {worst:.2} of the tolerance"),
                Err(message) => failed.push(format!("{name}.{form}: {message}")),
            }
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn exported_miniatures_give_the_outputs_of_onnxruntime() {
    compare_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/onnx"));
}

/// All recorded files, where they are at hand: `ONNX_FIXTURES=… cargo test -- --ignored`.
#[test]
#[ignore = "needs the folder of all recorded files"]
fn every_recorded_file_gives_the_outputs_of_onnxruntime() {
    compare_all(&PathBuf::from(std::env::var("ONNX_FIXTURES").unwrap()));
}

/// The pretrained ViT-S/14 with a mask decoder, where it is at hand: `REAL_MODELS=… REAL_MODELS_IO=…`.
#[test]
#[ignore = "needs a fetched model"]
fn a_pretrained_vision_transformer_gives_the_masks_of_onnxruntime() {
    let folder = PathBuf::from(std::env::var("REAL_MODELS").unwrap());
    let recorded =
        tensors(&PathBuf::from(std::env::var("REAL_MODELS_IO").unwrap()).join("dinov2-focus-io.safetensors"));
    let start = std::time::Instant::now();
    let model = onnx::open(&folder.join("vit-s14-focus.onnx"), &InputShapes::default()).unwrap();
    println!("opened in {:?}", start.elapsed());
    show(&model);
    let engine = Engine::new(std::sync::Arc::new(model.graph));
    for photo in ["astronaut", "chelsea", "quokka"] {
        let (shape, data) = recorded[&format!("{photo}.input")].clone();
        let none = Quantization::none(engine.graph());
        let run =
            engine.run(&[Value::new(shape, data)], &none, None, &mut NoTap, &Cancel::default()).unwrap();
        let theirs = &recorded[&format!("{photo}.output")].1;
        let ours = run.outputs[0].as_slice();
        let gap = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{photo}: {gap:e}");
        assert!(ours.len() == theirs.len() && gap <= 1e-4, "{photo}: {gap:e}");
    }
}

/// Prints layers and roles.
fn show(model: &onnx::OnnxModel) {
    let graph = &model.graph;
    for layer in graph.layers() {
        let sites: Vec<String> = layer
            .sites
            .iter()
            .map(|&i| &graph.sites()[i])
            .map(|s| format!("{} {} {:?}", s.id.slot, s.role, s.shape))
            .collect();
        println!("{} {} | {}", graph.node(layer.node).op.kind(), layer.name, sites.join(" | "));
    }
}

#[test]
#[ignore = "shows layers of ONNX_FILE"]
fn layers_of_a_file() {
    let path = PathBuf::from(std::env::var("ONNX_FILE").unwrap());
    let start = std::time::Instant::now();
    let model = onnx::open_partly(&path, &InputShapes::default()).unwrap();
    println!("opened in {:?}: {} nodes", start.elapsed(), model.graph.nodes().len());
    show(&model);
    println!("{:?}", model.unsupported);
}
