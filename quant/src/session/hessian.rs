//! Scales of both operands of a layer by the error of its output, weighted by the gradients of the model's loss
//! ([`RangeSearch::Hessian`]; PTQ4ViT, Yuan et al. 2022, §3.3; PTQ4RIS's visual encoder).

mod gradients;
mod operands;
mod parts;
mod rows;

use std::collections::HashMap;
use std::sync::Arc;

use super::{Session, SessionError};
use crate::exec::{Cancel, Decision, Engine, Value};
use crate::graph::{Graph, NodeId, Op};
use crate::plan::{Plan, SitePlan};
use crate::quantizer::output::{
    InputGrid, SignedCodes, search_attention, search_linear, search_matmul, signed_params, twin_gelu_params,
    twin_softmax_params,
};
use crate::quantizer::{Family, Granularity, Params, QuantizerError, RangeSearch, Scheme};
use crate::terms::{Bits, Slot};

/// A site of a layer that is searched.
#[derive(Debug, Clone)]
struct Operand {
    site: usize,
    scheme: Scheme,
    bits: Bits,
}

/// What kind of layer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Linear or convolution, its weight in as many parts, each with a scale of its own: one, three of a projection to
    /// queries, keys and values, or every row.
    Weighted { input: InputGrid, parts: usize },
    /// Queries times keys.
    Product,
    /// Probabilities on two regions times values.
    Attention,
}

/// A layer whose operands are searched together.
#[derive(Debug)]
struct Target {
    node: NodeId,
    kind: Kind,
    /// How many heads have scales of their own; one of layers with weights.
    heads: usize,
    /// Input or left operand; none: it stays in full precision.
    left: Option<Operand>,
    /// Weight or right operand.
    right: Operand,
}

/// All of them by node.
pub(super) struct Targets(HashMap<NodeId, Target>);

