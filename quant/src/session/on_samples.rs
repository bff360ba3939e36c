//! Fits on the calibration samples themselves, layer by layer.

use std::collections::HashMap;
use std::sync::Arc;

use super::by_output::fit_weight;
use super::hessian::Targets;
use super::overlap::fit_attention;
use super::variant::Variant;
use super::{FittedPlan, Session, SessionError};
use crate::exec::{Cancel, Decision, Value};
use crate::graph::{Graph, NodeId, Op, Site};
use crate::method::Protocol;
use crate::plan::{Plan, SitePlan};
use crate::quantizer::{Batch, Distribution, Params, Product, RangeSearch, quantizer};
use crate::terms::Slot;

/// Calibration samples taken at most: as many as the papers use. All of them are held in memory, layer by layer.
pub const SAMPLES: usize = 32;

impl Session {
    /// Fits every site of a plan that has no numbers yet on the raw values of the first [`SAMPLES`] calibration samples:
    /// the searches of the papers, with what a site is multiplied by where a quantizer looks at the product. Layers that
    /// ask for [`RangeSearch::Hessian`](crate::quantizer::RangeSearch) come first, each with all else in full
    /// precision whatever the protocol. Where pictures have sizes of their own, those of the most frequent one are taken,
    /// because samples go through the model side by side. Rewrites without numbers get them from sketches as in [`Session::fit_plan`].
    pub fn fit_plan_on_samples(
        &self,
        plan: &Plan,
        protocol: Protocol,
        cancel: &Cancel,
        mut progress: impl FnMut(usize, usize) + Send,
    ) -> Result<FittedPlan, SessionError> {
        let set = self.calibration.as_ref().ok_or(SessionError::NoCalibration)?;
        let plan = self.fit_rewrites(plan)?.into_owned();
        let variant = self.variant(&plan.rewrites)?;
        let samples = (0..set.len().min(SAMPLES))
            .map(|i| Ok(self.sample_inputs(set, i, None)?.values))
            .collect::<Result<Vec<Vec<Value>>, SessionError>>()?;
        let samples = most_of_one_size(samples);
        let sized = match samples.first() {
            Some(inputs) => variant.engine.at_size_of(inputs)?,
            None => None,
        };
        let engine = sized.as_deref().unwrap_or(&variant.engine);
        let graph = &**engine.graph();
        let by_node: HashMap<NodeId, &[usize]> =
            graph.layers().iter().map(|layer| (layer.node, layer.sites.as_slice())).collect();
        let targets = Targets::of(graph, &plan);
        let steps = |passes: usize| passes * graph.layers().len();
        let total = if targets.is_empty() { steps(1) } else { samples.len() + steps(2) };
        let mut done = 0;
        let mut step = || {
            done += 1;
            progress(done, total);
        };
        let mut made = plan.clone();
        let sequential = protocol == Protocol::Sequential;
        self.pool.install(|| {
            if !targets.is_empty() {
                self.fit_by_gradients(engine, &mut made, &targets, &samples, cancel, &mut step)?;
            }
            let plan = made.clone();
            if !targets.is_empty() && !graph.sites().iter().any(|site| is_open(&plan, site)) {
                (0..graph.layers().len()).for_each(|_| step());
                return Ok(());
            }
            engine.lockstep(&samples, sequential, cancel, |node, operands| {
                let mut decided = fit_attention(graph, &plan, node, operands)?;
                for (site, params) in &decided {
                    made.set(&graph.sites()[*site].id, Some(SitePlan::fitted(params.as_ref().clone())));
                }
                for &site in by_node.get(&node).copied().unwrap_or_default() {
                    if decided.iter().any(|(known, _)| *known == site) {
                        continue;
                    }
                    if let Some(params) = self.decide((&variant, graph), &plan, site, operands)? {
                        let id = &graph.sites()[site].id;
                        made.set(id, Some(SitePlan::fitted(params.as_ref().clone())));
                        decided.push((site, params));
                    }
                }
                step();
                Ok::<Decision, SessionError>(decided)
            })
        })?;
        self.fit_plan(&made)
    }

