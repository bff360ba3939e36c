//! Models in ONNX files, as exporters write them (operator sets 11 to 21).
//!
//! The way of a file: its messages are read where they lie ([`proto`]); every operator becomes one or a few typed
//! steps of known shape, and what depends on no input is computed at once ([`translate`], [`flow`], [`fold`]); what
//! exporters took apart is recognised ([`patterns`]); a fixed batch is cut to one sample ([`batch`]); layers get their
//! owners' names back ([`names`]); and the [`Builder`](crate::graph::Builder) makes the graph ([`emit`]).

mod batch;
mod bounds;
#[cfg(test)]
mod conformance;
mod emit;
mod encodings;
mod external;
mod flow;
mod fold;
mod model;
mod modules;
mod names;
mod op;
mod patterns;
mod proto;
mod shape;
mod tensor;
mod translate;
mod wire;

use std::path::Path;

pub use encodings::Encoding;
pub(super) use model::{in_folder, is_onnx, model};
pub use translate::Unsupported;

use self::external::Files;
use self::tensor::Dtype;
use self::translate::Translator;
use super::{InputShapes, ModelError, mapping};
use crate::graph::Graph;

/// Operator sets that were read here.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;
/// Height and width of an image whose file leaves them open.
const OPEN_IMAGE: usize = 224;
/// Width of a picture of a line of text, whose height is fixed (PP-OCR is trained with 48 by 320).
const OPEN_LINE: usize = 320;
/// Height of such a picture at most.
const LINE_HEIGHT: usize = 64;
/// Length of a sequence whose file leaves it open.
const OPEN_LENGTH: usize = 32;
/// Inputs with a value for each token of a sentence.
const TOKENS: [&str; 4] = ["input_ids", "attention_mask", "token_type_ids", "position_ids"];

/// Sizes that the files beside a model say, for axes that its file leaves open.
#[derive(Debug, Clone, Copy, Default)]
struct Usual {
    /// Height and width of pictures.
    image: Option<(usize, usize)>,
    /// Tokens of a sentence.
    tokens: Option<usize>,
}

/// What an ONNX file holds.
#[derive(Debug)]
pub struct OnnxModel {
    /// The graph for one sample, in full precision.
    pub graph: Graph,
    /// Encodings that the file carries for its layers' operands.
    pub encodings: Vec<Encoding>,
    /// Nodes that are not supported. The graph ends before them.
    pub unsupported: Vec<Unsupported>,
    /// Nodes that were left out because they depend on those.
    pub left_out: Vec<String>,
    /// What a person should know of the file all the same.
    pub warnings: Vec<String>,
}

/// Opens a file for inputs of the given shapes. A file with operators that are not supported is an error, which
/// lists them.
pub fn open(path: &Path, shapes: &InputShapes) -> Result<OnnxModel, ModelError> {
    let model = open_partly(path, shapes)?;
    if model.unsupported.is_empty() {
        return Ok(model);
    }
    Err(ModelError::UnsupportedOperators { file: path.display().to_string(), nodes: model.unsupported })
}

/// Opens what can be opened of a file: nodes that depend on an operator that is not supported are left out, and the
/// values that they would have used are results.
pub fn open_partly(path: &Path, shapes: &InputShapes) -> Result<OnnxModel, ModelError> {
    open_usual(path, shapes, Usual::default())
}

fn open_usual(path: &Path, shapes: &InputShapes, usual: Usual) -> Result<OnnxModel, ModelError> {
    let file = path.display().to_string();
    let map = mapping::map(path).map_err(|source| ModelError::Read { file: file.clone(), source })?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    read(&file, &map, folder, (shapes, usual), None)
}

/// Reads a file's bytes; external data lies in `folder`. `batch` is said by tests, which keep the file's own.
fn read(
    file: &str,
    bytes: &[u8],
    folder: &Path,
    (shapes, usual): (&InputShapes, Usual),
    batch: Option<usize>,
) -> Result<OnnxModel, ModelError> {
    let fail = |message: String| {
        let message = translate::advised(message, "export the model again");
        ModelError::Onnx { file: file.to_owned(), message }
    };
    let damaged =
        |message: &str| fail(format!("not a readable ONNX file ({message}); download or export it again"));
    let model = proto::model(bytes).map_err(damaged)?;
    let graph =
        model.graph.as_ref().filter(|g| !g.nodes.is_empty()).ok_or_else(|| damaged("it holds no graph"))?;
    if !OPSETS.contains(&model.opset) {
        let (low, high) = (OPSETS.start(), OPSETS.end());
        return Err(fail(format!(
            "operator set {}; this version reads {low} to {high}; export it with one of them",
            model.opset
        )));
    }
    let locations = external_locations(graph);
    let files = Files::open(folder, locations.into_iter()).map_err(fail)?;
    let Inputs { shaped: inputs, batch: fixed, assumed } = inputs(graph, shapes, usual).map_err(fail)?;
    let mut translator = Translator::new(model.opset, &files);
    translator.run(graph, &inputs).map_err(fail)?;
    let (unsupported, left_out) = (translator.unsupported, translator.left_out);
    let mut flow = translator.flow;
    if flow.outputs.is_empty() {
        if unsupported.is_empty() {
            return Err(fail("it has no outputs".into()));
        }
        return Err(ModelError::UnsupportedOperators { file: file.to_owned(), nodes: unsupported });
    }
    patterns::simplify(&mut flow).map_err(fail)?;
    batch::one_sample(&mut flow, batch.unwrap_or(fixed)).map_err(fail)?;
    let mut warnings = assumed;
    warnings.append(&mut flow.warnings);
    let (graph, encodings) = emit::emit(file, flow)?;
    Ok(OnnxModel { graph, encodings, unsupported, left_out, warnings })
}

