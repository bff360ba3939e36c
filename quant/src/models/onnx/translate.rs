//! From the operators of a file, in any version, to the steps of a [`Flow`].
//!
//! One function per group of operators; versions differ in what is an attribute and what an operand, so both are
//! asked for. An operator that is not known, or not in the form that a file uses, is noted, and everything that
//! depends on it is left out.

mod call;
mod elementwise;
mod index;
mod layers;
mod product;
mod quantized;
mod reduce;
mod reshape;
mod table;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

pub(super) use call::{Call, Fail};

use super::external::Files;
use super::flow::{Flow, Id, Op, Step};
use super::proto::{Graph, Node};
use super::tensor::Dtype;

/// More nodes than this are taken for an attack; large models have a tenth of it.
const MAX_NODES: usize = 1 << 16;

/// A node that cannot be translated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// Its name in the file.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// What of it is not supported.
    pub reason: String,
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ({}): {}", self.node, self.op, self.reason)
    }
}

/// Translates one file.
pub(super) struct Translator<'a> {
    pub(super) flow: Flow,
    pub(super) opset: i64,
    files: &'a Files,
    /// Values by their name in the file; none where an operator before it is not supported.
    values: HashMap<String, Option<Id>>,
    pub(super) unsupported: Vec<Unsupported>,
    /// Names of nodes that were left out because of one that is not supported.
    pub(super) left_out: Vec<String>,
    /// Values that nodes left out would have used.
    loose: Vec<(String, Id)>,
}

type Handler = for<'c, 'a> fn(&mut Call<'c, 'a>) -> Result<Vec<Id>, Fail>;

/// The function that translates an operator.
fn handler(domain: &str, op: &str) -> Option<Handler> {
    if !matches!(domain, "" | "ai.onnx" | "com.microsoft") {
        return None;
    }
    elementwise::handler(op)
        .or_else(|| reshape::handler(op))
        .or_else(|| index::handler(op))
        .or_else(|| table::handler(op))
        .or_else(|| reduce::handler(op))
        .or_else(|| product::handler(op))
        .or_else(|| layers::handler(op))
        .or_else(|| quantized::handler(op))
}

impl<'a> Translator<'a> {
    pub(super) fn new(opset: i64, files: &'a Files) -> Self {
        Self {
            flow: Flow::default(),
            opset,
            files,
            values: HashMap::new(),
            unsupported: Vec::new(),
            left_out: Vec::new(),
            loose: Vec::new(),
        }
    }

    /// Translates the whole graph for inputs of the given shapes.
    pub(super) fn run(
        &mut self,
        graph: &Graph<'_>,
        inputs: &[(String, Vec<usize>, Dtype)],
    ) -> Result<(), String> {
        if graph.nodes.len() > MAX_NODES {
            return Err(format!("{} nodes; at most {MAX_NODES} are read", graph.nodes.len()));
        }
        self.initializers(graph)?;
        for (name, shape, dtype) in inputs {
            let step = Step {
                op: Op::Input,
                inputs: vec![],
                shape: shape.clone(),
                dtype: *dtype,
                name: name.as_str().into(),
                scope: None,
            };
            self.flow.steps.push(step);
            self.define(name, Some(Id(self.flow.steps.len() - 1)))?;
        }
        self.nodes(graph)?;
        for output in &graph.outputs {
            match self.values.get(&output.name) {
                Some(Some(id)) => self.flow.outputs.push((output.name.clone(), *id)),
                Some(None) => {}
                None => return Err(format!("output `{}` is made by no node", output.name)),
            }
        }
        // What is left of a file with unsupported operators ends where they begin.
        for (name, id) in std::mem::take(&mut self.loose) {
            let known = self.flow.outputs.iter().any(|(n, _)| *n == name);
            if !known && !matches!(self.flow.step(id).op, Op::Constant(_) | Op::Input) {
                self.flow.outputs.push((name, id));
            }
        }
        Ok(())
    }

    fn initializers(&mut self, graph: &Graph<'_>) -> Result<(), String> {
        if graph.sparse > 0 {
            return Err("sparse initializers are not supported; export dense ones".into());
        }
        for tensor in &graph.initializers {
            let (shape, dtype, data) = self.files.tensor(tensor)?;
            self.flow.stored = self.flow.stored.saturating_add(data.len());
            let id = self.flow.named_constant(tensor.name.as_str().into(), shape, dtype, data);
            self.define(&tensor.name, Some(id))?;
        }
        Ok(())
    }

    fn define(&mut self, name: &str, id: Option<Id>) -> Result<(), String> {
        if name.is_empty() || self.values.insert(name.to_owned(), id).is_none() {
            Ok(())
        } else {
            Err(format!("two values are named `{name}`"))
        }
    }

