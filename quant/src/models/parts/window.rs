//! Attention within shifted windows, and patch merging (Liu et al., "Swin Transformer", ICCV 2021).

use super::attention::attend;
use super::block::{BlockNames, block};
use super::tokens::Grid;
use crate::exec::kernels::activation::Activation;
use crate::graph::{NodeId, Scope};
use crate::models::ModelError;

/// Added to scores between patches that only share a window because of the shift.
const SEPARATE: f32 = -100.0;

/// How a stage is cut into windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Height and width of a window in patches.
    pub(crate) size: Grid,
    /// Shift of odd blocks, down and across.
    pub(crate) shift: Grid,
    /// Side of the window that the bias table was made for.
    pub(crate) table: usize,
    /// Whether the shift comes before the padding (timm) or after it.
    pub(crate) shift_first: bool,
}

impl Window {
    /// Windows of a side, padded and shifted whatever the grid (LAVT).
    pub(crate) fn full(side: usize) -> Self {
        Self { size: (side, side), shift: (side / 2, side / 2), table: side, shift_first: false }
    }

    /// Windows no larger than the grid, without a shift where one covers it (the original code, Hugging Face).
    pub(crate) fn within(side: usize, grid: Grid) -> Self {
        let size = side.min(grid.0.min(grid.1));
        let shift = if grid.0.min(grid.1) > size { size / 2 } else { 0 };
        Self { size: (size, size), shift: (shift, shift), table: side, shift_first: false }
    }

    /// The same along each axis by itself (timm).
    pub(crate) fn within_each(side: usize, grid: Grid) -> Self {
        let shift = |length: usize| if length <= side { 0 } else { side / 2 };
        let size = (side.min(grid.0), side.min(grid.1));
        Self { size, shift: (shift(grid.0), shift(grid.1)), table: side, shift_first: true }
    }
}

/// What the blocks of a stage have in common.
#[derive(Debug)]
pub(crate) struct Stage<'n> {
    /// How the modules of a block are called.
    pub(crate) names: &'n BlockNames,
    /// Its windows.
    pub(crate) window: Window,
    /// Its grid.
    pub(crate) grid: Grid,
    /// Heads.
    pub(crate) heads: usize,
    /// Activation of the MLP.
    pub(crate) act: Activation,
    /// Epsilon of every `LayerNorm`.
    pub(crate) eps: f32,
}

impl Stage<'_> {
    /// Block number `index` on tokens `[1, h·w, C]`; its scope is given. Odd ones are shifted.
    pub(crate) fn run(&self, g: &mut Scope<'_, '_>, index: usize, x: NodeId) -> Result<NodeId, ModelError> {
        let shift = if index % 2 == 1 { self.window.shift } else { (0, 0) };
        block(g, self.names, self.act, self.eps, x, |g, y| self.attention(g, y, shift))
    }

    /// Attention within windows, with its output projection; tokens `[1, h·w, C]`.
    fn attention(&self, g: &mut Scope<'_, '_>, x: NodeId, shift: Grid) -> Result<NodeId, ModelError> {
        let c = g.shape(x)[2];
        let (h, w) = self.grid;
        let (wh, ww) = self.window.size;
        let (ph, pw) = (h.div_ceil(wh) * wh, w.div_ceil(ww) * ww);
        let (rows, columns, area) = (ph / wh, pw / ww, wh * ww);
        let shifted = shift != (0, 0);
        let by = |sign: isize| [(1, sign * shift.0 as isize), (2, sign * shift.1 as isize)];

        let mut y = g.reshape(x, &[1, h, w, c])?;
        if shifted && self.window.shift_first {
            y = g.roll(y, &by(-1))?;
        }
        y = g.pad(y, &[(1, ph - h), (2, pw - w)])?;
        if shifted && !self.window.shift_first {
            y = g.roll(y, &by(-1))?;
        }
        let y = g.reshape(y, &[1, rows, wh, columns, ww, c])?;
        let y = g.permute(y, &[0, 1, 3, 2, 4, 5])?;
        let y = g.reshape(y, &[rows * columns, area, c])?;
        let mask = if shifted {
            g.reserve("attn.shift_mask", &[rows * columns, area, area])?;
            Some(shift_mask((ph, pw), self.window.size, shift))
        } else {
            None
        };
        let mut a = g.at(self.names.attention);
        let y =
            attend(&mut a, self.names.projections, y, self.heads, |a, scores| self.bias(a, scores, mask))?;
        let y = g.linear(self.names.out, y)?;
        let y = g.reshape(y, &[1, rows, columns, wh, ww, c])?;
        let y = g.permute(y, &[0, 1, 3, 2, 4, 5])?;
        let mut y = g.reshape(y, &[1, ph, pw, c])?;
        if shifted && !self.window.shift_first {
            y = g.roll(y, &by(1))?;
        }
        y = g.narrow(y, 1, 0, h)?;
        y = g.narrow(y, 2, 0, w)?;
        if shifted && self.window.shift_first {
            y = g.roll(y, &by(1))?;
        }
        g.reshape(y, &[1, h * w, c])
    }

    /// Scores `[nW, heads, area, area]` with the relative position bias and the mask of the shift.
    fn bias(
        &self,
        g: &mut Scope<'_, '_>,
        scores: NodeId,
        mask: Option<Vec<f32>>,
    ) -> Result<NodeId, ModelError> {
        let (windows, area) = (g.shape(scores)[0], self.window.size.0 * self.window.size.1);
        let side = 2 * self.window.table - 1;
        let table = g.read("relative_position_bias_table", &[side * side, self.heads])?;
        g.reserve("relative_position_bias", &[self.heads, area, area])?;
        let bias = relative_bias(&table, &self.window, self.heads);
        let bias = g.constant("relative_position_bias", &[1, self.heads, area, area], bias)?;
        let scores = g.add(scores, bias)?;
        let Some(mask) = mask else { return Ok(scores) };
        let mask = g.constant("shift_mask", &[windows, 1, area, area], mask)?;
        g.add(scores, mask)
    }
}

