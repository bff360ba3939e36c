//! One filter per channel, run directly on the padded planes.

use super::Geometry;
use crate::exec::kernels::activation::{Activation, apply_serial};
use crate::exec::kernels::dispatch::multiversion;
use crate::exec::kernels::parallel;

/// `out[out_c, out_h, out_w]`; output channel `c` reads input channel `c / (out_c / in_c)`.
pub(super) fn run(
    padded: &[f32],
    geometry: &Geometry,
    w: &[f32],
    bias: Option<&[f32]>,
    act: Activation,
    out: &mut [f32],
) {
    let multiplier = geometry.out_c / geometry.in_c;
    let taps = geometry.kh * geometry.kw;
    let plane = geometry.padded_h() * geometry.padded_w();
    let positions = geometry.out_h() * geometry.out_w();
    parallel::for_rows(out, positions, positions * taps / 4, |first, planes| {
        for (i, target) in planes.chunks_exact_mut(positions).enumerate() {
            let channel = first + i;
            let source = &padded[channel / multiplier * plane..][..plane];
            filter(source, geometry, &w[channel * taps..][..taps], target);
            if let Some(bias) = bias {
                let bias = bias[channel];
                for v in &mut *target {
                    *v += bias;
                }
            }
            apply_serial(act, target);
        }
    });
}

multiversion! {
    /// Adds tap after tap to each output row.
    fn filter(source: &[f32], geometry: &Geometry, w: &[f32], out: &mut [f32]) {
        let (padded_w, out_w) = (geometry.padded_w(), geometry.out_w());
        let [step_y, step_x] = geometry.stride;
        for (y, line) in out.chunks_exact_mut(out_w).enumerate() {
            line.fill(0.0);
            for ky in 0..geometry.kh {
                let row = &source[(y * step_y + ky * geometry.dilation[0]) * padded_w..][..padded_w];
                for kx in 0..geometry.kw {
                    let weight = w[ky * geometry.kw + kx];
                    let inputs = &row[kx * geometry.dilation[1]..];
                    if step_x == 1 {
                        for (v, &x) in line.iter_mut().zip(inputs) {
                            *v = weight.mul_add(x, *v);
                        }
                    } else {
                        for (v, &x) in line.iter_mut().zip(inputs.iter().step_by(step_x)) {
                            *v = weight.mul_add(x, *v);
                        }
                    }
                }
            }
        }
    }
}
