//! Which rewrites the plans of a search have: tried one kind after the other, kept if runs say so.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::field::{BySite, Field, Stop};
use super::offers::Offer;
use crate::graph::RewriteKind;
use crate::plan::{Plan, Rewrite, SitePlan};
use crate::quantizer::{Family, RangeSearch, Scheme};
use crate::session::variant::Variant;
use crate::session::{Session, SessionError};
use crate::terms::{Bits, Slot};

/// Samples that a kind is tried on.
const SAMPLES: usize = 16;
/// The part of the time that trying a kind may take.
const SHARE: f64 = 0.02;
/// The width that is tried where it is among the candidates.
const WIDTH: u8 = 4;

/// A model after rewrites, with what its groups can be given.
pub(super) struct Base {
    pub(super) rewrites: Vec<Rewrite>,
    pub(super) variant: Arc<Variant>,
    pub(super) offers: Vec<Vec<Offer>>,
}

impl Session {
    /// The rewrites under which all sites at one width, each with its quantizer of least predicted error, lose least: from
    /// none on, every kind is added where it fits if that lowers the mean loss on samples.
    pub(super) fn base_of_search(
        &self,
        field: &Field<'_>,
        groups: &[Vec<usize>],
        bits: &[Bits],
        stop: &Stop,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Base, SessionError> {
        let all = RewriteKind::ALL.len() + 1;
        let steps = groups.len();
        let mut offers = |variant: &Variant, at: usize| {
            self.offers(variant, groups, bits, &stop.cancel, |done, _| {
                progress(at * steps + done, all * steps);
            })
        };
        let seconds = stop.end.saturating_duration_since(std::time::Instant::now()).as_secs_f64() * SHARE;
        let samples = field.affordable(seconds, SAMPLES);
        let loss = |base: &Base| {
            let params = one_width(groups, &base.offers, bits);
            field.mean_loss(&base.variant, &params, samples, &stop.cancel)
        };
        let first = offers(&self.base, 0)?;
        let mut base = Base { rewrites: Vec::new(), variant: Arc::clone(&self.base), offers: first };
        if self.weights_rewritten {
            return Ok(base);
        }
        let mut least = loss(&base)?;
        for (at, &kind) in RewriteKind::ALL.iter().enumerate() {
            let rewrites = self.with_rewrite(&base.rewrites, kind)?;
            if rewrites.len() == base.rewrites.len() || stop.over() {
                continue;
            }
            let variant = self.variant(&rewrites)?;
            let offers = offers(&variant, at + 1)?;
            let tried = Base { rewrites, variant, offers };
            let found = loss(&tried)?;
            tracing::debug!("search: {kind}: loss {found} instead of {least}");
            if found < least {
                (base, least) = (tried, found);
            }
        }
        Ok(base)
    }

    /// Fitted rewrites and those of one more kind. Grids that a kind looks at are RepQ-ViT's percentiles at four bits.
    fn with_rewrite(&self, known: &[Rewrite], kind: RewriteKind) -> Result<Vec<Rewrite>, SessionError> {
        let graph = &self.model.graph;
        let scheme = Scheme::new(Family::Uniform, RangeSearch::repq());
        let mut plan = Plan::new(self.model_ref());
        for site in graph.sites().iter().filter(|site| site.id.slot != Slot::Weight) {
            let bits = Bits::new(WIDTH).unwrap_or(Bits::EIGHT);
            plan.set(&site.id, Some(SitePlan::unfitted(scheme.clone(), bits)));
        }
        plan.rewrites = known.to_vec();
        plan.rewrites.extend(graph.rewritable(kind).into_iter().map(|node| Rewrite {
            rewrite: kind.to_string(),
            layer: graph.node(node).name.clone(),
            vectors: BTreeMap::new(),
        }));
        Ok(self.fit_rewrites(&plan)?.into_owned().rewrites)
    }
}

/// Every group at the tried width (or the one nearest to it), with its quantizer of least predicted error.
fn one_width(groups: &[Vec<usize>], offers: &[Vec<Offer>], bits: &[Bits]) -> BySite {
    let distance = |bits: Bits| bits.get().map_or(u8::MAX, |bits| bits.abs_diff(WIDTH));
    let width = bits.iter().copied().min_by_key(|&bits| distance(bits));
    let sites = groups.iter().flatten().max().map_or(0, |&most| most + 1);
    let mut params = vec![None; sites];
    for (sites, offers) in groups.iter().zip(offers) {
        let of_width = offers.iter().filter(|offer| Some(offer.bits) == width);
        if let Some(best) = of_width.min_by(|a, b| a.noise.total_cmp(&b.noise)) {
            for (&site, one) in sites.iter().zip(&best.params) {
                params[site] = Some(Arc::clone(one));
            }
        }
    }
    params
}
