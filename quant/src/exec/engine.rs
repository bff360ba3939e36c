//! Runs a graph for one sample: what is needed, what is cached, in order, with buffers used again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::buffers::Buffers;
use super::fusion::{self, Fused};
use super::keys::{self, Key};
use super::sizes::{Siblings, Sizes};
use super::step::LayerWeight;
use super::{ActivationCache, ExecError, Quantization, Value, step};
use crate::graph::{Graph, NodeId, Op};
use crate::quantizer::Params;

/// Packed quantized weights kept for plans that come back; enough for every weight of a model at all widths.
const WEIGHT_CACHE_BYTES: usize = 256 << 20;

/// A flag that stops runs between nodes.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks all runs that hold this flag to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sees values as they are made; nothing is kept for it.
pub trait Tap {
    /// Whether this node's value is wanted. Wanted nodes run even if the results do not need them.
    fn wants(&self, node: NodeId) -> bool;
    /// The value of a wanted node.
    fn value(&mut self, node: NodeId, value: &Value);
}

/// Sees nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoTap;

impl Tap for NoTap {
    fn wants(&self, _: NodeId) -> bool {
        false
    }

    fn value(&mut self, _: NodeId, _: &Value) {}
}

/// What a run gave.
#[derive(Debug, Clone)]
pub struct Run {
    /// Results in the order of [`Graph::outputs`].
    pub outputs: Vec<Value>,
    /// Nodes that were computed (constants and inputs not counted).
    pub nodes_run: usize,
    /// Nodes whose value came from the cache.
    pub nodes_reused: usize,
}

/// A graph made ready for running.
#[derive(Debug)]
pub struct Engine {
    graph: Arc<Graph>,
    /// By node: the weight of a layer, packed when it is first used.
    packed: Vec<Arc<OnceLock<LayerWeight>>>,
    /// By node: the sequence that ends there.
    fused: Vec<Option<Fused>>,
    /// By node: stands for what a rewrite changed in it; 0 in a graph as it was opened.
    pub(super) changes: Vec<u64>,
    weights: Mutex<WeightCache>,
    spare: Mutex<Vec<Buffers>>,
    /// Where pictures have sizes of their own.
    pub(super) sizes: Option<Arc<Sizes>>,
    pub(super) siblings: Siblings,
}

#[derive(Debug, Default)]
struct WeightCache {
    entries: HashMap<(usize, u64), Arc<LayerWeight>>,
    bytes: usize,
}

impl Engine {
    /// Makes `graph` ready. Weights are packed as they are used.
    pub fn new(graph: Arc<Graph>) -> Self {
        let packed = graph.nodes().iter().map(|_| Arc::default()).collect();
        let changes = vec![0; graph.nodes().len()];
        Self::of(graph, packed, changes, None)
    }

    fn of(
        graph: Arc<Graph>,
        packed: Vec<Arc<OnceLock<LayerWeight>>>,
        changes: Vec<u64>,
        sizes: Option<Arc<Sizes>>,
    ) -> Self {
        let fused = fusion::find(&graph);
        let (weights, spare, siblings) = (Mutex::default(), Mutex::default(), Siblings::default());
        Self { graph, packed, fused, changes, weights, spare, sizes, siblings }
    }

    /// The engine of the same graph in another size, which `size` stands for. Packed weights do not depend on sizes.
    pub(super) fn sibling(&self, graph: Arc<Graph>, size: u64) -> Self {
        // No value of one size stands for one of another, also where it depends on constants alone.
        let changes = self.changes.iter().map(|change| change ^ (size | 1)).collect();
        Self::of(graph, self.packed.clone(), changes, None)
    }

