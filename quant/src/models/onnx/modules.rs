//! The parameters of a flow as named tensors of a checkpoint.

use std::collections::HashMap;
use std::sync::Arc;

use super::flow::{Flow, Id, Op};
use super::names::Names;
use crate::models::{ModelError, Weights};

/// Parameters by the module that they belong to.
#[derive(Debug, Default)]
pub(super) struct Modules {
    /// By step: the module's name.
    names: HashMap<Id, String>,
    /// By module: its parameters' constants.
    parameters: HashMap<String, Vec<Id>>,
    /// By name that several modules have: how many.
    counts: HashMap<String, usize>,
    tensors: Vec<(String, Vec<usize>, Arc<Vec<f32>>)>,
}

impl Modules {
    /// Takes the parameters of a step, if it is a module.
    pub(super) fn add(&mut self, flow: &Flow, names: &Names, id: Id) {
        let step = flow.step(id);
        let (parameters, ends): (&[Id], &[&str]) = match &step.op {
            Op::Linear | Op::Conv(_) | Op::ConvTranspose(_) | Op::LayerNorm { .. } => {
                (&step.inputs[1..], &["weight", "bias"])
            }
            Op::BatchNorm { .. } => (&step.inputs[1..], &["weight", "bias", "running_mean", "running_var"]),
            Op::Embedding => (&step.inputs[..1], &["weight"]),
            _ => return,
        };
        let path = names.layer(flow, id);
        let mut name = path.clone();
        if let Some(first) = self.parameters.get(&path) {
            if same(flow, first, parameters) {
                self.names.insert(id, path);
                return;
            }
            // Another module of this name has other weights: the node's own name tells them apart, or a number.
            let own = step.name.rsplit('/').next().unwrap_or_default();
            name = format!("{path}.{own}");
            while own.is_empty() || self.parameters.contains_key(&name) {
                let count = self.counts.entry(path.clone()).or_insert(1);
                *count += 1;
                name = format!("{path}.{count}");
                if !self.parameters.contains_key(&name) {
                    break;
                }
            }
        }
        for (&parameter, end) in parameters.iter().zip(ends) {
            if let Some(data) = flow.data(parameter) {
                let shape = flow.shape(parameter).to_vec();
                self.tensors.push((format!("{name}.{end}"), shape, data.to_floats()));
            }
        }
        self.parameters.insert(name.clone(), parameters.to_vec());
        self.names.insert(id, name);
    }

    /// The module that a step is.
    pub(super) fn name(&self, id: Id) -> Option<&String> {
        self.names.get(&id)
    }

    /// All parameters as a checkpoint.
    pub(super) fn weights(&mut self, file: &str) -> Result<Weights, ModelError> {
        Weights::from_tensors(file, std::mem::take(&mut self.tensors))
    }
}

/// Whether two lists of constants hold the same values.
fn same(flow: &Flow, a: &[Id], b: &[Id]) -> bool {
    let equal = |a: Id, b: Id| {
        a == b
            || (flow.shape(a) == flow.shape(b)
                && flow.data(a).zip(flow.data(b)).is_some_and(|(a, b)| a.to_floats() == b.to_floats()))
    };
    a.len() == b.len() && a.iter().zip(b).all(|(&a, &b)| equal(a, b))
}
