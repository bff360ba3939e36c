//! Layers as a tree by the dots of their names. Knows nothing of screens.

use std::collections::HashSet;

/// A group of fewer layers has no line of its own.
const SMALLEST_GROUP: usize = 5;

/// The tree.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    nodes: Vec<Node>,
    roots: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Node {
    label: String,
    path: String,
    children: Vec<usize>,
    layer: Option<usize>,
    /// All layers below, in their order.
    layers: Vec<usize>,
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Levels above.
    pub depth: u16,
    /// The part of the name that its group does not say.
    pub label: String,
    /// What the line stands for.
    pub kind: RowKind,
}

/// What a line stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowKind {
    /// One layer.
    Layer(usize),
    /// All layers whose name starts with a path.
    Group {
        /// The path.
        path: String,
        /// Whether its lines are hidden.
        folded: bool,
        /// The layers.
        layers: Vec<usize>,
    },
}

impl Tree {
    /// Sorts names into a tree; a layer is known by its place.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut tree = Self::default();
        for (layer, name) in names.into_iter().enumerate() {
            tree.insert(layer, name);
        }
        let roots = std::mem::take(&mut tree.roots);
        tree.roots = roots.into_iter().flat_map(|root| tree.arrange(root)).collect();
        tree
    }

    fn insert(&mut self, layer: usize, name: &str) {
        let mut parent: Option<usize> = None;
        let mut end = 0;
        for part in name.split('.') {
            end += part.len() + usize::from(end > 0);
            let siblings = match parent.and_then(|parent| self.nodes.get(parent)) {
                Some(node) => &node.children,
                None => &self.roots,
            };
            let found = siblings
                .iter()
                .copied()
                .find(|child| self.nodes.get(*child).is_some_and(|node| node.label == part));
            let index = found.unwrap_or_else(|| {
                let index = self.nodes.len();
                let path = name.get(..end).unwrap_or(name).to_owned();
                self.nodes.push(Node {
                    label: part.to_owned(),
                    path,
                    children: Vec::new(),
                    layer: None,
                    layers: Vec::new(),
                });
                match parent.and_then(|parent| self.nodes.get_mut(parent)) {
                    Some(node) => node.children.push(index),
                    None => self.roots.push(index),
                }
                index
            });
            if let Some(node) = self.nodes.get_mut(index) {
                node.layers.push(layer);
            }
            parent = Some(index);
        }
        if let Some(node) = parent.and_then(|index| self.nodes.get_mut(index)) {
            node.layer = Some(layer);
        }
    }

    /// Takes a node and what is below; gives what takes its place. A group is only worth a line of its own where
    /// it holds some layers and not just other groups: `blocks` with nothing but `0`, `1`, … becomes `blocks.0`,
    /// `blocks.1`, …, and a pair of layers keeps its path in its names.
    fn arrange(&mut self, index: usize) -> Vec<usize> {
        let Some(node) = self.nodes.get(index) else { return Vec::new() };
        let (label, own, count) = (node.label.clone(), node.layer.is_some(), node.layers.len());
        let below = node.children.clone();
        if below.is_empty() {
            return vec![index];
        }
        let children: Vec<usize> = below.into_iter().flat_map(|child| self.arrange(child)).collect();
        let is_group = |child: &usize| self.nodes.get(*child).is_some_and(|node| !node.children.is_empty());
        let only_groups = !own && children.iter().all(is_group);
        let dissolves = count < SMALLEST_GROUP || only_groups || (!own && children.len() == 1);
        if !dissolves {
            if let Some(node) = self.nodes.get_mut(index) {
                node.children = children;
            }
            return vec![index];
        }
        for child in &children {
            if let Some(node) = self.nodes.get_mut(*child) {
                node.label = format!("{label}.{}", node.label);
            }
        }
        if !own {
            return children;
        }
        if let Some(node) = self.nodes.get_mut(index) {
            node.children.clear();
            node.layers = node.layer.into_iter().collect();
        }
        std::iter::once(index).chain(children).collect()
    }

    /// The paths of all groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|node| !node.children.is_empty()).map(|node| node.path.as_str())
    }

    /// Whether a layer lies in the group of a path.
    pub fn holds(&self, path: &str, layer: usize) -> bool {
        self.nodes.iter().any(|node| node.path == path && node.layers.contains(&layer))
    }

    /// The lines with some groups folded and only some layers wanted.
    pub fn rows(&self, folded: &HashSet<String>, wanted: &dyn Fn(usize) -> bool) -> Vec<Row> {
        let mut rows = Vec::new();
        for root in &self.roots {
            self.push_rows(*root, 0, folded, wanted, &mut rows);
        }
        rows
    }

    fn push_rows(
        &self,
        index: usize,
        depth: u16,
        folded: &HashSet<String>,
        wanted: &dyn Fn(usize) -> bool,
        rows: &mut Vec<Row>,
    ) {
        let Some(node) = self.nodes.get(index) else { return };
        let layers: Vec<usize> = node.layers.iter().copied().filter(|layer| wanted(*layer)).collect();
        if layers.is_empty() {
            return;
        }
        let depth_below = if node.children.is_empty() {
            depth
        } else {
            let is_folded = folded.contains(&node.path);
            let kind = RowKind::Group { path: node.path.clone(), folded: is_folded, layers };
            rows.push(Row { depth, label: node.label.clone(), kind });
            if is_folded {
                return;
            }
            depth + 1
        };
        if let Some(layer) = node.layer.filter(|layer| wanted(*layer)) {
            rows.push(Row { depth: depth_below, label: node.label.clone(), kind: RowKind::Layer(layer) });
        }
        for child in &node.children {
            self.push_rows(*child, depth_below, folded, wanted, rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(rows: &[Row]) -> Vec<String> {
        rows.iter()
            .map(|row| {
                let sign = match &row.kind {
                    RowKind::Layer(layer) => format!("={layer}"),
                    RowKind::Group { layers, .. } => format!("({})", layers.len()),
                };
                format!("{}{}{sign}", " ".repeat(row.depth.into()), row.label)
            })
            .collect()
    }

    const NAMES: [&str; 6] = [
        "patch",
        "layers.0.attn.qkv",
        "layers.0.attn.proj",
        "layers.1.attn.qkv",
        "layers.1.mlp",
        "layers.1.mlp.fc1",
    ];

    #[test]
    fn only_groups_worth_a_line_get_one() {
        let rows = Tree::new(NAMES).rows(&HashSet::new(), &|_| true);
        assert_eq!(
            drawn(&rows),
            [
                "patch=0",
                "layers(5)",
                " 0.attn.qkv=1",
                " 0.attn.proj=2",
                " 1.attn.qkv=3",
                " 1.mlp=4",
                " 1.mlp.fc1=5"
            ]
        );
        let parts = ["q", "k", "v", "o", "fc1", "fc2"];
        let blocks: Vec<String> =
            (0..12).map(|i| format!("vision.blocks.{}.{}", i / 6, parts[i % 6])).collect();
        let rows = Tree::new(blocks.iter().map(String::as_str)).rows(&HashSet::new(), &|_| true);
        assert_eq!(drawn(&rows)[..2], ["vision.blocks.0(6)", " q=0"]);
    }

    #[test]
    fn folding_and_filtering_hide_lines() {
        let tree = Tree::new(NAMES);
        let folded = HashSet::from(["layers".to_owned()]);
        assert_eq!(drawn(&tree.rows(&folded, &|layer| layer < 3)), ["patch=0", "layers(2)"]);
        assert_eq!(drawn(&tree.rows(&HashSet::new(), &|layer| layer == 2)), ["layers(1)", " 0.attn.proj=2"]);
        assert!(tree.rows(&folded, &|_| false).is_empty());
    }

    #[test]
    fn odd_names_are_no_trouble() {
        for names in [vec![""], vec!["."], vec!["a..b", "a..c"], vec!["a", "a"], vec!["é.ü", "é.ö"]] {
            let rows = Tree::new(names.iter().copied()).rows(&HashSet::new(), &|_| true);
            assert!(!rows.is_empty());
        }
    }
}
