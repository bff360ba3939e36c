//! Numbers for the rewrites of a plan that has none yet.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::fit::check_fits;
use super::variant::Variant;
use super::{Session, SessionError, lock};
use crate::graph::{NodeId, Op, RewriteError, RewriteKind};
use crate::plan::{Plan, Rewrite, SitePlan};
use crate::quantizer::rewriting;
use crate::quantizer::{Distribution, Params, QuantizerError, Scheme, Survey, quantizer};
use crate::stats::{ChannelStats, Density, Sketch};
use crate::terms::{Bits, SiteId, Slot};

/// Signs by key projection.
pub(super) type KeySigns = HashMap<NodeId, Vec<f32>>;

/// SmoothQuant's migration strength where a plan says nothing else.
const ALPHA: f32 = 0.5;

impl Session {
    /// The plan with numbers for all its rewrites. Those without any get them from the sketches; a
    /// `layernorm-reparameterization` also fits the sites behind its LayerNorm, whose grids it is made of. A rewrite
    /// of sites that stay in full precision, or of keys that are not bimodal, is dropped.
    pub(super) fn fit_rewrites<'p>(&self, plan: &'p Plan) -> Result<Cow<'p, Plan>, SessionError> {
        if plan.rewrites.iter().all(|rewrite| !is_open(rewrite)) {
            return Ok(Cow::Borrowed(plan));
        }
        let mut made = plan.clone();
        made.rewrites.clear();
        for rewrite in &plan.rewrites {
            let kind: RewriteKind =
                rewrite.rewrite.parse().map_err(|source| SessionError::UnknownRewrite { source })?;
            if !is_open(rewrite) {
                made.rewrites.push(rewrite.clone());
                continue;
            }
            let variant = self.variant(&made.rewrites)?;
            let failed = |problem: &str| RewriteError {
                kind,
                node: rewrite.layer.clone(),
                problem: problem.to_owned(),
            };
            let node =
                variant.graph().find(&rewrite.layer).ok_or_else(|| failed("the model has no such node"))?;
            let vectors = match kind {
                RewriteKind::BatchNormFolding => Some(BTreeMap::new()),
                RewriteKind::Smoothing => self.smoothing(&variant, node, rewrite, &made)?,
                RewriteKind::NormReparameterization => self.reparameterization(&variant, node, &mut made)?,
                RewriteKind::SignFolding => self.signs(&variant, node)?,
            };
            if let Some(vectors) = vectors {
                made.rewrites.push(Rewrite { vectors, ..rewrite.clone() });
            }
        }
        Ok(Cow::Owned(made))
    }

    /// The numbers of a plan's rewrites, each found on the model as it was opened; those that find none are left out.
    pub(super) fn fit_apart(&self, plan: &Plan) -> Result<Vec<Rewrite>, SessionError> {
        let mut made = Vec::new();
        for rewrite in &plan.rewrites {
            let mut alone = plan.clone();
            alone.rewrites = vec![rewrite.clone()];
            made.extend(self.fit_rewrites(&alone)?.into_owned().rewrites);
        }
        Ok(made)
    }

    /// Input sites of the linear layers behind a LayerNorm that the plan quantizes.
    fn quantized_behind(variant: &Variant, norm: NodeId, plan: &Plan) -> Vec<(usize, Scheme, Bits)> {
        let graph = variant.graph();
        let layers = graph.layers_behind_norm(norm).unwrap_or_default();
        let site = |layer: NodeId| {
            let id = SiteId::new(graph.node(layer).name.clone(), Slot::Input);
            match plan.site(&id)? {
                SitePlan::Quantized { scheme, bits, .. } => {
                    Some((graph.site_index(&id)?, scheme.clone(), *bits))
                }
                SitePlan::Float => None,
            }
        };
        layers.into_iter().filter_map(site).collect()
    }

    /// What the layers behind a LayerNorm see, all together: some see only a part of it, as every head of SAM's mask
    /// decoder sees a token of its own.
    fn seen_behind(
        &self,
        variant: &Variant,
        sites: &[(usize, Scheme, Bits)],
    ) -> Result<Arc<Sketch>, SessionError> {
        let mut seen: Vec<Arc<Sketch>> = Vec::new();
        for &(site, ..) in sites {
            let Some(sketch) = self.sketch_in(variant, site)? else {
                let site = variant.graph().sites()[site].id.to_string();
                return Err(SessionError::NotCalibrated { site });
            };
            if !seen.iter().any(|known| Arc::ptr_eq(known, &sketch)) {
                seen.push(sketch);
            }
        }
        let mut parts = seen.into_iter();
        let mut all = parts.next().unwrap_or_else(|| Arc::new(Sketch::new(0)));
        for part in parts {
            Arc::make_mut(&mut all).merge(&part)?;
        }
        Ok(all)
    }

    /// RepQ-ViT: per-channel grids, their mean as the grid of all.
    fn reparameterization(
        &self,
        variant: &Variant,
        norm: NodeId,
        plan: &mut Plan,
    ) -> Result<Option<BTreeMap<String, Vec<f32>>>, SessionError> {
        let sites = Self::quantized_behind(variant, norm, plan);
        let Some((first, scheme, bits)) = sites.first() else { return Ok(None) };
        let id = &variant.graph().sites()[*first].id;
        let seen = self.seen_behind(variant, &sites)?;
        let channels = fit_sketch(&seen, &scheme.clone().per_channel(), *bits)
            .map_err(|source| SessionError::Fit { site: id.to_string(), source })?;
        let merged = rewriting::reparameterize(&channels);
        for (site, scheme, bits) in &sites {
            let params = Params {
                scheme: Scheme { granularity: crate::quantizer::Granularity::Tensor, ..scheme.clone() },
                bits: *bits,
                scale: vec![merged.step],
                zero_point: vec![merged.zero_point],
                extra: BTreeMap::new(),
            };
            plan.set(&variant.graph().sites()[*site].id, Some(SitePlan::fitted(params)));
        }
        Ok(Some([("scale".to_owned(), merged.scale), ("shift".to_owned(), merged.shift)].into()))
    }

    /// SmoothQuant's factors from the reach of every channel.
    fn smoothing(
        &self,
        variant: &Variant,
        norm: NodeId,
        rewrite: &Rewrite,
        plan: &Plan,
    ) -> Result<Option<BTreeMap<String, Vec<f32>>>, SessionError> {
        let graph = variant.graph();
        let sites = Self::quantized_behind(variant, norm, plan);
        if sites.is_empty() {
            return Ok(None);
        }
        let sketch = self.seen_behind(variant, &sites)?;
        let reach: Vec<f32> = sketch.channel_stats().iter().map(ChannelStats::reach).collect();
        let layers = graph.layers_behind_norm(norm).unwrap_or_default();
        let weights: Vec<&[f32]> =
            layers.iter().filter_map(|&l| graph.weight_of(l)).map(|p| p.data.as_slice()).collect();
        let alpha = rewrite.vectors.get("alpha").and_then(|v| v.first()).copied().unwrap_or(ALPHA);
        let scale = rewriting::smoothing(&reach, &weights, alpha);
        Ok(Some([("alpha".to_owned(), vec![alpha]), ("scale".to_owned(), scale)].into()))
    }

    /// PTQ4SAM's signs of the key channels, if the keys are bimodal.
    fn signs(
        &self,
        variant: &Variant,
        product: NodeId,
    ) -> Result<Option<BTreeMap<String, Vec<f32>>>, SessionError> {
        let graph = variant.graph();
        let site = SiteId::new(graph.node(product).name.clone(), Slot::Rhs);
        let keys = graph.site_index(&site).map(|site| self.sketch_in(variant, site)).transpose()?.flatten();
        let (Some(keys), Some(layer)) = (keys, graph.key_projection(product)) else { return Ok(None) };
        if !Density::new(&keys).peaks().bimodal() {
            return Ok(None);
        }
        let signs = self.key_signs()?.get(&layer).cloned().unwrap_or_default();
        Ok(Some([("sign".to_owned(), signs)].into()))
    }

    /// Signs of the output channels of every key projection, from one pass over the calibration set. Other rewrites
    /// change none of them.
    fn key_signs(&self) -> Result<Arc<KeySigns>, SessionError> {
        let mut known = lock(&self.key_signs);
        if let Some(found) = &*known {
            return Ok(Arc::clone(found));
        }
        let graph = &*self.model.graph;
        let layers: Vec<NodeId> = graph
            .rewritable(RewriteKind::SignFolding)
            .into_iter()
            .filter_map(|product| graph.key_projection(product))
            .collect();
        let axis = |layer: NodeId| {
            if matches!(graph.node(layer).op, Op::Conv { .. } | Op::ConvTranspose { .. }) { 1 } else { -1 }
        };
        let watched: Vec<(NodeId, isize)> = layers.iter().map(|&layer| (layer, axis(layer))).collect();
        let sketches = self.observe_nodes(&self.base.engine, &watched)?;
        let signs = layers.into_iter().zip(sketches.iter().map(|sketch| sketch.channel_signs(false)));
        let made = Arc::new(signs.collect::<KeySigns>());
        *known = Some(Arc::clone(&made));
        Ok(made)
    }
}

/// Fits a quantizer to what a sketch saw.
fn fit_sketch(sketch: &Sketch, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
    check_fits(scheme.family, sketch)?;
    quantizer(scheme.family).fit(&Distribution::Survey(&Survey::new(sketch)), scheme, bits)
}

/// Whether a rewrite has no numbers yet.
fn is_open(rewrite: &Rewrite) -> bool {
    match rewrite.rewrite.parse() {
        Ok(RewriteKind::NormReparameterization | RewriteKind::Smoothing) => {
            !rewrite.vectors.contains_key("scale")
        }
        Ok(RewriteKind::SignFolding) => !rewrite.vectors.contains_key("sign"),
        Ok(RewriteKind::BatchNormFolding) | Err(_) => false,
    }
}
