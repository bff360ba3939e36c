//! Transposed convolution: one matrix product, then the taps are added to the output.

use super::{ConvWeight, Form, Geometry, unfold};
use crate::exec::kernels::activation::{Activation, apply_serial};
use crate::exec::kernels::gemm::{AQuant, PackedWeight};
use crate::exec::kernels::parallel;
use crate::exec::kernels::scratch::with_scratch;

/// Everything about a transposed convolution but its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransposeGeometry {
    /// Input channels.
    pub in_c: usize,
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Output channels.
    pub out_c: usize,
    /// Kernel height.
    pub kh: usize,
    /// Kernel width.
    pub kw: usize,
    /// Vertical and horizontal distance of the outputs of neighbouring inputs.
    pub stride: [usize; 2],
    /// Rows and columns cut from each side of the output.
    pub pad: [usize; 2],
    /// Rows and columns added at the bottom and the right.
    pub output_pad: [usize; 2],
    /// Vertical and horizontal distance of taps.
    pub dilation: [usize; 2],
}

impl TransposeGeometry {
    /// Output height, `(h-1)·stride - 2·pad + dilation·(kh-1) + output_pad + 1`.
    pub fn out_h(&self) -> usize {
        self.extent(0, self.h, self.kh)
    }

    /// Output width.
    pub fn out_w(&self) -> usize {
        self.extent(1, self.w, self.kw)
    }

    fn extent(&self, axis: usize, size: usize, kernel: usize) -> usize {
        if size == 0 || kernel == 0 {
            return 0;
        }
        let full =
            (size - 1) * self.stride[axis] + self.dilation[axis] * (kernel - 1) + self.output_pad[axis] + 1;
        full.saturating_sub(2 * self.pad[axis])
    }
}

/// Packs a row-major `[in_c, out_c, kh, kw]` weight (PyTorch's order, one group).
pub fn pack_transpose_weight(w: &[f32], geometry: &TransposeGeometry) -> ConvWeight {
    let (in_c, rows) = (geometry.in_c, geometry.out_c * geometry.kh * geometry.kw);
    assert_eq!(w.len(), in_c * rows, "weight of {geometry:?}");
    let mut turned = vec![0.0; w.len()];
    for (row, line) in turned.chunks_exact_mut(in_c.max(1)).enumerate() {
        for (channel, value) in line.iter_mut().enumerate() {
            *value = w[channel * rows + row];
        }
    }
    ConvWeight(Form::Groups(vec![PackedWeight::pack(&turned, rows, in_c)]))
}

/// `out[out_c, out_h, out_w] = act(conv_transpose(fq(x)[in_c, h, w], W) + bias)`, with `w` from
/// [`pack_transpose_weight`]; the per-`k` form of `a` has one entry per input channel.
pub fn conv_transpose2d(
    x: &[f32],
    geometry: &TransposeGeometry,
    w: &ConvWeight,
    a: AQuant,
    bias: Option<&[f32]>,
    act: Activation,
    out: &mut [f32],
) {
    let (out_h, out_w) = (geometry.out_h(), geometry.out_w());
    let taps = geometry.kh * geometry.kw;
    let positions = geometry.h * geometry.w;
    assert_eq!(x.len(), geometry.in_c * positions, "input of {geometry:?}");
    assert_eq!(out.len(), geometry.out_c * out_h * out_w, "output of {geometry:?}");
    assert!(bias.is_none_or(|b| b.len() == geometry.out_c), "bias of {geometry:?}");
    let Form::Groups(groups) = &w.0 else { panic!("a weight packed for a depthwise convolution") };
    let [packed] = groups.as_slice() else { panic!("a weight packed for {} groups", groups.len()) };
    assert_eq!(
        (packed.n_out(), packed.k()),
        (geometry.out_c * taps, geometry.in_c),
        "weight of {geometry:?}"
    );
    if out.is_empty() {
        return;
    }
    // Every tap of every output channel is a 1x1 convolution of the input.
    let pointwise = Geometry::dense(geometry.in_c, [geometry.h, geometry.w], geometry.out_c * taps, 1, 1, 0);
    with_scratch(geometry.out_c * taps * positions, |columns| {
        unfold::with_padded(x, &pointwise, a, |x| {
            unfold::run(x, &pointwise, packed, None, Activation::None, columns);
        });
        let columns = &*columns;
        let plane = out_h * out_w;
        parallel::for_rows(out, plane, plane + taps * positions, |first, planes| {
            for (i, target) in planes.chunks_exact_mut(plane).enumerate() {
                let channel = first + i;
                target.fill(0.0);
                let source = &columns[channel * taps * positions..][..taps * positions];
                add_taps(source, geometry, target);
                if let Some(bias) = bias {
                    let bias = bias[channel];
                    for v in &mut *target {
                        *v += bias;
                    }
                }
                apply_serial(act, target);
            }
        });
    });
}

/// Adds `[kh·kw, h, w]` products to one output plane, tap after tap.
fn add_taps(source: &[f32], geometry: &TransposeGeometry, plane: &mut [f32]) {
    let (out_h, out_w) = (geometry.out_h(), geometry.out_w());
    let [step_y, step_x] = geometry.stride;
    for ky in 0..geometry.kh {
        for kx in 0..geometry.kw {
            let tap = &source[(ky * geometry.kw + kx) * geometry.h * geometry.w..];
            for (y, line) in tap.chunks_exact(geometry.w).take(geometry.h).enumerate() {
                let Some(row) = (y * step_y + ky * geometry.dilation[0]).checked_sub(geometry.pad[0]) else {
                    continue;
                };
                if row >= out_h {
                    continue;
                }
                let target = &mut plane[row * out_w..][..out_w];
                for (x, &value) in line.iter().enumerate() {
                    let column = (x * step_x + kx * geometry.dilation[1]).checked_sub(geometry.pad[1]);
                    if let Some(v) = column.and_then(|c| target.get_mut(c)) {
                        *v += value;
                    }
                }
            }
        }
    }
}