impl Targets {
    /// The layers of which both operands ask for the search, with grids that it knows: symmetric ones, twin grids
    /// after GELU and softmax; the input of a layer with a weight may be in full precision. At other layers every
    /// site keeps a fit of its own.
    pub(super) fn of(graph: &Graph, plan: &Plan) -> Self {
        let targets = graph.layers().iter().filter_map(|layer| Target::of(graph, plan, layer.node));
        Self(targets.map(|target| (target.node, target)).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the release is to be reproduced.
    fn released(&self) -> bool {
        self.0.values().any(Target::released)
    }
}

impl Target {
    fn of(graph: &Graph, plan: &Plan, node: NodeId) -> Option<Self> {
        let site = |slot: Slot| {
            graph.sites().iter().enumerate().find(|(_, site)| site.node == node && site.id.slot == slot)
        };
        // Outer none: something that the search does not know.
        let operand = |slot: Slot| -> Option<Option<Operand>> {
            let (index, site) = site(slot)?;
            match plan.site(&site.id) {
                None | Some(SitePlan::Float) => Some(None),
                Some(SitePlan::Quantized { scheme, bits, params: None })
                    if scheme.range == RangeSearch::Hessian && !bits.is_float() =>
                {
                    Some(Some(Operand { site: index, scheme: scheme.clone(), bits: *bits }))
                }
                Some(SitePlan::Quantized { .. }) => None,
            }
        };
        let is_signed =
            |operand: &Operand| operand.scheme.family == Family::Uniform && operand.scheme.symmetric;
        let shared = |operand: &Operand| operand.scheme.granularity == Granularity::Tensor;
        let heads = |operand: &Operand| match graph.sites()[operand.site].heads {
            Some(heads) if operand.scheme.granularity == Granularity::Head => heads.channels,
            _ => 1,
        };
        let by_head =
            |operand: &Operand| is_signed(operand) && operand.scheme.granularity != Granularity::Channel;
        let twin = |operand: &Operand, family: Family| {
            operand.scheme.family == family && operand.scheme.granularity == Granularity::Tensor
        };
        let op = &graph.node(node).op;
        let (kind, heads, left, right) = match op {
            Op::Linear { .. } | Op::Conv { .. } => {
                let (left, right) = (operand(Slot::Input)?, operand(Slot::Weight)??);
                let input = match &left {
                    None => InputGrid::Float,
                    Some(left) if is_signed(left) && shared(left) => InputGrid::Signed,
                    Some(left) if twin(left, Family::DrqGelu) => InputGrid::TwinGelu,
                    Some(_) => return None,
                };
                let grouped = matches!(op, Op::Conv { geometry, .. } if geometry.groups != 1);
                if grouped || !is_signed(&right) {
                    return None;
                }
                let rows = graph.weight_of(node)?.shape[0];
                let parts = if shared(&right) { parts::of(graph, node) } else { rows };
                (Kind::Weighted { input, parts }, 1, left, right)
            }
            Op::MatMul { .. } => {
                let (left, right) = (operand(Slot::Lhs)??, operand(Slot::Rhs)??);
                let kind = match () {
                    () if !by_head(&right) => return None,
                    // Both are searched in turn, head by head.
                    () if by_head(&left) && heads(&left) == heads(&right) => Kind::Product,
                    () if twin(&left, Family::DrqSoftmax) => Kind::Attention,
                    () => return None,
                };
                (kind, heads(&right), Some(left), right)
            }
            _ => return None,
        };
        Some(Self { node, kind, heads, left, right })
    }

    fn released(&self) -> bool {
        self.left.iter().chain([&self.right]).any(|operand| operand.scheme.paper)
    }

    fn codes(&self) -> SignedCodes {
        if self.released() { SignedCodes::All } else { SignedCodes::Mirrored }
    }

    /// The parameters of both operands from the scales that were found.
    fn decide(&self, left: Option<Params>, right: &[f32]) -> Decision {
        let mut scheme = self.right.scheme.clone();
        if scheme.granularity == Granularity::Tensor && right.len() > 1 {
            scheme = scheme.per_channel();
        }
        let right = (self.right.site, signed_params(&scheme, self.right.bits, right, self.codes()));
        let left = self.left.as_ref().map(|operand| operand.site).zip(left);
        left.into_iter().chain([right]).map(|(site, params)| (site, Arc::new(params))).collect()
    }

    /// The search, given the layer's operands in all samples and the gradients of the outputs that are looked at.
    /// None if there is nothing finite to look at.
    fn search(
        &self,
        graph: &Graph,
        operands: &[Vec<&Value>],
        gradients: &[Vec<f32>],
    ) -> Result<Option<Decision>, QuantizerError> {
        let codes = self.codes();
        match self.kind {
            Kind::Weighted { input, parts } => {
                let Some(sampled) = operands::rows(graph, self, operands, gradients, input) else {
                    return Ok(None);
                };
                let layer = sampled.layer(codes);
                let bits = self.left.as_ref().map_or(self.right.bits, |left| left.bits);
                let found = search_linear(&layer, parts, input, self.right.bits, bits)?;
                let left = self.left.as_ref().map(|left| match input {
                    InputGrid::TwinGelu => twin_gelu_params(&left.scheme, left.bits, found.input),
                    _ => signed_params(&left.scheme, left.bits, &[found.input], codes),
                });
                let rows = graph.weight_of(self.node).map_or(1, |weight| weight.shape[0]);
                Ok(Some(self.decide(left, &parts::by_row(found.weight, rows))))
            }
            Kind::Product | Kind::Attention => {
                let Some(left) = &self.left else { return Ok(None) };
                let Some(sampled) = operands::pieces(graph, self, operands, gradients) else {
                    return Ok(None);
                };
                let heads = sampled.heads(codes);
                if self.kind == Kind::Attention {
                    let paper = left.scheme.paper;
                    let found = search_attention(&heads, left.bits, self.right.bits, paper)?;
                    let params = twin_softmax_params(&left.scheme, left.bits, found.boundary);
                    return Ok(Some(self.decide(Some(params), &found.rhs)));
                }
                let (lhs, rhs) = search_matmul(&heads, left.bits, self.right.bits)?;
                Ok(Some(self.decide(Some(signed_params(&left.scheme, left.bits, &lhs, codes)), &rhs)))
            }
        }
    }
}

impl Session {
    /// Decides on the target layers one after the other, all else in full precision as in the papers, and puts the
    /// parameters into the plan. `step` is called after every sample and every layer.
    pub(super) fn fit_by_gradients(
        &self,
        engine: &Engine,
        plan: &mut Plan,
        targets: &Targets,
        samples: &[Vec<Value>],
        cancel: &Cancel,
        step: &mut (dyn FnMut() + Send),
    ) -> Result<(), SessionError> {
        let graph = &**engine.graph();
        let gradients = self.layer_gradients(engine, plan, targets, samples, cancel, step)?;
        engine.lockstep(samples, false, cancel, |node, operands| {
            if let Some(target) = targets.0.get(&node) {
                let none = Vec::new();
                let of_layer = gradients.get(&node).unwrap_or(&none);
                let found = target.search(graph, operands, of_layer).map_err(|source| {
                    let site = graph.sites()[target.right.site].id.to_string();
                    SessionError::Fit { site, source }
                })?;
                for (site, params) in found.into_iter().flatten() {
                    plan.set(&graph.sites()[site].id, Some(SitePlan::fitted(params.as_ref().clone())));
                }
            }
            step();
            Ok::<Decision, SessionError>(Vec::new())
        })
    }
}
