//! The convolution as a matrix product: positions are unfolded panel by panel and multiplied at once.

#![allow(unsafe_code, reason = "tasks write disjoint positions of one output through the gemm driver")]

use super::Geometry;
use crate::exec::kernels::activation::Activation;
use crate::exec::kernels::gemm::{AQuant, Columns, Epilogue, Lhs, OutPtr, PANEL, PackedWeight, multiply};
use crate::exec::kernels::scratch::with_scratch;
use crate::exec::kernels::{fake_quant, parallel};

/// Values of unfolded input per task step: half a megabyte, which the second cache holds.
const UNFOLDED: usize = 128 * 1024;

/// Calls `work` with the fake-quantized input surrounded by zeros, `[in_c, padded_h, padded_w]`.
pub(super) fn with_padded(x: &[f32], geometry: &Geometry, quant: AQuant, work: impl FnOnce(&[f32])) {
    let [top, left, bottom, right] = geometry.pad;
    if quant.is_none() && geometry.pad == [0; 4] {
        return work(x);
    }
    let (h, w) = (geometry.h, geometry.w);
    let (padded_h, padded_w) = (geometry.padded_h(), geometry.padded_w());
    let plane = padded_h * padded_w;
    with_scratch(geometry.in_c * plane, |padded| {
        parallel::for_rows(padded, plane, plane, |first, planes| {
            for (i, plane) in planes.chunks_exact_mut(plane).enumerate() {
                let channel = first + i;
                plane[..top * padded_w].fill(0.0);
                plane[(padded_h - bottom) * padded_w..].fill(0.0);
                let source = &x[channel * h * w..][..h * w];
                for y in 0..h {
                    let line = &mut plane[(top + y) * padded_w..][..padded_w];
                    line[..left].fill(0.0);
                    line[padded_w - right..].fill(0.0);
                    let inner = &mut line[left..left + w];
                    inner.copy_from_slice(&source[y * w..][..w]);
                    match quant {
                        AQuant::None => {}
                        AQuant::Uniform { scale, zero_point, q_max } => {
                            fake_quant::uniform_serial(inner, scale, zero_point, q_max);
                        }
                        AQuant::UniformPerK { scale, zero_point, q_max } => {
                            fake_quant::uniform_serial(inner, scale[channel], zero_point[channel], q_max);
                        }
                    }
                }
            }
        });
        work(padded);
    });
}

/// One group: `out[n_out, positions] = act(W · unfolded + bias)`.
pub(super) fn run(
    padded: &[f32],
    geometry: &Geometry,
    w: &PackedWeight,
    bias: Option<&[f32]>,
    act: Activation,
    out: &mut [f32],
) {
    let (k, n_out) = (w.k(), w.n_out());
    let positions = geometry.out_h() * geometry.out_w();
    let panels = positions.div_ceil(PANEL);
    let cost = k * PANEL * (2 + n_out / 16);
    let fitting = (UNFOLDED / (k * PANEL).max(1)).max(1);
    let per_task = parallel::items_per_task(panels, cost).min(fitting);
    let out = OutPtr::new(out);
    parallel::for_indices(panels.div_ceil(per_task), cost * per_task, |task| {
        let first = task * per_task;
        let count = per_task.min(panels - first);
        let position = first * PANEL;
        let cols = (positions - position).min(count * PANEL);
        with_scratch(count * k * PANEL, |unfolded| {
            for i in 0..count {
                let panel = &mut unfolded[i * k * PANEL..][..k * PANEL];
                unfold_panel(padded, geometry, position + i * PANEL, panel);
            }
            for row in (0..n_out).step_by(PANEL) {
                let rows = (n_out - row).min(PANEL);
                let epilogue = Epilogue {
                    alpha: 1.0,
                    column_bias: None,
                    row_bias: bias.map(|b| &b[row..row + rows]),
                    act,
                };
                let lhs = Lhs::Panel(&w.panels()[row * k..][..k * PANEL]);
                let rhs = Columns { panels: unfolded, cols };
                // SAFETY: every task owns its positions of each output row; the length was checked by `conv2d`.
                unsafe {
                    let c = out.add(row * positions + position);
                    multiply(rows, k, lhs, rhs, epilogue, c, positions);
                }
            }
        });
    });
}

/// Gathers the inputs of 32 output positions from `position` on, `[k, 32]`; positions past the end repeat the last.
fn unfold_panel(padded: &[f32], geometry: &Geometry, position: usize, panel: &mut [f32]) {
    let (padded_w, out_w) = (geometry.padded_w(), geometry.out_w());
    let plane = geometry.padded_h() * padded_w;
    let last = geometry.out_h() * out_w - 1;
    let offsets: [usize; PANEL] = std::array::from_fn(|i| {
        let at = (position + i).min(last);
        at / out_w * geometry.stride[0] * padded_w + at % out_w * geometry.stride[1]
    });
    let furthest = offsets[PANEL - 1];
    let contiguous = position + PANEL - 1 <= last && furthest == offsets[0] + PANEL - 1;
    let mut lines = panel.chunks_exact_mut(PANEL);
    for channel in 0..geometry.in_c / geometry.groups {
        for ky in 0..geometry.kh {
            for kx in 0..geometry.kw {
                let Some(line) = lines.next() else { return };
                let base = channel * plane + ky * geometry.dilation[0] * padded_w + kx * geometry.dilation[1];
                let source = &padded[base..=base + furthest];
                if contiguous {
                    line.copy_from_slice(&source[offsets[0]..]);
                } else {
                    for (value, &offset) in line.iter_mut().zip(&offsets) {
                        *value = source[offset];
                    }
                }
            }
        }
    }
}
