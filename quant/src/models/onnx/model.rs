//! An ONNX file as an open model: how pictures and sentences become its inputs, and what its outputs mean, from the
//! files beside it or from shapes and names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::{OnnxModel, Usual};
use crate::data::{DirFiles, Files, Filter, PreprocessorConfig, Size, TextEncoder, Truncation};
use crate::exec::kernels::activation::Activation;
use crate::graph::{Graph, NodeId, Op};
use crate::models::open::fingerprint;
use crate::models::source::{CONFIG, labels};
use crate::models::{InputShapes, MaskRule, Model, ModelError, OwnSizes, Task};

/// Name of the architecture.
const NAME: &str = "onnx";
/// Mean and deviation of ImageNet's pictures, which most vision models are trained with.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// Files that say how a model is used.
const BESIDE: [&str; 6] =
    [CONFIG, PreprocessorConfig::FILE, "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json"];
/// A longer sentence than any of these models reads.
const MAX_TOKENS: usize = 4096;

/// Whether a path means an ONNX file.
pub(in crate::models) fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"))
}

/// The file that a folder without a checkpoint is for: `model.onnx`, there or in the hub's `onnx/`, or the only one.
pub(in crate::models) fn in_folder(folder: &Path) -> Option<PathBuf> {
    let usual = ["model.onnx", "onnx/model.onnx"].into_iter().map(|name| folder.join(name));
    if let Some(file) = usual.into_iter().find(|file| file.is_file()) {
        return Some(file);
    }
    let files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let mut files = files.filter(|file| is_onnx(file) && file.is_file());
    files.next().filter(|_| files.next().is_none())
}

/// The folder whose files say how a model is used: on the hub `model.onnx` lies one below, in `onnx/`.
fn home(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let above = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == "onnx"));
    let above = above.map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    let told = |folder: &Path| BESIDE.iter().any(|name| folder.join(name).is_file());
    above.filter(|above| !told(folder) && told(above)).unwrap_or(folder).to_owned()
}

/// Opens a file. What depends on operators that are not supported is left out, and [`Model::unsupported`] lists them.
pub(in crate::models) fn model(path: &Path, shapes: &InputShapes) -> Result<Model, ModelError> {
    let confined = DirFiles::open(&home(path))?;
    let beside = confined.clone().following_links();
    let config = json(&beside, CONFIG)?;
    let preprocessor = if beside.contains(PreprocessorConfig::FILE) {
        Some(PreprocessorConfig::read(&beside, PreprocessorConfig::FILE)?)
    } else {
        None
    };
    let image = preprocessor.as_ref().and_then(PreprocessorConfig::fixed_size);
    let usual = Usual { image, tokens: tokens(&beside, config.as_ref())? };
    let OnnxModel { graph, encodings, unsupported, mut warnings, .. } =
        super::open_usual(path, shapes, usual)?;
    let name = path.file_stem().map_or("model".into(), |n| n.to_string_lossy().into_owned());
    let preprocessor = match (picture(&graph), preprocessor) {
        (None, _) => None,
        (Some(_), Some(preprocessor)) => Some(preprocessor),
        (Some(size), None) => {
            warnings.push(format!(
                "no {} beside the file: pictures are stretched to {} by {} and normalised with ImageNet's mean and \
                 deviation",
                PreprocessorConfig::FILE,
                size.0,
                size.1
            ));
            Some(stretched(size))
        }
    };
    Ok(Model {
        name,
        label: None,
        architecture: NAME,
        preprocessor,
        own_sizes: OwnSizes::None,
        text: text(&graph, &beside)?,
        task: task(&graph, &beside, config.as_ref()),
        fingerprint: fingerprint(NAME, &graph, true),
        graph: Arc::new(graph),
        encodings,
        unsupported,
        warnings,
        files: Arc::new(confined),
    })
}

/// A JSON file of the folder, if it is there.
fn json(files: &dyn Files, name: &str) -> Result<Option<Value>, ModelError> {
    if !files.contains(name) {
        return Ok(None);
    }
    let wrong = |e: serde_json::Error| ModelError::Config {
        file: files.display(name),
        message: format!("not readable JSON ({e}); copy it again, or take it away"),
    };
    serde_json::from_slice(&files.read(name)?).map(Some).map_err(wrong)
}

