//! A model in ONNX form and the same model as a checkpoint list the same layers, with the same roles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitloupe_quant::graph::Graph;
use bitloupe_quant::models::onnx;
use bitloupe_quant::models::{InputShapes, ModelFiles, open_for};

/// What is compared of a layer: kind, and slot, role and shape of its sites.
type Layer = (String, String);

/// Files of one model, the folder of its checkpoint, and how many layers the files do not have.
struct Pair {
    onnx: &'static [&'static str],
    folder: &'static str,
    missing: usize,
}

const fn pair(onnx: &'static [&'static str], folder: &'static str, missing: usize) -> Pair {
    Pair { onnx, folder, missing }
}

/// The pairs whose files are in the repository.
///
/// Exporters leave out what no output needs (the gate of LAVT's last stage, the last block of CLIPSeg's image tower), and
/// the newer one computes the first attention of a detector's decoder, whose operands are tables.
const KEPT: &[Pair] = &[
    pair(&["bert_tiny_hf.dynamo"], "bert_bare_tiny_hf", 0),
    pair(&["clip_tiny.dynamo"], "clip_tiny", 0),
    pair(&["detr_tiny_hf.legacy"], "detr_tiny_hf", 0),
    pair(&["lavt_one_tiny.dynamo"], "lavt_one_tiny", 2),
    pair(&["sam_tiny_vision.dynamo", "sam_tiny_prompt_decoder.dynamo"], "sam_tiny", 0),
    pair(&["swin_tiny_timm.dynamo"], "swin_tiny_timm", 0),
    pair(&["vit_tiny_hf.dynamo"], "vit_tiny_hf", 0),
    pair(&["vit_tiny_timm.legacy"], "vit_tiny_timm", 0),
    pair(&["yolos_tiny.legacy"], "yolos_tiny", 0),
];

/// All recorded ones.
const ALL: &[Pair] = &[
    pair(&["bert_tiny_hf.dynamo"], "bert_bare_tiny_hf", 0),
    pair(&["bert_tiny_hf.legacy"], "bert_bare_tiny_hf", 0),
    pair(&["clip_tiny.dynamo"], "clip_tiny", 0),
    pair(&["clip_tiny.legacy"], "clip_tiny", 0),
    pair(&["clipseg_tiny.dynamo"], "clipseg_tiny", 9),
    pair(&["clipseg_tiny.legacy"], "clipseg_tiny", 9),
    pair(&["clipseg_simple_tiny.dynamo"], "clipseg_simple_tiny", 9),
    pair(&["deit_dist_tiny_hf.dynamo"], "deit_dist_tiny_hf", 0),
    pair(&["deit_dist_tiny_hf.legacy"], "deit_dist_tiny_hf", 0),
    pair(&["deit_dist_tiny_timm.dynamo"], "deit_dist_tiny_timm", 0),
    pair(&["deit_dist_tiny_timm.legacy"], "deit_dist_tiny_timm", 0),
    pair(&["detr_tiny_hf.dynamo"], "detr_tiny_hf", 6),
    pair(&["detr_tiny_hf.legacy"], "detr_tiny_hf", 0),
    pair(&["detr_tiny_timm.dynamo"], "detr_tiny_timm", 6),
    pair(&["detr_tiny_timm.legacy"], "detr_tiny_timm", 0),
    pair(&["lavt_one_tiny.dynamo"], "lavt_one_tiny", 2),
    pair(&["lavt_one_tiny_160x144.legacy"], "lavt_one_tiny", 2),
    pair(&["sam_tiny_vision.dynamo", "sam_tiny_prompt_decoder.dynamo"], "sam_tiny", 0),
    pair(&["sam_tiny_vision.legacy", "sam_tiny_prompt_decoder.legacy"], "sam_tiny", 0),
    pair(&["swin_tiny_hf.legacy"], "swin_tiny_hf", 0),
    pair(&["swin_tiny_timm.dynamo"], "swin_tiny_timm", 0),
    pair(&["swin_tiny_timm.legacy"], "swin_tiny_timm", 0),
    pair(&["vit_tiny_hf.dynamo"], "vit_tiny_hf", 0),
    pair(&["vit_tiny_hf.legacy"], "vit_tiny_hf", 0),
    pair(&["vit_tiny_timm.dynamo"], "vit_tiny_timm", 0),
    pair(&["vit_tiny_timm.legacy"], "vit_tiny_timm", 0),
    pair(&["yolos_tiny.dynamo"], "yolos_tiny", 0),
    pair(&["yolos_tiny.legacy"], "yolos_tiny", 0),
    pair(&["yolos_mid_tiny.dynamo"], "yolos_mid_tiny", 0),
    pair(&["yolos_mid_tiny.legacy"], "yolos_mid_tiny", 0),
];

