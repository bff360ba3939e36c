//! What a diagnosis says of a distribution, in words. What would help is no matter of the class: that is predicted for each
//! quantizer.

use super::diagnosis::Evidence;
use crate::terms::{Class, Role};

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
                "Two peaks, at {} and {}, with a valley {} % as high between them: levels there hold little.",
                short(a),
                short(b),
                (100.0 * evidence.peaks.valley).round()
            )
        }
        Class::PowerLaw => {
            let what = if role == Role::PostSoftmax { "probabilities" } else { "values" };
            format!(
                "Half of the {what} lie below {}, the largest is {}: equal steps over all of that are coarse where most \
                 values are.",
                short(median),
                short(max)
            )
        }
        Class::OneSided => {
            let (near, far) = if high >= -low { (min, max) } else { (max, min) };
            let share = if near * far < 0.0 { "Almost all values lie" } else { "All values lie" };
            format!("{share} on one side of zero: from {} to {}.", short(near), short(far))
        }
        Class::HeavyTailed => format!(
            "98 % of the values lie between {} and {}, the rest reach ±{}: equal steps from the smallest to the largest \
             leave them {} of the levels.",
            short(low),
            short(high),
            short(reach),
            share_of(high - low, max - min)
        ),
        Class::Normal => format!("One peak and light tails, from {} to {}.", short(min), short(max)),
    }
}

fn outlier_channels(evidence: &Evidence) -> String {
    let outliers = &evidence.outlier_channels;
    let min = outliers.iter().map(|c| f64::from(c.min)).fold(f64::INFINITY, f64::min);
    let max = outliers.iter().map(|c| f64::from(c.max)).fold(f64::NEG_INFINITY, f64::max);
    let others = evidence.channels - outliers.len();
    let typical = evidence.typical_reach;
    let range = max.max(evidence.centre + typical) - min.min(evidence.centre - typical);
    let around = |reach: f64| {
        if evidence.centre.abs() > typical {
            format!("{} ± {}", short(evidence.centre), short(reach))
        } else {
            format!("±{}", short(reach))
        }
    };
    let far = (max - evidence.centre).abs().max((min - evidence.centre).abs());
    format!(
        "{} of {} channels reach{} {}; the other {others} lie in about {}: equal steps for all leave them {} of the levels.",
        outliers.len(),
        evidence.channels,
        if outliers.len() == 1 { "es" } else { "" },
        around(far),
        around(typical),
        share_of(2.0 * typical, range),
    )
}

/// The part of equal steps over `range` that falls within `bulk`.
fn share_of(bulk: f64, range: f64) -> String {
    let share = if range > 0.0 { (100.0 * bulk / range).clamp(0.0, 100.0) } else { 100.0 };
    if share < 1.0 { "less than 1 %".to_owned() } else { format!("{share:.0} %") }
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
