//! Remedies that many sites share.

use std::collections::BTreeMap;

use serde::Serialize;

use super::remedy::Remedy;
use super::site::SiteExplanation;
use super::words;
use crate::quantizer::{Family, Scheme};
use crate::terms::{Role, SiteId};

/// A site belongs to a group from this gain on.
const WORTH_DB: f64 = 3.0;
/// A site takes a group's quantizer if that is within this of its own best.
const NEAR_DB: f64 = 3.0;

/// Sites of one role that one change would help.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// What the sites hold.
    pub role: Role,
    /// What would help: a quantizer at the same bits, or a rewrite by its word.
    pub change: Change,
    /// The sites, in the order of the model.
    pub sites: Vec<SiteId>,
    /// The least and the largest gain, dB of predicted SQNR.
    pub gain_db: [f64; 2],
    /// For people.
    pub sentence: String,
}

/// What a group of sites would be given.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A quantizer at the same bits.
    Quantizer(Scheme),
    /// A rewrite.
    Rewrite(String),
}

/// Gains of a change by site.
type Gains = Vec<(usize, f64)>;

/// Groups of the explained sites, the one that gains most in sum first. A site is in at most one group of quantizers and
/// one of rewrites.
pub(super) fn groups(sites: &[&SiteExplanation]) -> Vec<Group> {
    let mut by_role: BTreeMap<Role, Vec<usize>> = BTreeMap::new();
    for (at, site) in sites.iter().enumerate().filter(|(_, site)| site.present.is_some()) {
        by_role.entry(site.role).or_default().push(at);
    }
    let mut found: Vec<(f64, Group)> = Vec::new();
    for (role, members) in by_role {
        let quantizers = |at: usize| quantizers(sites[at]);
        let rewrites = |at: usize| rewrites(sites[at]);
        for (change, gains) in cover(&members, &quantizers).into_iter().chain(cover(&members, &rewrites)) {
            let (least, most) = gains
                .iter()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), (_, g)| (a.min(*g), b.max(*g)));
            let names = gains.iter().map(|(at, _)| sites[*at].site.clone()).collect();
            let mut group =
                Group { role, change, sites: names, gain_db: [least, most], sentence: String::new() };
            group.sentence = words::group(&group);
            found.push((gains.iter().map(|(_, gain)| gain).sum(), group));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.into_iter().map(|(_, group)| group).collect()
}

/// Few changes for many sites: the change that gains most in sum takes its sites, then the next, until none is left.
fn cover(members: &[usize], offers: &dyn Fn(usize) -> Vec<(Change, f64)>) -> Vec<(Change, Gains)> {
    let mut open: Vec<(usize, Vec<(Change, f64)>)> = members.iter().map(|&at| (at, offers(at))).collect();
    let mut found = Vec::new();
    loop {
        open.retain(|(_, offers)| !offers.is_empty());
        let mut sums: Vec<(Change, f64)> = Vec::new();
        for (change, gain) in open.iter().flat_map(|(_, offers)| offers) {
            match sums.iter_mut().find(|(known, _)| known == change) {
                Some((_, sum)) => *sum += gain,
                None => sums.push((change.clone(), *gain)),
            }
        }
        // Of equal sums the first seen.
        let best = sums.into_iter().reduce(|best, other| if other.1 > best.1 { other } else { best });
        let Some((change, _)) = best else { return found };
        let mut gains = Gains::new();
        open.retain(|(at, offers)| {
            let own = offers.iter().find(|(known, _)| *known == change);
            gains.extend(own.map(|(_, gain)| (*at, *gain)));
            own.is_none()
        });
        found.push((change, gains));
    }
}

/// Quantizers that gain much at a site, and nearly as much as its best one.
fn quantizers(site: &SiteExplanation) -> Vec<(Change, f64)> {
    // Outlier groups cost more bits than the others.
    let gains = site.choices.iter().filter(|choice| choice.scheme.family != Family::Rorq);
    let gains: Vec<(&Scheme, f64)> = gains.filter_map(|c| Some((&c.scheme, c.gain_db?))).collect();
    let best = gains.first().map_or(0.0, |(_, gain)| *gain);
    let near = gains.into_iter().filter(|(_, gain)| *gain >= WORTH_DB && *gain >= best - NEAR_DB);
    near.map(|(scheme, gain)| (Change::Quantizer(scheme.clone()), gain)).collect()
}

/// Rewrites that are not on and gain much.
fn rewrites(site: &SiteExplanation) -> Vec<(Change, f64)> {
    let offered = |r: &&super::site::RewriteChoice| {
        !r.on && r.gain_db >= WORTH_DB && site.remedies.iter().any(|a| is_rewrite(&a.remedy))
    };
    let found = site.rewrites.iter().filter(offered);
    found.map(|r| (Change::Rewrite(r.rewrite.clone()), r.gain_db)).collect()
}

fn is_rewrite(remedy: &Remedy) -> bool {
    matches!(remedy, Remedy::Rewrite { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizer::RangeSearch;

    #[test]
    fn one_change_takes_all_sites_that_it_helps() {
        let scheme = |family| Change::Quantizer(Scheme::new(family, RangeSearch::MinMax));
        let (a, b) = (scheme(Family::Log2), scheme(Family::Agq));
        let offers = |at: usize| match at {
            0 => vec![(a.clone(), 10.0), (b.clone(), 9.0)],
            1 => vec![(b.clone(), 8.0)],
            2 => vec![(a.clone(), 4.0)],
            _ => vec![],
        };
        let found = cover(&[0, 1, 2, 3], &offers);
        assert_eq!(found, [(b.clone(), vec![(0, 9.0), (1, 8.0)]), (a.clone(), vec![(2, 4.0)])]);
    }
}
