//! Scaling and shifting the channels of a LayerNorm, undone in the linear layers behind it.
//!
//! With `y = gamma · n + beta` the rewritten value is `y' = y / scale - shift`, made by `gamma / scale` and
//! `beta / scale - shift`. A linear layer on it gets `W'[:, c] = W[:, c] · scale_c` and `b' = b + W' · shift`:
//! `W'(y / scale - shift) + b + W' shift = W y + b`. (RepQ-ViT, Li et al. 2023, eq. 6–9; SmoothQuant, Xiao et al.
//! 2023, eq. 4 with `shift = 0`.) Zeros that a Pad adds between the two become `-shift`.

use std::sync::Arc;

use super::Rewritten;
use crate::graph::{Graph, NodeId, Op};

/// A LayerNorm whose value reaches linear layers only, through operations that leave the channel axis last.
#[derive(Debug)]
pub(super) struct Pattern {
    norm: NodeId,
    pub(super) channels: usize,
    pub(super) linears: Vec<NodeId>,
    /// Operations between.
    between: Vec<NodeId>,
}

impl Pattern {
    pub(super) fn at(graph: &Graph, norm: NodeId) -> Result<Self, String> {
        let node = graph.node(norm);
        if !matches!(node.op, Op::LayerNorm { .. }) {
            return Err("it is no LayerNorm".to_owned());
        }
        let channels = node.shape.last().copied().unwrap_or(0);
        let mut found = Self { norm, channels, linears: Vec::new(), between: Vec::new() };
        let mut open = vec![norm];
        while let Some(at) = open.pop() {
            if graph.is_output(at) {
                return Err("its value is a result of the model".to_owned());
            }
            let consumers = graph.consumers(at);
            if consumers.is_empty() {
                return Err("its value is not used".to_owned());
            }
            for next in consumers {
                let node = graph.node(next);
                let last = node.shape.len().saturating_sub(1);
                let keeps_channels = match &node.op {
                    Op::Linear { .. } => {
                        found.linears.push(next);
                        continue;
                    }
                    Op::Reshape => node.shape.last() == Some(&channels),
                    Op::Permute(axes) => axes.last() == Some(&last),
                    Op::Roll(shifts) => shifts.iter().all(|&(axis, _)| axis != last),
                    Op::Pad { ends, .. } => ends.iter().all(|&(axis, _)| axis != last),
                    Op::Narrow { axis, .. } => *axis != last,
                    _ => false,
                };
                if !keeps_channels {
                    return Err(format!("its value also goes to {} ({})", node.name, node.op.kind()));
                }
                found.between.push(next);
                open.push(next);
            }
        }
        found.linears.sort_unstable();
        found.linears.dedup();
        graph.are_apart(found.linears.iter().copied().chain([norm]))?;
        Ok(found)
    }
}

/// Gives pads what the zeros they added before have become.
pub(super) fn refill(made: &mut Rewritten, pattern: &Pattern, scale: &[f32], shift: Option<&[f32]>) {
    let Some(shift) = shift else { return };
    for &id in &pattern.between {
        if let Op::Pad { fill, .. } = &mut made.graph.nodes[id.index()].op {
            let before = fill.take();
            let value = |c: usize| before.as_ref().map_or(0.0, |fill| fill[c]) / scale[c] - shift[c];
            *fill = Some(Arc::new((0..pattern.channels).map(value).collect()));
            made.changed[id.index()] = true;
        }
    }
}

/// Changes LayerNorm and linear layers.
pub(super) fn apply(
    made: &mut Rewritten,
    pattern: &Pattern,
    scale: &[f32],
    shift: Option<&[f32]>,
) -> Result<(), String> {
    let graph = &mut made.graph;
    let Op::LayerNorm { gamma, beta, .. } = graph.node(pattern.norm).op else { return Ok(()) };
    let divided = |data: &[f32]| data.iter().zip(scale).map(|(x, s)| x / s).collect::<Vec<f32>>();
    let new_gamma = divided(&graph.param(gamma).data);
    let mut new_beta = divided(&graph.param(beta).data);
    if let Some(shift) = shift {
        new_beta.iter_mut().zip(shift).for_each(|(x, u)| *x -= u);
    }
    graph.set_param(gamma, new_gamma)?;
    graph.set_param(beta, new_beta)?;
    for id in std::iter::once(&pattern.norm).chain(&pattern.between) {
        made.changed[id.index()] = true;
    }
    for &layer in &pattern.linears {
        let Op::Linear { weight, .. } = graph.node(layer).op else { continue };
        let mut data = graph.param(weight).data.to_vec();
        for row in data.chunks_exact_mut(pattern.channels) {
            row.iter_mut().zip(scale).for_each(|(w, s)| *w *= s);
        }
        if let Some(shift) = shift {
            let mut bias = graph.bias_of(layer);
            for (b, row) in bias.iter_mut().zip(data.chunks_exact(pattern.channels)) {
                let sum: f64 = row.iter().zip(shift).map(|(w, u)| f64::from(*w) * f64::from(*u)).sum();
                *b = (f64::from(*b) + sum) as f32;
            }
            graph.set_bias(layer, bias)?;
        }
        graph.set_param(weight, data)?;
    }
    Ok(())
}