    /// The same for a rewritten graph: what did not change is shared. Both may use one [`ActivationCache`].
    #[must_use]
    pub fn rewritten(&self, graph: Arc<Graph>) -> Self {
        let changes = graph
            .nodes()
            .iter()
            .zip(self.graph.nodes())
            .zip(&self.changes)
            .map(|((node, before), &change)| change ^ keys::of_change((&graph, node), (&self.graph, before)))
            .collect();
        let packed = (0..graph.nodes().len())
            .map(|index| {
                let id = NodeId(index as u32);
                match (graph.weight_of(id), self.graph.weight_of(id)) {
                    (Some(new), Some(old)) if new.data.same(&old.data) => Arc::clone(&self.packed[index]),
                    _ => Arc::default(),
                }
            })
            .collect();
        Self::of(graph, packed, changes, self.sizes.clone())
    }

    /// The graph.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Packed full-precision weight of a layer.
    pub(super) fn packed(&self, node: usize) -> Option<&LayerWeight> {
        let place = self.packed.get(node)?;
        if place.get().is_none() {
            let id = NodeId(node as u32);
            let weight = self.graph.weight_of(id)?;
            let pack = |values: &[f32]| LayerWeight::pack(&self.graph, self.graph.node(id), values);
            let packed = weight.data.once(pack)?;
            // Not `get_or_init`: packing hands work to the thread pool, and while it waits this thread may take up
            // another sample that needs the same weight. Of two that pack it at once the first is kept.
            let _ = place.set(packed);
        }
        place.get()
    }

    /// The weight of site `site`, fake-quantized with `params` and packed; from the cache if it was made before.
    pub(super) fn quantized_weight(
        &self,
        site: usize,
        params: &Params,
        hash: u64,
    ) -> Result<Arc<LayerWeight>, ExecError> {
        let lock = || self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().entries.get(&(site, hash)) {
            return Ok(Arc::clone(found));
        }
        let s = &self.graph.sites()[site];
        let mut data = self.graph.weight_of(s.node).map(|p| p.data.to_vec()).unwrap_or_default();
        step::fake_quantize(&mut data, s.layout_of(params.scheme.granularity), params, &s.id)?;
        let Some(packed) = LayerWeight::pack(&self.graph, self.graph.node(s.node), &data) else {
            let message = "the layer has no weight".to_owned();
            return Err(ExecError::Quantizer { site: s.id.to_string(), message });
        };
        let packed = Arc::new(packed);
        let mut cache = lock();
        cache.bytes += packed.bytes();
        if cache.bytes > WEIGHT_CACHE_BYTES {
            cache.entries.clear();
            cache.bytes = packed.bytes();
        }
        cache.entries.insert((site, hash), Arc::clone(&packed));
        Ok(packed)
    }

    /// Checks inputs given by name and puts them into the graph's order.
    pub fn inputs(&self, mut given: HashMap<String, Value>) -> Result<Vec<Value>, ExecError> {
        self.graph
            .inputs()
            .iter()
            .map(|&id| {
                let node = self.graph.node(id);
                let (name, expected) = (node.name.clone(), node.shape.clone());
                let Some(value) = given.remove(&name) else {
                    return Err(ExecError::MissingInput { name, expected });
                };
                if self.takes(&expected, value.shape()) {
                    Ok(value)
                } else {
                    Err(ExecError::InputShape { name, expected, found: value.shape().to_vec() })
                }
            })
            .collect()
    }

