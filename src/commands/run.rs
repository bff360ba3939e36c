//! `bitloupe run`: raw tensors in and out.

use std::collections::{BTreeMap, HashMap};

use bitloupe_quant::exec::{Cancel, Quantization, Tap, Value};
use bitloupe_quant::graph::{Graph, NodeId};
use bitloupe_quant::session::Session;
use color_eyre::eyre::{Result, WrapErr, eyre};

use super::{Outcome, regex};
use crate::cli::Run;
use crate::open;
use crate::tensors::{self, Tensor};

/// Values that were asked for: by node, the names they go out under.
struct Taps {
    names: Vec<Vec<String>>,
    values: HashMap<String, Vec<Value>>,
}

impl Taps {
    fn new(graph: &Graph, pattern: Option<&regex::Regex>) -> Self {
        let mut names = vec![Vec::new(); graph.nodes().len()];
        if let Some(pattern) = pattern {
            for (node, names) in graph.nodes().iter().zip(&mut names) {
                if pattern.is_match(&node.name) {
                    names.push(format!("tap/{}", node.name));
                }
            }
            for site in graph.sites() {
                if let Some(operand) = site.operand
                    && pattern.is_match(&site.id.to_string())
                {
                    names[graph.node(site.node).inputs[operand].index()].push(format!("tap/{}", site.id));
                }
            }
        }
        Self { names, values: HashMap::new() }
    }
}

impl Tap for Taps {
    fn wants(&self, node: NodeId) -> bool {
        !self.names[node.index()].is_empty()
    }

    fn value(&mut self, node: NodeId, value: &Value) {
        for name in &self.names[node.index()] {
            self.values.entry(name.clone()).or_default().push(value.clone());
        }
    }
}

/// Runs every sample of a batch and joins the results along the first axis.
pub fn run(args: &Run) -> Result<Outcome> {
    let given = tensors::read(&args.inputs)?;
    let mut options = open::options(&args.model, None, None)?;
    options.shapes = given.iter().map(|(name, tensor)| (name.as_str(), tensor.shape.clone())).collect();
    let session = Session::open(&options)?;
    let graph = &*session.model().graph;
    let pattern = args.taps.as_deref().map(regex).transpose()?;
    let quantization = match &args.plan {
        Some(path) => session.quantization(&open::fit(&session, &open::plan(&session, path)?)?)?,
        None => Quantization::none(graph),
    };
    let batch = batch(graph, &given).wrap_err_with(|| args.inputs.display().to_string())?;
    let mut taps = Taps::new(graph, pattern.as_ref());
    let mut outputs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for sample in 0..batch {
        let inputs = session.engine().inputs(slice(graph, &given, sample))?;
        let run = session.engine().run(&inputs, &quantization, None, &mut taps, &Cancel::default())?;
        for ((name, _), value) in graph.outputs().iter().zip(run.outputs) {
            outputs.entry(name.clone()).or_default().push(value);
        }
    }
    outputs.extend(taps.values);
    let joined = outputs.into_iter().map(|(name, parts)| (name, join(&parts))).collect();
    tensors::write(&args.output, &joined)?;
    say!("{}: {} tensors of {batch} samples", args.output.display(), joined.len())?;
    Ok(Outcome::Done)
}

/// The batch size that all given inputs agree on.
fn batch(graph: &Graph, given: &BTreeMap<String, Tensor>) -> Result<usize> {
    let mut batch = None;
    for &id in graph.inputs() {
        let node = graph.node(id);
        let Some(tensor) = given.get(&node.name) else { continue };
        let fits = tensor.shape.len() == node.shape.len() && tensor.shape[1..] == node.shape[1..];
        if !fits {
            return Err(eyre!(
                "input `{}` has shape {:?}; the model was opened for [N, {}]",
                node.name,
                tensor.shape,
                node.shape[1..].iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ));
        }
        if batch.is_some_and(|b| b != tensor.shape[0]) {
            return Err(eyre!("input `{}` has another batch size than the others", node.name));
        }
        batch = Some(tensor.shape[0]);
    }
    batch.ok_or_else(|| {
        let names: Vec<&str> = graph.inputs().iter().map(|&id| graph.node(id).name.as_str()).collect();
        eyre!("the file holds none of the inputs {}", names.join(", "))
    })
}

/// The inputs of one sample.
fn slice(graph: &Graph, given: &BTreeMap<String, Tensor>, sample: usize) -> HashMap<String, Value> {
    let mut inputs = HashMap::new();
    for &id in graph.inputs() {
        let node = graph.node(id);
        if let Some(tensor) = given.get(&node.name) {
            let len: usize = node.shape.iter().product();
            let data = tensor.data[sample * len..][..len].to_vec();
            inputs.insert(node.name.clone(), Value::new(node.shape.clone(), data));
        }
    }
    inputs
}

/// Values of all samples along the first axis.
fn join(parts: &[Value]) -> Tensor {
    let mut shape = parts.first().map(|v| v.shape().to_vec()).unwrap_or_default();
    if let Some(first) = shape.first_mut() {
        *first = parts.iter().map(|v| v.shape()[0]).sum();
    }
    Tensor { shape, data: parts.iter().flat_map(|v| v.as_slice().iter().copied()).collect() }
}
