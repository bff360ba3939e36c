//! Why a model cannot be opened, with the file, the tensor and what to do.

/// Most tensors that a message names.
const LISTED: usize = 20;

/// A model that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file cannot be read.
    #[error("{file}: {source}; give a folder with config.json and model.safetensors")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not a safetensors file, or a damaged one.
    #[error("{file}: not a readable safetensors file ({message}); download or copy it again")]
    Safetensors {
        /// The file.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// A file without content.
    #[error("{file}: the file is empty; download or copy it again")]
    Empty {
        /// The file.
        file: String,
    },
    /// What git keeps in the place of a large file.
    #[error("{file}: a pointer of Git LFS instead of the weights; run `git lfs pull` in its folder")]
    LfsPointer {
        /// The file.
        file: String,
    },
    /// A folder in which no weights are found.
    #[error(
        "{folder}: no model.safetensors, pytorch_model.bin or model.onnx in this folder, nor one other file of weights{}; \
         give the file itself",
        hint_several(.found)
    )]
    NoWeights {
        /// The folder.
        folder: String,
        /// Files that could be meant.
        found: Vec<String>,
    },
    /// An index of several weight files that does not go with them.
    #[error("{file}: {message}")]
    Shards {
        /// The index.
        file: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A file is not a checkpoint of torch, or a damaged one.
    #[error(
        "{file}: not a readable torch checkpoint ({message}); download it again, or write it anew with \
         `torch.save(model.state_dict(), …)`"
    )]
    Torch {
        /// The file.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// A pickle that calls what only an attack calls.
    #[error(
        "{file}: it asks Python to call `{function}`, which no checkpoint needs and which could do anything; nothing of \
         it was run. Do not load this file with Python, and ask for the weights as .safetensors"
    )]
    Harmful {
        /// The file.
        file: String,
        /// The function, with its module.
        function: String,
    },
    /// A checkpoint in the form of torch before 1.6.
    #[error(
        "{file}: a checkpoint in the form of torch before 1.6; convert it with `python -c \"import torch; \
         torch.save(torch.load('{file}', map_location='cpu'), 'converted.pth')\"`"
    )]
    OldTorch {
        /// The file.
        file: String,
    },
    /// A tensor of a torch checkpoint whose values are not where it says.
    #[error("{file}: tensor `{tensor}`: {message}; download the checkpoint again")]
    TensorDamaged {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        message: String,
    },
    /// Two tensors have one name.
    #[error(
        "tensor `{tensor}` is in {first} and in {second}; one of the files does not belong to this checkpoint"
    )]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
        /// The file that was read first.
        first: String,
        /// The other one.
        second: String,
    },
    /// A tensor that the architecture needs is not there.
    #[error("{file}: tensor `{tensor}` is missing{}; is this the checkpoint that belongs to config.json?", hint(.nearest))]
    MissingTensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Names in the file that are nearest to it.
        nearest: Vec<String>,
    },
    /// Several tensors that the architecture needs are not there.
    #[error(
        "{file}: {} tensors are missing: {}{}; is this the checkpoint that belongs to config.json?",
        .names.len(), list(.names, LISTED), instead(.unknown)
    )]
    MissingTensors {
        /// The file.
        file: String,
        /// The tensors, sorted: all, or as many as the architecture could be followed to.
        names: Vec<String>,
        /// Tensors of the file that have no place, where the architecture could be followed to its end.
        unknown: Vec<String>,
    },
    /// A tensor has another shape than the config asks for.
    #[error(
        "{file}: tensor `{tensor}` has shape {found:?}, expected {expected:?}; config.json and checkpoint do not belong together"
    )]
    TensorShape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What the config asks for.
        expected: Vec<usize>,
        /// What is in the file.
        found: Vec<usize>,
    },
    /// A tensor has a type that weights do not have.
    #[error("{file}: tensor `{tensor}` is stored as {dtype}; expected F32, F16, BF16 or F64")]
    TensorType {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
    },
    /// A weight is NaN or infinite.
    #[error("{file}: tensor `{tensor}` holds {value} at index {index}; the checkpoint is damaged")]
    NonFinite {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// First place.
        index: usize,
        /// What stands there.
        value: f32,
    },
    /// Tensors that the architecture has no place for.
    #[error(
        "{file}: {} no place in this architecture: {}; check `model_type` and sizes in config.json",
        if .names.len() == 1 { "a tensor has".to_owned() } else { format!("{} tensors have", .names.len()) },
        list(.names, LISTED)
    )]
    UnknownTensors {
        /// The file.
        file: String,
        /// The tensors.
        names: Vec<String>,
    },
    /// An ONNX file that cannot be used.
    #[error("{file}: {message}")]
    Onnx {
        /// The file.
        file: String,
        /// What is wrong, where, and what to do.
        message: String,
    },
    /// An ONNX file with operators that are not supported.
    #[error("{file}: {} {} not supported: {}; export the model without them (fixed sizes unroll loops); where layers come before them, `bitloupe info` lists those", .nodes.len(), if .nodes.len() == 1 { "node is" } else { "nodes are" }, operators(.nodes))]
    UnsupportedOperators {
        /// The file.
        file: String,
        /// All of them.
        nodes: Vec<super::onnx::Unsupported>,
    },
    /// A config that cannot be used.
    #[error("{file}: {message}")]
    Config {
        /// The file.
        file: String,
        /// What is wrong and what was expected.
        message: String,
    },
    /// A file beside the weights cannot be used.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// An export of quantized weights cannot be used.
    #[error(transparent)]
    Export(#[from] crate::export::weights::WeightsError),
    /// An input asked for in a shape that the model cannot read.
    #[error("input `{input}`: {message}")]
    Input {
        /// The input.
        input: String,
        /// What is wrong and what was expected.
        message: String,
    },
    /// Shapes that do not go together.
    #[error("{node}: {message}; the sizes in config.json do not fit together")]
    Graph {
        /// The node.
        node: String,
        /// What is wrong.
        message: String,
    },
}

fn hint(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" (nearest: {})", names.join(", ")) }
}

fn hint_several(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" (there are {})", list(names, 5)) }
}

fn instead(unknown: &[String]) -> String {
    match unknown {
        [] => String::new(),
        [one] => format!("; `{one}` has no place in this architecture"),
        _ => format!("; {} have no place in this architecture: {}", unknown.len(), list(unknown, LISTED)),
    }
}

/// At most so many names, and how many more there are.
fn list(names: &[String], most: usize) -> String {
    let shown: Vec<_> = names.iter().take(most).map(|n| format!("`{n}`")).collect();
    let more = names.len().saturating_sub(shown.len());
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

fn operators(nodes: &[super::onnx::Unsupported]) -> String {
    let shown: Vec<_> = nodes.iter().map(|n| format!("{} (node `{}`: {})", n.op, n.node, n.reason)).collect();
    shown.join(", ")
}
