//! One range search for all activations: the baselines that papers compare with.

use super::{Method, Place};
use crate::quantizer::{Family, RangeSearch, Scheme};
use crate::terms::{Bits, Slot};

/// Weights symmetric per output channel, activations affine per tensor.
#[derive(Debug)]
pub(super) struct Plain {
    name: &'static str,
    source: &'static str,
    treatment: &'static [(&'static str, &'static str)],
    range: fn() -> RangeSearch,
    weights: fn() -> RangeSearch,
}

pub(super) static MIN_MAX: Plain = Plain {
    name: "minmax",
    source: "Jacob et al. 2018",
    treatment: &[
        ("weights", "symmetric per output channel, min–max"),
        ("activations", "per tensor, min–max"),
    ],
    range: || RangeSearch::MinMax,
    weights: || RangeSearch::MinMax,
};
pub(super) static PERCENTILE: Plain = Plain {
    name: "percentile",
    source: "Wu et al. 2020; the three percentiles of RepQ-ViT",
    treatment: &[
        ("weights", "symmetric per output channel, min–max"),
        ("activations", "per tensor, the best of three percentiles"),
    ],
    range: RangeSearch::repq,
    weights: || RangeSearch::MinMax,
};
pub(super) static MSE: Plain = Plain {
    name: "mse",
    source: "Choukroun et al. 2019 (OMSE)",
    treatment: &[
        ("weights", "symmetric per output channel, least mean squared error"),
        ("activations", "per tensor, least mean squared error"),
    ],
    range: || RangeSearch::Mse { p: 2.0 },
    weights: || RangeSearch::Mse { p: 2.0 },
};
pub(super) static KL: Plain = Plain {
    name: "kl",
    source: "Migacz 2017 (TensorRT)",
    treatment: &[
        ("weights", "symmetric per output channel, min–max"),
        ("activations", "per tensor, least divergence"),
    ],
    range: || RangeSearch::Kl,
    weights: || RangeSearch::MinMax,
};

/// What a site gets that a method has no word about.
pub(super) fn scheme(place: &Place<'_>) -> Scheme {
    let plain = Scheme::new(Family::Uniform, RangeSearch::MinMax);
    if place.site.id.slot == Slot::Weight { plain.symmetric().per_channel() } else { plain }
}

impl Method for Plain {
    fn name(&self) -> &'static str {
        self.name
    }

    fn source(&self) -> &'static str {
        self.source
    }

    fn treatment(&self) -> &'static [(&'static str, &'static str)] {
        self.treatment
    }

    fn site(&self, place: &Place<'_>, bits: Bits) -> Option<(Scheme, Bits)> {
        let scheme = if place.site.id.slot == Slot::Weight {
            Scheme::new(Family::Uniform, (self.weights)()).symmetric().per_channel()
        } else {
            Scheme::new(Family::Uniform, (self.range)())
        };
        Some((scheme, bits))
    }
}
