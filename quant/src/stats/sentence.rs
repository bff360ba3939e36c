//! What a diagnosis means for a uniform grid, in words.

use super::diagnosis::Evidence;
use crate::terms::{Class, Role};

/// The grid that the sentences speak of: 4 bits, the lowest width in common use.
const LEVELS: f64 = 16.0;

/// One or two plain sentences with the figures that matter.
pub(super) fn sentence(class: Class, evidence: &Evidence, role: Role) -> String {
    let [min, low, median, high, max] = evidence.quantiles;
    let reach = max.abs().max(min.abs());
    match class {
        Class::Constant => format!("Every value is {}. One level is enough.", short(median)),
        Class::OutlierChannel => outlier_channels(evidence),
        Class::Bimodal => {
            let (a, b) = (evidence.peaks.at.iter().copied())
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
            format!(
                "Two peaks, at {} and {}, with a valley {} % as high between them. A uniform grid spends levels on the \
                 almost empty middle; folding the signs of the channels makes it one peak.",
                short(a),
                short(b),
                (100.0 * evidence.peaks.valley).round()
            )
        }
        Class::PowerLaw => {
            let what = if role == Role::PostSoftmax { "probabilities" } else { "values" };
            format!(
                "Half of the {what} lie below {}, the largest is {}. A uniform grid of 16 levels puts {} into one \
                 level; a logarithmic grid follows the tail.",
                short(median),
                short(max),
                if median < 0.5 * max / (LEVELS - 1.0) { "more than half of them" } else { "many of them" }
            )
        }
        Class::OneSided => {
            let (near, far) = if high >= -low { (min, max) } else { (max, min) };
            let wasted = if near * far < 0.0 {
                0.5
            } else {
                0.5_f64.max(1.0 - (far - near).abs() / (2.0 * far.abs()))
            };
            format!(
                "Almost all on one side of zero: from {} to {}. A symmetric grid wastes about {} of 16 levels; an \
                 asymmetric one uses them all.",
                short(near),
                short(far),
                (wasted * LEVELS - 1.0).round()
            )
        }
        Class::HeavyTailed => {
            let bulk = high - low;
            let used = levels_on(bulk, max - min);
            format!(
                "98 % of the values lie between {} and {}, the rest reach ±{}. A min–max grid leaves the bulk {} of 16 \
                 levels; clipping the tail costs less.",
                short(low),
                short(high),
                short(reach),
                used
            )
        }
        Class::Normal => {
            format!("One peak and light tails, from {} to {}. A uniform grid fits.", short(min), short(max))
        }
    }
}

fn outlier_channels(evidence: &Evidence) -> String {
    let outliers = &evidence.outlier_channels;
    let min = outliers.iter().map(|c| f64::from(c.min)).fold(f64::INFINITY, f64::min);
    let max = outliers.iter().map(|c| f64::from(c.max)).fold(f64::NEG_INFINITY, f64::max);
    let others = evidence.channels - outliers.len();
    let typical = evidence.typical_reach;
    let used =
        levels_on(2.0 * typical, max.max(evidence.centre + typical) - min.min(evidence.centre - typical));
    let around = |reach: f64| {
        if evidence.centre.abs() > typical {
            format!("{} ± {}", short(evidence.centre), short(reach))
        } else {
            format!("±{}", short(reach))
        }
    };
    let far = (max - evidence.centre).abs().max((min - evidence.centre).abs());
    format!(
        "{} of {} channels reach{} {}; the other {others} lie in about {}. A per-tensor grid spends {} of 16 levels on them.",
        outliers.len(),
        evidence.channels,
        if outliers.len() == 1 { "es" } else { "" },
        around(far),
        around(typical),
        LEVELS as u32 - used,
    )
}

/// How many of 16 levels over `range` fall within `bulk` (at least one).
fn levels_on(bulk: f64, range: f64) -> u32 {
    let step = range / (LEVELS - 1.0);
    if step > 0.0 { ((bulk / step).ceil()).clamp(1.0, LEVELS) as u32 } else { LEVELS as u32 }
}

/// A figure of about three digits.
pub(crate) fn short(x: f64) -> String {
    let magnitude = x.abs();
    let text = if magnitude == 0.0 {
        return "0".to_owned();
    } else if !(1e-3..1e5).contains(&magnitude) {
        return format!("{x:.1e}").replace('-', "−");
    } else if magnitude < 1.0 {
        format!("{x:.3}")
    } else if magnitude < 10.0 {
        format!("{x:.2}")
    } else if magnitude < 100.0 {
        format!("{x:.1}")
    } else {
        return format!("{x:.0}").replace('-', "−");
    };
    text.trim_end_matches('0').trim_end_matches('.').replace('-', "−")
}
