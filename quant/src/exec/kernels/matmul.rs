//! Products of two activations, as in attention: many small matrices, parallel over the batch.

#![allow(unsafe_code, reason = "tasks write disjoint matrices of one output through the gemm driver")]

use super::activation::Activation;
use super::gemm::{AQuant, Columns, Epilogue, Lhs, OutPtr, PANEL, multiply, pack_rows, panel_len};
use super::scratch::with_scratch;
use super::{fake_quant, parallel};

/// The shape of a batched product: `[batch, m, k] · [batch, k, n]`, or `[batch, n, k]` transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchedMatMul {
    /// Number of matrices (batch times heads).
    pub batch: usize,
    /// Rows of the result.
    pub m: usize,
    /// The summed dimension.
    pub k: usize,
    /// Columns of the result.
    pub n: usize,
    /// The right operand is stored `[batch, n, k]`, as keys are.
    pub transpose_rhs: bool,
}

/// `out[b, m, n] = alpha · (fq(lhs)[b, m, k] · fq(rhs)[b, k, n])`.
///
/// `lhs_q` may be per tensor or per `k`, `rhs_q` per tensor.
pub fn batched_matmul(
    shape: BatchedMatMul,
    lhs: &[f32],
    rhs: &[f32],
    lhs_q: AQuant,
    rhs_q: AQuant,
    alpha: f32,
    out: &mut [f32],
) {
    let BatchedMatMul { batch, m, k, n, .. } = shape;
    assert_eq!(lhs.len(), batch * m * k, "left operand of {batch} x {m} x {k}");
    assert_eq!(rhs.len(), batch * k * n, "right operand of {batch} x {k} x {n}");
    assert_eq!(out.len(), batch * m * n, "output of {batch} x {m} x {n}");
    assert!(!matches!(rhs_q, AQuant::UniformPerK { .. }), "the right operand has one grid per tensor");
    if out.is_empty() {
        return;
    }
    // With fewer matrices than threads, rows are split too; each part packs the right operand for itself.
    let threads = rayon::current_num_threads();
    let parts = if batch >= threads || m < 64 { 1 } else { threads.min(m / 32) };
    let rows_per_part = m.div_ceil(parts);
    let cost = (rows_per_part * n * k / 16 + n * k).max(1);
    let out = OutPtr::new(out);
    parallel::for_indices(batch * parts, cost, |task| {
        let (b, first) = (task / parts, task % parts * rows_per_part);
        let rows = rows_per_part.min(m.saturating_sub(first));
        let row = b * m + first.min(m);
        with_scratch(panel_len(n, k), |panels| {
            pack_rhs(shape, &rhs[b * k * n..][..k * n], rhs_q, panels);
            let epilogue = Epilogue { alpha, column_bias: None, row_bias: None, act: Activation::None };
            let lhs = Lhs::Rows(&lhs[row * k..][..rows * k], lhs_q);
            // SAFETY: every task owns its rows of the output, whose length was checked.
            unsafe { multiply(rows, k, lhs, Columns { panels, cols: n }, epilogue, out.add(row * n), n) };
        });
    });
}

/// Brings one right operand into panels, through its grid.
fn pack_rhs(shape: BatchedMatMul, rhs: &[f32], quant: AQuant, panels: &mut [f32]) {
    let BatchedMatMul { k, n, transpose_rhs, .. } = shape;
    if k == 0 {
        return;
    }
    for (i, panel) in panels.chunks_exact_mut(k * PANEL).enumerate() {
        let column = i * PANEL;
        let columns = (n - column).min(PANEL);
        if transpose_rhs {
            pack_rows(&rhs[column * k..], k, columns, k, panel);
        } else {
            for (line, row) in panel.chunks_exact_mut(PANEL).zip(rhs.chunks_exact(n)) {
                line[..columns].copy_from_slice(&row[column..][..columns]);
                line[columns..].fill(0.0);
            }
        }
        if let AQuant::Uniform { scale, zero_point, q_max } = quant {
            fake_quant::uniform_serial(panel, scale, zero_point, q_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::math;
    use super::super::testing::{assert_same_everywhere, noise};
    use super::*;
    use proptest::prelude::*;

    fn plain(shape: BatchedMatMul, lhs: &[f32], rhs: &[f32], alpha: f32) -> Vec<f32> {
        let BatchedMatMul { batch, m, k, n, transpose_rhs } = shape;
        let mut out = Vec::new();
        for b in 0..batch {
            for i in 0..m {
                for j in 0..n {
                    let right = |p| if transpose_rhs { (b * n + j) * k + p } else { (b * k + p) * n + j };
                    let left = &lhs[(b * m + i) * k..][..k];
                    let sum = (0..k).fold(0.0_f32, |acc, p| left[p].mul_add(rhs[right(p)], acc));
                    out.push(alpha * sum);
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn equals_its_definition_bit_for_bit(
            batch in 0..5_usize, m in 0..80_usize, k in 0..40_usize, n in 0..70_usize, transpose_rhs: bool,
            threads in 1..4_usize,
        ) {
            let shape = BatchedMatMul { batch, m, k, n, transpose_rhs };
            let (lhs, rhs) = (noise(batch * m * k, 1), noise(batch * k * n, 2));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![f32::NAN; batch * m * n];
            pool.install(|| batched_matmul(shape, &lhs, &rhs, AQuant::None, AQuant::None, 0.25, &mut out));
            prop_assert!(out == plain(shape, &lhs, &rhs, 0.25));
        }
    }

    #[test]
    fn both_operands_are_fake_quantized() {
        for transpose_rhs in [false, true] {
            let shape = BatchedMatMul { batch: 3, m: 17, k: 20, n: 35, transpose_rhs };
            let (lhs, rhs) = (noise(3 * 17 * 20, 3), noise(3 * 35 * 20, 4));
            let grid = |scale, zero_point| AQuant::Uniform { scale, zero_point, q_max: 7.0 };
            let through =
                |x: &[f32], s, z| x.iter().map(|&v| math::fake_quantize(v, s, z, 7.0)).collect::<Vec<_>>();
            let mut out = vec![0.0; 3 * 17 * 35];
            batched_matmul(shape, &lhs, &rhs, grid(0.3, 3.5), grid(0.2, 4.0), 1.0, &mut out);
            assert!(out == plain(shape, &through(&lhs, 0.3, 3.5), &through(&rhs, 0.2, 4.0), 1.0));
        }
    }

    #[test]
    fn same_bits_for_every_thread_count() {
        for (batch, m, k, n) in [(64, 64, 16, 64), (1, 500, 32, 77)] {
            let shape = BatchedMatMul { batch, m, k, n, transpose_rhs: true };
            let (lhs, rhs) = (noise(batch * m * k, 5), noise(batch * n * k, 6));
            assert_same_everywhere(|| {
                let mut out = vec![0.0; batch * m * n];
                batched_matmul(shape, &lhs, &rhs, AQuant::None, AQuant::None, 1.0, &mut out);
                out
            });
        }
    }
}
