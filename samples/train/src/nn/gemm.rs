//! Matrix product: a register-blocked AVX-512 kernel with run-time dispatch and a portable fallback.
//!
//! The matrices of this model are small and oddly shaped (8192 x 32 times 32 x 96 is typical), so only the right
//! hand side is packed (panels of 32 columns, blocks of 256 rows); the left one is read in place through its
//! strides, which serves the plain, the transposed and the sliced cases alike.
#![allow(unsafe_code)] // pointers into slices whose extents `gemm` asserts first

use std::cell::RefCell;

/// A strided read-only view of a matrix.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    row: usize,
    col: usize,
}

impl<'a> Mat<'a> {
    /// Rows of `stride` floats, row-major.
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Self { data, row: stride, col: 1 }
    }

    /// The transpose of rows of `stride` floats.
    pub fn transposed(data: &'a [f32], stride: usize) -> Self {
        Self { data, row: 1, col: stride }
    }

    fn holds(&self, rows: usize, cols: usize) -> bool {
        (rows - 1) * self.row + (cols - 1) * self.col < self.data.len()
    }
}

thread_local! {
    static PACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `c[m, n] = a[m, k] b[k, n]`, or `c +=` with `accumulate`; the rows of `c` are `ldc` floats apart.
pub fn gemm(size: [usize; 3], a: Mat, b: Mat, c: &mut [f32], ldc: usize, accumulate: bool) {
    let [m, n, k] = size;
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(a.holds(m, k) && b.holds(k, n) && (m - 1) * ldc + n <= c.len(), "gemm: operand too short");
    #[cfg(target_arch = "x86_64")]
    if super::kernels::wide_cpu() {
        // SAFETY: AVX-512 was detected, and the extents of all three operands were asserted above.
        unsafe { x86::gemm(size, a, b, c, ldc, accumulate) };
        return;
    }
    portable(size, a, b, c, ldc, accumulate);
}

fn portable(size: [usize; 3], a: Mat, b: Mat, c: &mut [f32], ldc: usize, accumulate: bool) {
    let [m, n, k] = size;
    PACKED.with_borrow_mut(|packed| {
        packed.clear();
        for p in 0..k {
            packed.extend((0..n).map(|j| b.data[p * b.row + j * b.col]));
        }
        for i in 0..m {
            let out = &mut c[i * ldc..i * ldc + n];
            if !accumulate {
                out.fill(0.0);
            }
            for (p, row) in packed.chunks_exact(n).enumerate() {
                let x = a.data[i * a.row + p * a.col];
                for (o, y) in out.iter_mut().zip(row) {
                    *o += x * y;
                }
            }
        }
    });
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Mat, PACKED};
    use std::arch::x86_64::{
        __mmask16, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
        _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    };

    const KC: usize = 256;
    const MR: usize = 12;

    /// Packs rows `k0..k0+kc` of `b` into panels of 32 columns (16 for a narrow last one), zero padded.
    fn pack(b: Mat, k0: usize, kc: usize, n: usize, out: &mut Vec<f32>) {
        out.clear();
        let mut j0 = 0;
        while j0 < n {
            let width = if n - j0 > 16 { 32 } else { 16 };
            let used = (n - j0).min(width);
            let start = out.len();
            out.resize(start + kc * width, 0.0);
            let panel = &mut out[start..];
            if b.col == 1 {
                for p in 0..kc {
                    let from = (k0 + p) * b.row + j0;
                    panel[p * width..p * width + used].copy_from_slice(&b.data[from..from + used]);
                }
            } else {
                for j in 0..used {
                    let column = &b.data[(j0 + j) * b.col + k0 * b.row..];
                    for p in 0..kc {
                        panel[p * width + j] = column[p * b.row];
                    }
                }
            }
            j0 += width;
        }
    }

    /// What all blocks of one product share, but for the mask of the last columns.
    struct Shape {
        k: usize,
        row: usize,
        col: usize,
        ldc: usize,
        last: __mmask16,
        accumulate: bool,
    }

    /// Defines a block of some rows times one or two vectors of columns. The rows are written out by the macro:
    /// loops over them would leave the accumulators in memory.
    macro_rules! block {
        ($name:ident, $rows:literal, $vectors:literal, [$($i:literal)*], $columns:tt) => {
            /// # Safety
            /// AVX-512F; `a` readable at `i * row + p * col`, `b` one panel of `k` rows, `c` writable under the
            /// mask, which applies to the last vector.
            #[target_feature(enable = "avx512f,fma")]
            unsafe fn $name(shape: &Shape, a: *const f32, b: *const f32, c: *mut f32) {
                let Shape { k, row, col, ldc, last, accumulate } = *shape;
                let mut acc = [[_mm512_setzero_ps(); $vectors]; $rows];
                // SAFETY: the caller guarantees the extents.
                unsafe {
                    // Three rows per base pointer keep the addresses within the general registers.
                    let mut base = [a, a.wrapping_add(3 * row), a.wrapping_add(6 * row), a.wrapping_add(9 * row)];
                    let two = 2 * row;
                    let offset = [0, row, two];
                    let mut panel = b;
                    for _ in 0..k {
                        let v = [_mm512_loadu_ps(panel), _mm512_loadu_ps(panel.wrapping_add(16 * ($vectors - 1)))];
                        $(
                            let x = _mm512_set1_ps(*base[$i / 3].wrapping_add(offset[$i % 3]));
                            block!(@row acc, $i, x, v, $columns);
                        )*
                        base = [
                            base[0].wrapping_add(col),
                            base[1].wrapping_add(col),
                            base[2].wrapping_add(col),
                            base[3].wrapping_add(col),
                        ];
                        panel = panel.wrapping_add(16 * $vectors);
                    }
                    $( block!(@store acc, $i, c.wrapping_add($i * ldc), last, accumulate, $vectors, $columns); )*
                }
            }
        };
        (@row $acc:ident, $i:literal, $x:ident, $v:ident, [$($j:literal)*]) => {
            $( $acc[$i][$j] = _mm512_fmadd_ps($x, $v[$j], $acc[$i][$j]); )*
        };
        (@store $acc:ident, $i:literal, $c:expr, $last:ident, $accumulate:ident, $vectors:literal, [$($j:literal)*]) => {
            $(
                let to = $c.wrapping_add(16 * $j);
                let mask = if $j + 1 == $vectors { $last } else { 0xffff };
                let mut value = $acc[$i][$j];
                if $accumulate {
                    value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, to));
                }
                _mm512_mask_storeu_ps(to, mask, value);
            )*
        };
    }
    block!(narrow1, 1, 1, [0], [0]);
    block!(wide1, 1, 2, [0], [0 1]);
    block!(narrow2, 2, 1, [0 1], [0]);
    block!(wide2, 2, 2, [0 1], [0 1]);
    block!(narrow3, 3, 1, [0 1 2], [0]);
    block!(wide3, 3, 2, [0 1 2], [0 1]);
    block!(narrow4, 4, 1, [0 1 2 3], [0]);
    block!(wide4, 4, 2, [0 1 2 3], [0 1]);
    block!(narrow5, 5, 1, [0 1 2 3 4], [0]);
    block!(wide5, 5, 2, [0 1 2 3 4], [0 1]);
    block!(narrow6, 6, 1, [0 1 2 3 4 5], [0]);
    block!(wide6, 6, 2, [0 1 2 3 4 5], [0 1]);
    block!(narrow7, 7, 1, [0 1 2 3 4 5 6], [0]);
    block!(wide7, 7, 2, [0 1 2 3 4 5 6], [0 1]);
    block!(narrow8, 8, 1, [0 1 2 3 4 5 6 7], [0]);
    block!(wide8, 8, 2, [0 1 2 3 4 5 6 7], [0 1]);
    block!(narrow9, 9, 1, [0 1 2 3 4 5 6 7 8], [0]);
    block!(wide9, 9, 2, [0 1 2 3 4 5 6 7 8], [0 1]);
    block!(narrow10, 10, 1, [0 1 2 3 4 5 6 7 8 9], [0]);
    block!(wide10, 10, 2, [0 1 2 3 4 5 6 7 8 9], [0 1]);
    block!(narrow11, 11, 1, [0 1 2 3 4 5 6 7 8 9 10], [0]);
    block!(wide11, 11, 2, [0 1 2 3 4 5 6 7 8 9 10], [0 1]);
    block!(narrow12, 12, 1, [0 1 2 3 4 5 6 7 8 9 10 11], [0]);
    block!(wide12, 12, 2, [0 1 2 3 4 5 6 7 8 9 10 11], [0 1]);

    /// # Safety
    /// AVX-512F and operands of the extents that [`super::gemm`] asserts.
    #[target_feature(enable = "avx512f,fma")]
    pub unsafe fn gemm(size: [usize; 3], a: Mat, b: Mat, c: &mut [f32], ldc: usize, accumulate: bool) {
        let [m, n, k] = size;
        PACKED.with_borrow_mut(|packed| {
            let mut k0 = 0;
            while k0 < k {
                let kc = KC.min(k - k0);
                pack(b, k0, kc, n, packed);
                let add = accumulate || k0 > 0;
                let mut i = 0;
                while i < m {
                    let rows = MR.min(m - i);
                    // SAFETY: row `i` and column `k0` lie inside `a`, row `i` inside `c`, panels inside `packed`.
                    unsafe {
                        let ap = a.data.as_ptr().add(i * a.row + k0 * a.col);
                        let mut panel = packed.as_ptr();
                        let mut j = 0;
                        while j < n {
                            let cp = c.as_mut_ptr().add(i * ldc + j);
                            let wide = n - j > 16;
                            let used = (n - j).min(if wide { 32 } else { 16 });
                            let last = (0xffff_u32 >> (15 - (used - 1) % 16)) as __mmask16;
                            let shape = &Shape { k: kc, row: a.row, col: a.col, ldc, last, accumulate: add };
                            match (rows, wide) {
                                (1, true) => wide1(shape, ap, panel, cp),
                                (1, false) => narrow1(shape, ap, panel, cp),
                                (2, true) => wide2(shape, ap, panel, cp),
                                (2, false) => narrow2(shape, ap, panel, cp),
                                (3, true) => wide3(shape, ap, panel, cp),
                                (3, false) => narrow3(shape, ap, panel, cp),
                                (4, true) => wide4(shape, ap, panel, cp),
                                (4, false) => narrow4(shape, ap, panel, cp),
                                (5, true) => wide5(shape, ap, panel, cp),
                                (5, false) => narrow5(shape, ap, panel, cp),
                                (6, true) => wide6(shape, ap, panel, cp),
                                (6, false) => narrow6(shape, ap, panel, cp),
                                (7, true) => wide7(shape, ap, panel, cp),
                                (7, false) => narrow7(shape, ap, panel, cp),
                                (8, true) => wide8(shape, ap, panel, cp),
                                (8, false) => narrow8(shape, ap, panel, cp),
                                (9, true) => wide9(shape, ap, panel, cp),
                                (9, false) => narrow9(shape, ap, panel, cp),
                                (10, true) => wide10(shape, ap, panel, cp),
                                (10, false) => narrow10(shape, ap, panel, cp),
                                (11, true) => wide11(shape, ap, panel, cp),
                                (11, false) => narrow11(shape, ap, panel, cp),
                                (12, true) => wide12(shape, ap, panel, cp),
                                (12, false) => narrow12(shape, ap, panel, cp),
                                _ => unreachable!(),
                            }
                            panel = panel.add(kc * if wide { 32 } else { 16 });
                            j += if wide { 32 } else { 16 };
                        }
                    }
                    i += rows;
                }
                k0 += kc;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn agrees_with_the_portable_product() {
        let mut rng = Rng::new(1, 1);
        for (m, n, k) in
            [(1, 1, 1), (5, 17, 3), (13, 33, 300), (64, 64, 16), (100, 96, 32), (24, 14, 520), (7, 80, 9)]
        {
            let a: Vec<f32> = (0..m * k).map(|_| rng.normal()).collect();
            let b: Vec<f32> = (0..k * n).map(|_| rng.normal()).collect();
            let views = [
                (Mat::rows(&a, k), Mat::rows(&b, n)),
                (Mat::transposed(&a, m), Mat::rows(&b, n)),
                (Mat::rows(&a, k), Mat::transposed(&b, k)),
            ];
            for (x, y) in views {
                for accumulate in [false, true] {
                    let mut got = vec![0.5; m * (n + 3)];
                    let mut want = got.clone();
                    gemm([m, n, k], x, y, &mut got, n + 3, accumulate);
                    portable([m, n, k], x, y, &mut want, n + 3, accumulate);
                    for (g, w) in got.iter().zip(&want) {
                        assert!((g - w).abs() < 1e-3, "{m} {n} {k}: {g} {w}");
                    }
                }
            }
        }
    }
}
