//! Blocking for the caches and splitting over threads.

#![allow(
    unsafe_code,
    reason = "tasks write disjoint column ranges of one output, which slices cannot express"
)]

use super::AQuant;
use super::microkernel::{Block, Finish, LhsLayout, run};
use super::pack::{PANEL, PackedWeight, copy_quantized};
use crate::exec::kernels::activation::{Activation, apply_serial};
use crate::exec::kernels::parallel;
use crate::exec::kernels::scratch::with_scratch;

/// Steps of `k` per block: a panel of weights (32 KiB) and a tile of rows fit in the first cache.
pub(crate) const DEPTH: usize = 256;

/// Rows per block: 288 rows of 256 values stay in the second cache.
const ROWS: usize = 288;

/// Padding between scratch rows, so that rows of a power of two do not compete for the same cache sets.
const PAD: usize = 16;

/// An output that tasks share; each writes its own rectangle.
#[derive(Clone, Copy)]
pub(crate) struct OutPtr(*mut f32);

// SAFETY: the pointer is only dereferenced by tasks that write disjoint parts (see `multiply`).
unsafe impl Send for OutPtr {}
// SAFETY: as above.
unsafe impl Sync for OutPtr {}

impl OutPtr {
    pub(crate) fn new(out: &mut [f32]) -> Self {
        Self(out.as_mut_ptr())
    }

    /// The pointer `by` values further on.
    ///
    /// # Safety
    /// `by` must lie inside the slice that the pointer came from.
    pub(crate) unsafe fn add(self, by: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(by) }
    }
}

/// The left operand.
#[derive(Clone, Copy)]
pub(crate) enum Lhs<'a> {
    /// Row-major `[rows, k]`, fake-quantized on the way.
    Rows(&'a [f32], AQuant<'a>),
    /// A panel `[k, 32]` whose columns are the rows (at most 32).
    Panel(&'a [f32]),
}

/// The right operand: panels `[ceil(cols/32), k, 32]`.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    pub(crate) panels: &'a [f32],
    pub(crate) cols: usize,
}

/// What happens to the finished sums: `act(alpha · acc + bias)`.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    pub(crate) alpha: f32,
    /// Per column, `cols` values.
    pub(crate) column_bias: Option<&'a [f32]>,
    /// Per row, `rows` values.
    pub(crate) row_bias: Option<&'a [f32]>,
    pub(crate) act: Activation,
}

/// `c[rows, cols] = epilogue(lhs[rows, k] · rhs[k, cols])` on this thread.
///
/// # Safety
/// `c` must be valid for `rows` rows of `cols` values, `c_stride` apart, which nothing else accesses meanwhile.
pub(crate) unsafe fn multiply(
    rows: usize,
    k: usize,
    lhs: Lhs,
    rhs: Columns,
    epilogue: Epilogue,
    c: *mut f32,
    c_stride: usize,
) {
    let cols = rhs.cols;
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(rhs.panels.len() >= cols.div_ceil(PANEL) * PANEL * k, "right operand too short");
    assert!(epilogue.row_bias.is_none_or(|b| b.len() >= rows), "row bias too short");
    match lhs {
        Lhs::Rows(x, _) => assert!(x.len() >= rows * k, "left operand too short"),
        Lhs::Panel(x) => assert!(x.len() >= k * PANEL && rows <= PANEL, "left operand too short"),
    }
    let bias_len = epilogue.column_bias.map_or(0, |_| cols.next_multiple_of(PANEL));
    with_scratch(bias_len, |bias| {
        if let Some(values) = epilogue.column_bias {
            bias[..cols].copy_from_slice(&values[..cols]);
            bias[cols..].fill(0.0);
        }
        // Equal blocks: each of them reads the whole right operand.
        let per_block = rows.div_ceil(rows.div_ceil(ROWS)).next_multiple_of(12);
        for row in (0..rows).step_by(per_block) {
            let count = (rows - row).min(per_block);
            let finish = Finish {
                alpha: epilogue.alpha,
                column_bias: if bias_len == 0 { std::ptr::null() } else { bias.as_ptr() },
                row_bias: epilogue.row_bias.map_or(std::ptr::null(), |b| b[row..].as_ptr()),
            };
            // SAFETY: lengths were checked above; the rows are within the caller's rectangle.
            unsafe {
                let c = c.add(row * c_stride);
                row_block(row, count, k, lhs, rhs, finish, c, c_stride);
                if epilogue.act != Activation::None {
                    for i in 0..count {
                        let line = std::slice::from_raw_parts_mut(c.add(i * c_stride), cols);
                        apply_serial(epilogue.act, line);
                    }
                }
            }
        }
    });
}

