//! Several samples side by side, node by node, so that a layer can be decided on from all of them before it runs.

use std::sync::Arc;

use rayon::prelude::*;

use super::buffers::Buffers;
use super::{Cancel, Engine, ExecError, Quantization, Value, step};
use crate::graph::{NodeId, Op};
use crate::quantizer::Params;

/// Parameters for sites by their places.
pub type Decision = Vec<(usize, Arc<Params>)>;

impl Engine {
    /// Runs all samples together. Before a layer runs, `decide` gets its node and, per operand, its values in all
    /// samples, and says what is quantized there. With `sequential` the layer and all later ones see these quantized
    /// values; otherwise everything runs in full precision. Only values that are still needed are kept: the peak is
    /// that of one sample times their number. `inputs` are in the order of [`Graph::inputs`](crate::graph::Graph).
    /// Call it within the thread pool that is to do the work.
    pub fn lockstep<E: From<ExecError>>(
        &self,
        samples: &[Vec<Value>],
        sequential: bool,
        cancel: &Cancel,
        mut decide: impl FnMut(NodeId, &[Vec<&Value>]) -> Result<Decision, E>,
    ) -> Result<(), E> {
        let graph = &**self.graph();
        let nodes = graph.nodes();
        let mut left: Vec<u32> = (0..nodes.len()).map(|i| graph.uses(NodeId(i as u32))).collect();
        let mut values: Vec<Vec<Option<Value>>> = vec![vec![None; nodes.len()]; samples.len()];
        for (of_sample, inputs) in values.iter_mut().zip(samples) {
            for (id, input) in graph.inputs().iter().zip(inputs) {
                of_sample[id.index()] = Some(input.clone());
            }
        }
        let mut quantization = Quantization::none(graph);
        for (index, node) in nodes.iter().enumerate() {
            if cancel.is_cancelled() {
                return Err(ExecError::Cancelled.into());
            }
            if matches!(node.op, Op::Input) {
                continue;
            }
            let id = NodeId(index as u32);
            if node.op.slots().is_some() {
                let operands: Vec<Vec<&Value>> = node
                    .inputs
                    .iter()
                    .map(|input| values.iter().filter_map(|v| v[input.index()].as_ref()).collect())
                    .collect();
                let decided = decide(id, &operands)?;
                if sequential {
                    for (site, params) in &decided {
                        quantization.set(self, *site, params)?;
                    }
                }
            }
            // Once, not by every sample that finds it missing.
            if quantization.weight(index).is_none() {
                self.packed(index);
            }
            values.par_iter_mut().try_for_each_init(Buffers::default, |buffers, of_sample| {
                let mut operands: Vec<Value> = Vec::with_capacity(node.inputs.len());
                for input in &node.inputs {
                    operands.extend(of_sample[input.index()].clone());
                }
                let value = step::node(self, index, None, &mut operands, &quantization, buffers)?;
                of_sample[index] = Some(value);
                Ok::<(), ExecError>(())
            })?;
            for input in &node.inputs {
                let uses = &mut left[input.index()];
                *uses = uses.saturating_sub(1);
                if *uses == 0 {
                    for of_sample in &mut values {
                        of_sample[input.index()] = None;
                    }
                }
            }
        }
        Ok(())
    }
}
