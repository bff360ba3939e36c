//! Opening a model: a folder, a file in one, or the files embedded in the program.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::source::Source;
use super::{InputShapes, ModelError, Task, Weights, architecture, little_endian, onnx};
use crate::data::{DirFiles, Files, PreprocessorConfig, TextEncoder};
use crate::graph::Graph;

const WEIGHTS: &str = "model.safetensors";

/// Where a model lies.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A folder with `config.json` and `model.safetensors`, the `.safetensors` file in such a folder, an `.onnx` file, or
    /// a folder with one and no other weights.
    Path(PathBuf),
    /// Files embedded in the program.
    Embedded {
        /// Name of the model.
        name: &'static str,
        /// Shown wherever the name is.
        label: Option<&'static str>,
        /// Files by name, relative to the model's folder.
        files: &'static [(&'static str, &'static [u8])],
        /// Tensors that take the place of those in the file (the planted sample).
        replace: Vec<(String, Vec<f32>)>,
    },
}

/// An open model: the graph, and how pictures and sentences become its inputs.
pub struct Model {
    /// Short name.
    pub name: String,
    /// Shown wherever the name is.
    pub label: Option<String>,
    /// Its architecture, e.g. `lavt`.
    pub architecture: &'static str,
    /// The graph.
    pub graph: Arc<Graph>,
    /// How a picture becomes `pixel_values`; none for a model without pictures.
    pub preprocessor: Option<PreprocessorConfig>,
    /// How a sentence becomes `input_ids` and `attention_mask`; none for a model without sentences.
    pub text: Option<TextEncoder>,
    /// What the outputs mean.
    pub task: Task,
    /// Encodings that a quantized file carries for the sites of its layers.
    pub encodings: Vec<onnx::Encoding>,
    /// Nodes of the file that are not supported; the graph ends before them.
    pub unsupported: Vec<onnx::Unsupported>,
    /// What a person should know of the files all the same: what was assumed, what could not be used.
    pub warnings: Vec<String>,
    /// SHA-256 of architecture, sizes and weights, in hexadecimal.
    pub fingerprint: String,
    /// The model's folder, for samples in it; links do not lead out of it.
    pub files: Arc<dyn Files>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("name", &self.name)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Opens a model for inputs of its usual shapes. `weights` is a file that takes the place of the model's own weights.
pub fn open(source: &ModelFiles, weights: Option<Weights>) -> Result<Model, ModelError> {
    open_for(source, weights, &InputShapes::default())
}

/// Opens a model for inputs of given shapes; those that are not named have their usual ones.
pub fn open_for(
    source: &ModelFiles,
    weights: Option<Weights>,
    shapes: &InputShapes,
) -> Result<Model, ModelError> {
    // Configuration and tokenizer may be links out of the folder; samples may not, their names come from manifests.
    type Folder = Arc<dyn Files>;
    if let ModelFiles::Path(path) = source
        && onnx::is_onnx(path)
    {
        return onnx::model(path, shapes);
    }
    if let ModelFiles::Path(path) = source
        && weights.is_none()
        && path.is_dir()
        && let Some(file) = onnx::in_folder(path)
        && matches!(Weights::find(path), Err(ModelError::NoWeights { .. }))
    {
        return Ok(Model { name: folder_name(path), ..onnx::model(&file, shapes)? });
    }
    let given = weights.is_some();
    let (name, label, files, confined, mut found): (String, Option<String>, Folder, Folder, Weights) =
        match source {
            ModelFiles::Path(path) => {
                let (folder, file) = split(path);
                let confined = DirFiles::open(&folder)?;
                let files = Arc::new(confined.clone().following_links());
                let weights = match weights {
                    Some(weights) => weights,
                    None => Weights::find(&file)?,
                };
                (folder_name(&folder), None, files, Arc::new(confined), weights)
            }
            ModelFiles::Embedded { name, label, files, .. } => {
                let bytes = files.iter().find(|(n, _)| *n == WEIGHTS).map_or(&[][..], |(_, b)| b);
                let weights = match weights {
                    Some(weights) => weights,
                    None => Weights::embedded(&format!("{name}/{WEIGHTS}"), bytes)?,
                };
                let files: Folder = Arc::new(crate::data::EmbeddedFiles(files));
                ((*name).to_owned(), label.map(ToOwned::to_owned), Arc::clone(&files), files, weights)
            }
        };
    if let ModelFiles::Embedded { replace, .. } = source
        && !given
    {
        for (tensor, data) in replace {
            found.replace(tensor, data.clone());
        }
    }
    let source = Source::read(&*files, &found, shapes)?;
    let architecture = architecture::of(&source)?;
    // What is missing goes before what is wrong because of it.
    let built = (architecture.build)(&source)
        .map_err(|error| if source.weights.are_missing() { source.weights.missing() } else { error })?;
    Ok(Model {
        name,
        label,
        architecture: architecture.name,
        fingerprint: fingerprint(architecture.name, &built.graph),
        graph: Arc::new(built.graph),
        preprocessor: built.preprocessor,
        text: built.text,
        task: built.task,
        encodings: Vec::new(),
        unsupported: Vec::new(),
        warnings: source.assumed(),
        files: confined,
    })
}

/// What a folder is called.
fn folder_name(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or(folder.to_owned());
    folder.file_name().map_or("model".into(), |name| name.to_string_lossy().into_owned())
}

/// The folder that a path means, and where its weights are looked for.
fn split(path: &Path) -> (PathBuf, PathBuf) {
    if path.extension().is_some_and(|e| e == "safetensors") || path.is_file() {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        (folder.to_owned(), path.to_owned())
    } else {
        (path.to_owned(), path.to_owned())
    }
}

/// Stands for the graph's shape and every weight: two models with the same fingerprint give the same results.
pub(super) fn fingerprint(architecture: &str, graph: &Graph) -> String {
    let mut hash = Sha256::new();
    hash.update(architecture);
    for node in graph.nodes() {
        hash.update(format!("{}|{}|{:?}\n", node.name, node.op.kind(), node.shape));
    }
    for param in graph.params() {
        hash.update(format!("{}|{:?}\n", param.name, param.shape));
        param.data.in_blocks(|block| hash.update(little_endian(block)));
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        use std::fmt::Write;
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