    fn nodes(&mut self, graph: &Graph<'_>) -> Result<(), String> {
        for index in order(graph, |name| self.values.contains_key(name))? {
            self.node(&graph.nodes[index])?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node<'_>) -> Result<(), String> {
        let name = if node.name.is_empty() { node.outputs.first() } else { Some(&node.name) };
        let name: Arc<str> = name.map_or("", String::as_str).into();
        let located = |message: String| {
            let message = format!("node `{name}` ({}): {message}", node.op);
            advised(message, "the file is damaged or was exported wrongly: export it again")
        };
        let known = node.op == "If" || handler(&node.domain, &node.op).is_some();
        if !known {
            let op =
                if node.domain.is_empty() { node.op.clone() } else { format!("{}.{}", node.domain, node.op) };
            let reason = "the operator is not known".to_owned();
            self.unsupported.push(Unsupported { node: name.to_string(), op, reason });
        }
        let mut operands = Vec::with_capacity(node.inputs.len());
        let mut missing = false;
        for input in &node.inputs {
            operands.push(match self.values.get(input) {
                _ if input.is_empty() => None,
                Some(Some(id)) => Some(*id),
                Some(None) => {
                    missing = true;
                    None
                }
                None => return Err(located(format!("no node or initializer makes `{input}`"))),
            });
        }
        if !known || missing {
            let used = node.inputs.iter().zip(&operands).filter_map(|(n, id)| Some((n.clone(), (*id)?)));
            self.loose.extend(used);
            if known {
                self.left_out.push(name.to_string());
            }
            return self.leave_out(node);
        }
        self.flow.name = Arc::clone(&name);
        self.flow.scope = node.scopes.as_deref().and_then(module_path);
        let result = if node.op == "If" {
            self.branch(node, &operands)
        } else {
            let handle = handler(&node.domain, &node.op);
            let mut call = Call {
                flow: &mut self.flow,
                node,
                operands: &operands,
                opset: self.opset,
                files: self.files,
            };
            handle.map_or(Ok(vec![]), |handle| handle(&mut call))
        };
        match result {
            Ok(ids) => {
                for (i, output) in node.outputs.iter().enumerate() {
                    match ids.get(i) {
                        Some(id) => self.define(output, Some(*id)).map_err(located)?,
                        // A result that is only for training (a mask of Dropout) or is not made.
                        None => self.define(output, None).map_err(located)?,
                    }
                }
                Ok(())
            }
            Err(Fail::Wrong(message)) => Err(located(message)),
            Err(Fail::Unsupported(reason)) => {
                self.unsupported.push(Unsupported { node: name.to_string(), op: node.op.clone(), reason });
                let used = node.inputs.iter().zip(&operands).filter_map(|(n, id)| Some((n.clone(), (*id)?)));
                self.loose.extend(used);
                self.leave_out(node)
            }
        }
    }

    fn leave_out(&mut self, node: &Node<'_>) -> Result<(), String> {
        node.outputs.iter().try_for_each(|output| self.define(output, None))
    }

    /// `If` with a condition that is known: one branch takes its place.
    fn branch(&mut self, node: &Node<'_>, operands: &[Option<Id>]) -> Result<Vec<Id>, Fail> {
        let condition = operands.first().copied().flatten().and_then(|id| self.flow.scalar(id));
        let Some(condition) = condition else {
            return Err(Fail::Unsupported("its condition depends on the inputs".into()));
        };
        let name = if condition == 0.0 { "else_branch" } else { "then_branch" };
        let graph = node.attribute(name).and_then(|a| a.graph.as_ref());
        let graph = graph.ok_or_else(|| Fail::Wrong(format!("it has no `{name}`")))?;
        self.initializers(graph)?;
        self.nodes(graph)?;
        let mut ids = Vec::new();
        for output in &graph.outputs {
            match self.values.get(&output.name) {
                Some(Some(id)) => ids.push(*id),
                Some(None) => return Err(Fail::Unsupported(format!("`{name}` holds what is not supported"))),
                None => {
                    return Err(Fail::Wrong(format!(
                        "output `{}` of `{name}` is made by no node",
                        output.name
                    )));
                }
            }
        }
        Ok(ids)
    }
}

/// Nodes in an order in which every value is made before it is used; an error names a node of a cycle.
fn order(graph: &Graph<'_>, known: impl Fn(&str) -> bool) -> Result<Vec<usize>, String> {
    let mut maker: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        for output in node.outputs.iter().filter(|o| !o.is_empty()) {
            if maker.insert(output, index).is_some() {
                return Err(format!("two nodes make `{output}`"));
            }
        }
    }
    let mut waits = vec![0_usize; graph.nodes.len()];
    let mut users: Vec<Vec<usize>> = vec![vec![]; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        let mut names = HashSet::new();
        uses(node, &mut names);
        for name in names {
            if !known(name)
                && let Some(&made_by) = maker.get(name)
            {
                waits[index] += 1;
                users[made_by].push(index);
            }
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..waits.len()).filter(|&i| waits[i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for &user in &users[index] {
            waits[user] -= 1;
            if waits[user] == 0 {
                ready.push(Reverse(user));
            }
        }
    }
    match waits.iter().position(|&n| n > 0) {
        None => Ok(order),
        Some(index) => {
            let node = &graph.nodes[index];
            let name = if node.name.is_empty() { node.outputs.first() } else { Some(&node.name) };
            Err(format!(
                "node `{}` uses its own result: the graph has a cycle",
                name.map_or("", String::as_str)
            ))
        }
    }
}

/// A message with what to do, unless it says that itself after a semicolon.
pub(super) fn advised(message: String, advice: &str) -> String {
    if message.contains(';') { message } else { format!("{message}; {advice}") }
}

/// Names that a node uses, its branches included.
fn uses<'n>(node: &'n Node<'_>, names: &mut HashSet<&'n str>) {
    names.extend(node.inputs.iter().map(String::as_str));
    for graph in node.attributes.iter().filter_map(|a| a.graph.as_ref()) {
        for inner in &graph.nodes {
            uses(inner, names);
        }
        names.extend(graph.outputs.iter().map(|o| o.name.as_str()));
    }
}

/// The module path in PyTorch's note `['', 'encoder', 'encoder.fc1', 'linear']`: the entry before the last.
fn module_path(note: &str) -> Option<Arc<str>> {
    let entries: Vec<&str> =
        note.trim_matches(['[', ']']).split(',').map(|s| s.trim().trim_matches(['\'', '"'])).collect();
    let path = entries.len().checked_sub(2).and_then(|i| entries.get(i))?;
    (!path.is_empty()).then(|| (*path).into())
}
