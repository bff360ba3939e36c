//! Ranges put together from those of the calibration batches.

use super::range::{Side, least_range};
use super::{Data, bounded_minimum, least_error, raw_error};
use crate::quantizer::grid::Grid;
use crate::quantizer::scheme::{RangeSearch, Scheme};
use crate::terms::Bits;

/// The range of one batch: its values that share a scale, finite, on which side those of the tensor lie. `None` without
/// a value.
pub(in crate::quantizer) fn batch_range(
    values: &[f32],
    side: Side,
    scheme: &Scheme,
    bits: Bits,
) -> Option<(f32, f32)> {
    let lo = values.iter().copied().reduce(f32::min)?;
    let hi = values.iter().copied().reduce(f32::max)?;
    Some(match scheme.range {
        RangeSearch::Ema { p: Some(p), .. } if scheme.symmetric => {
            let grid = least_error(Data::Values(values), lo, hi, p, bits, true);
            let reach = (grid.high - grid.zero) * grid.step;
            (-reach, reach)
        }
        RangeSearch::Ema { p: Some(p), .. } => least_range(values, side, p, bits),
        RangeSearch::Bounded { p } => bounded(values, (lo, hi), side, p, scheme, bits),
        _ => (lo, hi),
    })
}

/// The range of all batches: their mean, or the moving average. `None` without any.
pub(in crate::quantizer) fn joint_range(
    ranges: impl Iterator<Item = (f32, f32)>,
    search: &RangeSearch,
) -> Option<(f32, f32)> {
    let mut joint: Option<(f64, f64)> = None;
    for (at, (lo, hi)) in ranges.enumerate() {
        let (lo, hi) = (f64::from(lo), f64::from(hi));
        let weight = match search {
            RangeSearch::Ema { momentum, .. } => *momentum,
            _ => 1.0 / (at + 1) as f64,
        };
        joint = Some(
            joint.map_or((lo, hi), |old| (old.0 + weight * (lo - old.0), old.1 + weight * (hi - old.1))),
        );
    }
    joint.map(|(lo, hi)| (lo as f32, hi as f32))
}

/// PTQ4SAM's search for keys (`AvgMSEFastObserver`; spec §2.3): the bounded minimiser over the width of the range, and
/// for values of both signs inside it over its position.
///
/// As released the minimiser works in the unit of the values with an absolute tolerance of 10⁻⁵ and a least width of
/// min(0.1, 1 % of the range): useless for small values. The sound form works in shares of the range.
fn bounded(
    values: &[f32],
    (lo, hi): (f32, f32),
    side: Side,
    p: f64,
    scheme: &Scheme,
    bits: Bits,
) -> (f32, f32) {
    let one = scheme.symmetric || side != Side::Both;
    let reach = f64::from(if one { lo.abs().max(hi) } else { hi - lo });
    if reach.is_nan() || reach <= 0.0 || !reach.is_finite() {
        return (lo, hi);
    }
    let unit = if scheme.paper { 1.0 } else { reach };
    let most = reach / unit;
    let least = if scheme.paper { (0.01 * reach).min(0.1) } else { 0.01 };
    let error = |lo: f64, hi: f64| {
        let grid = Grid::containing_zero((lo * unit) as f32, (hi * unit) as f32, bits, scheme.symmetric);
        raw_error(values, &grid, p) / values.len() as f64
    };
    if one {
        let range = |width: f64| match side {
            _ if scheme.symmetric => (-width, width),
            Side::Negative => (-width, 0.0),
            _ => (0.0, width),
        };
        let score = |width: f64| {
            let (lo, hi) = range(width);
            error(lo, hi)
        };
        let (width, reached) = bounded_minimum(least, most, score);
        // The minimiser never looks at the ends.
        let whole = !scheme.paper && score(most) <= reached;
        let (lo, hi) = range(if whole { most } else { width });
        return ((lo * unit) as f32, (hi * unit) as f32);
    }
    let shift = |width: f64| bounded_minimum(0.0, width, |shift| error(-shift, width - shift));
    let (width, _) = bounded_minimum(least, most, |width| shift(width).1);
    let (shift, _) = shift(width);
    (((-shift * unit) as f32).max(lo), (((width - shift) * unit) as f32).min(hi))
}
