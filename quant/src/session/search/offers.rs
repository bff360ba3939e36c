//! What every group can be given, with the error that its sketches promise.

use std::collections::BTreeSet;
use std::sync::Arc;

use rayon::prelude::*;

use super::field::Stop;
use crate::eval::search::Share;
use crate::exec::ExecError;
use crate::method::{METHODS, Place};
use crate::quantizer::{Family, Params, Scheme};
use crate::session::variant::Variant;
use crate::session::{Session, SessionError, choices};
use crate::terms::Bits;

/// Quantizers of least predicted error that are measured for each width of a group.
const BEST: usize = 3;
/// Fits of groups between two reports.
const AT_ONCE: usize = 8;

/// One way to quantize a group.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) bits: Bits,
    /// Of every site of the group.
    pub(super) params: Vec<Arc<Params>>,
    /// Sum over the sites of predicted noise power over signal power.
    pub(super) noise: f64,
}

/// What all groups can be given.
pub(super) struct Offers {
    pub(super) by_group: Vec<Vec<Offer>>,
    /// Groups, at each width, that every quantizer was fitted to.
    pub(super) fitted: Share,
}

impl Session {
    /// For every group and width the quantizers of least predicted error: of all that fit what the sites hold and of all
    /// that methods choose there, the best three, and the best of a family that is not among them. Widths near four bits
    /// come first; where the time is over, a group has the quantizer that is the best at a width that was fitted.
    pub(super) fn offers(
        &self,
        variant: &Variant,
        groups: &[Vec<usize>],
        bits: &[Bits],
        stop: &Stop,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Offers, SessionError> {
        let places = Place::all(variant.graph());
        let mut widths: Vec<usize> = (0..bits.len()).collect();
        widths.sort_by_key(|&width| (from_four(bits[width]), width));
        let mut tasks: Vec<(usize, usize)> =
            widths.into_iter().flat_map(|width| (0..groups.len()).map(move |group| (width, group))).collect();
        // What no result depends on is not run and has nothing to lose: its weights are stored at the smallest width.
        let smallest = (0..bits.len()).min_by_key(|&width| bits[width]);
        let counts: Vec<bool> = groups.iter().map(|sites| self.counts(sites)).collect();
        tasks.retain(|&(width, group)| counts[group] || Some(width) == smallest);
        let mut fitted = Share { done: 0, of: tasks.len() };
        let mut made: Vec<Vec<Vec<Offer>>> = vec![vec![Vec::new(); bits.len()]; groups.len()];
        for (at, part) in tasks.chunks(AT_ONCE).enumerate() {
            if stop.cancel.is_cancelled() {
                return Err(ExecError::Cancelled.into());
            }
            progress(at * AT_ONCE, tasks.len());
            let of = |&(width, group): &(usize, usize)| {
                let best = made[group].iter().flatten().min_by_key(|offer| from(bits[width], offer.bits));
                let likely = best.and_then(|offer| offer.params.first()).map(|params| params.scheme.clone());
                self.offers_of(variant, &places, &groups[group], (bits[width], likely), stop)
            };
            let offers: Vec<(Vec<Offer>, bool)> =
                self.pool.install(|| part.par_iter().map(of).collect::<Result<_, SessionError>>())?;
            for (&(width, group), (offers, whole)) in part.iter().zip(offers) {
                made[group][width] = offers;
                fitted.done += usize::from(whole);
            }
        }
        progress(tasks.len(), tasks.len());
        let by_group = made.into_iter().map(|of| of.into_iter().flatten().collect()).collect();
        Ok(Offers { by_group, fitted })
    }

    /// Whether a result depends on one of these sites.
    fn counts(&self, sites: &[usize]) -> bool {
        let graph = &self.model.graph;
        sites.iter().any(|&site| graph.is_used(graph.sites()[site].node))
    }

    /// Of one group at one width, and whether everything was fitted.
    fn offers_of(
        &self,
        variant: &Variant,
        places: &[Place<'_>],
        sites: &[usize],
        (bits, likely): (Bits, Option<Scheme>),
        stop: &Stop,
    ) -> Result<(Vec<Offer>, bool), SessionError> {
        let Some(&first) = sites.first() else { return Ok((Vec::new(), true)) };
        let (mut offers, mut whole): (Vec<Offer>, bool) = (Vec::new(), true);
        let mut schemes = schemes(&places[first], bits);
        if !self.counts(sites) {
            // It loses nothing whatever it has.
            schemes.truncate(1);
        }
        let first = likely.filter(|_| stop.over()).filter(|likely| schemes.contains(likely));
        for scheme in first.into_iter().chain(schemes) {
            if !offers.is_empty() && stop.over() {
                whole = false;
                break;
            }
            match self.offer(variant, sites, &scheme, bits) {
                Ok(offer) => offers.push(offer),
                // A family without levels for these values.
                Err(SessionError::Fit { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        offers.sort_by(|a, b| a.noise.total_cmp(&b.noise));
        offers.dedup_by(|a, b| same_grid(&a.params, &b.params));
        let others = offers.split_off(offers.len().min(BEST));
        let family = |offer: &Offer| offer.params.first().map(|params| params.scheme.family);
        let known: BTreeSet<_> = offers.iter().filter_map(family).map(Family::as_str).collect();
        let new = |offer: &Offer| family(offer).is_some_and(|family| !known.contains(family.as_str()));
        let other = others.into_iter().find(new);
        offers.extend(other);
        Ok((offers, whole))
    }

    fn offer(
        &self,
        variant: &Variant,
        sites: &[usize],
        scheme: &Scheme,
        bits: Bits,
    ) -> Result<Offer, SessionError> {
        let (mut params, mut noise) = (Vec::with_capacity(sites.len()), 0.0);
        for &site in sites {
            let fit = self.fit_site_in(variant, site, scheme, bits)?;
            if fit.prediction.signal > 0.0 {
                noise += fit.prediction.mse / fit.prediction.signal;
            }
            params.push(Arc::clone(&fit.params));
        }
        Ok(Offer { bits, params, noise })
    }
}

/// How far a width is from four bits.
pub(super) fn from_four(bits: Bits) -> u8 {
    bits.get().map_or(0, |bits| bits.abs_diff(4))
}

/// How far two widths are from each other.
fn from(a: Bits, b: Bits) -> u8 {
    a.get().zip(b.get()).map_or(u8::MAX, |(a, b)| a.abs_diff(b))
}

/// Everything that is tried at a site.
fn schemes(place: &Place<'_>, bits: Bits) -> Vec<Scheme> {
    let mut found = choices::schemes(place.site, place.op);
    for method in METHODS {
        if let Some((scheme, _)) = method.site(place, bits)
            && !found.contains(&scheme)
        {
            found.push(scheme);
        }
    }
    found
}

/// Whether two fits round everything alike, however they were found.
fn same_grid(a: &[Arc<Params>], b: &[Arc<Params>]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            (a.scheme.family, a.scheme.symmetric) == (b.scheme.family, b.scheme.symmetric)
                && (&a.scale, &a.zero_point, &a.extra) == (&b.scale, &b.zero_point, &b.extra)
        })
}
