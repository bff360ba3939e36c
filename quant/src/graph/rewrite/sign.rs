//! Signs of key channels folded into the key projection, and into the query channels that they are multiplied with
//! (Bimodal Integration, PTQ4SAM, Lv et al. 2024, eq. 6–7): a key channel and its query channel both change their
//! sign, so every product stays what it was.
//!
//! Which output channel of a projection meets which is followed through any reshaping between: each operation is run
//! on the numbers of the channels instead of on values.

use super::Rewritten;
use crate::exec::kernels::layout;
use crate::graph::{Graph, NodeId, Op};

/// Two projections whose channels meet in a product.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) key: NodeId,
    pub(super) query: NodeId,
    pub(super) key_channels: usize,
    /// Query channel → key channel; `None` where the query channel is not used here.
    meets: Vec<Option<usize>>,
    /// Key channels in use.
    used: Vec<bool>,
    /// Nodes from the projections to the product, the projections included.
    between: Vec<NodeId>,
}

/// The channel of a projection that every value of an operand comes from.
struct Trace {
    layer: NodeId,
    channels: Vec<f32>,
    shape: Vec<usize>,
    /// Nodes from the projection to the operand, with the channels that their values come from.
    path: Vec<(NodeId, Vec<f32>)>,
}

impl Pattern {
    pub(super) fn at(graph: &Graph, product: NodeId) -> Result<Self, String> {
        let node = graph.node(product);
        let Op::MatMul { transpose_rhs, .. } = node.op else { return Err("it is no product".to_owned()) };
        let layers = graph.layers.iter().find(|layer| layer.node == product);
        let holds_keys = layers.is_some_and(|layer| {
            layer.sites.iter().any(|&site| graph.sites[site].role == crate::terms::Role::Key)
        });
        if !holds_keys {
            return Err("it is no product of queries and keys".to_owned());
        }
        let query = trace(graph, node.inputs[0])?;
        let key = trace(graph, node.inputs[1])?;
        let outputs = |layer: NodeId| graph.weight_of(layer).map_or(0, |weight| weight.shape[0]);
        let (key_channels, query_channels) = (outputs(key.layer), outputs(query.layer));
        graph.are_apart([query.layer, key.layer])?;
        let mut meets: Vec<Option<usize>> = vec![None; query_channels];
        let mut used = vec![false; key_channels];
        // `[lead, n, d]` times `[lead, m, d]` or `[lead, d, m]`: one row of each stands for all, the rest must agree.
        let rank = query.shape.len();
        let (n, d) = (query.shape[rank - 2], query.shape[rank - 1]);
        let m = if transpose_rhs { key.shape[rank - 2] } else { key.shape[rank - 1] };
        for lead in 0..query.shape[..rank - 2].iter().product() {
            for inner in 0..d {
                let key_at = |row: usize| {
                    let at = if transpose_rhs { row * d + inner } else { inner * m + row };
                    key.channels[lead * m * d + at]
                };
                let query_at = |row: usize| query.channels[(lead * n + row) * d + inner];
                let (q, k) = (query_at(0), key_at(0));
                let same = (0..n).all(|row| query_at(row) == q) && (0..m).all(|row| key_at(row) == k);
                let (q, k) = (q as usize, k as usize);
                if !same || meets[q].is_some_and(|met| met != k) {
                    return Err("its channels are mixed on the way".to_owned());
                }
                meets[q] = Some(k);
                used[k] = true;
            }
        }
        if query.layer == key.layer && (0..key_channels).any(|c| used[c] && meets[c].is_some()) {
            return Err("queries and keys are the same channels".to_owned());
        }
        let queries: Vec<bool> = meets.iter().map(Option::is_some).collect();
        let affected =
            |layer: NodeId, c: usize| (layer == query.layer && queries[c]) || (layer == key.layer && used[c]);
        let between: Vec<NodeId> = query.path.iter().chain(&key.path).map(|(id, _)| *id).collect();
        for trace in [&query, &key] {
            let stays = |c: usize| !affected(trace.layer, c);
            others_see_nothing(graph, &trace.path, |id| id == product || between.contains(&id), stays)?;
        }
        Ok(Self { key: key.layer, query: query.layer, key_channels, meets, used, between })
    }
}