    /// Runs one sample. `inputs` are in the order of [`Graph::inputs`]. With a cache, values that are in it are not
    /// computed again and new ones are kept.
    pub fn run(
        &self,
        inputs: &[Value],
        quantization: &Quantization,
        cache: Option<&ActivationCache>,
        tap: &mut dyn Tap,
        cancel: &Cancel,
    ) -> Result<Run, ExecError> {
        if let Some(sized) = self.at_size_of(inputs)? {
            return sized.run(inputs, quantization, cache, tap, cancel);
        }
        let graph = &*self.graph;
        let keys = match cache {
            Some(_) => {
                let given: Vec<Key> = inputs.iter().map(keys::of_input).collect();
                keys::of_nodes(graph, &given, &self.changes, quantization)
            }
            None => Vec::new(),
        };
        let mut kept = Vec::new();
        let run = match cache {
            Some(cache) => {
                let known = Known {
                    has: &|index| cache.contains(keys[index]),
                    get: &|index| cache.get(keys[index]),
                    reclaim: false,
                };
                let made = |index: usize, value: &Value, hidden: &[NodeId]| {
                    let hidden = hidden.iter().map(|id| work(graph, id.index())).sum::<u64>();
                    kept.push((keys[index], value.clone(), work(graph, index) + hidden));
                };
                self.execute(inputs, quantization, &known, made, tap, cancel)?
            }
            None => self.execute(inputs, quantization, &Known::NOTHING, |_, _, _| {}, tap, cancel)?,
        };
        if let Some(cache) = cache {
            cache.put(kept);
        }
        Ok(run)
    }

    /// Runs what is not `known` and needed. `made(node, value, hidden)` sees every value that was computed, constants left
    /// out, with the nodes that were computed on the way and have none.
    pub(super) fn execute(
        &self,
        inputs: &[Value],
        quantization: &Quantization,
        known: &Known<'_>,
        made: impl FnMut(usize, &Value, &[NodeId]),
        tap: &mut dyn Tap,
        cancel: &Cancel,
    ) -> Result<Run, ExecError> {
        self.execute_for(inputs, quantization, known, made, (tap, self.graph.outputs()), cancel)
    }

    /// The same for some of the graph's outputs.
    fn execute_for(
        &self,
        inputs: &[Value],
        quantization: &Quantization,
        known: &Known<'_>,
        mut made: impl FnMut(usize, &Value, &[NodeId]),
        (tap, outputs): (&mut dyn Tap, &[(String, NodeId)]),
        cancel: &Cancel,
    ) -> Result<Run, ExecError> {
        let graph = &*self.graph;
        let sequences = self.sequences(tap);
        let plan = self.needed(known.has, &sequences, tap, outputs);
        let run = Context { inputs, quantization, cancel, sequences: &sequences, reclaim: known.reclaim };
        let mut state = State { values: vec![None; graph.nodes().len()], left: plan.uses };
        let mut buffers = self.buffers();
        let (mut nodes_run, mut nodes_reused) = (0, 0);
        let mut given = inputs.iter();
        for (index, node) in graph.nodes().iter().enumerate() {
            if matches!(node.op, Op::Input) {
                state.values[index] = given.next().cloned();
            }
            if !plan.wanted[index] {
                continue;
            }
            if cancel.is_cancelled() {
                return Err(ExecError::Cancelled);
            }
            if state.values[index].is_none() {
                if let Some(value) = (known.get)(index) {
                    nodes_reused += 1;
                    state.values[index] = Some(value);
                } else {
                    let value = self.compute(index, &mut state, &run, &mut buffers)?;
                    if !matches!(node.op, Op::Constant(_)) {
                        let hidden = sequences[index].map_or(&[][..], |fused| &fused.hidden);
                        nodes_run += 1 + hidden.len();
                        made(index, &value, hidden);
                    }
                    state.values[index] = Some(value);
                }
            }
            let id = NodeId(index as u32);
            if tap.wants(id)
                && let Some(value) = &state.values[index]
            {
                tap.value(id, value);
            }
        }
        let outputs = outputs
            .iter()
            .map(|(_, id)| state.values[id.index()].clone().ok_or(ExecError::Cancelled))
            .collect::<Result<_, _>>()?;
        self.keep(buffers);
        Ok(Run { outputs, nodes_run, nodes_reused })
    }