    /// The parameters of one site, given its layer's operands in all samples.
    fn decide(
        &self,
        (variant, graph): (&Variant, &Graph),
        plan: &Plan,
        index: usize,
        operands: &[Vec<&Value>],
    ) -> Result<Option<Arc<Params>>, SessionError> {
        let site = &graph.sites()[index];
        let (scheme, bits) = match plan.site(&site.id) {
            Some(SitePlan::Quantized { params: Some(params), .. }) => {
                return Ok(Some(Arc::new(params.clone())));
            }
            Some(SitePlan::Quantized { scheme, bits, params: None }) => (scheme, *bits),
            Some(SitePlan::Float) | None => return Ok(None),
        };
        if site.id.slot == Slot::Weight
            && let Some(inputs) = operands.first()
            && let Some(params) = fit_weight(graph, site.node, scheme, bits, inputs)
                .map_err(|source| SessionError::Fit { site: site.id.to_string(), source })?
        {
            return Ok(Some(Arc::new(params)));
        }
        let Some(values) = site.operand.and_then(|operand| operands.get(operand)) else {
            return Ok(Some(Arc::clone(&self.fit_site_in(variant, index, scheme, bits)?.params)));
        };
        let other = |sample: usize| product(graph, site.node, site.id.slot, operands, sample);
        let batches: Vec<Batch<'_>> = values
            .iter()
            .enumerate()
            .map(|(sample, value)| Batch {
                values: value.as_slice(),
                layout: site.layout_of(scheme.granularity),
                product: other(sample),
            })
            .collect();
        let params = quantizer(scheme.family)
            .fit(&Distribution::Batches(&batches), scheme, bits)
            .map_err(|source| SessionError::Fit { site: site.id.to_string(), source })?;
        Ok(Some(Arc::new(params)))
    }
}

/// The samples of the most frequent size, the first of equally frequent ones, in their order.
fn most_of_one_size(samples: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    let size = |inputs: &[Value]| inputs.iter().map(|value| value.shape().to_vec()).collect::<Vec<_>>();
    let sizes: Vec<_> = samples.iter().map(|inputs| size(inputs)).collect();
    let often = |one: &Vec<Vec<usize>>| sizes.iter().filter(|other| *other == one).count();
    // Of equals `max_by_key` takes the last.
    let Some(most) = sizes.iter().rev().max_by_key(|one| often(one)) else { return samples };
    let keep: Vec<bool> = sizes.iter().map(|one| one == most).collect();
    samples.into_iter().zip(keep).filter_map(|(inputs, keep)| keep.then_some(inputs)).collect()
}

/// Whether a site waits for parameters that depend on the samples.
fn is_open(plan: &Plan, site: &Site) -> bool {
    match plan.site(&site.id) {
        Some(SitePlan::Quantized { scheme, params: None, .. }) => {
            site.operand.is_some() || scheme.range == RangeSearch::Output
        }
        _ => false,
    }
}

/// What an operand is multiplied by in one sample.
fn product<'v>(
    graph: &'v Graph,
    node: NodeId,
    slot: Slot,
    operands: &[Vec<&'v Value>],
    sample: usize,
) -> Option<Product<'v>> {
    match (&graph.node(node).op, slot) {
        (Op::Linear { weight, .. }, Slot::Input) => {
            let weight = graph.param(*weight);
            Some(Product {
                other: &weight.data,
                inner: weight.shape[1],
                columns: weight.shape[0],
                transposed: true,
            })
        }
        (Op::MatMul { transpose_rhs, .. }, Slot::Lhs) => {
            let other = operands.get(1)?.get(sample)?;
            let (a, b) = (other.shape().len().checked_sub(2)?, other.shape());
            let (inner, columns) = if *transpose_rhs { (b[a + 1], b[a]) } else { (b[a], b[a + 1]) };
            Some(Product { other: other.as_slice(), inner, columns, transposed: *transpose_rhs })
        }
        _ => None,
    }
}