/// The bias `[heads, area, area]` read from the table `[(2W-1)², heads]` at the offset query − key.
fn relative_bias(table: &[f32], window: &Window, heads: usize) -> Vec<f32> {
    let (wh, ww) = window.size;
    let (centre, side) = (window.table as isize - 1, 2 * window.table - 1);
    let place = |token: usize| ((token / ww) as isize, (token % ww) as isize);
    let area = wh * ww;
    let mut bias = Vec::with_capacity(heads * area * area);
    for head in 0..heads {
        for query in 0..area {
            for key in 0..area {
                let ((qy, qx), (ky, kx)) = (place(query), place(key));
                let row = (qy - ky + centre) as usize * side + (qx - kx + centre) as usize;
                bias.push(table[row * heads + head]);
            }
        }
    }
    bias
}

/// The mask `[nW, area, area]` that keeps apart what the cyclic shift brought together.
fn shift_mask((h, w): Grid, (wh, ww): Grid, shift: Grid) -> Vec<f32> {
    // Three bands along each axis: untouched windows, the rest of the last window, what was rolled into it.
    let band = |i: usize, size: usize, window: usize, shift: usize| {
        usize::from(i + window >= size) + usize::from(i + shift >= size)
    };
    let region = |y: usize, x: usize| 3 * band(y, h, wh, shift.0) + band(x, w, ww, shift.1);
    let mut mask = Vec::new();
    for top in (0..h).step_by(wh) {
        for left in (0..w).step_by(ww) {
            let regions: Vec<_> = (0..wh * ww).map(|i| region(top + i / ww, left + i % ww)).collect();
            for query in &regions {
                mask.extend(regions.iter().map(|key| if key == query { 0.0 } else { SEPARATE }));
            }
        }
    }
    mask
}

/// Patch merging: 2×2 neighbours joined, normalised, projected to twice the width. Tokens `[1, h·w, C]` to
/// `[1, ⌈h/2⌉·⌈w/2⌉, 2C]` and their grid.
pub(crate) fn merge(
    g: &mut Scope<'_, '_>,
    x: NodeId,
    (h, w): Grid,
    eps: f32,
) -> Result<(NodeId, Grid), ModelError> {
    let c = g.shape(x)[2];
    let (half_h, half_w) = (h.div_ceil(2), w.div_ceil(2));
    let y = g.reshape(x, &[1, h, w, c])?;
    let y = g.pad(y, &[(1, h % 2), (2, w % 2)])?;
    let y = g.reshape(y, &[1, half_h, 2, half_w, 2, c])?;
    // Order of the four neighbours as (row, column): (0,0), (1,0), (0,1), (1,1).
    let y = g.permute(y, &[0, 1, 3, 4, 2, 5])?;
    let y = g.reshape(y, &[1, half_h * half_w, 4 * c])?;
    let y = g.layer_norm("norm", y, eps)?;
    Ok((g.linear("reduction", y)?, (half_h, half_w)))
}

/// An image `[1, C, H, W]` padded to whole patches at the bottom and the right.
pub(crate) fn pad_to_patches(
    g: &mut Scope<'_, '_>,
    pixels: NodeId,
    patch: usize,
) -> Result<NodeId, ModelError> {
    let image = g.shape(pixels);
    let missing = |size: usize| size.next_multiple_of(patch.max(1)) - size;
    g.pad(pixels, &[(2, missing(image[2])), (3, missing(image[3]))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_the_grid_as_the_code_they_are_from() {
        let all = |w: Window| (w.size, w.shift);
        assert_eq!(all(Window::full(4)), ((4, 4), (2, 2)));
        assert_eq!(all(Window::within(7, (14, 14))), ((7, 7), (3, 3)));
        assert_eq!(all(Window::within(7, (7, 9))), ((7, 7), (0, 0)));
        assert_eq!(all(Window::within(7, (5, 20))), ((5, 5), (0, 0)));
        assert_eq!(all(Window::within_each(7, (5, 20))), ((5, 7), (0, 3)));
        assert_eq!(all(Window::within_each(7, (7, 8))), ((7, 7), (0, 3)));
    }

    #[test]
    fn the_mask_separates_only_what_was_rolled_in() {
        // 4 x 4 in windows of 2 x 2, shifted by 1: the first window is whole, the last has four parts.
        let mask = shift_mask((4, 4), (2, 2), (1, 1));
        assert!(mask[..16].iter().all(|x| *x == 0.0));
        let last: Vec<bool> = mask[48..].iter().map(|x| *x == 0.0).collect();
        assert_eq!(last, (0..16).map(|i| i % 5 == 0).collect::<Vec<_>>());
        // Shifted across only: rows stay together.
        let mask = shift_mask((2, 4), (2, 2), (0, 1));
        let last: Vec<bool> = mask[16..].iter().map(|x| *x == 0.0).collect();
        assert_eq!(last, (0..16).map(|i| i / 4 % 2 == i % 2).collect::<Vec<_>>());
    }

    #[test]
    fn a_smaller_window_reads_the_centre_of_the_table() {
        let table: Vec<f32> = (0..25).map(|i| i as f32).collect();
        let window = Window { size: (1, 2), shift: (0, 0), table: 3, shift_first: false };
        assert_eq!(relative_bias(&table, &window, 1), [12.0, 11.0, 13.0, 12.0]);
    }
}
