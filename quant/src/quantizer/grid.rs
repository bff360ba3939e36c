//! The uniform affine grid: one step and one zero point.

use crate::terms::Bits;

/// `q(x) = (clamp(round(x / step) + zero, low, high) - zero) * step`, rounding half to even, true division.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Grid {
    pub(super) step: f32,
    pub(super) zero: f32,
    pub(super) low: f32,
    pub(super) high: f32,
}

/// Ranges beyond this have steps and levels that overflow.
pub(super) const LARGEST: f32 = f32::MAX / 4.0;
/// Adding and subtracting 1.5·2^23 rounds half to even any number below 2^22.
const MAGIC: f32 = 12_582_912.0;

/// Lowest and highest code of a width; see `Scheme::symmetric`.
pub(super) fn codes(bits: Bits, symmetric: bool) -> (f32, f32) {
    let top = bits.levels().unwrap_or(1 << 24) - 1;
    (if symmetric { 1.0 } else { 0.0 }, top as f32)
}

impl Grid {
    /// A grid of which every value may be given, as by parameters from a file.
    pub(super) fn new(step: f32, zero: f32, bits: Bits, symmetric: bool) -> Self {
        let (low, high) = codes(bits, symmetric);
        Self { step, zero, low, high }
    }

    /// The grid over `[lo, hi]` extended to contain 0, with an integer zero point among the codes
    /// (`qparams` of PTQ4SAM and PTQ4RIS without its lower bound on the step).
    pub(super) fn containing_zero(lo: f32, hi: f32, bits: Bits, symmetric: bool) -> Self {
        let (lo, hi) = (lo.clamp(-LARGEST, 0.0), hi.clamp(0.0, LARGEST));
        let (low, high) = codes(bits, symmetric);
        if symmetric {
            let zero = high.midpoint(1.0);
            let step = usable(lo.abs().max(hi) / (high - zero), lo.abs().max(hi));
            return Self { step, zero, low, high };
        }
        let step = usable((hi - lo) / high, hi - lo);
        let zero = (-(lo / step).round_ties_even()).clamp(0.0, high) + 0.0;
        Self { step, zero, low, high }
    }

    /// The grid over `[lo, hi]` as it is: 0 may lie outside, the zero point is an integer of any size (RepQ-ViT).
    pub(super) fn over(lo: f32, hi: f32, bits: Bits) -> Self {
        let (lo, hi) = (lo.max(-LARGEST), hi.min(LARGEST));
        let (low, high) = codes(bits, false);
        if lo >= hi {
            return Self::constant(lo, bits);
        }
        let step = usable((hi - lo) / high, hi - lo);
        let zero = (-lo / step).round_ties_even();
        Self { step, zero, low, high }
    }

    /// A grid that holds `value` and 0 exactly.
    pub(super) fn constant(value: f32, bits: Bits) -> Self {
        let (low, high) = codes(bits, false);
        let step = usable(value.abs(), value.abs());
        Self { step, zero: if value < 0.0 { 1.0 } else { 0.0 }, low, high }
    }

    /// Quantizes and dequantizes one value; NaN stays NaN.
    #[inline(always)]
    pub(super) fn apply(&self, x: f32) -> f32 {
        let code = (x / self.step).round_ties_even() + self.zero;
        (code.clamp(self.low, self.high) - self.zero) * self.step
    }

    /// The code of one value; for a fractional zero point, that of the nearest integer one. NaN counts as 0.
    pub(super) fn code(&self, x: f32) -> f32 {
        let x = if x.is_nan() { 0.0 } else { x };
        ((x / self.step).round_ties_even() + self.zero.round_ties_even()).clamp(self.low, self.high)
    }

    /// [`Grid::apply`] on a slice, bit for bit, in a loop that vectorises on any processor.
    pub(super) fn apply_all(&self, values: &mut [f32]) {
        let Self { step, zero, low, high } = *self;
        if zero.abs().max(high) > 1_048_576.0 {
            for x in values {
                *x = self.apply(*x);
            }
            return;
        }
        // Cut well outside the codes first: then the magic constant rounds every value exactly as
        // `round_ties_even` does, and what is cut is clamped to the same code anyway.
        let (least, most) = ((low - zero).floor() - 2.0, (high - zero).ceil() + 2.0);
        for x in values {
            let scaled = *x / step;
            let scaled = if scaled < least { least } else { scaled };
            let scaled = if scaled > most { most } else { scaled };
            let code = (scaled + MAGIC) - MAGIC + zero;
            let code = if code < low { low } else { code };
            let code = if code > high { high } else { code };
            *x = (code - zero) * step;
        }
    }

    /// [`Grid::apply`] on whole rows of one value per channel, bit for bit.
    pub(super) fn apply_rows(values: &mut [f32], grids: &[Self]) {
        let Some(first) = grids.first() else { return };
        if grids.iter().any(|grid| grid.zero.abs().max(grid.high) > 1_048_576.0) {
            for row in values.chunks_exact_mut(grids.len()) {
                row.iter_mut().zip(grids).for_each(|(x, grid)| *x = grid.apply(*x));
            }
            return;
        }
        let (low, high) = (first.low, first.high);
        let steps: Vec<f32> = grids.iter().map(|grid| grid.step).collect();
        let zeros: Vec<f32> = grids.iter().map(|grid| grid.zero).collect();
        for row in values.chunks_exact_mut(grids.len()) {
            for ((x, &step), &zero) in row.iter_mut().zip(&steps).zip(&zeros) {
                // As in `apply_all`, with the cut computed here: it is cheaper than two more arrays.
                let (least, most) = (low - zero - 3.0, high - zero + 3.0);
                let scaled = *x / step;
                let scaled = if scaled < least { least } else { scaled };
                let scaled = if scaled > most { most } else { scaled };
                let code = (scaled + MAGIC) - MAGIC + zero;
                let code = if code < low { low } else { code };
                let code = if code > high { high } else { code };
                *x = (code - zero) * step;
            }
        }
    }

    /// The values the grid can give, ascending.
    pub(super) fn levels(&self) -> Vec<f32> {
        // Every rounded quotient whose code is not clamped, computed as `apply` does, and both ends.
        let value = |code: f32| (code - self.zero) * self.step;
        let (first, last) = ((self.low - self.zero).ceil() as i64, (self.high - self.zero).floor() as i64);
        let mut levels = vec![value(self.low)];
        levels.extend((first..=last).map(|n| value((n as f32 + self.zero).clamp(self.low, self.high))));
        levels.push(value(self.high));
        levels.dedup();
        levels
    }
}

/// A step must be a positive finite number: what underflows becomes the smallest normal one, and a grid for
/// nothing but zeros may have any.
fn usable(step: f32, range: f32) -> f32 {
    if range <= 0.0 || range.is_nan() { 1.0 } else { step.clamp(f32::MIN_POSITIVE, f32::MAX) }
}