/// How many tokens a sentence may have, as tokenizer and configuration say it. A tokenizer without a limit states one of
/// 10³⁰.
fn tokens(files: &dyn Files, config: Option<&Value>) -> Result<Option<usize>, ModelError> {
    let tokenizer = json(files, "tokenizer_config.json")?;
    let number = |value: Option<&Value>| {
        value
            .and_then(Value::as_u64)
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| (2..=MAX_TOKENS).contains(n))
    };
    let limit = number(tokenizer.as_ref().and_then(|t| t.get("model_max_length")));
    let table = config.map(|config| config.get("text_config").unwrap_or(config));
    let table = number(table.and_then(|config| config.get("max_position_embeddings")));
    Ok([limit, table].into_iter().flatten().min())
}

/// Height and width of the picture that a graph reads.
fn picture(graph: &Graph) -> Option<(usize, usize)> {
    let mut shapes = graph.inputs().iter().map(|&id| graph.node(id).shape.as_slice());
    shapes.find_map(|shape| if let &[1, 3, height, width] = shape { Some((height, width)) } else { None })
}

/// A resize to the size that the graph is for.
fn stretched((height, width): (usize, usize)) -> PreprocessorConfig {
    PreprocessorConfig {
        resize: Some(Size::Exact { height: height as u32, width: width as u32 }),
        filter: Filter::Bilinear,
        multiple_of: 1,
        crop: None,
        crop_rounding: crate::data::CropRounding::Down,
        rescale: Some(1.0 / 255.0),
        normalize: Some(IMAGENET),
        pad: None,
    }
}

/// The folder's tokenizer, for a graph with `input_ids`; it cuts as Hugging Face does.
fn text(graph: &Graph, files: &dyn Files) -> Result<Option<TextEncoder>, ModelError> {
    let ids = graph.find("input_ids").map(|id| graph.node(id)).filter(|node| matches!(node.op, Op::Input));
    let there = TextEncoder::is_in(files);
    let Some(tokens) = ids.and_then(|node| node.shape.last()).filter(|_| there) else { return Ok(None) };
    Ok(Some(TextEncoder::read(files, *tokens, Truncation::KeepLast)?))
}

/// What the outputs mean, where their shapes and names say it.
fn task(graph: &Graph, files: &dyn Files, config: Option<&Value>) -> Task {
    let outputs = graph.outputs();
    let shape = |id: NodeId| graph.node(id).shape.as_slice();
    let named = |wanted: &str| outputs.iter().find(|(name, _)| name == wanted);
    if let (Some((logits, id)), Some((boxes, _))) = (named("logits"), named("pred_boxes")) {
        let classes = shape(*id).last().map_or(0, |n| n.saturating_sub(1));
        return Task::Boxes { logits: logits.clone(), boxes: boxes.clone(), labels: labels(config, classes) };
    }
    // Several outputs: the one that is called `logits` counts, the others are states on the way to it.
    let only = if let [only] = outputs { Some(only) } else { None };
    if let Some((name, id)) = only.or_else(|| named("logits")) {
        let activation =
            |wanted: Activation| matches!(graph.node(*id).op, Op::Activation(act) if act == wanted);
        // Probabilities are cut at one half, logits at zero.
        let above = MaskRule::Above(if activation(Activation::Sigmoid) { 0.5 } else { 0.0 });
        let mask = |rule: MaskRule| Task::Mask { logits: name.clone(), rule };
        let found = match *shape(*id) {
            [1, 2, h, w] if h > 1 && w > 1 => Some(mask(MaskRule::Second)),
            [1, 1, h, w] if h > 1 && w > 1 => Some(mask(above)),
            // One value for each pixel of the picture.
            [1, h, w] | [h, w] if h > 1 && picture(graph) == Some((h, w)) => Some(mask(above)),
            [1, n] if n > 1 && is_embedding(name) => Some(Task::Embeddings { outputs: vec![name.clone()] }),
            [1, n] if n > 1 => Some(Task::Classes { logits: name.clone(), labels: labels(config, n) }),
            [1, _, classes] if matches!(graph.node(*id).op, Op::Softmax) && classes > 2 => {
                Some(Task::Letters { scores: name.clone(), alphabet: alphabet(files, classes - 1) })
            }
            _ => None,
        };
        if let Some(found) = found {
            return found;
        }
    }
    let embeddings =
        outputs.iter().filter(|(name, id)| is_embedding(name) && matches!(shape(*id), [1, n] if *n > 1));
    let outputs: Vec<String> = embeddings.map(|(name, _)| name.clone()).collect();
    if outputs.is_empty() { Task::Tensors } else { Task::Embeddings { outputs } }
}

/// Whether an output is called an embedding: `image_embeds`, `sentence_embedding`.
fn is_embedding(name: &str) -> bool {
    let name = name.to_lowercase();
    name.contains("embeds") || name.contains("embedding")
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
