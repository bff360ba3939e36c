//! Clipping of queries and keys by what is attended to ([`RangeSearch::Overlap`]; SAQ-SAM, Zhang et al. 2025).

use std::sync::Arc;

use super::SessionError;
use crate::exec::{Decision, Value};
use crate::graph::{Graph, NodeId, Op, Site};
use crate::plan::{Plan, SitePlan};
use crate::quantizer::output::{attention_map, least_overlap_loss};
use crate::quantizer::{Family, Granularity, Params, QuantizerError, RangeSearch, Scheme, quantizer};
use crate::terms::{Bits, Layout};

/// Each operand is searched this often, the other one quantized as found.
const PASSES: usize = 2;
/// Operations between a product and its softmax at most: factors, biases, masks.
const STEPS: usize = 8;

/// The parameters of the queries and keys of one product that ask for the search, from the first sample as in the
/// paper. Empty if the product goes into no softmax. What is added to the scores (position biases, masks) is left out
/// of the maps. The paper also clips the inputs of both projections; these keep their own search here.
pub(super) fn fit_attention(
    graph: &Graph,
    plan: &Plan,
    node: NodeId,
    operands: &[Vec<&Value>],
) -> Result<Decision, SessionError> {
    let asks = |operand: usize| {
        let (index, site) =
            graph.sites().iter().enumerate().find(|(_, s)| s.node == node && s.operand == Some(operand))?;
        match plan.site(&site.id) {
            Some(SitePlan::Quantized { scheme, bits, params: None }) if is_known(scheme) => {
                Some((index, site, scheme, *bits))
            }
            _ => None,
        }
    };
    let (asked, Op::MatMul { transpose_rhs, alpha }) = ([asks(0), asks(1)], &graph.node(node).op) else {
        return Ok(Vec::new());
    };
    let Some(scale) = scale_before_softmax(graph, node) else { return Ok(Vec::new()) };
    let [Some(q), Some(k)] = [0, 1].map(|at| operands.get(at).and_then(|of| of.first())) else {
        return Ok(Vec::new());
    };
    if asked.iter().all(Option::is_none) {
        return Ok(Vec::new());
    }
    let maps = Maps::new(graph, node, q, k, *transpose_rhs, scale * alpha);
    let mut values = [q.as_slice().to_vec(), maps.keys_as_rows(k)];
    let exact = values.clone();
    let failed = |site: &Site| {
        let site = site.id.to_string();
        move |source| SessionError::Fit { site, source }
    };
    let mut found: [Option<Params>; 2] = [None, None];
    if let Some((_, site, ..)) = asked.iter().flatten().next() {
        let reference = maps.of(&exact[0], &exact[1]).map_err(failed(site))?;
        for _ in 0..PASSES {
            for at in [0, 1] {
                let Some((_, site, scheme, bits)) = &asked[at] else { continue };
                let other = &values[1 - at];
                let params = maps
                    .search(&exact[at], scheme, *bits, &reference, |x| {
                        if at == 0 { maps.of(x, other) } else { maps.of(other, x) }
                    })
                    .map_err(failed(site))?;
                let mut quantized = exact[at].clone();
                let layout = Layout::tensor(quantized.len());
                quantizer(Family::Uniform).fake_quantize(&mut quantized, layout, &params);
                values[at] = quantized;
                found[at] = Some(params);
            }
        }
    }
    let sites = asked.iter().map(|asked| asked.map(|(index, ..)| index));
    Ok(sites.zip(found).filter_map(|(site, params)| Some((site?, Arc::new(params?)))).collect())
}

fn is_known(scheme: &Scheme) -> bool {
    scheme.range == RangeSearch::Overlap
        && scheme.family == Family::Uniform
        && scheme.granularity == Granularity::Tensor
        && !scheme.symmetric
}

/// The attention maps of one sample.
struct Maps {
    count: usize,
    queries: usize,
    keys: usize,
    inner: usize,
    transposed: bool,
    scale: f32,
}

impl Maps {
    fn new(graph: &Graph, node: NodeId, q: &Value, k: &Value, transposed: bool, scale: f32) -> Self {
        let last = |shape: &[usize], back: usize| shape.len().checked_sub(back).map_or(1, |at| shape[at]);
        let inner = last(q.shape(), 1).max(1);
        let (queries, keys) = (last(&graph.node(node).shape, 2), last(&graph.node(node).shape, 1));
        Self { count: k.len() / (inner * keys).max(1), queries, keys, inner, transposed, scale }
    }

    /// `[count, keys, inner]`.
    fn keys_as_rows(&self, k: &Value) -> Vec<f32> {
        let (keys, inner) = (self.keys, self.inner);
        if self.transposed {
            return k.as_slice().to_vec();
        }
        let turned = |piece: &[f32]| {
            (0..keys)
                .flat_map(|key| (0..inner).map(move |i| i * keys + key))
                .map(|at| piece[at])
                .collect::<Vec<f32>>()
        };
        k.as_slice().chunks_exact((keys * inner).max(1)).flat_map(turned).collect()
    }

    fn of(&self, q: &[f32], k: &[f32]) -> Result<Vec<f32>, QuantizerError> {
        attention_map(q, k, self.count, self.inner, self.scale)
    }

    fn search(
        &self,
        values: &[f32],
        scheme: &Scheme,
        bits: Bits,
        reference: &[f32],
        map: impl FnMut(&[f32]) -> Result<Vec<f32>, QuantizerError>,
    ) -> Result<Params, QuantizerError> {
        let found = least_overlap_loss(values, bits, reference, self.queries, self.keys, map)?;
        Ok(Params { scheme: scheme.clone(), ..found.params })
    }
}

/// The factor between a product and the softmax that it goes into; none if it goes into none.
fn scale_before_softmax(graph: &Graph, node: NodeId) -> Option<f32> {
    let (mut at, mut scale) = (node, 1.0);
    for _ in 0..STEPS {
        let (index, next) = graph
            .nodes()
            .iter()
            .enumerate()
            .skip(at.index() + 1)
            .find(|(_, next)| next.inputs.contains(&at))?;
        match &next.op {
            Op::Softmax => return Some(scale),
            Op::Affine { mul, .. } => scale *= mul,
            Op::Add | Op::Reshape | Op::Where => {}
            _ => return None,
        }
        at = NodeId(index as u32);
    }
    None
}
