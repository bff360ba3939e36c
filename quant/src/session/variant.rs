//! The model after the rewrites of a plan.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use super::{FittedPlan, Session, SessionError, calibrate, choices, lock};
use crate::exec::{Cancel, Engine};
use crate::graph::{Graph, RewriteKind};
use crate::plan::Rewrite;
use crate::quantizer::Granularity;
use crate::stats::Sketch;
use crate::terms::{SiteId, Slot};

/// Rewritten models kept: the one that is looked at, the one before an edit, and one to compare with.
const KEPT: usize = 3;

/// Sketches by site.
type BySite = HashMap<usize, Arc<Sketch>>;

/// A graph with its engine and what is known of its sites. Sites keep their places through rewrites.
#[derive(Debug)]
pub(super) struct Variant {
    /// Stands for the rewrites; 0 for the model as it was opened.
    pub(super) identity: u64,
    pub(super) engine: Engine,
    /// By site: whether its values are other ones than in the model as it was opened.
    pub(super) changed: Vec<bool>,
    /// Sketches of weights; of a rewritten model only of those that changed.
    weights: Vec<Option<Arc<Sketch>>>,
    /// Sketches of activations that changed, once somebody asked.
    activations: Mutex<Option<Arc<BySite>>>,
    /// Sketches of all operands that have heads, seen by head, once somebody asked.
    heads: Mutex<Option<Arc<BySite>>>,
}

impl Variant {
    /// The model as it was opened.
    pub(super) fn base(engine: Engine) -> Result<Self, SessionError> {
        let graph = engine.graph();
        Ok(Self {
            identity: 0,
            changed: vec![false; graph.sites().len()],
            weights: calibrate::weight_sketches(graph, |_| true)?,
            engine,
            activations: Mutex::default(),
            heads: Mutex::default(),
        })
    }

    pub(super) fn graph(&self) -> &Graph {
        self.engine.graph()
    }

    /// The sketch of a site by its heads, if they were observed.
    pub(super) fn known_heads(&self, site: usize) -> Option<Arc<Sketch>> {
        lock(&self.heads).as_ref()?.get(&site).cloned()
    }

    /// What distinguishes a site's values in caches: 0 where they are those of the opened model.
    pub(super) fn site_identity(&self, site: usize) -> u64 {
        if self.changed.get(site) == Some(&true) { self.identity } else { 0 }
    }
}

/// Stands for rewrites, by the bits of their numbers.
fn identity(rewrites: &[Rewrite]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for rewrite in rewrites {
        (&rewrite.rewrite, &rewrite.layer).hash(&mut hasher);
        for (name, numbers) in &rewrite.vectors {
            name.hash(&mut hasher);
            numbers.len().hash(&mut hasher);
            for x in numbers {
                x.to_bits().hash(&mut hasher);
            }
        }
    }
    hasher.finish() | 1
}

impl Session {
    /// The model after fitted rewrites; made at most once while it is in use.
    pub(super) fn variant(&self, rewrites: &[Rewrite]) -> Result<Arc<Variant>, SessionError> {
        if rewrites.is_empty() {
            return Ok(Arc::clone(&self.base));
        }
        let identity = identity(rewrites);
        if let Some(found) = lock(&self.variants).iter().find(|v| v.identity == identity) {
            return Ok(Arc::clone(found));
        }
        let base = &*self.model.graph;
        let mut graph = base.clone();
        let mut nodes = vec![false; base.nodes().len()];
        for rewrite in rewrites {
            let kind: RewriteKind =
                rewrite.rewrite.parse().map_err(|e| SessionError::UnknownRewrite { source: e })?;
            let made = if self.weights_rewritten {
                graph.refilled(kind, &rewrite.layer, &rewrite.vectors)?
            } else {
                graph.rewritten(kind, &rewrite.layer, &rewrite.vectors)?
            };
            nodes.iter_mut().zip(&made.changed).for_each(|(all, one)| *all |= one);
            graph = made.graph;
        }
        let changed = graph
            .sites()
            .iter()
            .map(|site| match site.operand {
                Some(operand) => nodes[base.node(site.node).inputs[operand].index()],
                None => match (graph.weight_of(site.node), base.weight_of(site.node)) {
                    (Some(new), Some(old)) => !new.data.same(&old.data),
                    _ => false,
                },
            })
            .collect::<Vec<bool>>();
        let weights = calibrate::weight_sketches(&graph, |site| changed[site])?;
        let engine = self.base.engine.rewritten(Arc::new(graph));
        let (activations, heads) = Default::default();
        let made = Arc::new(Variant { identity, engine, changed, weights, activations, heads });
        let mut kept = lock(&self.variants);
        // Another lane may have made the same meanwhile; its sites are observed once for both.
        if let Some(found) = kept.iter().find(|v| v.identity == identity) {
            return Ok(Arc::clone(found));
        }
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(Arc::clone(&made));
        Ok(made)
    }