    /// Runs a few samples side by side, node by node, on the calling thread: weights, and whatever the tap fills, are
    /// then in the processor's caches for all but the first. The tap sees each node's values in the order of the
    /// samples, and nothing runs that it does not ask for.
    pub fn watch_group(
        &self,
        samples: &[Vec<Value>],
        quantization: &Quantization,
        tap: &mut dyn Tap,
        cancel: &Cancel,
    ) -> Result<(), ExecError> {
        if self.sizes.is_some() {
            return self.watch_sizes(samples, quantization, tap, cancel);
        }
        let graph = &*self.graph;
        let sequences = self.sequences(tap);
        let plan = self.needed(Known::NOTHING.has, &sequences, tap, &[]);
        let mut states: Vec<State> = samples
            .iter()
            .map(|_| State { values: vec![None; graph.nodes().len()], left: plan.uses.clone() })
            .collect();
        let mut buffers = self.buffers();
        for index in 0..graph.nodes().len() {
            let input = graph.inputs().iter().position(|id| id.index() == index);
            if cancel.is_cancelled() {
                return Err(ExecError::Cancelled);
            }
            for (inputs, state) in samples.iter().zip(&mut states) {
                if let Some(place) = input {
                    state.values[index] = inputs.get(place).cloned();
                }
                if !plan.wanted[index] {
                    continue;
                }
                if state.values[index].is_none() {
                    let run = Context { inputs, quantization, cancel, sequences: &sequences, reclaim: true };
                    let value = self.compute(index, state, &run, &mut buffers)?;
                    state.values[index] = Some(value);
                }
                let id = NodeId(index as u32);
                if tap.wants(id)
                    && let Some(value) = &state.values[index]
                {
                    tap.value(id, value);
                }
            }
        }
        self.keep(buffers);
        Ok(())
    }

    /// The same where every sample may have a size of its own: one after another.
    fn watch_sizes(
        &self,
        samples: &[Vec<Value>],
        quantization: &Quantization,
        tap: &mut dyn Tap,
        cancel: &Cancel,
    ) -> Result<(), ExecError> {
        let known = Known::NOTHING;
        for inputs in samples {
            let sized = self.at_size_of(inputs)?;
            let engine = sized.as_deref().unwrap_or(self);
            engine.execute_for(inputs, quantization, &known, |_, _, _| {}, (tap, &[]), cancel)?;
        }
        Ok(())
    }

    /// Spare buffers of an earlier run.
    fn buffers(&self) -> Buffers {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn keep(&self, buffers: Buffers) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
    }

    /// Keeps the memory of values that nobody else holds for the next run.
    pub(crate) fn reuse(&self, values: Vec<Value>) {
        let mut buffers = self.buffers();
        values.into_iter().filter_map(Value::into_buffer).for_each(|buffer| buffers.give(buffer));
        self.keep(buffers);
    }

    /// The value of a node. Operands that the cache dropped between planning and use are computed here too; those
    /// that nobody needs any more are given to the kernel to write over, or their buffers kept for later nodes.
    fn compute(
        &self,
        index: usize,
        state: &mut State,
        run: &Context<'_>,
        buffers: &mut Buffers,
    ) -> Result<Value, ExecError> {
        let fused = run.sequences[index];
        let ids = fused.map_or(&self.graph.nodes()[index].inputs, |fused| &fused.inputs);
        let mut operands = Vec::with_capacity(ids.len());
        for id in ids {
            let at = id.index();
            if state.values[at].is_none() {
                if run.cancel.is_cancelled() {
                    return Err(ExecError::Cancelled);
                }
                if matches!(self.graph.node(*id).op, Op::Input) {
                    let place = self.graph.inputs().iter().position(|input| input == id);
                    state.values[at] = place.and_then(|place| run.inputs.get(place)).cloned();
                }
                if state.values[at].is_none() {
                    state.values[at] = Some(self.compute(at, state, run, buffers)?);
                }
            }
            let last = run.reclaim && state.left[at] == 1;
            operands.extend(if last { state.values[at].take() } else { state.values[at].clone() });
        }
        let value = step::node(self, index, fused, &mut operands, run.quantization, buffers)?;
        for (id, operand) in ids.iter().zip(operands) {
            state.release(*id, operand, run.reclaim, buffers);
        }
        Ok(value)
    }