/// At most [`ROWS`] rows, all of `k`.
///
/// # Safety
/// As [`multiply`], with `c` at the first row of the block and the operands' lengths checked.
#[allow(clippy::too_many_arguments, reason = "the operands of a block; private and called once")]
unsafe fn row_block(
    row: usize,
    rows: usize,
    k: usize,
    lhs: Lhs,
    rhs: Columns,
    finish: Finish,
    c: *mut f32,
    c_stride: usize,
) {
    // Copying rows costs little beside many columns, and avoids rows that lie a multiple of 4 KiB apart.
    let copies = match lhs {
        Lhs::Rows(_, quant) => !quant.is_none() || (k.is_multiple_of(512) && rhs.cols >= 128),
        Lhs::Panel(_) => false,
    };
    let stride = k.min(DEPTH) + PAD;
    with_scratch(if copies { rows * stride } else { 0 }, |scratch| {
        let mut from = 0;
        loop {
            let depth = (k - from).min(DEPTH);
            let (a, a_layout) = match lhs {
                Lhs::Rows(x, quant) if copies => {
                    for (i, line) in scratch.chunks_exact_mut(stride).enumerate() {
                        copy_quantized(&x[(row + i) * k + from..][..depth], quant, from, &mut line[..depth]);
                    }
                    (scratch.as_ptr(), LhsLayout::Rows(stride))
                }
                Lhs::Rows(x, _) => (x[row * k + from..].as_ptr(), LhsLayout::Rows(k)),
                Lhs::Panel(x) => (x[from * PANEL + row..].as_ptr(), LhsLayout::Panel),
            };
            let last = from + depth == k;
            let block = Block {
                a,
                a_layout,
                rows,
                b: rhs.panels[from * PANEL..].as_ptr(),
                panel_stride: k * PANEL,
                depth,
                cols: rhs.cols,
                c,
                c_stride,
                first: from == 0,
                finish: last.then_some(finish),
            };
            // SAFETY: `a` has `rows` rows of `depth` values, `b` whole panels, `c` is the caller's promise.
            unsafe { run(&block) };
            if last {
                break;
            }
            from += depth;
        }
    });
}

/// `out[m, n] = act(fq(x)[m, k] · W[n, k]ᵀ + bias[n])`.
///
/// `a` fake-quantizes the input while it is packed; its per-`k` form has `k` entries.
pub fn linear(
    x: &[f32],
    m: usize,
    w: &PackedWeight,
    a: AQuant,
    bias: Option<&[f32]>,
    act: Activation,
    out: &mut [f32],
) {
    let (n, k) = (w.n_out(), w.k());
    assert_eq!(x.len(), m * k, "input of {m} x {k}");
    assert_eq!(out.len(), m * n, "output of {m} x {n}");
    assert!(bias.is_none_or(|b| b.len() == n), "bias of {n}");
    let panels = n.div_ceil(PANEL);
    // Split the longer side: every task reads all of the other operand.
    let by_columns = n > m;
    let items = if by_columns { panels } else { m };
    if items == 0 {
        return;
    }
    let cost = (m * n * k / 16).div_ceil(items);
    let mut per_task = parallel::items_per_task(items, cost);
    if !by_columns && per_task < m {
        per_task = per_task.next_multiple_of(12);
    }
    let out = OutPtr::new(out);
    parallel::for_indices(items.div_ceil(per_task), cost * per_task, |task| {
        let first = task * per_task;
        let count = per_task.min(items - first);
        let (row, rows, column) = if by_columns { (0, m, first * PANEL) } else { (first, count, 0) };
        let cols = if by_columns { (n - column).min(count * PANEL) } else { n };
        let epilogue = Epilogue {
            alpha: 1.0,
            column_bias: bias.map(|b| &b[column..column + cols]),
            row_bias: None,
            act,
        };
        let rhs = Columns { panels: &w.panels()[column * k..], cols };
        // SAFETY: tasks have disjoint rows or disjoint columns of `out`, whose length was checked.
        unsafe {
            let c = out.add(row * n + column);
            multiply(rows, k, Lhs::Rows(&x[row * k..], a), rhs, epilogue, c, n);
        }
    });
}
