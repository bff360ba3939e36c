//! The operations a node can be, and the shapes they make.

use std::sync::Arc;

use super::ParamId;
use crate::exec::kernels::activation::Activation;
use crate::exec::kernels::elementwise::BinaryOp;
use crate::exec::kernels::function::Function;
use crate::exec::kernels::gather::Reduction;
use crate::exec::kernels::pool::Pooling;
use crate::exec::kernels::resize::Sampling;
use crate::terms::Slot;

/// Geometry of a convolution over `[1, C, W]` or `[1, C, H, W]`; one-dimensional ones have only a horizontal part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv {
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Zeros at the top, left, bottom and right.
    pub padding: [usize; 4],
    /// Vertical and horizontal distance of taps.
    pub dilation: [usize; 2],
    /// Channel groups.
    pub groups: usize,
}

impl Conv {
    /// The same stride and padding on all sides, one group.
    pub const fn new(stride: usize, padding: usize) -> Self {
        Self { stride: [stride; 2], padding: [padding; 4], dilation: [1; 2], groups: 1 }
    }

    /// Outputs along spatial axis `axis` (0 vertical, 1 horizontal) for `size` inputs and a kernel of `kernel`; none if
    /// the kernel does not fit.
    pub fn extent(&self, axis: usize, size: usize, kernel: usize) -> Option<usize> {
        let padded = size.checked_add(self.padding[axis])?.checked_add(self.padding[axis + 2])?;
        let reach = self.dilation[axis].checked_mul(kernel.checked_sub(1)?)?.checked_add(1)?;
        Some(padded.checked_sub(reach)?.checked_div(self.stride[axis])? + 1)
    }

    /// Outputs along spatial axis `axis` of a transposed convolution with `more` rows or columns at the end.
    pub fn transposed_extent(&self, axis: usize, size: usize, kernel: usize, more: usize) -> Option<usize> {
        let last = size.checked_sub(1)?.checked_mul(self.stride[axis])?;
        let reach = self.dilation[axis].checked_mul(kernel.checked_sub(1)?)?;
        let full = last.checked_add(reach)?.checked_add(more)?.checked_add(1)?;
        full.checked_sub(self.padding[axis])?.checked_sub(self.padding[axis + 2])
    }
}

/// What a node computes. Shapes are those of one sample.
#[derive(Debug, Clone)]
pub enum Op {
    /// A tensor given by the caller.
    Input,
    /// A tensor known when the graph was built.
    Constant(Arc<Vec<f32>>),
    /// `x · Wᵀ + b` along the last axis; weight `[out, in]`.
    Linear {
        /// `[out, in]`.
        weight: ParamId,
        /// `[out]`.
        bias: Option<ParamId>,
    },
    /// Convolution; weight `[out, in / groups, k…]`.
    Conv {
        /// `[out, in / groups, k…]`.
        weight: ParamId,
        /// `[out]`.
        bias: Option<ParamId>,
        /// Stride, padding, groups.
        geometry: Conv,
    },
    /// Transposed convolution of each map of `[N, C, H, W]`; weight `[in, out, k…]`.
    ConvTranspose {
        /// `[in, out, k…]`.
        weight: ParamId,
        /// `[out]`.
        bias: Option<ParamId>,
        /// Stride, padding (top = bottom, left = right), dilation; one group.
        geometry: Conv,
        /// Rows and columns added at the bottom and the right.
        output_padding: [usize; 2],
    },
    /// Product over the last axes, `alpha · lhs · rhs` or `alpha · lhs · rhsᵀ`; leading axes are equal.
    MatMul {
        /// Whether the right operand is stored `[…, n, k]`.
        transpose_rhs: bool,
        /// Factor of the product.
        alpha: f32,
    },
    /// Normalisation over the last axis with gain and shift.
    LayerNorm {
        /// Gain.
        gamma: ParamId,
        /// Shift.
        beta: ParamId,
        /// Added to the variance.
        eps: f32,
    },
    /// Normalisation of each channel of `[1, C, N]` over its positions, without gain and shift.
    InstanceNorm {
        /// Added to the variance.
        eps: f32,
    },
    /// Normalisation of each channel of `[1, C, …]` with stored mean and variance.
    BatchNorm {
        /// Gain.
        gamma: ParamId,
        /// Shift.
        beta: ParamId,
        /// Stored mean.
        mean: ParamId,
        /// Stored variance.
        variance: ParamId,
        /// Added to the variance.
        eps: f32,
    },
    /// A function of each value.
    Activation(Activation),
    /// Softmax over the last axis.
    Softmax,
    /// A function of each value that no layer is fused with.
    Function(Function),
    /// An operation on two values other than sum and product, with broadcasting.
    Binary(BinaryOp),
    /// The second operand where the first is not 0, else the third, with broadcasting.
    Where,
    /// One number for all values along some axes.
    Reduce {
        /// Which number.
        kind: Reduction,
        /// Along which axes, ascending.
        axes: Vec<usize>,
    },
    /// The first place of the largest value along an axis.
    ArgMax {
        /// Which axis.
        axis: usize,
    },
    /// Sums of the values up to each place of an axis.
    CumSum {
        /// Which axis.
        axis: usize,
        /// Whether the value of the place itself is left out.
        exclusive: bool,
        /// Whether sums start at the end.
        reverse: bool,
    },
    /// Entries of `axis` of the first operand by the numbers in the second (negative ones count from the end).
    Gather {
        /// Which axis.
        axis: usize,
    },
    /// The operand repeated along axes of length 1 (or new leading ones) to the node's shape.
    Expand,
    /// One number per window of `[1, C, H, W]`.
    Pool(Pooling),
    /// Sum, with broadcasting.
    Add,
    /// Product of each pair of values, with broadcasting.
    Mul,
    /// `mul · x + add`.
    Affine {
        /// Factor.
        mul: f32,
        /// Summand.
        add: f32,
    },
    /// The same values in the same order under another shape.
    Reshape,
    /// Axes in another order.
    Permute(Vec<usize>),
    /// Cyclic shift: `(axis, by)`; positive moves towards higher indices.
    Roll(Vec<(usize, isize)>),
    /// Zeros after the end of axes, or the values of `fill` along the last axis.
    Pad {
        /// `(axis, how many)`.
        ends: Vec<(usize, usize)>,
        /// One value per entry of the last axis, which is then not padded itself.
        fill: Option<Arc<Vec<f32>>>,
    },
    /// `len` entries of `axis` from `start`.
    Narrow {
        /// Which axis.
        axis: usize,
        /// First entry.
        start: usize,
        /// Number of entries.
        len: usize,
    },
    /// Operands one after another along `axis`.
    Concat {
        /// Which axis.
        axis: usize,
    },
    /// Rows of a table `[rows, width]` by number.
    Embedding {
        /// `[rows, width]`.
        table: ParamId,
    },
    /// Resize of `[1, C, H, W]` to the node's shape, as PyTorch's `interpolate`.
    Resize(Sampling),
}

