//! Keys that stand for the content of values.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Quantization, Value};
use crate::graph::Graph;

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

/// Keys of all nodes, given those of the graph's inputs (in the order of [`Graph::inputs`]).
pub(super) fn of_nodes(graph: &Graph, inputs: &[Key], quantization: &Quantization) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::with_capacity(graph.nodes().len());
    let mut given = inputs.iter();
    for (index, node) in graph.nodes().iter().enumerate() {
        let key = if matches!(node.op, crate::graph::Op::Input) {
            given.next().copied().unwrap_or_default()
        } else {
            key_of(|h| {
                index.hash(h);
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
