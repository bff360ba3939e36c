//! The owner's names: module paths from parameter names, from the exporter's notes, or from the names of nodes.

use std::collections::HashMap;

use super::flow::{Flow, Id, Op};

/// Ends of parameter names, after which the module's path remains. Quantizers append to them.
const PARAMETERS: [&str; 8] =
    [".weight", ".bias", ".gamma", ".beta", ".w_0", ".b_0", ".kernel", ".in_proj_weight"];
const QUANTIZED: [&str; 3] = ["_quantized", "_q", "_int8"];
/// What DataParallel puts before all names.
const PARALLEL: &str = "module";
/// Names that people give to what they wrap a model in for its export.
const WRAPPERS: [&str; 6] = ["m", "module", "model", "net", "_orig_mod", "wrapped"];

/// Names of steps.
#[derive(Debug, Default)]
pub(super) struct Names {
    paths: HashMap<Id, String>,
    wrapper: Option<String>,
}

impl Names {
    /// Names every layer and every product of a flow.
    pub(super) fn of(flow: &Flow) -> Self {
        let needed = flow.needed();
        let order: Vec<Id> = (0..flow.steps.len()).filter(|&i| needed[i]).map(Id).collect();
        let mut names = Self { wrapper: wrapper(flow, &order), ..Self::default() };
        for &id in &order {
            let path = module(flow, id).map(|path| names.unwrapped(&path).to_owned());
            let path = path.or_else(|| names.beside(flow, id));
            if let Some(path) = path {
                names.paths.insert(id, path);
            }
        }
        names.products(flow, &order);
        names
    }

    /// The name of a layer, a product or a normalisation.
    pub(super) fn layer(&self, flow: &Flow, id: Id) -> String {
        let path = self.paths.get(&id).cloned();
        path.unwrap_or_else(|| {
            let name = &flow.step(id).name;
            if name.is_empty() { format!("node_{}", id.0) } else { name.to_string() }
        })
    }

    /// The name of a softmax.
    pub(super) fn softmax(&self, flow: &Flow, id: Id) -> String {
        self.paths.get(&id).cloned().unwrap_or_else(|| join(&self.scope(flow, id), "softmax"))
    }

    /// The path of what a step without a module belongs to; empty if nothing says it.
    pub(super) fn scope(&self, flow: &Flow, id: Id) -> String {
        let step = flow.step(id);
        let path = step.scope.as_deref().map(ToOwned::to_owned).or_else(|| node_path(&step.name));
        path.map_or(String::new(), |path| self.unwrapped(&path).to_owned())
    }

