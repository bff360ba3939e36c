//! Runs that start from an earlier one: only what an edit reaches is computed again.

use std::collections::{BTreeMap, BTreeSet};

use super::engine::{Known, work};
use super::{Cancel, Engine, ExecError, Quantization, Run, Tap, Value, fusion};
use crate::graph::{Graph, Node, NodeId, Op};

/// Which values of a run are worth keeping under a cap of memory.
#[derive(Debug, Clone)]
pub struct Keep {
    nodes: Vec<Kept>,
    bytes: usize,
}

/// How the value of a node is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Not at all.
    Not,
    /// As it is: where it is a part of a larger one, all of that is kept, like queries, keys and values of one projection.
    AsItIs,
    /// In a buffer of its own: as it is, it would keep alive what is not wanted of the larger one that it is a part of.
    Copied,
}

impl Keep {
    /// Of the values that a run after an edit may start from everything if it fits into `cap` bytes, else those that take
    /// the most work a byte to make again from the others.
    pub fn within(graph: &Graph, cap: usize) -> Self {
        Self::with(graph, cap, |_| false)
    }

    /// The same with other values beside them: those of `wanted` nodes.
    pub fn with(graph: &Graph, cap: usize, wanted: impl Fn(NodeId) -> bool) -> Self {
        let mut starts = starts(graph);
        for (index, node) in graph.nodes().iter().enumerate() {
            starts[index] |= wanted(NodeId(index as u32));
            starts[index] &= !matches!(node.op, Op::Input | Op::Constant(_));
        }
        let mut order: Vec<(u64, usize, usize)> = Vec::new();
        for (index, node) in graph.nodes().iter().enumerate().filter(|(index, _)| starts[*index]) {
            let numbers =
                node.shape.iter().try_fold(1_usize, |all, &n| all.checked_mul(n)).unwrap_or(usize::MAX);
            let bytes = numbers.saturating_mul(size_of::<f32>());
            order.push((work_since(graph, &starts, index) / (bytes as u64).max(1), index, bytes));
        }
        // The later of two alike: more lies behind it.
        order.sort_unstable_by_key(|&one| std::cmp::Reverse(one));
        let (mut nodes, mut total) = (vec![Kept::Not; graph.nodes().len()], 0_usize);
        for (_, index, bytes) in order {
            if let Some(sum) = total.checked_add(bytes).filter(|&sum| sum <= cap) {
                nodes[index] = Kept::AsItIs;
                total = sum;
            }
        }
        for index in parts_alone(graph, |index| nodes[index] == Kept::AsItIs) {
            nodes[index] = Kept::Copied;
        }
        Self { nodes, bytes: total }
    }

    fn how(&self, index: usize) -> Kept {
        self.nodes.get(index).copied().unwrap_or(Kept::Not)
    }

