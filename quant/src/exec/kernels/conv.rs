//! Convolutions over one image in NCHW order.
//!
//! A dense or grouped convolution is a matrix product with the input unfolded tile by tile; a depthwise one runs
//! directly. Input values are fake-quantized once, before padding: the padding is an exact 0 even on a grid that
//! does not contain 0.

mod depthwise;
mod transpose;
mod unfold;

use super::activation::Activation;
use super::gemm::{AQuant, PackedWeight};

pub use transpose::{TransposeGeometry, conv_transpose2d, pack_transpose_weight};

/// Everything about a convolution but its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
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
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Zeros added at the top, left, bottom and right.
    pub pad: [usize; 4],
    /// Vertical and horizontal distance of taps.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Geometry {
    /// A dense convolution with square kernel, stride and padding.
    pub fn dense(
        in_c: usize,
        [h, w]: [usize; 2],
        out_c: usize,
        kernel: usize,
        stride: usize,
        pad: usize,
    ) -> Self {
        Self {
            in_c,
            h,
            w,
            out_c,
            kh: kernel,
            kw: kernel,
            stride: [stride; 2],
            pad: [pad; 4],
            dilation: [1; 2],
            groups: 1,
        }
    }

    /// Output height.
    pub fn out_h(&self) -> usize {
        extent(self.padded_h(), self.kh, self.stride[0], self.dilation[0])
    }

    /// Output width.
    pub fn out_w(&self) -> usize {
        extent(self.padded_w(), self.kw, self.stride[1], self.dilation[1])
    }

    /// Inputs per output value.
    pub fn k(&self) -> usize {
        self.in_c / self.groups * self.kh * self.kw
    }

    fn padded_h(&self) -> usize {
        self.h + self.pad[0] + self.pad[2]
    }

    fn padded_w(&self) -> usize {
        self.w + self.pad[1] + self.pad[3]
    }

    fn check(&self) {
        assert!(self.groups > 0 && self.stride[0] > 0 && self.stride[1] > 0, "geometry {self:?}");
        assert!(
            self.in_c.is_multiple_of(self.groups) && self.out_c.is_multiple_of(self.groups),
            "groups of {self:?}"
        );
    }
}

fn extent(size: usize, kernel: usize, stride: usize, dilation: usize) -> usize {
    let reach = dilation * kernel.saturating_sub(1) + 1;
    if size < reach { 0 } else { (size - reach) / stride + 1 }
}

/// A convolution's weight, prepared for its geometry.
#[derive(Clone, Debug)]
pub struct ConvWeight(Form);

#[derive(Clone, Debug)]
enum Form {
    /// One packed weight per group.
    Groups(Vec<PackedWeight>),
    /// `[out_c, kh·kw]`, one input channel per group.
    Depthwise(Vec<f32>),
}

impl ConvWeight {
    /// Packs a row-major `[out_c, in_c/groups, kh, kw]` weight.
    pub fn pack(w: &[f32], geometry: &Geometry) -> Self {
        geometry.check();
        let (k, rows) = (geometry.k(), geometry.out_c / geometry.groups);
        assert_eq!(w.len(), geometry.out_c * k, "weight of {geometry:?}");
        if geometry.groups > 1 && geometry.groups == geometry.in_c {
            return Self(Form::Depthwise(w.to_vec()));
        }
        let pack = |g| PackedWeight::pack(&w[g * rows * k..(g + 1) * rows * k], rows, k);
        Self(Form::Groups((0..geometry.groups).map(pack).collect()))
    }

    /// The memory that the packed weight takes.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Form::Groups(groups) => groups.iter().map(PackedWeight::bytes).sum(),
            Form::Depthwise(w) => size_of_val(w.as_slice()),
        }
    }
}

/// `out[out_c, out_h, out_w] = act(conv(fq(x)[in_c, h, w], W) + bias)`.
///
/// `a` quantizes the input values, not the padding; its per-`k` form has one entry per input channel.
pub fn conv2d(
    x: &[f32],
    geometry: &Geometry,
    w: &ConvWeight,
    a: AQuant,
    bias: Option<&[f32]>,
    act: Activation,
    out: &mut [f32],
) {
    geometry.check();
    assert_eq!(x.len(), geometry.in_c * geometry.h * geometry.w, "input of {geometry:?}");
    assert_eq!(out.len(), geometry.out_c * geometry.out_h() * geometry.out_w(), "output of {geometry:?}");
    assert!(bias.is_none_or(|b| b.len() == geometry.out_c), "bias of {geometry:?}");
    if out.is_empty() {
        return;
    }
    unfold::with_padded(x, geometry, a, |padded| match &w.0 {
        Form::Depthwise(w) => depthwise::run(padded, geometry, w, bias, act, out),
        Form::Groups(groups) => {
            let channels = geometry.in_c / geometry.groups;
            let rows = geometry.out_c / geometry.groups;
            let plane = geometry.padded_h() * geometry.padded_w();
            let positions = geometry.out_h() * geometry.out_w();
            for (g, w) in groups.iter().enumerate() {
                assert_eq!((w.n_out(), w.k()), (rows, geometry.k()), "weight of {geometry:?}");
                let part = &mut out[g * rows * positions..][..rows * positions];
                let input = &padded[g * channels * plane..][..channels * plane];
                let bias = bias.map(|b| &b[g * rows..][..rows]);
                unfold::run(input, geometry, w, bias, act, part);
            }
        }
    });
}

#[cfg(test)]
mod tests;
