//! Tables of learned positions, resampled from the grid that they were trained for to that of the image.

use super::tokens::Grid;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;

/// How a table is resampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Resampling {
    /// `interpolate(mode="bicubic", align_corners=False)`: Hugging Face.
    Bicubic,
    /// The same with `antialias=True`: timm, and DINOv2 with registers.
    Antialiased,
    /// Bicubic, with sides `(side + offset) / side of the table` as `scale_factor`: the original DINOv2.
    Offset(f64),
}

/// A table `[1, before + h·w + after, C]`.
#[derive(Debug)]
pub(crate) struct Table<'n> {
    /// The tensor.
    pub(crate) name: &'n str,
    /// Rows of tokens before the patches.
    pub(crate) before: usize,
    /// Rows of tokens after them.
    pub(crate) after: usize,
    /// The grid it was made for; a square one where that has another number of rows.
    pub(crate) grid: Option<Grid>,
    /// How it is resampled.
    pub(crate) how: Resampling,
}

impl Table<'_> {
    /// The positions `[1, before + h·w + after, width]` for a grid, as a constant.
    pub(crate) fn positions(
        &self,
        g: &mut Scope<'_, '_>,
        width: usize,
        grid: Grid,
    ) -> Result<NodeId, ModelError> {
        // Of a table that is missing, as many as would fit.
        let fit = || self.before + grid.0 * grid.1 + self.after;
        let rows = g.param_shape(self.name).map_or_else(fit, |shape| shape.get(1).copied().unwrap_or(0));
        let table = g.read(self.name, &[1, rows, width])?;
        let (positions, rows) = self.fit(g, &table, width, grid)?;
        g.constant(self.name, &[1, rows, width], positions)
    }

    /// The rows of `table` for a grid, and how many they are.
    pub(crate) fn fit(
        &self,
        g: &mut Scope<'_, '_>,
        table: &[f32],
        width: usize,
        (h, w): Grid,
    ) -> Result<(Vec<f32>, usize), ModelError> {
        let (before, after) = (self.before * width, self.after * width);
        let patches = (table.len() / width).checked_sub(self.before + self.after);
        let Some(from) = patches.and_then(|patches| grid_of(patches, self.grid)) else {
            let message = format!(
                "{} positions are not {} tokens and a grid",
                table.len() / width,
                self.before + self.after
            );
            return g.fail(self.name, message);
        };
        let rows = self.before + h * w + self.after;
        // Its values, and in f64 the rows between the two passes.
        g.reserve(self.name, &[rows + 2 * from.0 * w, width])?;
        let mut out = Vec::with_capacity(rows * width);
        out.extend_from_slice(&table[..before]);
        resample(&table[before..table.len() - after], width, from, (h, w), self.how, &mut out);
        out.extend_from_slice(&table[table.len() - after..]);
        Ok((out, rows))
    }
}

/// The grid of a number of patches: the known one if it has as many, else a square.
pub(crate) fn grid_of(patches: usize, known: Option<Grid>) -> Option<Grid> {
    let side = patches.isqrt();
    known
        .filter(|(h, w)| h.checked_mul(*w) == Some(patches) && patches > 0)
        .or((side * side == patches && side > 0).then_some((side, side)))
}

/// An input row and its weight.
type Tap = (usize, f64);

/// Appends rows `[h, w, c]` resampled to another grid.
fn resample(rows: &[f32], c: usize, from: Grid, to: Grid, how: Resampling, out: &mut Vec<f32>) {
    // All published code leaves a table of the right size as it is; DINOv2 only for square images.
    if from == to {
        out.extend_from_slice(rows);
        return;
    }
    let taps = |from: usize, to: usize| match how {
        Resampling::Bicubic => cubic(from, to, from as f64 / to as f64),
        Resampling::Antialiased => antialiased(from, to),
        Resampling::Offset(offset) => cubic(from, to, 1.0 / ((to as f64 + offset) / from as f64)),
    };
    let (down, across) = (taps(from.0, to.0), taps(from.1, to.1));
    let mut wide = vec![0.0_f64; from.0 * to.1 * c];
    for (line, row) in wide.chunks_exact_mut(to.1 * c).zip(rows.chunks_exact(from.1 * c)) {
        for (place, taps) in line.chunks_exact_mut(c).zip(&across) {
            for &(at, weight) in taps {
                for (sum, x) in place.iter_mut().zip(&row[at * c..][..c]) {
                    *sum += weight * f64::from(*x);
                }
            }
        }
    }
    let mut line = vec![0.0_f64; to.1 * c];
    for taps in &down {
        line.fill(0.0);
        for &(at, weight) in taps {
            for (sum, x) in line.iter_mut().zip(&wide[at * to.1 * c..][..to.1 * c]) {
                *sum += weight * x;
            }
        }
        out.extend(line.iter().map(|x| *x as f32));
    }
}

/// The cubic convolution kernel (Keys 1981).
fn kernel(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((x - 5.0) * x + 8.0) * x * a - 4.0 * a
    } else {
        0.0
    }
}

