//! Which outputs of a layer stand for all.

use super::Target;
use crate::graph::{Graph, Op};

/// Multiply-accumulates of one product of the sampled rows: a search makes 600.
const WORK: usize = 1 << 23;
/// Sampled rows of a layer, of all samples together, at least and at most.
const ROWS: [usize; 2] = [128, 1024];
/// Rows of one product of a head that are taken at most; more heads are better than more of one head's rows.
const ROWS_OF_HEAD: usize = 16;

/// What is looked at in one sample: positions for layers with weights; for products, heads and rows of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picked {
    /// Products of a batch (heads, windows), ascending; one for layers with weights.
    pub(super) pieces: Vec<usize>,
    /// Rows of each, ascending.
    pub(super) rows: Vec<usize>,
}

/// The sizes of a layer's product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Products of one sample.
    pub(super) pieces: usize,
    /// Rows of each, that is tokens or positions.
    pub(super) rows: usize,
    /// The summed dimension.
    pub(super) inner: usize,
    /// Columns.
    pub(super) columns: usize,
    /// Heads with scales of their own, which are looked at together; one otherwise.
    pub(super) heads: usize,
}

impl Sizes {
    pub(super) fn of(graph: &Graph, target: &Target) -> Self {
        let node = graph.node(target.node);
        let last = |back: usize| node.shape.len().checked_sub(back).map_or(1, |at| node.shape[at]);
        let numbers: usize = node.shape.iter().product();
        let weight = graph.weight_of(target.node);
        let inner_of_weight = |out: usize| weight.map_or(1, |w| w.data.len()) / out.max(1);
        match &node.op {
            Op::Conv { .. } => {
                let out = node.shape.get(1).copied().unwrap_or(1);
                let inner = inner_of_weight(out);
                Self { pieces: 1, rows: numbers / out.max(1), inner, columns: out, heads: 1 }
            }
            Op::MatMul { .. } => {
                let (rows, columns) = (last(2), last(1));
                let inner = graph.node(node.inputs[0]).shape.last().copied().unwrap_or(1);
                let pieces = numbers / (rows * columns).max(1);
                let heads = if pieces.is_multiple_of(target.heads) { target.heads } else { 1 };
                Self { pieces, rows, inner, columns, heads }
            }
            _ => {
                let out = last(1);
                let inner = inner_of_weight(out);
                Self { pieces: 1, rows: numbers / out.max(1), inner, columns: out, heads: 1 }
            }
        }
    }

    /// What is looked at in sample `at` of `of`: spread evenly, and otherwise in every sample.
    pub(super) fn pick(self, at: usize, of: usize) -> Picked {
        let work = WORK / (self.inner * self.columns).max(1);
        let rows = work.clamp(ROWS[0], ROWS[1]).div_ceil(of.max(1));
        // The golden ratio's multiples fill the unit interval evenly however many there are.
        let shift = ((at as f64 + 0.5) * 0.618_033_988_749_894_9).fract();
        let heads = self.heads.max(1);
        let of_piece = if self.pieces > 1 { rows.min(ROWS_OF_HEAD * heads).div_ceil(heads) } else { rows };
        let of_piece = of_piece.min(self.rows);
        let windows = self.pieces / heads;
        let picked = (rows / (of_piece * heads).max(1)).clamp(1, windows.max(1));
        let pieces = spread(picked, windows, shift)
            .into_iter()
            .flat_map(|window| window * heads..(window + 1) * heads);
        Picked { pieces: pieces.collect(), rows: spread(of_piece, self.rows, shift) }
    }
}

/// `count` of the numbers below `of`, evenly, the first one at a share of `shift` of the distance between them.
fn spread(count: usize, of: usize, shift: f64) -> Vec<usize> {
    let at = |k: usize| ((k as f64 + shift) * of as f64 / count as f64) as usize;
    (0..count).map(|k| at(k).min(of.saturating_sub(1))).collect()
}

/// The picked rows `[pieces, rows, columns]` of a layer's output or its gradient.
pub(super) fn outputs(graph: &Graph, target: &Target, values: &[f32], picked: &Picked) -> Vec<f32> {
    let Sizes { rows, columns, .. } = Sizes::of(graph, target);
    let mut taken = Vec::with_capacity(picked.pieces.len() * picked.rows.len() * columns);
    for piece in &picked.pieces {
        for row in &picked.rows {
            if matches!(graph.node(target.node).op, Op::Conv { .. }) {
                taken.extend((0..columns).map(|c| values[c * rows + row]));
            } else {
                let from = (piece * rows + row) * columns;
                taken.extend_from_slice(&values[from..from + columns]);
            }
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::{Picked, Sizes};

    #[test]
    fn samples_look_at_different_rows_and_small_layers_at_all() {
        let sizes = Sizes { pieces: 1, rows: 196, inner: 768, columns: 768, heads: 1 };
        let picked: Vec<Picked> = (0..32).map(|at| sizes.pick(at, 32)).collect();
        assert!(picked.iter().all(|p| p.pieces == [0] && p.rows.len() == 4));
        let rows: std::collections::BTreeSet<usize> = picked.iter().flat_map(|p| p.rows.clone()).collect();
        assert!(rows.len() > 75 && rows.iter().all(|row| *row < 196), "{}", rows.len());
        let small = Sizes { pieces: 1, rows: 5, inner: 4, columns: 4, heads: 1 };
        assert_eq!(small.pick(3, 4).rows, [0, 1, 2, 3, 4]);
        let heads = Sizes { pieces: 12, rows: 100, inner: 64, columns: 100, heads: 1 };
        let picked = heads.pick(0, 8);
        assert_eq!((picked.pieces.len(), picked.rows.len()), (8, 16));
        assert!(picked.pieces.is_sorted() && picked.pieces.iter().all(|p| *p < 12));
        // With scales for each of four heads, windows are looked at with all of them.
        let windows = Sizes { pieces: 12, heads: 4, ..heads };
        let picked = windows.pick(1, 32);
        assert_eq!((picked.pieces.len(), picked.rows.len()), (4, 8));
        assert!(picked.pieces[0].is_multiple_of(4) && picked.pieces.windows(2).all(|p| p[1] == p[0] + 1));
    }
}