    /// The name of a tensor of the file, without the wrapper.
    pub(super) fn tensor<'n>(&self, name: &'n str) -> &'n str {
        self.unwrapped(name)
    }

    fn unwrapped<'n>(&self, path: &'n str) -> &'n str {
        let rest = self.wrapper.as_deref().and_then(|w| path.strip_prefix(w));
        match rest {
            Some("") => "",
            Some(rest) => rest.strip_prefix('.').unwrap_or(path),
            None => path,
        }
    }

    /// The path that the node's name says. Where the module before it lies deeper in the owner's model than its node
    /// says (`clip.text_model` called as `text_model`), so does this one.
    fn beside(&self, flow: &Flow, id: Id) -> Option<String> {
        parameters(flow, id)?;
        let step = flow.step(id);
        let own = node_path(&step.name).map(|path| self.unwrapped(&path).to_owned())?;
        let operand = *step.inputs.get(usize::from(matches!(step.op, Op::Embedding)))?;
        let before = source(flow, operand, |op| {
            matches!(op, Op::Linear | Op::Conv(_) | Op::ConvTranspose(_) | Op::LayerNorm { .. })
        });
        let prefix = before.and_then(|before| {
            let said = node_path(&flow.step(before).name)?;
            let path = self.paths.get(&before)?;
            path.strip_suffix(self.unwrapped(&said))
        });
        let prefix = prefix.filter(|prefix| prefix.ends_with('.')).unwrap_or_default();
        Some(format!("{prefix}{own}"))
    }

    /// Attention: `<path>.qk`, `<path>.softmax`, `<path>.pv` after the common path of query and key.
    fn products(&mut self, flow: &Flow, order: &[Id]) {
        let mut users: HashMap<Id, Vec<Id>> = HashMap::new();
        for &id in order {
            for &input in &flow.step(id).inputs {
                users.entry(input).or_default().push(id);
            }
        }
        let mut biases: HashMap<Id, usize> = HashMap::new();
        for &id in order {
            let step = flow.step(id);
            let (Op::MatMul { .. }, &[x, y]) = (&step.op, step.inputs.as_slice()) else { continue };
            let own = self.scope(flow, id);
            let name = if let Some(softmax) = softmax_after(flow, id, &users) {
                if flow.data(y).is_some() {
                    // A query times a table: the bias of relative positions, of rows and then of columns.
                    let path = self.parent(flow, x).unwrap_or(own);
                    let count = biases.entry(softmax).or_insert(0);
                    *count += 1;
                    join(&path, if *count == 1 { "rel_h" } else { "rel_w" })
                } else {
                    let path = self.common(flow, x, y).unwrap_or(own);
                    self.paths.entry(softmax).or_insert_with(|| join(&path, "softmax"));
                    join(&path, "qk")
                }
            } else if let Some(softmax) = source(flow, x, |op| matches!(op, Op::Softmax)) {
                let name = self.paths.get(&softmax).and_then(|name| name.strip_suffix("softmax"));
                let path = name.map(|name| name.trim_end_matches('.').to_owned());
                join(&path.unwrap_or(own), "pv")
            } else if let Some(up) = source(flow, y, |op| matches!(op, Op::ConvTranspose(_))) {
                // Kernels that were made for each mask, over the enlarged map.
                let path = self.paths.get(&up).map_or(own, |path| parent(path));
                join(&path, "masks")
            } else if flow.shape(id).len() == 2 && matches!(step.op, Op::MatMul { transpose_rhs: true, .. }) {
                "similarity".to_owned()
            } else if own.is_empty() {
                continue;
            } else {
                join(&own, "matmul")
            };
            self.paths.insert(id, name);
        }
    }

    /// The path above the layer behind a value.
    fn parent(&self, flow: &Flow, x: Id) -> Option<String> {
        let layer = source(flow, x, |op| matches!(op, Op::Linear | Op::Conv(_)))?;
        self.paths.get(&layer).map(|path| parent(path))
    }

    /// The part of the paths of the layers behind two values that is the same; the parent if they are one layer.
    fn common(&self, flow: &Flow, x: Id, y: Id) -> Option<String> {
        let layer = |id: Id| {
            source(flow, id, |op| matches!(op, Op::Linear | Op::Conv(_))).and_then(|id| self.paths.get(&id))
        };
        let (a, b) = (layer(x)?, layer(y)?);
        let (a, b): (Vec<&str>, Vec<&str>) = (a.split('.').collect(), b.split('.').collect());
        let most = a.len().min(b.len()).saturating_sub(1);
        let same = a.iter().zip(&b).take(most).take_while(|(a, b)| a == b).count();
        (same > 0).then(|| a[..same].join("."))
    }
}

/// The nearest step before a value that `found` accepts, along first operands.
fn source(flow: &Flow, id: Id, found: impl Fn(&Op) -> bool) -> Option<Id> {
    let mut at = id;
    loop {
        let step = flow.step(at);
        if found(&step.op) {
            return Some(at);
        }
        at = match (&step.op, step.inputs.as_slice()) {
            (Op::Binary(_), &[x, y]) if flow.data(x).is_some() => y,
            (
                Op::Reshape(_)
                | Op::Permute(_)
                | Op::Slice { .. }
                | Op::Expand(_)
                | Op::Cast(_)
                | Op::Binary(_)
                | Op::Unary(_)
                | Op::Pad(_)
                | Op::InstanceNorm { .. }
                | Op::BatchNorm { .. }
                | Op::LayerNorm { .. }
                | Op::Gather { .. },
                [x, ..],
            ) => *x,
            _ => return None,
        };
    }
}

