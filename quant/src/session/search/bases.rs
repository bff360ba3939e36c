//! Which rewrites the plans of a search have: tried one kind after the other, kept if runs say so.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::field::{BySite, Field, Stop};
use super::offers::Offer;
use crate::eval::search::Effort;
use crate::graph::RewriteKind;
use crate::plan::{Plan, Rewrite, SitePlan};
use crate::quantizer::{Family, RangeSearch, Scheme};
use crate::session::variant::Variant;
use crate::session::{Session, SessionError};
use crate::terms::{Bits, Slot};

/// Samples that a kind is tried on.
const SAMPLES: usize = 16;
/// The parts of the time that is left that fits, and then rewrites get at most.
const SHARES: (f64, f64) = (0.3, 0.2);
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
    /// none on, every kind is added where it fits if that lowers the mean loss on samples. A kind that the time does not
    /// suffice for is left out.
    pub(super) fn base_of_search(
        &self,
        field: &Field<'_>,
        groups: &[Vec<usize>],
        bits: &[Bits],
        (stop, effort): (&Stop, &mut Effort),
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Base, SessionError> {
        let graph = &self.model.graph;
        let fits = |kind: &RewriteKind| !graph.rewritable(*kind).is_empty();
        let kinds: Vec<RewriteKind> =
            RewriteKind::ALL.iter().copied().filter(|_| !self.weights_rewritten).filter(fits).collect();
        effort.rewrites.expect(kinds.len());
        let (all, steps) = (kinds.len() + 1, groups.len() * bits.len());
        let mut offers = |variant: &Variant, at: usize, stop: &Stop| {
            self.offers(variant, groups, bits, stop, |done, _| progress(at * steps + done, all * steps))
        };
        let samples = &field.fit[..field.fit.len().min(SAMPLES)];
        let first = offers(&self.base, 0, &stop.within(SHARES.0))?;
        effort.fits = first.fitted;
        let mut base = Base { rewrites: Vec::new(), variant: Arc::clone(&self.base), offers: first.by_group };
        let stop = stop.within(SHARES.1);
        let loss = |base: &Base| {
            let params = one_width(groups, &base.offers, bits);
            field.mean_loss(&base.variant, &params, samples, &stop)
        };
        // Kinds are compared with all quantizers, or not at all.
        if kinds.is_empty() || !effort.fits.is_whole() {
            return Ok(base);
        }
        let Some(mut least) = loss(&base)? else { return Ok(base) };
        for (at, &kind) in kinds.iter().enumerate() {
            if stop.over() {
                break;
            }
            let rewrites = self.with_rewrite(&base.rewrites, kind)?;
            if rewrites.len() > base.rewrites.len() {
                let variant = self.variant(&rewrites)?;
                let offers = offers(&variant, at + 1, &stop)?;
                if !offers.fitted.is_whole() {
                    break;
                }
                let tried = Base { rewrites, variant, offers: offers.by_group };
                let Some(found) = loss(&tried)? else { break };
                tracing::debug!("search: {kind}: loss {found} instead of {least}");
                if found < least {
                    (base, least) = (tried, found);
                }
            }
            effort.rewrites.done += 1;
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