/// PyTorch's bicubic: four rows, a = -0.75, border rows repeated.
fn cubic(from: usize, to: usize, scale: f64) -> Vec<Vec<Tap>> {
    let tap = |i: usize| {
        let place = scale * (i as f64 + 0.5) - 0.5;
        let row = |step: isize| {
            let at = place.floor() as isize + step;
            (at.clamp(0, from as isize - 1) as usize, kernel(place - at as f64, -0.75))
        };
        (-1..=2).map(row).collect()
    };
    (0..to).map(tap).collect()
}

/// PyTorch's antialiased bicubic: the kernel is as wide as a pixel of the coarser side, a = -0.5, and its weights within
/// the table sum to 1.
fn antialiased(from: usize, to: usize) -> Vec<Vec<Tap>> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let tap = |i: usize| {
        let centre = scale * (i as f64 + 0.5);
        // `as` saturates below zero.
        let first = (centre - 2.0 * stretch + 0.5) as usize;
        let end = ((centre + 2.0 * stretch + 0.5) as usize).min(from);
        let weight = |at: usize| kernel((at as f64 - centre + 0.5) / stretch, -0.5);
        let total: f64 = (first..end).map(weight).sum();
        (first..end).map(|at| (at, weight(at) / total)).collect()
    };
    (0..to).map(tap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::kernels::resize;

    /// A table `[h, w, 2]` with rows that are told apart.
    fn table((h, w): Grid) -> Vec<f32> {
        (0..h * w * 2).map(|i| ((i * 37 % 101) as f32).sin()).collect()
    }

    fn resampled(from: Grid, to: Grid, how: Resampling) -> Vec<f32> {
        let mut out = Vec::new();
        resample(&table(from), 2, from, to, how, &mut out);
        assert_eq!(out.len(), to.0 * to.1 * 2);
        out
    }

    #[test]
    fn bicubic_is_that_of_the_resize_kernel() {
        for (from, to) in [((4, 4), (5, 6)), ((6, 8), (6, 6)), ((7, 3), (2, 9)), ((1, 5), (4, 1))] {
            let ours = resampled(from, to, Resampling::Bicubic);
            let table = table(from);
            for channel in 0..2 {
                let plane: Vec<f32> = table.iter().skip(channel).step_by(2).copied().collect();
                let mut expected = vec![0.0; to.0 * to.1];
                resize::bicubic(&plane, 1, [from.0, from.1], [to.0, to.1], &mut expected);
                for (a, b) in ours.iter().skip(channel).step_by(2).zip(&expected) {
                    assert!((a - b).abs() < 1e-5, "{from:?} {to:?}: {a} {b}");
                }
            }
        }
    }

    #[test]
    fn constants_stay_and_the_same_size_copies() {
        for how in [Resampling::Bicubic, Resampling::Antialiased, Resampling::Offset(0.1)] {
            assert_eq!(resampled((5, 5), (5, 5), how), table((5, 5)));
            let mut out = Vec::new();
            resample(&[2.5; 12], 1, (4, 3), (7, 2), how, &mut out);
            assert!(out.iter().all(|x| (x - 2.5).abs() < 1e-6), "{how:?}: {out:?}");
        }
    }

    #[test]
    fn antialiasing_halves_with_the_stretched_kernel() {
        // Weights of a = -0.5 at distances 0.25, 0.75, 1.25, 1.75 of the stretched kernel; the border is cut off.
        let taps = antialiased(16, 8);
        let near: Vec<f64> = [1.75, 1.25, 0.75, 0.25].iter().map(|&x| kernel(x, -0.5)).collect();
        let inner: Vec<f64> = taps[4].iter().map(|tap| tap.1 * 2.0).collect();
        assert_eq!((taps[4][0].0, taps[4].len()), (5, 8));
        for (a, b) in inner.iter().zip(near.iter().chain(near.iter().rev())) {
            assert!((a - b).abs() < 1e-12, "{inner:?}");
        }
        assert_eq!((taps[0][0].0, taps[0].len()), (0, 5));
    }

    #[test]
    fn the_offset_of_dinov2_moves_places_a_little() {
        // Scale 1 / ((16 + 0.1) / 37), not 37 / 16.
        let taps = cubic(37, 16, 1.0 / ((16.0 + 0.1) / 37.0));
        let place: f64 = 37.0 / 16.1 * 15.5 - 0.5;
        assert_eq!(taps[15][1].0, place as usize);
        assert!((taps[15][1].1 - kernel(place.fract(), -0.75)).abs() < 1e-12);
    }

    #[test]
    fn grids_are_known_or_square() {
        assert_eq!(grid_of(48, Some((6, 8))), Some((6, 8)));
        assert_eq!(grid_of(36, Some((6, 8))), Some((6, 6)));
        assert_eq!(grid_of(48, None), None);
        assert_eq!(grid_of(0, Some((0, 5))), None);
        assert_eq!(grid_of(4, Some((usize::MAX, usize::MAX))), Some((2, 2)));
    }
}
