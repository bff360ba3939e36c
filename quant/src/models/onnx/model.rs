//! An ONNX file as an open model: how pictures and sentences become its inputs, and what its outputs mean, from the
//! files beside it or from shapes and names.

use std::path::Path;
use std::sync::Arc;

use super::OnnxModel;
use crate::data::{DirFiles, Files, Filter, PreprocessorConfig, Size, TextEncoder, Truncation};
use crate::exec::kernels::activation::Activation;
use crate::graph::{Graph, NodeId, Op};
use crate::models::open::fingerprint;
use crate::models::{InputShapes, MaskRule, Model, ModelError, Task};

/// Name of the architecture.
const NAME: &str = "onnx";
/// Mean and deviation of ImageNet's pictures, which most vision models are trained with.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// Whether a path means an ONNX file.
pub(in crate::models) fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"))
}

/// Opens a file. What depends on operators that are not supported is left out, and [`Model::unsupported`] lists them.
pub(in crate::models) fn model(path: &Path, shapes: &InputShapes) -> Result<Model, ModelError> {
    let OnnxModel { graph, encodings, unsupported, .. } = super::open_partly(path, shapes)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let confined = DirFiles::open(folder)?;
    let beside = confined.clone().following_links();
    let name = path.file_stem().map_or("model".into(), |n| n.to_string_lossy().into_owned());
    Ok(Model {
        name,
        label: None,
        architecture: NAME,
        preprocessor: preprocessor(&graph, &beside)?,
        text: text(&graph, &beside)?,
        task: task(&graph, &beside),
        fingerprint: fingerprint(NAME, &graph),
        graph: Arc::new(graph),
        encodings,
        unsupported,
        warnings: Vec::new(),
        files: Arc::new(confined),
    })
}

/// That of the folder, or a resize to the size that the graph is for.
fn preprocessor(graph: &Graph, files: &dyn Files) -> Result<Option<PreprocessorConfig>, ModelError> {
    let image = graph.inputs().iter().map(|&id| graph.node(id).shape.as_slice());
    let mut images = image.filter_map(|shape| if let &[1, 3, h, w] = shape { Some((h, w)) } else { None });
    let Some((height, width)) = images.next() else { return Ok(None) };
    if files.contains(PreprocessorConfig::FILE) {
        return Ok(Some(PreprocessorConfig::read(files, PreprocessorConfig::FILE)?));
    }
    Ok(Some(PreprocessorConfig {
        resize: Some(Size::Exact { height: height as u32, width: width as u32 }),
        filter: Filter::Bilinear,
        multiple_of: 1,
        crop: None,
        crop_rounding: crate::data::CropRounding::Down,
        rescale: Some(1.0 / 255.0),
        normalize: Some(IMAGENET),
        pad: None,
    }))
}

/// The folder's tokenizer, for a graph with `input_ids`.
fn text(graph: &Graph, files: &dyn Files) -> Result<Option<TextEncoder>, ModelError> {
    let there = files.contains("tokenizer.json") || files.contains("vocab.txt");
    let ids = graph.find("input_ids").map(|id| graph.node(id)).filter(|node| matches!(node.op, Op::Input));
    let Some(tokens) = ids.and_then(|node| node.shape.last()).filter(|_| there) else { return Ok(None) };
    Ok(Some(TextEncoder::read(files, *tokens, Truncation::Cut)?))
}

/// What the outputs mean, where their shapes say it.
fn task(graph: &Graph, files: &dyn Files) -> Task {
    let outputs = graph.outputs();
    let shape = |id: NodeId| graph.node(id).shape.as_slice();
    let named = |wanted: &str| outputs.iter().find(|(name, _)| name == wanted);
    if let (Some((logits, id)), Some((boxes, _))) = (named("logits"), named("pred_boxes")) {
        let classes = shape(*id).last().map_or(0, |n| n.saturating_sub(1));
        return Task::Boxes { logits: logits.clone(), boxes: boxes.clone(), labels: numbers(classes) };
    }
    let [(name, id)] = outputs else { return Task::Tensors };
    let softmax = matches!(graph.node(*id).op, Op::Softmax);
    match *shape(*id) {
        [1, 2, h, w] if h > 1 && w > 1 => Task::Mask { logits: name.clone(), rule: MaskRule::Second },
        [1, 1, h, w] if h > 1 && w > 1 => {
            // Probabilities are cut at one half, logits at zero.
            let sigmoid = matches!(graph.node(*id).op, Op::Activation(Activation::Sigmoid));
            let rule = MaskRule::Above(if sigmoid { 0.5 } else { 0.0 });
            Task::Mask { logits: name.clone(), rule }
        }
        [1, classes] if classes > 1 => Task::Classes { logits: name.clone(), labels: numbers(classes) },
        [1, _, classes] if softmax && classes > 2 => {
            Task::Letters { scores: name.clone(), alphabet: alphabet(files, classes - 1) }
        }
        _ => Task::Tensors,
    }
}

/// The letters of a recogniser: a text beside the model with one on each line (as PP-OCR's `ppocr_keys_v5.txt`), as many
/// as it has classes besides the blank; the space after the last may be left out, the
/// blank may stand first. Empty without such a file.
fn alphabet(files: &dyn Files, count: usize) -> Vec<String> {
    let names = files.list().unwrap_or_default();
    let texts = names.iter().filter(|name| !name.contains('/') && name.to_lowercase().ends_with(".txt"));
    for name in texts {
        let Ok(bytes) = files.read(name) else { continue };
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        let mut letters: Vec<String> =
            text.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect();
        // Some lists begin with a word for the blank.
        if letters.len() == count + 1 && letters.first().is_some_and(|first| first.contains("blank")) {
            letters.remove(0);
        }
        if letters.len() + 1 == count {
            letters.push(" ".to_owned());
        }
        if letters.len() == count {
            return letters;
        }
    }
    Vec::new()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|class| class.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::alphabet;
    use crate::data::EmbeddedFiles;

    #[test]
    fn letters_lie_beside_the_model() {
        const BLANK: &[(&str, &[u8])] = &[("keys.txt", b"blank\na\nb\n")];
        const TABLE: &[(&str, &[u8])] = &[("notes.txt", b"one"), ("keys.txt", b"a\r\nb\n\xe8\xaa\x9e\n")];
        let files = EmbeddedFiles(TABLE);
        assert_eq!(alphabet(&files, 3), ["a", "b", "語"]);
        assert_eq!(alphabet(&files, 4), ["a", "b", "語", " "]);
        assert!(alphabet(&files, 7).is_empty());
        assert_eq!(alphabet(&EmbeddedFiles(BLANK), 2), ["a", "b"]);
    }
}
