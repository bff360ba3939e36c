//! Models in ONNX files, as exporters write them (operator sets 11 to 21).
//!
//! The way of a file: its messages are read where they lie ([`proto`]); every operator becomes one or a few typed
//! steps of known shape, and what depends on no input is computed at once ([`translate`], [`flow`], [`fold`]); what
//! exporters took apart is recognised ([`patterns`]); a fixed batch is cut to one sample ([`batch`]); layers get their
//! owners' names back ([`names`]); and the [`Builder`](crate::graph::Builder) makes the graph ([`emit`]).

mod batch;
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
pub(super) use model::{is_onnx, model};
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
    let file = path.display().to_string();
    let map = mapping::map(path).map_err(|source| ModelError::Read { file: file.clone(), source })?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    read(&file, &map, folder, shapes, None)
}

/// Reads a file's bytes; external data lies in `folder`. `batch` is said by tests, which keep the file's own.
fn read(
    file: &str,
    bytes: &[u8],
    folder: &Path,
    shapes: &InputShapes,
    batch: Option<usize>,
) -> Result<OnnxModel, ModelError> {
    let fail = |message: String| ModelError::Onnx { file: file.to_owned(), message };
    let damaged =
        |message: &str| fail(format!("not a readable ONNX file ({message}); download or export it again"));
    let model = proto::model(bytes).map_err(damaged)?;
    let graph =
        model.graph.as_ref().filter(|g| !g.nodes.is_empty()).ok_or_else(|| damaged("it holds no graph"))?;
    if !OPSETS.contains(&model.opset) {
        let (low, high) = (OPSETS.start(), OPSETS.end());
        return Err(fail(format!("operator set {}; this version reads {low} to {high}", model.opset)));
    }
    let locations = external_locations(graph);
    let files = Files::open(folder, locations.into_iter()).map_err(fail)?;
    let (inputs, fixed) = inputs(graph, shapes).map_err(fail)?;
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
    let (graph, encodings) = emit::emit(file, flow)?;
    Ok(OnnxModel { graph, encodings, unsupported, left_out })
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

/// Names, shapes and types of the inputs, and the batch that the file fixes (1 if it fixes none).
type Inputs = (Vec<(String, Vec<usize>, Dtype)>, usize);

fn inputs(graph: &proto::Graph<'_>, shapes: &InputShapes) -> Result<Inputs, String> {
    let mut inputs = Vec::new();
    let mut batches = Vec::new();
    // Old files list their initializers among the inputs.
    let stored: std::collections::HashSet<&str> =
        graph.initializers.iter().map(|t| t.name.as_str()).collect();
    for info in graph.inputs.iter().filter(|info| !stored.contains(info.name.as_str())) {
        let dtype = Dtype::of(info.dtype).ok_or_else(|| {
            format!("input `{}` has values of type {}; expected numbers", info.name, info.dtype)
        })?;
        let asked = shapes.get(&info.name);
        if asked.is_some_and(|asked| asked.len() != info.dims.len()) {
            let rank = info.dims.len();
            return Err(format!("input `{}` has {rank} axes; shape {asked:?} was asked for", info.name));
        }
        let mut shape = Vec::with_capacity(info.dims.len());
        for (axis, fixed) in info.dims.iter().enumerate() {
            let size = match fixed.filter(|&n| n != 0) {
                Some(n) => {
                    let n = usize::try_from(n).ok().filter(|&n| n < 1 << 31);
                    let n =
                        n.ok_or_else(|| format!("input `{}` has dimensions {:?}", info.name, info.dims))?;
                    // The first axis is the batch: any number of samples may be asked for.
                    if axis > 0 && asked.is_some_and(|asked| asked[axis] != n) {
                        return Err(format!(
                            "input `{}` is fixed to {:?} in the file; shape {asked:?} was asked for",
                            info.name, info.dims
                        ));
                    }
                    n
                }
                None if axis == 0 => 1,
                None => match asked {
                    Some(asked) => asked[axis].clamp(1, 1 << 31),
                    None if info.dims.len() == 4 && axis == 1 => 3,
                    None if info.dims.len() == 4 => match shape.get(2) {
                        Some(&height) if height <= LINE_HEIGHT => OPEN_LINE,
                        _ => OPEN_IMAGE,
                    },
                    None => OPEN_LENGTH,
                },
            };
            shape.push(size);
        }
        if tensor::numbers(&shape).is_none_or(|n| n >= 1 << 31) {
            return Err(format!("input `{}` would have shape {shape:?}", info.name));
        }
        batches.extend(shape.first().copied());
        inputs.push((info.name.clone(), shape, dtype));
    }
    let batch = batches.first().copied().filter(|first| batches.iter().all(|b| b == first)).unwrap_or(1);
    Ok((inputs, batch))
}
