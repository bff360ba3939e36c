//! What explanations gather beyond calibration, kept for the next one: where rewrites fit, the sites behind rewrites
//! that are not on, and the sites on held-out samples.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use super::remedy::parse;
use crate::exec::Cancel;
use crate::graph::RewriteKind;
use crate::plan::{Plan, Rewrite};
use crate::quantizer::{Family, RangeSearch, Scheme};
use crate::session::variant::Variant;
use crate::session::{FittedPlan, Session, SessionError, lock};
use crate::stats::Sketch;
use crate::terms::{Bits, SiteId};

/// Held-out samples that are observed at most.
pub const HELD_OUT: usize = 32;
/// Plans with rewrites whose held-out sites are kept.
const KEPT: usize = 3;

/// Sketches by site.
type BySite = Arc<HashMap<usize, Arc<Sketch>>>;

/// Where a rewrite fits and what it changes.
#[derive(Debug)]
pub(in crate::session) struct Place {
    pub(super) kind: RewriteKind,
    pub(super) layer: String,
    pub(super) sites: Vec<SiteId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::session) struct Known {
    places: OnceLock<Arc<Vec<Place>>>,
    tried: Mutex<Option<Arc<Tried>>>,
    /// By the variant's identity: 0 for the opened model.
    held_out: Mutex<Vec<(u64, BySite)>>,
}

/// The model with every rewrite that the plan in hand may do without: smoothing and sign folding wherever they fit.
/// Rewrites are exact, so what a site holds behind one of them does not depend on the others.
#[derive(Debug)]
pub(super) struct Tried {
    rewrites: Vec<Rewrite>,
    sketches: HashMap<usize, Arc<Sketch>>,
}

impl Tried {
    /// What a site holds then.
    pub(super) fn sketch(&self, site: usize) -> Option<&Arc<Sketch>> {
        self.sketches.get(&site)
    }

    /// The rewrite of a kind that was tried at a layer.
    pub(super) fn at(&self, kind: RewriteKind, layer: &str) -> Option<&Rewrite> {
        self.rewrites.iter().find(|r| r.layer == layer && r.rewrite == kind.as_str())
    }
}

impl Known {
    /// Forgets what was observed on another calibration set.
    pub(in crate::session) fn forget(&self) {
        *lock(&self.tried) = None;
    }
}

impl Session {
    /// Where rewrites fit.
    pub(in crate::session) fn rewrite_places(&self) -> Arc<Vec<Place>> {
        let graph = &self.model.graph;
        let all = || {
            let of = |kind: RewriteKind| {
                graph.rewritable(kind).into_iter().map(move |node| Place {
                    kind,
                    layer: graph.node(node).name.clone(),
                    sites: graph.rewrite_sites(kind, node),
                })
            };
            Arc::new(RewriteKind::ALL.iter().flat_map(|&kind| of(kind)).collect())
        };
        Arc::clone(self.explained.places.get_or_init(all))
    }

