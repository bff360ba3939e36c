//! What every group can be given, with the error that its sketches promise.

use std::collections::BTreeSet;
use std::sync::Arc;

use rayon::prelude::*;

use crate::exec::{Cancel, ExecError};
use crate::method::{METHODS, Place};
use crate::quantizer::{Family, Params, Scheme};
use crate::session::variant::Variant;
use crate::session::{Session, SessionError, choices};
use crate::terms::Bits;

/// Quantizers of least predicted error that are measured for each width of a group.
const BEST: usize = 3;
/// Groups that are fitted between two looks at the flag.
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

impl Session {
    /// For every group and width the quantizers of least predicted error: of all that fit what the sites hold and of all
    /// that methods choose there, the best three, and the best of a family that is not among them.
    pub(super) fn offers(
        &self,
        variant: &Variant,
        groups: &[Vec<usize>],
        bits: &[Bits],
        cancel: &Cancel,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Vec<Vec<Offer>>, SessionError> {
        let places = Place::all(variant.graph());
        let mut made = Vec::with_capacity(groups.len());
        for part in groups.chunks(AT_ONCE) {
            if cancel.is_cancelled() {
                return Err(ExecError::Cancelled.into());
            }
            progress(made.len(), groups.len());
            let of = |sites: &Vec<usize>| self.offers_of(variant, &places, sites, bits);
            let offers: Vec<Vec<Offer>> =
                self.pool.install(|| part.par_iter().map(of).collect::<Result<_, SessionError>>())?;
            made.extend(offers);
        }
        progress(groups.len(), groups.len());
        Ok(made)
    }

    fn offers_of(
        &self,
        variant: &Variant,
        places: &[Place<'_>],
        sites: &[usize],
        bits: &[Bits],
    ) -> Result<Vec<Offer>, SessionError> {
        let Some(&first) = sites.first() else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for &bits in bits {
            let mut offers: Vec<Offer> = Vec::new();
            for scheme in schemes(&places[first], bits) {
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
            found.extend(offers);
            found.extend(other);
        }
        Ok(found)
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
