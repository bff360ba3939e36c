//! Operands in the order that the microkernel reads them.

use super::AQuant;
use crate::exec::kernels::dispatch::multiversion;
use crate::exec::kernels::{math, parallel};

/// Columns of a panel: values of 32 outputs lie side by side for each `k`.
pub(crate) const PANEL: usize = 32;

/// A weight `[n_out, k]` in panels `[ceil(n_out/32), k, 32]`, the last one padded with zeros.
#[derive(Clone, Debug)]
pub struct PackedWeight {
    panels: Vec<f32>,
    n_out: usize,
    k: usize,
}

impl PackedWeight {
    /// Packs a row-major `[n_out, k]` weight; a convolution's `[n_out, in, kh, kw]` has `k = in·kh·kw`.
    pub fn pack(w: &[f32], n_out: usize, k: usize) -> Self {
        assert_eq!(w.len(), n_out * k, "weight of {n_out} x {k}");
        let mut panels = vec![0.0; panel_len(n_out, k)];
        parallel::for_rows(&mut panels, k * PANEL, k * PANEL, |first, group| {
            for (i, panel) in group.chunks_mut(k * PANEL).enumerate() {
                let row = (first + i) * PANEL;
                pack_rows(&w[row * k..], k, (n_out - row).min(PANEL), k, panel);
            }
        });
        Self { panels, n_out, k }
    }

    /// Number of outputs (rows of the weight).
    pub fn n_out(&self) -> usize {
        self.n_out
    }

    /// Inputs per output.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The memory that the packed weight takes.
    pub fn bytes(&self) -> usize {
        self.panels.len() * size_of::<f32>()
    }

    pub(crate) fn panels(&self) -> &[f32] {
        &self.panels
    }
}

/// Length of the panels of a `[columns, k]` operand.
pub(crate) fn panel_len(columns: usize, k: usize) -> usize {
    columns.div_ceil(PANEL) * PANEL * k
}

/// Transposes `rows <= 32` rows of `k` values, `stride` apart, to a panel `[k, 32]` and zeroes its other columns.
pub(crate) fn pack_rows(src: &[f32], stride: usize, rows: usize, k: usize, panel: &mut [f32]) {
    const BLOCK: usize = 16;
    if rows < PANEL {
        panel.fill(0.0);
    }
    for from in (0..k).step_by(BLOCK) {
        let depth = BLOCK.min(k - from);
        for row in 0..rows {
            let line = &src[row * stride + from..][..depth];
            for (p, &value) in line.iter().enumerate() {
                panel[(from + p) * PANEL + row] = value;
            }
        }
    }
}

/// Copies `src` to `dst` through the grid of channels `first_k..`.
pub(super) fn copy_quantized(src: &[f32], quant: AQuant, first_k: usize, dst: &mut [f32]) {
    match quant {
        AQuant::None => dst.copy_from_slice(src),
        AQuant::Uniform { scale, zero_point, q_max } => copy_uniform(src, scale, zero_point, q_max, dst),
        AQuant::UniformPerK { scale, zero_point, q_max } => {
            copy_per_k(src, &scale[first_k..], &zero_point[first_k..], q_max, dst);
        }
    }
}

multiversion! {
    fn copy_uniform(src: &[f32], scale: f32, zero_point: f32, q_max: f32, dst: &mut [f32]) {
        for (d, &x) in dst.iter_mut().zip(src) {
            *d = math::fake_quantize(x, scale, zero_point, q_max);
        }
    }

    fn copy_per_k(src: &[f32], scale: &[f32], zero_point: &[f32], q_max: f32, dst: &mut [f32]) {
        for (((d, &x), &s), &z) in dst.iter_mut().zip(src).zip(scale).zip(zero_point) {
            *d = math::fake_quantize(x, s, z, q_max);
        }
    }
}