/// Follows an operand back to the projection that made it, then its channels forward again.
fn trace(graph: &Graph, operand: NodeId) -> Result<Trace, String> {
    let mut path = vec![operand];
    let mut at = operand;
    let layer = loop {
        let node = graph.node(at);
        match &node.op {
            Op::Linear { .. } => break at,
            Op::Conv { weight, .. } if graph.param(*weight).shape[2..].iter().all(|&k| k == 1) => break at,
            // All of these give the negative for a negative channel.
            Op::Reshape | Op::Permute(_) | Op::Roll(_) | Op::Narrow { .. } | Op::InstanceNorm { .. } => {}
            Op::Affine { add, .. } if *add == 0.0 => {}
            Op::Mul if graph.node(node.inputs[0]).shape == node.shape => {}
            op => return Err(format!("{} ({}) lies between it and a projection", node.name, op.kind())),
        }
        at = node.inputs[0];
        path.push(at);
    };
    let shape = graph.node(layer).shape.clone();
    let axis = if matches!(graph.node(layer).op, Op::Conv { .. }) { 1 } else { shape.len() - 1 };
    let inner: usize = shape[axis + 1..].iter().product();
    let len = shape.iter().product::<usize>();
    let mut channels: Vec<f32> = (0..len).map(|i| (i / inner % shape[axis]) as f32).collect();
    let mut from = shape;
    let mut seen = Vec::with_capacity(path.len());
    for &id in path.iter().rev() {
        if id != layer {
            channels = moved(graph, id, &channels, &from);
            from.clone_from(&graph.node(id).shape);
        }
        seen.push((id, channels.clone()));
    }
    Ok(Trace { layer, channels, shape: from, path: seen })
}

/// The channels of a node's values, given those of its first operand.
fn moved(graph: &Graph, id: NodeId, channels: &[f32], from: &[usize]) -> Vec<f32> {
    let node = graph.node(id);
    let mut to = channels.to_vec();
    match &node.op {
        Op::Permute(axes) => layout::permute(channels, from, axes, &mut to),
        Op::Narrow { axis, start, len } => {
            to.resize(node.shape.iter().product(), 0.0);
            layout::narrow(channels, from, *axis, *start, *len, &mut to);
        }
        Op::Roll(shifts) => {
            for &(axis, by) in shifts {
                let before = to.clone();
                layout::roll(&before, from, axis, by, &mut to);
            }
        }
        _ => {}
    }
    to
}

/// That no node outside of the pattern reads a channel that changes.
fn others_see_nothing(
    graph: &Graph,
    path: &[(NodeId, Vec<f32>)],
    inside: impl Fn(NodeId) -> bool,
    stays: impl Fn(usize) -> bool,
) -> Result<(), String> {
    for (id, channels) in path {
        let unchanged = |channels: &[f32]| channels.iter().all(|&c| stays(c as usize));
        if graph.is_output(*id) && !unchanged(channels) {
            return Err(format!("{} is a result of the model", graph.node(*id).name));
        }
        for next in graph.consumers(*id).into_iter().filter(|&next| !inside(next)) {
            let part = matches!(graph.node(next).op, Op::Narrow { .. });
            let read = part.then(|| moved(graph, next, channels, &graph.node(*id).shape));
            if !unchanged(read.as_deref().unwrap_or(channels)) {
                return Err(format!("its channels also go to {}", graph.node(next).name));
            }
        }
    }
    Ok(())
}

/// Changes both projections.
pub(super) fn apply(made: &mut Rewritten, pattern: &Pattern, sign: &[f32]) -> Result<(), String> {
    if !sign.iter().all(|s| s.abs() == 1.0) {
        return Err("every sign must be 1 or -1".to_owned());
    }
    let mut key_signs = vec![1.0; pattern.key_channels];
    for (c, s) in key_signs.iter_mut().enumerate() {
        if pattern.used[c] {
            *s = sign[c];
        }
    }
    let query_signs: Vec<f32> = pattern.meets.iter().map(|met| met.map_or(1.0, |k| sign[k])).collect();
    if pattern.key == pattern.query {
        let both: Vec<f32> = key_signs.iter().zip(&query_signs).map(|(a, b)| a * b).collect();
        fold(&mut made.graph, pattern.key, &both)?;
    } else {
        fold(&mut made.graph, pattern.key, &key_signs)?;
        fold(&mut made.graph, pattern.query, &query_signs)?;
    }
    for id in &pattern.between {
        made.changed[id.index()] = true;
    }
    Ok(())
}

/// Multiplies the output channels of a layer.
fn fold(graph: &mut Graph, layer: NodeId, signs: &[f32]) -> Result<(), String> {
    let (Op::Linear { weight, bias } | Op::Conv { weight, bias, .. }) = graph.node(layer).op else {
        return Ok(());
    };
    let mut data = graph.param(weight).data.to_vec();
    let row = (data.len() / signs.len().max(1)).max(1);
    for (values, sign) in data.chunks_exact_mut(row).zip(signs) {
        for w in values {
            *w *= sign;
        }
    }
    graph.set_param(weight, data)?;
    if bias.is_some() {
        let negated = graph.bias_of(layer).iter().zip(signs).map(|(b, s)| b * s).collect();
        graph.set_bias(layer, negated)?;
    }
    Ok(())
}