/// The softmax that a product's result reaches through sums and moves.
fn softmax_after(flow: &Flow, id: Id, users: &HashMap<Id, Vec<Id>>) -> Option<Id> {
    let mut at = id;
    for _ in 0..64 {
        let &[user] = users.get(&at)?.as_slice() else { return None };
        match &flow.step(user).op {
            Op::Softmax => return Some(user),
            Op::Binary(_) | Op::Where | Op::Reshape(_) | Op::Permute(_) | Op::Cast(_) | Op::Slice { .. } => {
                at = user;
            }
            _ => return None,
        }
    }
    None
}

/// The module path of a step that has parameters, by their names or by the exporter's note.
fn module(flow: &Flow, id: Id) -> Option<String> {
    let step = flow.step(id);
    let parameters = parameters(flow, id)?;
    let stored = parameters.iter().find_map(|&id| stored_path(&flow.step(id).name));
    stored.or_else(|| step.scope.as_deref().map(ToOwned::to_owned))
}

/// The parameters of a step that is a module.
fn parameters(flow: &Flow, id: Id) -> Option<&[Id]> {
    let step = flow.step(id);
    Some(match &step.op {
        Op::Linear | Op::Conv(_) | Op::ConvTranspose(_) | Op::LayerNorm { .. } | Op::BatchNorm { .. } => {
            &step.inputs[1..]
        }
        Op::Embedding => &step.inputs[..1],
        Op::InstanceNorm { .. } => &[],
        _ => return None,
    })
}

/// `encoder.fc1` of `encoder.fc1.weight`.
fn stored_path(name: &str) -> Option<String> {
    let name = QUANTIZED.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let path = PARAMETERS.iter().find_map(|end| name.strip_suffix(end))?;
    let plain = !path.is_empty() && !path.contains("::") && !path.contains('/');
    plain.then(|| path.to_owned())
}

/// `encoder.layer.0.fc1` of `/encoder/layer.0/fc1/MatMul`. A member of a list repeats the list's name there
/// (`/blocks/blocks.0/…`).
fn node_path(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = name.strip_prefix('/')?.split('/').collect();
    parts.pop();
    let mut path: Vec<&str> = Vec::new();
    for part in parts {
        if path.last().is_some_and(|list| part.strip_prefix(list).is_some_and(|rest| rest.starts_with('.'))) {
            path.pop();
        }
        path.push(part);
    }
    (!path.is_empty()).then(|| path.join("."))
}

/// What stands before all names: what DataParallel puts there, and a usual name for a wrapper.
fn wrapper(flow: &Flow, order: &[Id]) -> Option<String> {
    let constants = order.iter().map(|&id| flow.step(id)).filter(|step| matches!(step.op, Op::Constant(_)));
    let stored = constants.filter_map(|step| stored_path(&step.name)).collect::<Vec<String>>();
    if stored.is_empty() {
        // No parameter kept its name; the nodes of modules have their paths.
        let modules = order.iter().filter(|&&id| parameters(flow, id).is_some());
        let paths: Vec<String> = modules.filter_map(|&id| node_path(&flow.step(id).name)).collect();
        return head(&paths, &[PARALLEL]).map(ToOwned::to_owned);
    }
    if head(&stored, &[PARALLEL]).is_some() {
        let inner: Vec<&str> = stored.iter().map(|path| &path[PARALLEL.len() + 1..]).collect();
        return Some(match head(&inner, &WRAPPERS) {
            Some(inner) => format!("{PARALLEL}.{inner}"),
            None => PARALLEL.to_owned(),
        });
    }
    head(&stored, &WRAPPERS).map(ToOwned::to_owned)
}

/// The first part of all paths, if it is the same for all, one of `known`, and something follows everywhere.
fn head<'p>(paths: &'p [impl AsRef<str>], known: &[&str]) -> Option<&'p str> {
    let (head, _) = paths.first()?.as_ref().split_once('.')?;
    let same = |path: &str| path.split_once('.').is_some_and(|(first, _)| first == head);
    (known.contains(&head) && paths.iter().all(|path| same(path.as_ref()))).then_some(head)
}

fn parent(path: &str) -> String {
    path.rsplit_once('.').map_or(String::new(), |(parent, _)| parent.to_owned())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
