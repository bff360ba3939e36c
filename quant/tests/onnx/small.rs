//! Files that the tests write themselves, opened and run.

use std::sync::Arc;

use bitloupe_quant::exec::{Cancel, Engine, NoTap, Quantization, Value};
use bitloupe_quant::models::onnx::{self, OnnxModel};
use bitloupe_quant::models::{InputShapes, ModelError};

use super::writer;

/// Writes a file into a folder of its own and opens it in part.
pub(crate) fn open(bytes: &[u8]) -> Result<OnnxModel, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, bytes).unwrap();
    onnx::open_partly(&path, &InputShapes::default())
}

/// The same for a graph of operator set 17; it must open.
pub(crate) fn opened(graph: &writer::Message) -> OnnxModel {
    open(&writer::model(17, graph)).unwrap_or_else(|e| panic!("{e}"))
}

/// The message of the error that a graph gives.
pub(crate) fn refused(graph: &writer::Message) -> String {
    match open(&writer::model(17, graph)) {
        Ok(model) => panic!("it opened with {} nodes", model.graph.nodes().len()),
        Err(error) => error.to_string(),
    }
}

/// First output for one input.
pub(crate) fn run(model: &OnnxModel, input: &[f32]) -> Vec<f32> {
    let engine = Engine::new(Arc::new(model.graph.clone()));
    let graph = engine.graph();
    let shape = graph.node(graph.inputs()[0]).shape.clone();
    let none = Quantization::none(graph);
    let run = engine.run(&[Value::new(shape, input.to_vec())], &none, None, &mut NoTap, &Cancel::default());
    run.unwrap().outputs[0].as_slice().to_vec()
}
