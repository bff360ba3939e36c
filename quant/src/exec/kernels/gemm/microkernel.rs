//! The register tile and the loop over tiles of one block.

#![allow(unsafe_code, reason = "raw pointers in the innermost loop, and calls of #[target_feature] copies")]

use super::pack::PANEL;
use super::vector::{Plain, Vector};
use crate::exec::kernels::dispatch::{Isa, isa};

/// One block `c[rows, cols] = a[rows, depth] · b[depth, cols] (+ c)`.
///
/// Pointers must stay valid for the whole block: `a` as `LhsLayout` says, `b` for `ceil(cols/32)` panels that lie
/// `panel_stride` apart and hold `depth · 32` values each, `c` for `rows` rows of `cols` values `c_stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) a: *const f32,
    pub(super) a_layout: LhsLayout,
    pub(super) rows: usize,
    pub(super) b: *const f32,
    pub(super) panel_stride: usize,
    pub(super) depth: usize,
    pub(super) cols: usize,
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
    /// Start from zero instead of from `c`.
    pub(super) first: bool,
    /// Applied after the last step of `k`: `alpha · acc + bias`.
    pub(super) finish: Option<Finish>,
}

#[derive(Clone, Copy)]
pub(super) enum LhsLayout {
    /// Rows of consecutive values, this far apart.
    Rows(usize),
    /// A panel `[depth, 32]` whose columns are the rows.
    Panel,
}

/// `alpha · acc`, plus a bias per column or per row where the pointer is not null.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    pub(super) alpha: f32,
    pub(super) column_bias: *const f32,
    pub(super) row_bias: *const f32,
}