    /// Gathers what explanations of this plan can use beyond the calibration: one pass over the calibration set with the
    /// rewrites that are not on, and one over at most [`HELD_OUT`] held-out samples. What is known already is not
    /// gathered again; without samples, or with weights from an export, the pass in question is left out. Explanations
    /// made before say less, but nothing else.
    pub fn prepare_explanations(
        &self,
        fitted: &FittedPlan,
        cancel: &Cancel,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<(), SessionError> {
        let tried = self.calibration.as_ref().filter(|_| self.stats().is_some() && !self.weights_rewritten);
        let needs_trial = tried.is_some() && lock(&self.explained.tried).is_none();
        let base = tried.filter(|_| needs_trial).map_or(0, crate::data::SampleSet::len);
        let held_out = self.samples.as_ref().map_or(0, |set| set.len().min(HELD_OUT));
        let rewritten = if fitted.variant.identity == 0 { 0 } else { held_out };
        let total = base + held_out + rewritten;
        if needs_trial {
            let made = self.try_rewrites(cancel, &mut |done, _| progress(done, total))?;
            *lock(&self.explained.tried) = Some(Arc::new(made));
        }
        if held_out > 0 {
            let mut at = |from: usize, done: usize| progress(base + from + done, total);
            self.observe_held_out(None, cancel, &mut |done, _| at(0, done))?;
            if rewritten > 0 {
                self.observe_held_out(Some(&fitted.variant), cancel, &mut |done, _| at(held_out, done))?;
            }
        }
        progress(total, total);
        Ok(())
    }

    /// Whether there is nothing left for [`Session::prepare_explanations`] to do.
    pub fn is_prepared(&self, fitted: &FittedPlan) -> bool {
        let can_try = self.calibration.is_some() && self.stats().is_some() && !self.weights_rewritten;
        let tried = !can_try || lock(&self.explained.tried).is_some();
        let known = lock(&self.explained.held_out);
        let seen = |identity: u64| known.iter().any(|(of, _)| *of == identity);
        tried && (self.samples.is_none() || (seen(0) && seen(fitted.variant.identity)))
    }

    /// What was tried, once [`Session::prepare_explanations`] did.
    pub(super) fn tried(&self) -> Option<Arc<Tried>> {
        lock(&self.explained.tried).clone()
    }

    /// A site on held-out samples, once observed.
    pub(super) fn held_out_sketch(&self, variant: &Variant, site: usize) -> Option<Arc<Sketch>> {
        let identity = variant.site_identity(site);
        let known = lock(&self.explained.held_out);
        known.iter().find(|(of, _)| *of == identity)?.1.get(&site).cloned()
    }

    fn try_rewrites(
        &self,
        cancel: &Cancel,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Tried, SessionError> {
        let eight = (Scheme::new(Family::Uniform, RangeSearch::MinMax), Bits::EIGHT);
        let mut plan = Plan::uniform_over(self.model_ref(), self.site_ids(), None, Some(eight));
        plan.rewrites = self
            .rewrite_places()
            .iter()
            .filter(|place| matches!(place.kind, RewriteKind::Smoothing | RewriteKind::SignFolding))
            .map(|place| Rewrite {
                rewrite: place.kind.to_string(),
                layer: place.layer.clone(),
                vectors: std::collections::BTreeMap::new(),
            })
            .collect();
        let base = &*self.model.graph;
        let mut graph = base.clone();
        let mut nodes = vec![false; base.nodes().len()];
        let mut rewrites = Vec::new();
        for rewrite in self.fit_apart(&plan)? {
            // Some fit the pattern and still cannot be done, as where weights are shared: there is nothing to try.
            let made =
                parse(&rewrite.rewrite).ok().map(|k| graph.rewritten(k, &rewrite.layer, &rewrite.vectors));
            let Some(Ok(made)) = made else { continue };
            nodes.iter_mut().zip(&made.changed).for_each(|(all, one)| *all |= one);
            graph = made.graph;
            rewrites.push(rewrite);
        }
        let engine = self.base.engine.rewritten(Arc::new(graph));
        let changed = |site: usize| {
            let site = &base.sites()[site];
            site.operand.is_some_and(|operand| nodes[base.node(site.node).inputs[operand].index()])
        };
        let sketches = match &self.calibration {
            Some(set) => self.observe_sites_on(&engine, (set, set.len()), changed, cancel, progress)?,
            None => HashMap::new(),
        };
        Ok(Tried { rewrites, sketches })
    }

    fn observe_held_out(
        &self,
        variant: Option<&Variant>,
        cancel: &Cancel,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(), SessionError> {
        let variant = variant.unwrap_or(&self.base);
        let set = self.samples.as_ref().ok_or(SessionError::NoSamples)?;
        if lock(&self.explained.held_out).iter().any(|(of, _)| *of == variant.identity) {
            return Ok(());
        }
        let wanted = |site: usize| variant.identity == 0 || variant.changed.get(site) == Some(&true);
        let seen = self.observe_sites_on(&variant.engine, (set, HELD_OUT), wanted, cancel, progress)?;
        let mut known = lock(&self.explained.held_out);
        // The opened model stays; of rewritten ones the newest.
        while known.iter().filter(|(of, _)| *of != 0).count() >= KEPT {
            let oldest = known.iter().position(|(of, _)| *of != 0);
            oldest.map(|at| known.remove(at));
        }
        known.push((variant.identity, Arc::new(seen)));
        Ok(())
    }
}