    /// The sequences that run as one: those with no value inside that the tap wants.
    fn sequences(&self, tap: &dyn Tap) -> Vec<Option<&Fused>> {
        self.fused.iter().map(|f| f.as_ref().filter(|f| !f.hidden.iter().any(|&id| tap.wants(id)))).collect()
    }

    /// Which nodes must have a value, and how often each value will be used by nodes that are computed.
    fn needed(
        &self,
        has: &dyn Fn(usize) -> bool,
        sequences: &[Option<&Fused>],
        tap: &dyn Tap,
        outputs: &[(String, NodeId)],
    ) -> Needed {
        let nodes = self.graph.nodes();
        let mut wanted = vec![false; nodes.len()];
        let mut uses = vec![0_u32; nodes.len()];
        for (_, id) in outputs {
            wanted[id.index()] = true;
            uses[id.index()] += 1;
        }
        for index in (0..nodes.len()).rev() {
            wanted[index] |= tap.wants(NodeId(index as u32));
            if !wanted[index] || has(index) {
                continue;
            }
            for input in sequences[index].map_or(&nodes[index].inputs, |fused| &fused.inputs) {
                wanted[input.index()] = true;
                uses[input.index()] += 1;
            }
        }
        Needed { wanted, uses }
    }
}

/// Values that are there already.
pub(super) struct Known<'k> {
    /// Whether a node's value is there.
    pub(super) has: &'k dyn Fn(usize) -> bool,
    /// The value; none if it is gone by now.
    pub(super) get: &'k dyn Fn(usize) -> Option<Value>,
    /// Whether the buffers of values that nobody needs any more are used again.
    pub(super) reclaim: bool,
}

impl Known<'_> {
    const NOTHING: Known<'static> = Known { has: &|_| false, get: &|_| None, reclaim: true };
}

struct Needed {
    wanted: Vec<bool>,
    uses: Vec<u32>,
}

struct State {
    values: Vec<Option<Value>>,
    left: Vec<u32>,
}

/// What stays the same during a run.
struct Context<'r> {
    inputs: &'r [Value],
    quantization: &'r Quantization,
    cancel: &'r Cancel,
    sequences: &'r [Option<&'r Fused>],
    /// Whether buffers are used again; with a cache they belong to it.
    reclaim: bool,
}

impl State {
    /// Counts down an operand of a node that ran and takes back its buffer if nobody needs it any more.
    fn release(&mut self, id: NodeId, operand: Value, reclaim: bool, buffers: &mut Buffers) {
        let left = &mut self.left[id.index()];
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.values[id.index()] = None;
            if reclaim && let Some(buffer) = operand.into_buffer() {
                buffers.give(buffer);
            }
        }
    }
}

/// Work of a node in the unit of one multiply-accumulate, for the cache's choice of what to keep.
pub(super) fn work(graph: &Graph, index: usize) -> u64 {
    let node = &graph.nodes()[index];
    let numbers: u64 = node.shape.iter().map(|&n| n as u64).product();
    match &node.op {
        Op::Linear { weight, .. } | Op::Conv { weight, .. } => {
            let w = graph.param(*weight);
            numbers * (w.data.len() / w.shape[0].max(1)) as u64
        }
        Op::ConvTranspose { weight, .. } => {
            let w = graph.param(*weight);
            let inputs: u64 = graph.node(node.inputs[0]).shape.iter().map(|&n| n as u64).product();
            inputs * (w.data.len() / w.shape[0].max(1)) as u64
        }
        Op::MatMul { .. } => numbers * graph.node(node.inputs[0]).shape.last().copied().unwrap_or(1) as u64,
        Op::Reshape | Op::Narrow { .. } => 0,
        Op::Softmax | Op::Activation(_) | Op::LayerNorm { .. } | Op::InstanceNorm { .. } => numbers * 8,
        _ => numbers,
    }
}