/// Computes a block with the widest vectors of this CPU.
///
/// # Safety
/// The pointers of `block` must be valid as described there, and no other thread may touch its part of `c`.
pub(super) unsafe fn run(block: &Block) {
    match isa() {
        // SAFETY: `isa` proves the features; the caller guarantees the pointers.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { run_avx512(block) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { run_avx2(block) },
        // SAFETY: plain Rust; the caller guarantees the pointers.
        _ => unsafe { tiles::<Plain>(block) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn run_avx512(block: &Block) {
    // SAFETY: this function has the features of the vector; the caller guarantees the pointers.
    unsafe { tiles::<std::arch::x86_64::__m512>(block) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2(block: &Block) {
    // SAFETY: as in `run_avx512`.
    unsafe { tiles::<std::arch::x86_64::__m256>(block) }
}

/// Where one register tile reads and writes.
#[derive(Clone, Copy)]
struct Tile {
    a: *const f32,
    row_stride: usize,
    b: *const f32,
    depth: usize,
    cols: usize,
    c: *mut f32,
    c_stride: usize,
    first: bool,
    finish: Option<Finish>,
}

/// Walks the block panel by panel, so that a panel of `b` stays in the first cache for all rows.
#[inline(always)]
unsafe fn tiles<V: Vector>(block: &Block) {
    let width = 2 * V::LANES;
    let tile_count = block.rows.div_ceil(V::MAX_ROWS);
    for column in (0..block.cols).step_by(width) {
        let cols = (block.cols - column).min(width);
        let mut row = 0;
        for remaining in (1..=tile_count).rev() {
            let rows = (block.rows - row).div_ceil(remaining);
            // SAFETY: offsets stay inside the block that the caller vouches for.
            unsafe {
                let (a, row_stride) = match block.a_layout {
                    LhsLayout::Rows(stride) => (block.a.add(row * stride), stride),
                    LhsLayout::Panel => (block.a.add(row), 1),
                };
                let finish = block.finish.map(|f| Finish {
                    alpha: f.alpha,
                    column_bias: offset(f.column_bias, column),
                    row_bias: offset(f.row_bias, row),
                });
                let tile = Tile {
                    a,
                    row_stride,
                    b: block.b.add(column / PANEL * block.panel_stride + column % PANEL),
                    depth: block.depth,
                    cols,
                    c: block.c.add(row * block.c_stride + column),
                    c_stride: block.c_stride,
                    first: block.first,
                    finish,
                };
                match (block.a_layout, cols <= V::LANES) {
                    (LhsLayout::Rows(_), false) => by_rows::<V, 2, 1>(rows, tile),
                    (LhsLayout::Rows(_), true) => by_rows::<V, 1, 1>(rows, tile),
                    (LhsLayout::Panel, false) => by_rows::<V, 2, PANEL>(rows, tile),
                    (LhsLayout::Panel, true) => by_rows::<V, 1, PANEL>(rows, tile),
                }
            }
            row += rows;
        }
    }
}

/// Offsets a pointer that may be null.
#[inline(always)]
unsafe fn offset(p: *const f32, by: usize) -> *const f32 {
    // SAFETY: a pointer that is not null has at least `by` values.
    if p.is_null() { p } else { unsafe { p.add(by) } }
}

#[inline(always)]
unsafe fn by_rows<V: Vector, const NV: usize, const STEP: usize>(rows: usize, t: Tile) {
    // SAFETY: the tile has `rows` rows; everything else is the caller's promise.
    unsafe {
        match rows {
            1 => tile::<V, 1, NV, STEP>(t),
            2 => tile::<V, 2, NV, STEP>(t),
            3 => tile::<V, 3, NV, STEP>(t),
            4 => tile::<V, 4, NV, STEP>(t),
            5 => tile::<V, 5, NV, STEP>(t),
            6 => tile::<V, 6, NV, STEP>(t),
            7 if V::MAX_ROWS > 6 => tile::<V, 7, NV, STEP>(t),
            8 if V::MAX_ROWS > 6 => tile::<V, 8, NV, STEP>(t),
            9 if V::MAX_ROWS > 6 => tile::<V, 9, NV, STEP>(t),
            10 if V::MAX_ROWS > 6 => tile::<V, 10, NV, STEP>(t),
            11 if V::MAX_ROWS > 6 => tile::<V, 11, NV, STEP>(t),
            12 if V::MAX_ROWS > 6 => tile::<V, 12, NV, STEP>(t),
            _ => unreachable!("a tile has at most {} rows", V::MAX_ROWS),
        }
    }
}

/// `MR` rows by `NV` vectors of columns, held in registers over the whole depth. `STEP` is the distance of
/// consecutive `k` in `a`.
#[inline(always)]
unsafe fn tile<V: Vector, const MR: usize, const NV: usize, const STEP: usize>(t: Tile) {
    // SAFETY: the caller guarantees the tile; a partial one goes through `edge`, which is wide enough.
    unsafe {
        let row_stride = if STEP == 1 { t.row_stride } else { 1 };
        let whole = t.cols == NV * V::LANES;
        let mut edge = [0.0_f32; 32];
        let mut acc = [[V::zero(); NV]; MR];
        if !t.first {
            for (i, row) in acc.iter_mut().enumerate() {
                let mut line = t.c.add(i * t.c_stride).cast_const();
                if !whole {
                    std::ptr::copy_nonoverlapping(line, edge.as_mut_ptr(), t.cols);
                    line = edge.as_ptr();
                }
                for (j, v) in row.iter_mut().enumerate() {
                    *v = V::load(line.add(j * V::LANES));
                }
            }
        }
        let mut a = t.a;
        let mut b = t.b;
        for _ in 0..t.depth {
            let mut columns = [V::zero(); NV];
            for (j, v) in columns.iter_mut().enumerate() {
                *v = V::load(b.add(j * V::LANES));
            }
            for (i, row) in acc.iter_mut().enumerate() {
                // Wrapping: an overflow check here would cost more than the arithmetic.
                let value = V::splat(*a.add(i.wrapping_mul(row_stride)));
                for (v, &column) in row.iter_mut().zip(&columns) {
                    *v = value.mul_add(column, *v);
                }
            }
            a = a.add(STEP);
            b = b.add(PANEL);
        }
        if let Some(finish) = t.finish {
            apply_finish(&mut acc, finish);
        }
        for (i, row) in acc.iter().enumerate() {
            let line = t.c.add(i * t.c_stride);
            let target = if whole { line } else { edge.as_mut_ptr() };
            for (j, v) in row.iter().enumerate() {
                v.store(target.add(j * V::LANES));
            }
            if !whole {
                std::ptr::copy_nonoverlapping(edge.as_ptr(), line, t.cols);
            }
        }
    }
}

#[inline(always)]
unsafe fn apply_finish<V: Vector, const MR: usize, const NV: usize>(acc: &mut [[V; NV]; MR], finish: Finish) {
    // SAFETY: a bias that is not null covers the tile; the column bias is padded to whole panels.
    unsafe {
        if finish.alpha != 1.0 {
            let alpha = V::splat(finish.alpha);
            for v in acc.as_flattened_mut() {
                *v = v.mul(alpha);
            }
        }
        if !finish.column_bias.is_null() {
            for row in &mut *acc {
                for (j, v) in row.iter_mut().enumerate() {
                    *v = v.add(V::load(finish.column_bias.add(j * V::LANES)));
                }
            }
        }
        if !finish.row_bias.is_null() {
            for (i, row) in acc.iter_mut().enumerate() {
                let bias = V::splat(*finish.row_bias.add(i));
                for v in row {
                    *v = v.add(bias);
                }
            }
        }
    }
}
