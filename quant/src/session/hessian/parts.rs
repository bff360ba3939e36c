//! A weight whose rows make queries, keys and values: each third has a scale of its own (PTQ4ViT's `n_V = 3`).

use crate::graph::{Graph, NodeId, Op};

/// Three, if a layer's output is cut into three equal parts that lie one after the other in its rows; else one.
pub(super) fn of(graph: &Graph, layer: NodeId) -> usize {
    let width = graph.node(layer).shape.last().copied().unwrap_or(0);
    let mut at = layer;
    // The axis along which thirds of the features would lie, once a reshape has made one.
    let mut axis = graph.node(layer).shape.len().saturating_sub(1);
    loop {
        let users: Vec<&crate::graph::Node> =
            graph.nodes()[at.index() + 1..].iter().filter(|node| node.inputs.contains(&at)).collect();
        let whole = graph.node(at).shape.get(axis).copied().unwrap_or(0);
        let thirds = users.iter().filter(|node| match node.op {
            Op::Narrow { axis: cut, start, len } => {
                cut == axis && len * 3 == whole && start.is_multiple_of(len.max(1))
            }
            _ => false,
        });
        if users.len() == 3 {
            return if thirds.count() == 3 { 3 } else { 1 };
        }
        let [only] = users.as_slice() else { return 1 };
        match &only.op {
            Op::Reshape => {
                // `[…, 3 · heads · width]` becomes `[…, 3, heads, width]`: the first axis behind what is not features.
                let features = |from: &usize| only.shape[*from..].iter().product::<usize>() == width;
                let Some(first) = (0..only.shape.len()).rev().find(features) else { return 1 };
                axis = first;
            }
            Op::Permute(axes) => match axes.iter().position(|&from| from == axis) {
                Some(to) => axis = to,
                None => return 1,
            },
            _ => return 1,
        }
        let Some(next) = graph.nodes()[at.index() + 1..].iter().position(|node| node.inputs.contains(&at))
        else {
            return 1;
        };
        at = NodeId((at.index() + 1 + next) as u32);
    }
}

/// A scale for every row from those of as many equal parts; one alone stays alone.
pub(super) fn by_row(scales: Vec<f32>, rows: usize) -> Vec<f32> {
    match scales.len() {
        0 | 1 => scales,
        parts if parts == rows || !rows.is_multiple_of(parts) => scales,
        parts => scales.iter().flat_map(|&scale| std::iter::repeat_n(scale, rows / parts)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{by_row, of};
    use crate::models::{ModelFiles, open};
    use std::path::Path;

    #[test]
    fn projections_to_three_are_found_and_others_are_not() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
        let parts = |model: &str| {
            let model = open(&ModelFiles::Path(fixtures.join(model)), None).unwrap();
            let graph = &model.graph;
            let of = |name: &str| {
                let found = graph.layers().iter().filter(|layer| layer.name.ends_with(name));
                found.map(|layer| of(graph, layer.node)).collect::<Vec<usize>>()
            };
            (of("qkv"), of("query"), of("fc1"))
        };
        for model in ["swin_tiny_timm", "vit_tiny_timm", "lavt_one_tiny"] {
            let (together, _, other) = parts(model);
            assert!(!together.is_empty() && together.iter().all(|&n| n == 3), "{model}: {together:?}");
            assert!(!other.is_empty() && other.iter().all(|&n| n == 1), "{model}: {other:?}");
        }
        assert!(parts("vit_tiny_hf").1.iter().all(|&n| n == 1));
        // The rows of one head lie together, thirds of each head in them.
        assert_eq!(parts("mobile_sam_tiny").0, [1; 4]);
    }

    #[test]
    fn parts_become_rows() {
        assert_eq!(by_row(vec![1.0, 2.0, 3.0], 6), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
        assert_eq!(by_row(vec![1.0], 6), [1.0]);
        assert_eq!(by_row(vec![1.0, 2.0], 2), [1.0, 2.0]);
    }
}
