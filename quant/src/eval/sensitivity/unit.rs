//! The parts of a model that a sweep measures.

use std::collections::BTreeMap;

use crate::graph::{Graph, NodeId};
use crate::terms::{Slot, words};

/// What counts as one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum By {
    /// Every site.
    #[default]
    Site,
    /// Every layer with all its sites.
    Layer,
    /// All sites that hold the same.
    Role,
    /// All sites of a block: of layers whose path is the same up to its last number (`layers.2.blocks.0`).
    Block,
    /// All weights, all activations.
    Kind,
}

words!(By, "kind of parts", {
    Site => "site",
    Layer => "layer",
    Role => "role",
    Block => "block",
    Kind => "kind",
});

/// One part: some sites, measured together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Site, layer, role, block, `weights` or `activations`.
    pub name: String,
    /// Places in [`Graph::sites`], ascending.
    pub sites: Vec<usize>,
    /// The layer, if there is one alone.
    pub node: Option<NodeId>,
}

/// The parts of a model among the sites that a plan quantizes, in the order of their first site. Sites of layers that no
/// result depends on are left out: they cost nothing.
pub fn units(graph: &Graph, by: By, quantized: impl Fn(usize) -> bool) -> Vec<Unit> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let sites = graph.sites().iter().enumerate();
    for (index, site) in sites.filter(|(index, site)| quantized(*index) && graph.is_used(site.node)) {
        let name = match by {
            By::Site => site.id.to_string(),
            By::Layer => site.id.layer.clone(),
            By::Role => site.role.to_string(),
            By::Block => block(&site.id.layer).to_owned(),
            By::Kind => if site.id.slot == Slot::Weight { "weights" } else { "activations" }.to_owned(),
        };
        groups.entry(name).or_default().push(index);
    }
    let mut units: Vec<Unit> = groups
        .into_iter()
        .map(|(name, sites)| {
            let node = graph.sites()[sites[0]].node;
            let alone = sites.iter().all(|&site| graph.sites()[site].node == node);
            Unit { name, node: alone.then_some(node), sites }
        })
        .collect();
    units.sort_by_key(|unit| unit.sites[0]);
    units
}

/// The path of a layer up to its last number; without a number its first part.
pub fn block(layer: &str) -> &str {
    let mut end = None;
    let mut at = 0;
    for part in layer.split('.') {
        at += part.len();
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            end = Some(at);
        }
        at += 1;
    }
    end.map_or_else(|| layer.split('.').next().unwrap_or(layer), |end| &layer[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_with_the_last_number() {
        assert_eq!(block("backbone.layers.2.blocks.0.attn.qkv"), "backbone.layers.2.blocks.0");
        assert_eq!(block("classifier.conv1_4"), "classifier");
        assert_eq!(block("encoder.layer.11"), "encoder.layer.11");
        assert_eq!(block("head"), "head");
        assert_eq!(block(""), "");
    }
}
