//! Which sites are decided together.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, NodeId, Op};
use crate::terms::{Role, Slot};

/// Groups of sites, by their places, in the order of their first site. With `tied`, the projections of one attention that
/// read the same values (q, k and v of self-attention, k and v of cross-attention) share the choice for their inputs
/// and the choice for their weights; every other site is a group of its own.
pub(super) fn groups(graph: &Graph, tied: bool) -> Vec<Vec<usize>> {
    let mut of_layer: BTreeMap<NodeId, usize> = BTreeMap::new();
    let projections = if tied { projections(graph) } else { Vec::new() };
    for (at, layers) in projections.iter().enumerate() {
        for &layer in layers {
            // A layer that serves two attentions stays with the first.
            of_layer.entry(layer).or_insert(at);
        }
    }
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known: BTreeMap<(usize, Slot), usize> = BTreeMap::new();
    for (index, site) in graph.sites().iter().enumerate() {
        if let Some(&tie) = of_layer.get(&site.node) {
            let at = *known.entry((tie, site.id.slot)).or_insert(groups.len());
            if let Some(group) = groups.get_mut(at) {
                group.push(index);
                continue;
            }
        }
        groups.push(vec![index]);
    }
    groups
}

/// Sets of layers that read one value and feed one attention: its product of queries and keys, or the product of its
/// probabilities and values.
fn projections(graph: &Graph) -> Vec<Vec<NodeId>> {
    let mut of_attention: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
    for site in graph.sites().iter().filter(|site| site.id.slot == Slot::Lhs) {
        let [lhs, rhs] = graph.node(site.node).inputs[..] else { continue };
        match site.role {
            Role::Query => {
                let layers = of_attention.entry(site.node).or_default();
                layers.extend(nearest_layers(graph, lhs));
                layers.extend(nearest_layers(graph, rhs));
            }
            Role::PostSoftmax => {
                for scores in nearest_layers(graph, lhs) {
                    if matches!(graph.node(scores).op, Op::MatMul { .. }) {
                        of_attention.entry(scores).or_default().extend(nearest_layers(graph, rhs));
                    }
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    for layers in of_attention.into_values() {
        let mut by_input: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for layer in layers.into_iter().filter(|&layer| graph.weight_of(layer).is_some()) {
            by_input.entry(graph.node(layer).inputs[0]).or_default().push(layer);
        }
        found.extend(by_input.into_values().filter(|layers| layers.len() > 1));
    }
    found
}

/// The layers that a value is made of without another layer in between.
fn nearest_layers(graph: &Graph, from: NodeId) -> BTreeSet<NodeId> {
    let (mut found, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![from]);
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let node = graph.node(id);
        if node.op.slots().is_some() {
            found.insert(id);
        } else {
            open.extend(&node.inputs);
        }
    }
    found
}
