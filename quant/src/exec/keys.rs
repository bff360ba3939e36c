//! Keys that stand for the content of values.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::{Quantization, Value};
use crate::graph::{Graph, Node, Op};
use crate::models::Numbers;

/// 128 bits: with the few million values of a session, two that differ never share a key in practice.
pub(super) type Key = u128;

/// Numbers hashed at once.
const BLOCK: usize = 1024;

/// Hashes anything twice with different starts.
fn key_of(content: impl Fn(&mut DefaultHasher)) -> Key {
    let half = |start: u64| {
        let mut hasher = DefaultHasher::new();
        start.hash(&mut hasher);
        content(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0x6269_746c) << 64 | half(0x6f75_7065)
}

/// Key of a tensor given from outside.
pub(super) fn of_input(value: &Value) -> Key {
    key_of(|h| {
        value.shape().hash(h);
        // In blocks: the hasher's cost is per call.
        let mut block = [0_u8; 4 * BLOCK];
        for part in value.as_slice().chunks(BLOCK) {
            for (bytes, x) in block.as_chunks_mut::<4>().0.iter_mut().zip(part) {
                *bytes = x.to_bits().to_ne_bytes();
            }
            h.write(&block[..4 * part.len()]);
        }
    })
}

/// Stands for what is different in a rewritten node: 0 if nothing is. The values count, not where they lie.
pub(super) fn of_change((graph, node): (&Graph, &Node), (old, before): (&Graph, &Node)) -> u64 {
    let params = |graph: &Graph, node: &Node| -> Vec<Numbers> {
        let data = |id| graph.param(id).data.clone();
        node.op.params().into_iter().map(data).collect()
    };
    let (new, old) = (params(graph, node), params(old, before));
    let fill = |node: &Node| match &node.op {
        Op::Pad { fill: Some(fill), .. } => Some(Numbers::from(Arc::clone(fill))),
        _ => None,
    };
    let (new_fill, old_fill) = (fill(node), fill(before));
    let same = |a: &[Numbers], b: &[Numbers]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b));
    let fills: Vec<_> = new_fill.iter().cloned().collect();
    let old_fills: Vec<_> = old_fill.iter().cloned().collect();
    if same(&new, &old) && same(&fills, &old_fills) && node.op.kind() == before.op.kind() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    node.op.kind().hash(&mut hasher);
    for data in new.iter().chain(&fills) {
        data.len().hash(&mut hasher);
        data.in_blocks(|block| block.iter().for_each(|x| x.to_bits().hash(&mut hasher)));
    }
    hasher.finish() | 1
}

/// Keys of all nodes, given those of the graph's inputs (in the order of [`Graph::inputs`]).
pub(super) fn of_nodes(
    graph: &Graph,
    inputs: &[Key],
    changes: &[u64],
    quantization: &Quantization,
) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::with_capacity(graph.nodes().len());
    let mut given = inputs.iter();
    for (index, node) in graph.nodes().iter().enumerate() {
        let key = if matches!(node.op, crate::graph::Op::Input) {
            given.next().copied().unwrap_or_default()
        } else {
            key_of(|h| {
                index.hash(h);
                changes[index].hash(h);
                quantization.node_hash(index).hash(h);
                for input in &node.inputs {
                    keys[input.index()].hash(h);
                }
            })
        };
        keys.push(key);
    }
    keys
}
