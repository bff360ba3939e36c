//! Opening a model: a folder, a file in one, or the files embedded in the program.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::architecture::Built;
use super::source::Source;
use super::{InputShapes, ModelError, Task, Weights, architecture, little_endian, onnx};
use crate::data::{DirFiles, Files, PreprocessorConfig, TextEncoder};
use crate::exec::Resized;
use crate::graph::{Graph, Param};

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

/// What may have another size in every sample, so that the graph is made for each size that comes (see
/// [`Reopened`]); sites and weights are the same in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnSizes {
    /// Nothing: one graph for all.
    None,
    /// Pictures; the model's graph is that for the largest one.
    Pictures,
    /// Prompts: as many points as a sample has.
    Prompts,
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
    /// What may have another size in every sample.
    pub own_sizes: OwnSizes,
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
    let Opened { name, label, files, architecture, built, warnings } = opened(source, weights, shapes)?;
    Ok(Model {
        name,
        label,
        architecture,
        fingerprint: fingerprint(architecture, &built.graph, built.own_sizes == OwnSizes::None),
        graph: Arc::new(built.graph),
        preprocessor: built.preprocessor,
        own_sizes: built.own_sizes,
        text: built.text,
        task: built.task,
        encodings: Vec::new(),
        unsupported: Vec::new(),
        warnings,
        files,
    })
}

/// Makes the graphs of a model for samples of other sizes than it was opened for.
#[derive(Debug, Clone)]
pub struct Reopened {
    /// The model.
    pub model: ModelFiles,
    /// Weights that take the place of its own: a `bitloupe-weights/1` export.
    pub exported_weights: Option<PathBuf>,
}

impl Resized for Reopened {
    fn graph(&self, shapes: &InputShapes) -> Result<Graph, ModelError> {
        let weights = self.exported_weights.as_deref().map(Weights::from_export).transpose()?;
        Ok(opened(&self.model, weights, shapes)?.built.graph)
    }
}

/// What is read of a model that is not ONNX.
struct Opened {
    name: String,
    label: Option<String>,
    files: Arc<dyn Files>,
    architecture: &'static str,
    built: Built,
    warnings: Vec<String>,
}

/// Reads files and builds the graph.
fn opened(source: &ModelFiles, weights: Option<Weights>, shapes: &InputShapes) -> Result<Opened, ModelError> {
    // Configuration and tokenizer may be links out of the folder; samples may not, their names come from manifests.
    type Folder = Arc<dyn Files>;
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
    let (architecture, warnings) = (architecture.name, source.assumed());
    Ok(Opened { name, label, files: confined, architecture, built, warnings })
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

/// Stands for the graph's shape and every weight: two models with the same fingerprint give the same results. Where
/// samples have sizes of their own (`sized` is false) only layers and weights count, which all of them share.
pub(super) fn fingerprint(architecture: &str, graph: &Graph, sized: bool) -> String {
    let mut hash = Sha256::new();
    hash.update(architecture);
    for node in graph.nodes() {
        if sized {
            hash.update(format!("{}|{}|{:?}\n", node.name, node.op.kind(), node.shape));
        } else if node.op.slots().is_some() {
            hash.update(format!("{}|{}\n", node.name, node.op.kind()));
        }
    }
    let mut params: Vec<&Param> = graph.params().iter().collect();
    if !sized {
        params.sort_by(|a, b| a.name.cmp(&b.name));
    }
    for param in params {
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