impl Op {
    /// Name for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Input => "Input",
            Self::Constant(_) => "Constant",
            Self::Linear { .. } => "Linear",
            Self::Conv { .. } => "Conv",
            Self::ConvTranspose { .. } => "ConvTranspose",
            Self::MatMul { .. } => "MatMul",
            Self::LayerNorm { .. } => "LayerNorm",
            Self::InstanceNorm { .. } => "InstanceNorm",
            Self::BatchNorm { .. } => "BatchNorm",
            Self::Activation(_) => "Activation",
            Self::Softmax => "Softmax",
            Self::Function(function) => function.name(),
            Self::Binary(op) => op.name(),
            Self::Where => "Where",
            Self::Reduce { kind, .. } => kind.name(),
            Self::ArgMax { .. } => "ArgMax",
            Self::CumSum { .. } => "CumSum",
            Self::Gather { .. } => "Gather",
            Self::Expand => "Expand",
            Self::Pool(pooling) => pooling.kind.name(),
            Self::Add => "Add",
            Self::Mul => "Mul",
            Self::Affine { .. } => "Affine",
            Self::Reshape => "Reshape",
            Self::Permute(_) => "Permute",
            Self::Roll(_) => "Roll",
            Self::Pad { .. } => "Pad",
            Self::Narrow { .. } => "Narrow",
            Self::Concat { .. } => "Concat",
            Self::Embedding { .. } => "Embedding",
            Self::Resize(_) => "Resize",
        }
    }

    /// The weight tensors that the op reads.
    pub fn params(&self) -> Vec<ParamId> {
        match self {
            Self::Linear { weight, bias }
            | Self::Conv { weight, bias, .. }
            | Self::ConvTranspose { weight, bias, .. } => std::iter::once(*weight).chain(*bias).collect(),
            Self::LayerNorm { gamma, beta, .. } => vec![*gamma, *beta],
            Self::BatchNorm { gamma, beta, mean, variance, .. } => vec![*gamma, *beta, *mean, *variance],
            Self::Embedding { table } => vec![*table],
            _ => Vec::new(),
        }
    }

    /// The sites of a layer; none for a node that does not multiply.
    pub(crate) fn slots(&self) -> Option<&'static [Slot]> {
        match self {
            Self::Linear { .. } | Self::Conv { .. } | Self::ConvTranspose { .. } => {
                Some(&[Slot::Input, Slot::Weight])
            }
            Self::MatMul { .. } => Some(&[Slot::Lhs, Slot::Rhs]),
            _ => None,
        }
    }

    /// Whether the op only moves or relabels values, so that what they hold stays the same.
    pub(super) fn moves_only(&self) -> bool {
        matches!(
            self,
            Self::Reshape
                | Self::Permute(_)
                | Self::Roll(_)
                | Self::Pad { .. }
                | Self::Narrow { .. }
                | Self::Resize(_)
                | Self::Gather { .. }
                | Self::Expand
        )
    }
}
