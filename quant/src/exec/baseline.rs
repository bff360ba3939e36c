//! Runs that start from an earlier one: only what an edit reaches is computed again.

use super::engine::{Known, work};
use super::{Cancel, Engine, ExecError, Quantization, Run, Tap, Value};
use crate::graph::{Graph, NodeId, Op};

/// Which values of a run are worth keeping under a cap of memory.
#[derive(Debug, Clone)]
pub struct Keep {
    nodes: Vec<bool>,
    bytes: usize,
}

impl Keep {
    /// Everything if it fits into `cap` bytes, else the values that take the most work a byte to make again.
    pub fn within(graph: &Graph, cap: usize) -> Self {
        let mut order: Vec<(usize, usize)> = Vec::new();
        for (index, node) in graph.nodes().iter().enumerate() {
            if !matches!(node.op, Op::Input | Op::Constant(_)) {
                let numbers =
                    node.shape.iter().try_fold(1_usize, |all, &n| all.checked_mul(n)).unwrap_or(usize::MAX);
                order.push((index, numbers.saturating_mul(size_of::<f32>())));
            }
        }
        let worth = |&(index, bytes): &(usize, usize)| work(graph, index) / (bytes as u64).max(1);
        // The later of two alike: more lies behind it.
        order.sort_by_key(|one| std::cmp::Reverse((worth(one), one.0)));
        let (mut nodes, mut total) = (vec![false; graph.nodes().len()], 0_usize);
        for (index, bytes) in order {
            if let Some(sum) = total.checked_add(bytes).filter(|&sum| sum <= cap) {
                nodes[index] = true;
                total = sum;
            }
        }
        Self { nodes, bytes: total }
    }

    /// Bytes that the values take at most.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A run whose values are kept, for runs that differ from it in a few nodes.
#[derive(Debug)]
pub struct Baseline {
    inputs: Vec<Value>,
    /// By node: what was kept.
    values: Vec<Option<Value>>,
    outputs: Vec<Value>,
    /// By node: what stood for its quantizers, and for what rewrites had changed in it.
    hashes: Vec<(u64, u64)>,
}

impl Baseline {
    /// Results in the order of [`Graph::outputs`].
    pub fn outputs(&self) -> &[Value] {
        &self.outputs
    }

    /// The value of a node, if it was kept.
    pub fn value(&self, node: NodeId) -> Option<&Value> {
        self.values.get(node.index())?.as_ref()
    }

    /// The inputs it ran on.
    pub fn inputs(&self) -> &[Value] {
        &self.inputs
    }

    /// Bytes of the values that are kept, the inputs left out.
    pub fn bytes(&self) -> usize {
        self.values.iter().flatten().map(|value| value.len() * size_of::<f32>()).sum()
    }
}

impl Engine {
    /// Runs one sample and keeps what `keep` says. `inputs` are in the order of [`Graph::inputs`].
    pub fn baseline(
        &self,
        inputs: &[Value],
        quantization: &Quantization,
        keep: &Keep,
        tap: &mut dyn Tap,
        cancel: &Cancel,
    ) -> Result<(Run, Baseline), ExecError> {
        let mut values = vec![None; self.graph().nodes().len()];
        let known = Known { has: &|_| false, get: &|_| None, reclaim: true };
        let made = |index: usize, value: &Value, _: u64| {
            if keep.nodes.get(index) == Some(&true) {
                values[index] = Some(own(value));
            }
        };
        let run = self.execute(inputs, quantization, &known, made, tap, cancel)?;
        let baseline = Baseline {
            inputs: inputs.to_vec(),
            values,
            outputs: run.outputs.clone(),
            hashes: self.hashes(quantization),
        };
        Ok((run, baseline))
    }

    /// Runs the sample of `baseline` under another quantization, or after other rewrites of the same graph. Only nodes
    /// that the difference reaches are computed, and those that they need but that were not kept; the results are those
    /// of a whole run, bit for bit.
    pub fn run_from(
        &self,
        baseline: &Baseline,
        quantization: &Quantization,
        tap: &mut dyn Tap,
        cancel: &Cancel,
    ) -> Result<Run, ExecError> {
        self.run_changed(
            baseline,
            quantization,
            &self.reached(baseline, quantization),
            |_, _| {},
            tap,
            cancel,
        )
    }

    /// [`run_from`](Self::run_from), after which `baseline` is that of the new run.
    pub fn advance(
        &self,
        baseline: &mut Baseline,
        quantization: &Quantization,
        keep: &Keep,
        cancel: &Cancel,
    ) -> Result<Run, ExecError> {
        let reached = self.reached(baseline, quantization);
        let mut made = Vec::new();
        let see = |index: usize, value: &Value| {
            if keep.nodes.get(index) == Some(&true) {
                made.push((index, own(value)));
            }
        };
        let run = self.run_changed(baseline, quantization, &reached, see, &mut super::NoTap, cancel)?;
        for (value, reached) in baseline.values.iter_mut().zip(&reached) {
            if *reached {
                *value = None;
            }
        }
        for (index, value) in made {
            baseline.values[index] = Some(value);
        }
        baseline.outputs.clone_from(&run.outputs);
        baseline.hashes = self.hashes(quantization);
        Ok(run)
    }

    fn run_changed(
        &self,
        baseline: &Baseline,
        quantization: &Quantization,
        reached: &[bool],
        mut see: impl FnMut(usize, &Value),
        tap: &mut dyn Tap,
        cancel: &Cancel,
    ) -> Result<Run, ExecError> {
        let known = Known {
            has: &|index| !reached[index] && baseline.values[index].is_some(),
            get: &|index| if reached[index] { None } else { baseline.values[index].clone() },
            reclaim: true,
        };
        self.execute(&baseline.inputs, quantization, &known, |index, value, _| see(index, value), tap, cancel)
    }

    /// What stands for each node's quantizers, and for what rewrites changed in it.
    fn hashes(&self, quantization: &Quantization) -> Vec<(u64, u64)> {
        self.changes
            .iter()
            .enumerate()
            .map(|(index, &change)| (quantization.node_hash(index), change))
            .collect()
    }

    /// By node: whether its value differs, or may, from that of the baseline.
    fn reached(&self, baseline: &Baseline, quantization: &Quantization) -> Vec<bool> {
        let nodes = self.graph().nodes();
        let mut reached: Vec<bool> = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            let own =
                Some(&(quantization.node_hash(index), self.changes[index])) != baseline.hashes.get(index);
            let any = own || node.inputs.iter().any(|input| reached[input.index()]);
            reached.push(any);
        }
        reached
    }
}

/// A value that holds no more than its own numbers: one that is a part of a larger one would keep all of that alive.
fn own(value: &Value) -> Value {
    if value.buffer_bytes() > value.len() * size_of::<f32>() {
        Value::new(value.shape().to_vec(), value.as_slice().to_vec())
    } else {
        value.clone()
    }
}
