//! Weights by the squared error of their layers' outputs on the calibration samples ([`RangeSearch::Output`]).

use super::patches::patch;
use crate::exec::Value;
use crate::graph::{Graph, NodeId, Op};
use crate::quantizer::output::Gram;
use crate::quantizer::{Family, Params, QuantizerError, RangeSearch, Scheme};
use crate::terms::Bits;

/// Summed dimensions beyond this are fitted on the weight alone: the second moments would be more than 256 MiB.
const LARGEST: usize = 5792;
/// Positions of a convolution that are unfolded at a time.
const POSITIONS: usize = 256;

/// The parameters of a layer's weight, given its inputs in all samples. None where the search does not apply: another
/// range, a layer whose outputs are no products of a row of inputs with the rows of the weight (grouped and transposed
/// convolutions), too many inputs per output.
pub(super) fn fit_weight(
    graph: &Graph,
    node: NodeId,
    scheme: &Scheme,
    bits: Bits,
    inputs: &[&Value],
) -> Result<Option<Params>, QuantizerError> {
    let known = matches!(&graph.node(node).op, Op::Linear { .. })
        || matches!(&graph.node(node).op, Op::Conv { geometry, .. } if geometry.groups == 1);
    let Some(weight) = graph.weight_of(node) else { return Ok(None) };
    let inner: usize = weight.shape.iter().skip(1).product();
    if scheme.range != RangeSearch::Output
        || scheme.family != Family::Uniform
        || !known
        || inner == 0
        || inner > LARGEST
    {
        return Ok(None);
    }
    let mut gram = Gram::new(inner);
    for input in inputs {
        let Op::Conv { geometry, .. } = &graph.node(node).op else {
            gram.observe(input.as_slice())?;
            continue;
        };
        let shape = &graph.node(node).shape;
        let positions: usize = shape.iter().skip(2).product();
        let width = shape.last().copied().unwrap_or(1);
        let mut rows = Vec::with_capacity(POSITIONS * inner);
        for first in (0..positions).step_by(POSITIONS) {
            rows.clear();
            for position in first..positions.min(first + POSITIONS) {
                patch(input, &weight.shape, *geometry, position, width, &mut rows);
            }
            gram.observe(&rows)?;
        }
    }
    gram.fit(&weight.data, scheme, bits).map(Some)
}