    /// Bytes that the values take at most.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Of the nodes that are `kept` those whose values are parts of larger ones not all of which is kept.
fn parts_alone(graph: &Graph, kept: impl Fn(usize) -> bool) -> Vec<usize> {
    // By the node that makes a value, what is kept of it, and which nodes these parts are.
    let mut parts: BTreeMap<usize, BTreeMap<(usize, usize), Vec<usize>>> = BTreeMap::new();
    let numbers =
        |index: usize| graph.nodes()[index].shape.iter().fold(1, |all: usize, &n| all.saturating_mul(n));
    for index in (0..graph.nodes().len()).filter(|&index| kept(index)) {
        let (whole, start) = part_of(graph, index);
        parts.entry(whole).or_default().entry((start, numbers(index))).or_default().push(index);
    }
    // Inputs and constants stay whatever is kept of them.
    let stays = |index: usize| matches!(graph.nodes()[index].op, Op::Input | Op::Constant(_));
    let alone = |(whole, parts): &(usize, BTreeMap<(usize, usize), Vec<usize>>)| {
        !stays(*whole) && parts.keys().map(|(_, len)| len).sum::<usize>() < numbers(*whole)
    };
    parts.into_iter().filter(alone).flat_map(|(_, parts)| parts.into_values().flatten()).collect()
}

/// The node that makes the numbers of a node's value, and where among them these begin.
fn part_of(graph: &Graph, index: usize) -> (usize, usize) {
    let (mut at, mut start) = (index, 0);
    loop {
        let node = &graph.nodes()[at];
        match &node.op {
            Op::Reshape => {}
            Op::Narrow { axis, start: first, .. } if node.shape[..*axis].iter().all(|&n| n == 1) => {
                start += first * node.shape[axis + 1..].iter().product::<usize>();
            }
            _ => return (at, start),
        }
        at = node.inputs[0].index();
    }
}

/// The work of making the value of a node from those of the nodes of `starts`.
fn work_since(graph: &Graph, starts: &[bool], index: usize) -> u64 {
    let (mut open, mut seen, mut sum) = (vec![index], BTreeSet::from([index]), 0_u64);
    while let Some(at) = open.pop() {
        sum = sum.saturating_add(work(graph, at));
        for input in &graph.nodes()[at].inputs {
            if !starts[input.index()] && seen.insert(input.index()) {
                open.push(input.index());
            }
        }
    }
    sum
}

/// Whether an edit or another input can change what a node computes while its operands stay as they are. Rewrites can
/// change other nodes too, but seldom enough for what lies before those to be made again.
fn changeable(node: &Node) -> bool {
    matches!(node.op, Op::Input) || node.op.slots().is_some()
}

/// By node: whether a run after an edit may start from its value, which is so if something that uses it depends on a
/// changeable node that it does not depend on itself. Of everything else that an edit does not reach nothing is used: a
/// layer's result behind an activation, what is only moved or normalized, one side of an addition.
fn starts(graph: &Graph) -> Vec<bool> {
    let nodes = graph.nodes();
    let words = nodes.iter().filter(|node| changeable(node)).count().div_ceil(64).max(1);
    // By node, a bit for each changeable node that it depends on, itself among them.
    let mut depends = vec![0_u64; words * nodes.len()];
    let mut place = 0;
    for (index, node) in nodes.iter().enumerate() {
        let (before, own) = depends.split_at_mut(index * words);
        for input in &node.inputs {
            let of_input = &before[input.index() * words..][..words];
            own.iter_mut().zip(of_input).for_each(|(own, input)| *own |= input);
        }
        if changeable(node) {
            own[place / 64] |= 1 << (place % 64);
            place += 1;
        }
    }
    let depends = |index: usize| &depends[index * words..][..words];
    let fused = fusion::find(graph);
    let mut starts = vec![false; nodes.len()];
    let mut hidden = vec![false; nodes.len()];
    for id in fused.iter().flatten().flat_map(|fused| &fused.hidden) {
        hidden[id.index()] = true;
    }
    for (index, node) in nodes.iter().enumerate().filter(|(index, _)| !hidden[*index]) {
        for input in fused[index].as_ref().map_or(&node.inputs, |fused| &fused.inputs) {
            let mut both = depends(index).iter().zip(depends(input.index()));
            starts[input.index()] |= both.any(|(ours, of_input)| ours & !of_input != 0);
        }
    }
    for (_, id) in graph.outputs() {
        starts[id.index()] = true;
    }
    starts
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

    /// The values that are kept, those that several baselines share among them.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.values.iter().flatten()
    }

