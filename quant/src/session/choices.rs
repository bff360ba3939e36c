//! The quantizers that fit what a site holds.

use crate::graph::{Op, Site};
use crate::quantizer::{Family, Granularity, RangeSearch, Scheme};
use crate::terms::{Role, Slot};

fn uniform(range: RangeSearch) -> Scheme {
    Scheme::new(Family::Uniform, range)
}

/// What a weight can be given.
pub(super) fn weight_schemes() -> Vec<Scheme> {
    let mse = |p| RangeSearch::Mse { p };
    vec![
        uniform(RangeSearch::MinMax).symmetric().per_channel(),
        uniform(mse(2.0)).symmetric().per_channel(),
        uniform(RangeSearch::MinMax).per_channel(),
        uniform(RangeSearch::repq()).per_channel(),
        uniform(RangeSearch::MinMax).symmetric(),
        uniform(mse(2.0)).symmetric(),
    ]
}

/// Families for a role, besides grids of equal steps.
const fn special(role: Role) -> &'static [Family] {
    match role {
        Role::PostSoftmax => &[
            Family::LogSqrt2,
            Family::Agq,
            Family::Adalog,
            Family::DrqSoftmax,
            Family::Lnq,
            Family::LogIntSoftmax,
            Family::Log2,
        ],
        Role::PostGelu => &[Family::DrqGelu, Family::Adalog, Family::Hluq],
        Role::PostRelu => &[Family::Hluq, Family::Adalog, Family::LogSqrt2],
        Role::PostLayerNorm | Role::Embedding | Role::Residual => {
            &[Family::ChannelGroups, Family::Ptf, Family::Rorq]
        }
        Role::Query | Role::Key | Role::Value | Role::Other => &[Family::Rorq],
        Role::PostTanh | Role::Image | Role::Weight => &[],
    }
}

/// What a site can be given. Grids per channel and of groups of channels only go where channels lie along the summed
/// axis of the layer, so that an integer kernel could fold their scales.
pub(super) fn schemes(site: &Site, op: &Op) -> Vec<Scheme> {
    if site.id.slot == Slot::Weight {
        return weight_schemes();
    }
    let mut found = vec![
        uniform(RangeSearch::MinMax),
        uniform(RangeSearch::repq()),
        uniform(RangeSearch::Mse { p: 2.0 }),
        uniform(RangeSearch::Kl),
        uniform(RangeSearch::MinMax).symmetric(),
    ];
    let has_channels = site.layout.channels > 1
        && matches!(op, Op::Linear { .. } | Op::Conv { .. } | Op::ConvTranspose { .. });
    if has_channels {
        found.push(uniform(RangeSearch::MinMax).per_channel());
    }
    found.extend(
        special(site.role)
            .iter()
            .map(|&family| match family {
                Family::LogSqrt2 => Scheme::new(family, RangeSearch::repq()),
                _ => Scheme::published(family),
            })
            .filter(|scheme| has_channels || scheme.granularity == Granularity::Tensor),
    );
    found
}

/// Whether something that a site can be given is fitted on the shapes of its channels.
pub(super) fn looks_at_shapes(site: &Site, op: &Op) -> bool {
    schemes(site, op).iter().any(|scheme| scheme.family == Family::Ptf)
}

/// Whether a quantizer is one for a site: its family suits the role, and a grid per channel has channels that an integer
/// kernel could fold. Says nothing about how good it is.
pub fn fits(scheme: &Scheme, slot: Slot, role: Role, has_channels: bool) -> bool {
    if slot == Slot::Weight {
        return scheme.family == Family::Uniform;
    }
    let family = scheme.family == Family::Uniform || special(role).contains(&scheme.family);
    family && (has_channels || scheme.granularity != Granularity::Channel)
}

/// What an operand of an attention product can be given besides: a grid for every head.
pub(super) fn by_head(site: &Site) -> Vec<Scheme> {
    if site.heads.is_none() || site.role == Role::PostSoftmax {
        return Vec::new();
    }
    vec![uniform(RangeSearch::MinMax).per_head(), uniform(RangeSearch::Mse { p: 2.0 }).symmetric().per_head()]
}

/// Everything an activation can be given somewhere.
pub(super) fn activation_schemes() -> Vec<Scheme> {
    let mut all = vec![
        uniform(RangeSearch::MinMax),
        uniform(RangeSearch::repq()),
        uniform(RangeSearch::Mse { p: 2.0 }),
        uniform(RangeSearch::Kl),
        uniform(RangeSearch::MinMax).symmetric(),
        uniform(RangeSearch::MinMax).per_channel(),
        Scheme::new(Family::LogSqrt2, RangeSearch::repq()),
    ];
    let own = |family: &&Family| !matches!(family, Family::Uniform | Family::LogSqrt2);
    all.extend(Family::ALL.iter().filter(own).map(|&family| Scheme::published(family)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_fits_and_what_is_made_for_others_does_not() {
        let log = Scheme::published(Family::LogSqrt2);
        assert!(fits(&log, Slot::Lhs, Role::PostSoftmax, false));
        for role in [Role::Value, Role::PostGelu, Role::PostLayerNorm, Role::Weight] {
            assert!(!fits(&log, Slot::Input, role, true), "{role}");
        }
        let per_channel = uniform(RangeSearch::MinMax).per_channel();
        assert!(fits(&per_channel, Slot::Input, Role::PostLayerNorm, true));
        assert!(!fits(&per_channel, Slot::Lhs, Role::Query, false));
        for scheme in weight_schemes() {
            assert!(fits(&scheme, Slot::Weight, Role::Weight, false));
        }
        assert!(!fits(&Scheme::published(Family::Adalog), Slot::Weight, Role::Weight, true));
    }
}
