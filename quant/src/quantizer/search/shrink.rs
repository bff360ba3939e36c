//! Ranges whose ends are shrunk together.

use super::least;
use crate::quantizer::grid::Grid;
use crate::quantizer::scheme::{RangeSearch, Scheme};
use crate::terms::Bits;

/// The exponent of BRECQ's error.
const BRECQ_EXPONENT: f64 = 2.4;
/// The least step of FQ-ViT: the difference of 1 and the next f32.
const LEAST_STEP: f32 = f32::EPSILON;

/// The candidates of `range`, both ends times 1, 0.99, 0.98, …: 80 of them for `shrink` (BRECQ,
/// `UniformAffineQuantizer`, `scale_method = 'mse'`), where zero may lie outside the range, and 90 for
/// `omse` (FQ-ViT, `OmseObserver`), where the zero point is a code.
///
/// FQ-ViT as released does not extend the range to zero but clamps the zero point, so values that are all positive (or
/// all negative) are quantized on a grid that is too short; the sound form extends it.
pub(in crate::quantizer) fn shrunk(
    lo: f32,
    hi: f32,
    scheme: &Scheme,
    bits: Bits,
) -> impl Iterator<Item = Grid> {
    let brecq = scheme.range == RangeSearch::Shrink;
    let (symmetric, paper) = (scheme.symmetric, scheme.paper);
    (0..if brecq { 80 } else { 90 }).map(move |i| {
        let share = (1.0 - f64::from(i) * 0.01) as f32;
        let (lo, hi) = (lo * share, hi * share);
        if symmetric {
            Grid::containing_zero(lo, hi, bits, true)
        } else if brecq {
            Grid::over(lo, hi, bits)
        } else if paper {
            clamped(lo, hi, bits)
        } else {
            Grid::containing_zero(lo, hi, bits, false)
        }
    })
}

/// The grid of the released `OmseObserver`.
fn clamped(lo: f32, hi: f32, bits: Bits) -> Grid {
    let whole = Grid::containing_zero(lo, hi, bits, false);
    let step = ((hi - lo) / whole.high).clamp(LEAST_STEP, f32::MAX);
    let zero = (0.0 - (lo / step).round_ties_even()).clamp(0.0, whole.high);
    Grid { step, zero, ..whole }
}

/// The best of [`shrunk`] by the sum of `|x - q(x)|^p` that `error` gives.
pub(in crate::quantizer) fn shrunk_least(
    lo: f32,
    hi: f32,
    scheme: &Scheme,
    bits: Bits,
    error: impl Fn(&Grid, f64) -> f64,
) -> Grid {
    let p = if scheme.range == RangeSearch::Shrink { BRECQ_EXPONENT } else { 2.0 };
    least(shrunk(lo, hi, scheme, bits), |grid| error(grid, p)).unwrap_or_else(|| Grid::constant(0.0, bits))
}