    /// Gives back what it is made of, so that its memory can be used again.
    pub(crate) fn into_values(self) -> Vec<Value> {
        self.values.into_iter().flatten().chain(self.outputs).collect()
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
        if let Some(sized) = self.at_size_of(inputs)? {
            return sized.baseline(inputs, quantization, keep, tap, cancel);
        }
        let mut values = vec![None; self.graph().nodes().len()];
        let known = Known { has: &|_| false, get: &|_| None, reclaim: true };
        let made = |index: usize, value: &Value, _: &[NodeId]| {
            values[index] = match keep.how(index) {
                Kept::Not => None,
                Kept::AsItIs => Some(value.clone()),
                Kept::Copied => Some(copied(value, None)),
            };
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
        if let Some(sized) = self.at_size_of(&baseline.inputs)? {
            return sized.run_from(baseline, quantization, tap, cancel);
        }
        let reached = self.reached(baseline, &baseline.inputs, quantization);
        self.run_changed(baseline, &baseline.inputs, quantization, &reached, |_, _| {}, tap, cancel)
    }

    /// [`run_from`](Self::run_from), after which `baseline` is that of the new run. What is replaced gives its memory to
    /// what replaces it; after an error the baseline has no outputs, and goes on from there.
    pub fn advance(
        &self,
        baseline: &mut Baseline,
        quantization: &Quantization,
        keep: &Keep,
        cancel: &Cancel,
    ) -> Result<Run, ExecError> {
        if let Some(sized) = self.at_size_of(&baseline.inputs)? {
            return sized.advance(baseline, quantization, keep, cancel);
        }
        let reached = self.reached(baseline, &baseline.inputs, quantization);
        let (mut replaced, mut copies) = (std::mem::take(&mut baseline.outputs), BTreeMap::new());
        for (index, value) in baseline.values.iter_mut().enumerate().filter(|(index, _)| reached[*index]) {
            if keep.how(index) == Kept::Copied {
                copies.extend(value.take().map(|value| (index, value)));
            } else {
                replaced.extend(value.take());
            }
        }
        self.reuse(replaced);
        let mut made = Vec::new();
        let see = |index: usize, value: &Value| match keep.how(index) {
            Kept::Not => {}
            Kept::AsItIs => made.push((index, value.clone())),
            Kept::Copied => made.push((index, copied(value, copies.remove(&index)))),
        };
        let (inputs, tap) = (&baseline.inputs, &mut super::NoTap);
        let run = self.run_changed(baseline, inputs, quantization, &reached, see, tap, cancel)?;
        for (index, value) in made {
            baseline.values[index] = Some(value);
        }
        baseline.outputs.clone_from(&run.outputs);
        baseline.hashes = self.hashes(quantization);
        Ok(run)
    }

    /// [`run_from`](Self::run_from) with other inputs besides, if they are, and a baseline of the new run beside the old
    /// one. What the difference does not reach they share.
    pub fn branch(
        &self,
        baseline: &Baseline,
        inputs: &[Value],
        quantization: &Quantization,
        keep: &Keep,
        cancel: &Cancel,
    ) -> Result<(Run, Baseline), ExecError> {
        if let Some(sized) = self.at_size_of(inputs)? {
            return sized.branch(baseline, inputs, quantization, keep, cancel);
        }
        let reached = self.reached(baseline, inputs, quantization);
        let kept = baseline.values.iter().zip(&reached);
        let mut values: Vec<Option<Value>> =
            kept.map(|(value, &reached)| value.clone().filter(|_| !reached)).collect();
        let see = |index: usize, value: &Value| match keep.how(index) {
            Kept::Not => {}
            Kept::AsItIs => values[index] = Some(value.clone()),
            Kept::Copied => values[index] = Some(copied(value, None)),
        };
        let tap = &mut super::NoTap;
        let run = self.run_changed(baseline, inputs, quantization, &reached, see, tap, cancel)?;
        let (outputs, hashes) = (run.outputs.clone(), self.hashes(quantization));
        Ok((run, Baseline { inputs: inputs.to_vec(), values, outputs, hashes }))
    }

    /// How many nodes a run with these inputs and this quantization would have to compute at least.
    pub fn distance(&self, baseline: &Baseline, inputs: &[Value], quantization: &Quantization) -> usize {
        let reached = |engine: &Self| {
            engine.reached(baseline, inputs, quantization).into_iter().filter(|&reached| reached).count()
        };
        match self.at_size_of(inputs) {
            Ok(Some(sized)) => reached(&sized),
            Ok(None) => reached(self),
            // The run will say why.
            Err(_) => self.graph().nodes().len(),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one call of the executor, said in full")]
    fn run_changed(
        &self,
        baseline: &Baseline,
        inputs: &[Value],
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
        self.execute(inputs, quantization, &known, |index, value, _| see(index, value), tap, cancel)
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
    fn reached(&self, baseline: &Baseline, inputs: &[Value], quantization: &Quantization) -> Vec<bool> {
        let nodes = self.graph().nodes();
        let mut reached: Vec<bool> = Vec::with_capacity(nodes.len());
        let mut given = inputs.iter().zip(&baseline.inputs);
        for (index, node) in nodes.iter().enumerate() {
            let own =
                Some(&(quantization.node_hash(index), self.changes[index])) != baseline.hashes.get(index);
            let new = matches!(node.op, Op::Input) && given.next().is_some_and(|(new, old)| !new.same(old));
            let any = own || new || node.inputs.iter().any(|input| reached[input.index()]);
            reached.push(any);
        }
        reached
    }
}

/// The value in a buffer of its own, which is that of `before` if it has one to give.
fn copied(value: &Value, before: Option<Value>) -> Value {
    let mut numbers = before.and_then(Value::into_buffer).unwrap_or_default();
    numbers.clear();
    numbers.extend_from_slice(value.as_slice());
    Value::new(value.shape().to_vec(), numbers)
}