/// Files that tensors of a graph and of its branches lie in.
fn external_locations(graph: &proto::Graph<'_>) -> Vec<String> {
    let mut all = Vec::new();
    let mut see = |tensor: &proto::Tensor<'_>| {
        if tensor.is_external {
            all.extend(tensor.external.iter().filter(|(k, _)| k == "location").map(|(_, v)| v.clone()));
        }
    };
    let mut open = vec![graph];
    while let Some(graph) = open.pop() {
        graph.initializers.iter().for_each(&mut see);
        for attribute in graph.nodes.iter().flat_map(|n| &n.attributes) {
            attribute.tensor.as_deref().iter().for_each(|tensor| see(tensor));
            open.extend(attribute.graph.as_deref());
        }
    }
    all
}

/// What a file's graph is given.
struct Inputs {
    /// Names, shapes and types.
    shaped: Vec<(String, Vec<usize>, Dtype)>,
    /// The batch that the file fixes (1 if it fixes none).
    batch: usize,
    /// Sizes that neither the file nor those beside it say.
    assumed: Vec<String>,
}

fn inputs(graph: &proto::Graph<'_>, shapes: &InputShapes, usual: Usual) -> Result<Inputs, String> {
    let (mut inputs, mut assumed) = (Vec::new(), Vec::new());
    let mut batches = Vec::new();
    // Old files list their initializers among the inputs.
    let stored: std::collections::HashSet<&str> =
        graph.initializers.iter().map(|t| t.name.as_str()).collect();
    for info in graph.inputs.iter().filter(|info| !stored.contains(info.name.as_str())) {
        let name = &info.name;
        let dtype = Dtype::of(info.dtype).ok_or_else(|| {
            let found = tensor::type_name(info.dtype);
            format!("input `{name}` has values of type {found}; export the model with numbers as its inputs")
        })?;
        let asked = shapes.get(name);
        let said = dimensions(&info.dims);
        if asked.is_some_and(|asked| asked.len() != info.dims.len()) {
            let rank = info.dims.len();
            return Err(format!(
                "input `{name}` has {rank} axes, {said}; shape {asked:?} was asked for; give a tensor with as many"
            ));
        }
        let mut shape = Vec::with_capacity(info.dims.len());
        for (axis, fixed) in info.dims.iter().enumerate() {
            let size = match fixed.filter(|&n| n != 0) {
                Some(n) => {
                    let n = usize::try_from(n).ok().filter(|&n| n < 1 << 31).ok_or_else(|| {
                        format!("input `{name}` has dimensions {said}; export the model with sizes below 2147483648")
                    })?;
                    // The first axis is the batch: any number of samples may be asked for.
                    if axis > 0 && asked.is_some_and(|asked| asked[axis] != n) {
                        return Err(format!(
                            "input `{name}` is fixed to {said} in the file; shape {asked:?} was asked for; give a \
                             tensor of the file's shape, or export the model with open axes"
                        ));
                    }
                    n
                }
                None if axis == 0 => 1,
                None => match asked {
                    Some(asked) => asked[axis].clamp(1, 1 << 31),
                    None => open_size(name, &info.dims, &shape, usual),
                },
            };
            shape.push(size);
        }
        let open = |axis: usize| info.dims.get(axis).is_some_and(|n| n.is_none_or(|n| n == 0));
        let picture = shape.len() == 4 && (open(2) || open(3));
        if picture && asked.is_none() && usual.image.is_none() {
            assumed.push(format!(
                "input `{name}` leaves its size open: {} by {} is taken; a preprocessor_config.json beside the file \
                 says another",
                shape[2], shape[3]
            ));
        }
        let tokens = name == TOKENS[0] && shape.len() == 2 && open(1);
        if tokens && asked.is_none() && usual.tokens.is_none() {
            assumed.push(format!(
                "input `{name}` leaves its length open: {} tokens are taken; `model_max_length` in a \
                 tokenizer_config.json beside the file says another",
                shape[1]
            ));
        }
        if tensor::numbers(&shape).is_none_or(|n| n >= 1 << 31) {
            return Err(format!(
                "input `{name}` would have shape {shape:?}; export the model with smaller inputs"
            ));
        }
        batches.extend(shape.first().copied());
        inputs.push((name.clone(), shape, dtype));
    }
    let batch = batches.first().copied().filter(|first| batches.iter().all(|b| b == first)).unwrap_or(1);
    Ok(Inputs { shaped: inputs, batch, assumed })
}

/// The size of the next axis after `shape` of an input whose file leaves it open.
fn open_size(name: &str, dims: &[Option<i64>], shape: &[usize], usual: Usual) -> usize {
    let axis = shape.len();
    match (dims.len(), usual.image) {
        (4, _) if axis == 1 => 3,
        (4, Some((height, width))) => [height, width][usize::from(axis == 3)],
        (4, None) => match shape.get(2) {
            Some(&height) if height <= LINE_HEIGHT => OPEN_LINE,
            // A picture of which one side is fixed is a square.
            Some(&height) => height,
            None => dims
                .get(3)
                .copied()
                .flatten()
                .and_then(|n| usize::try_from(n).ok())
                .filter(|&n| n > 0)
                .unwrap_or(OPEN_IMAGE),
        },
        (2, _) if TOKENS.contains(&name) => usual.tokens.unwrap_or(OPEN_LENGTH),
        _ => OPEN_LENGTH,
    }
}

/// Dimensions of the file, `?` for open ones.
fn dimensions(dims: &[Option<i64>]) -> String {
    let all: Vec<String> = dims.iter().map(|n| n.map_or("?".to_owned(), |n| n.to_string())).collect();
    format!("[{}]", all.join(", "))
}
