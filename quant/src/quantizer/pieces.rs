//! Grids that consist of regions, as [`Cells`].

use super::cells::Cells;
use super::error::QuantizerError;
use super::grid::Grid;
use super::params::Params;

/// Adding and subtracting 1.5·2^23 rounds half to even any number below 2^22.
const MAGIC: f32 = 12_582_912.0;

/// `scaled` rounded half to even within whole ends below 2^22; NaN stays NaN. Vectorises on any processor.
#[inline(always)]
pub(super) fn round_within(scaled: f32, least: f32, most: f32) -> f32 {
    let scaled = if scaled < least { least } else { scaled };
    let scaled = if scaled > most { most } else { scaled };
    (scaled + MAGIC) - MAGIC
}

/// A scale must be a positive finite number whose `levels`-fold is finite too; where nothing is to be held, any
/// will do.
pub(super) fn usable(scale: f32, levels: f32) -> f32 {
    if scale > 0.0 { scale.clamp(f32::MIN_POSITIVE, f32::MAX / levels.max(1.0) / 2.0) } else { 1.0 }
}

/// That no level of the affine grids overflows.
pub(super) fn check_levels(params: &Params) -> Result<(), QuantizerError> {
    let high = (params.levels() - 1) as f32;
    let finite = |(step, zero): (&f32, &f32)| (step * zero.abs().max((high - zero).abs())).is_finite();
    if params.scale.iter().zip(&params.zero_point).all(finite) {
        return Ok(());
    }
    Err(params.problem("the outermost levels must be finite"))
}

/// A piecewise constant function under construction, from the lowest values up.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    bounds: Vec<f64>,
    levels: Vec<f64>,
}

impl Pieces {
    /// Values not below `from` go to `level`, until the next piece. Pieces come in ascending order.
    pub(super) fn push(&mut self, from: f64, level: f64) {
        let Some(last) = self.levels.last_mut() else {
            self.levels.push(level);
            return;
        };
        if from == f64::NEG_INFINITY || self.bounds.last().is_some_and(|&bound| from <= bound) {
            // The last piece holds no value.
            *last = level;
            if let [.., before, last] = self.levels[..]
                && before == last
            {
                self.levels.pop();
                self.bounds.pop();
            }
        } else if *last != level {
            self.bounds.push(from);
            self.levels.push(level);
        }
    }

    /// The part of a uniform grid for values in `[from, to)`, its levels kept between `lowest` and `highest`.
    pub(super) fn grid(&mut self, from: f64, to: f64, grid: &Grid, (lowest, highest): (f32, f32)) {
        let step = f64::from(grid.step);
        let zero = f64::from(grid.zero);
        let (first, last) = ((f64::from(grid.low) - zero).floor(), (f64::from(grid.high) - zero).ceil());
        let at = |x: f64| (x / step).round_ties_even().clamp(first, last);
        let level = |n: f64| {
            let code = (n as f32 + grid.zero).clamp(grid.low, grid.high);
            f64::from(((code - grid.zero) * grid.step).max(lowest).min(highest))
        };
        let (start, end) = (at(from), at(to));
        self.push(from, level(start));
        for i in 1..=(end - start).max(0.0) as u64 {
            let n = start + i as f64;
            self.push((n - 0.5) * step, level(n));
        }
    }

    pub(super) fn into_cells(self) -> Cells {
        Cells::Steps { bounds: self.bounds, levels: self.levels }
    }
}

/// The levels of a grid of regions in ascending order, without repetition.
pub(super) fn levels_of(cells: &Cells) -> Vec<f32> {
    let Cells::Steps { levels, .. } = cells else { return Vec::new() };
    let mut levels: Vec<f32> = levels.iter().map(|&level| level as f32 + 0.0).collect();
    levels.sort_unstable_by(f32::total_cmp);
    levels.dedup();
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::Bits;

    #[test]
    fn empty_pieces_vanish_and_equal_neighbours_are_one() {
        let mut pieces = Pieces::default();
        for (from, level) in [(f64::NEG_INFINITY, 0.0), (1.0, 1.0), (1.0, 2.0), (2.0, 2.0), (3.0, 5.0)] {
            pieces.push(from, level);
        }
        let expected = Cells::Steps { bounds: vec![1.0, 3.0], levels: vec![0.0, 2.0, 5.0] };
        assert_eq!(pieces.into_cells(), expected);
    }

    #[test]
    fn a_part_of_a_grid_has_its_levels() {
        let grid = Grid::containing_zero(-1.0, 2.0, Bits::new(2).unwrap(), false);
        let mut pieces = Pieces::default();
        pieces.grid(-0.7, 1.2, &grid, (-9.0, 9.0));
        let expected = Cells::Steps { bounds: vec![-0.5, 0.5], levels: vec![-1.0, 0.0, 1.0] };
        assert_eq!(pieces.into_cells(), expected);
    }

    #[test]
    fn rounding_is_half_to_even_within_the_ends() {
        for (x, expected) in [(2.5, 2.0), (3.5, 4.0), (-0.5, 0.0), (1e30, 7.0), (-1e30, -8.0)] {
            assert_eq!(round_within(x, -8.0, 7.0), expected);
        }
        assert!(round_within(f32::NAN, -8.0, 7.0).is_nan());
    }
}