    /// The sketch of a site in a variant. Activations that a rewrite changed are observed in a pass of their own over
    /// the calibration set the first time one is asked for.
    pub(super) fn sketch_in(
        &self,
        variant: &Variant,
        site: usize,
    ) -> Result<Option<Arc<Sketch>>, SessionError> {
        if !variant.changed.get(site).copied().unwrap_or(false) {
            return Ok(self.sketch(site));
        }
        if variant.graph().sites()[site].id.slot == Slot::Weight {
            return Ok(variant.weights[site].clone());
        }
        if self.stats().is_none() {
            return Ok(None);
        }
        let mut known = lock(&variant.activations);
        let found = if let Some(found) = &*known {
            Arc::clone(found)
        } else {
            let seen = Arc::new(self.observe_sites(&variant.engine, |i| variant.changed[i])?);
            *known = Some(Arc::clone(&seen));
            seen
        };
        Ok(found.get(&site).cloned())
    }

    /// The sketch that a grid of this granularity is fitted on. Heads are observed in a pass of their own over the
    /// calibration set the first time one is asked for: few plans look at them.
    pub(super) fn sketch_of(
        &self,
        variant: &Variant,
        site: usize,
        granularity: Granularity,
    ) -> Result<Option<Arc<Sketch>>, SessionError> {
        let has_heads = variant.graph().sites()[site].heads.is_some();
        if granularity != Granularity::Head || !has_heads || self.stats().is_none() {
            return self.sketch_in(variant, site);
        }
        let mut known = lock(&variant.heads);
        let found = if let Some(found) = &*known {
            Arc::clone(found)
        } else {
            let seen = Arc::new(self.observe_heads(&variant.engine, &Cancel::default())?);
            *known = Some(Arc::clone(&seen));
            seen
        };
        Ok(found.get(&site).cloned())
    }

    /// Observes the heads of all operands that have some, if this site does and they are not known; says whether it has.
    pub(super) fn gather_heads(
        &self,
        fitted: &FittedPlan,
        site: &SiteId,
        cancel: &Cancel,
    ) -> Result<bool, SessionError> {
        let variant = &fitted.variant;
        let offered = choices::by_head(&variant.graph().sites()[self.index_of(site)?]);
        if offered.is_empty() || self.calibration.is_none() || lock(&variant.heads).is_some() {
            return Ok(false);
        }
        let seen = self.observe_heads(&variant.engine, cancel)?;
        lock(&variant.heads).get_or_insert_with(|| Arc::new(seen));
        Ok(true)
    }

    /// The sketch of a weight of the model as it was opened.
    pub(super) fn weight_sketch(&self, site: usize) -> Option<Arc<Sketch>> {
        self.base.weights.get(site)?.clone()
    }

    /// Forgets what was observed on another calibration set.
    pub(super) fn forget_variants(&self) {
        lock(&self.variants).clear();
        *lock(&self.base.heads) = None;
    }
}