fn layers(graph: &Graph, into: &mut BTreeMap<String, Layer>) {
    for layer in graph.layers() {
        let sites = layer.sites.iter().map(|&i| &graph.sites()[i]);
        let sites: Vec<String> = sites.map(|s| format!("{} {}", s.id.slot, s.role)).collect();
        let kind = graph.node(layer.node).op.kind();
        let weight = graph.weight_of(layer.node).map(|w| format!("{:?}", w.shape)).unwrap_or_default();
        into.insert(layer.name.clone(), (format!("{kind} {weight}"), sites.join(", ")));
    }
}

/// Differences of a pair, in words.
fn differences(files: &Path, checkpoints: &Path, pair: &Pair) -> Result<Vec<String>, String> {
    let mut exported = BTreeMap::new();
    let mut shapes = Vec::new();
    for name in pair.onnx {
        let model = onnx::open(&files.join(format!("{name}.onnx")), &InputShapes::default());
        let graph = model.map_err(|e| e.to_string())?.graph;
        shapes.extend(
            graph.inputs().iter().map(|&id| (graph.node(id).name.clone(), graph.node(id).shape.clone())),
        );
        layers(&graph, &mut exported);
    }
    let folder = ModelFiles::Path(checkpoints.join(pair.folder));
    let model = open_for(&folder, None, &shapes.into_iter().collect()).map_err(|e| e.to_string())?;
    let mut stored = BTreeMap::new();
    layers(&model.graph, &mut stored);
    let mut found = Vec::new();
    let (mut nameless, mut missing) = (Vec::new(), Vec::new());
    for (name, layer) in &exported {
        match stored.remove(name) {
            Some(other) if other == *layer => {}
            Some(other) => found.push(format!("{name}: {layer:?} in ONNX, {other:?} in the checkpoint")),
            // The newer exporter turns the weight of a layer without bias and forgets its name.
            None if name.starts_with("node_") => nameless.push(layer.clone()),
            None => found.push(format!("{name}: only in ONNX, {layer:?}")),
        }
    }
    for (name, layer) in stored {
        match nameless.iter().position(|other| *other == layer) {
            Some(place) => {
                nameless.remove(place);
            }
            None => missing.push(format!("{name}: only in the checkpoint, {layer:?}")),
        }
    }
    found.extend(nameless.iter().map(|layer| format!("no layer for {layer:?}")));
    if missing.len() != pair.missing {
        found.extend(missing);
    }
    Ok(found)
}

fn compare(files: &Path, checkpoints: &Path, pairs: &[Pair]) {
    let only = std::env::var("ONNX_ONLY").ok();
    let mut all = Vec::new();
    for pair in pairs.iter().filter(|p| only.as_ref().is_none_or(|only| p.onnx[0].contains(only.as_str()))) {
        match differences(files, checkpoints, pair) {
            Ok(found) if found.is_empty() => println!("{:?}: the same", pair.onnx),
            Ok(found) => all.push(format!("{:?}:\n  {}", pair.onnx, found.join("\n  "))),
            Err(message) => all.push(format!("{:?}: {message}", pair.onnx)),
        }
    }
    assert!(all.is_empty(), "{} pairs differ\n{}", all.len(), all.join("\n"));
}

#[test]
fn both_forms_of_a_model_list_the_same_layers_and_roles() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    compare(&fixtures.join("onnx"), &fixtures, KEPT);
}

/// `ONNX_FIXTURES` is the folder of all recorded files; the checkpoints lie beside it.
#[test]
#[ignore = "needs the folder of all recorded files"]
fn both_forms_of_every_recorded_model_list_the_same_layers_and_roles() {
    let files = PathBuf::from(std::env::var("ONNX_FIXTURES").unwrap());
    compare(&files, files.parent().unwrap(), ALL);
}
