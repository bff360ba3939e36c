//! The operations a node can be, and the shapes they make.

use std::sync::Arc;

use super::ParamId;
use crate::exec::kernels::activation::Activation;
use crate::terms::Slot;

/// Geometry of a convolution over `[1, C, W]` or `[1, C, H, W]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv {
    /// Step along each spatial axis.
    pub stride: usize,
    /// Zeros around each spatial axis.
    pub padding: usize,
    /// Channel groups.
    pub groups: usize,
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
    /// Bilinear resize of `[1, C, H, W]` to the node's shape, as PyTorch's `interpolate`.
    Resize {
        /// Whether the corner pixels' centres are kept.
        align_corners: bool,
    },
}

impl Op {
    /// Name for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Input => "Input",
            Self::Constant(_) => "Constant",
            Self::Linear { .. } => "Linear",
            Self::Conv { .. } => "Conv",
            Self::MatMul { .. } => "MatMul",
            Self::LayerNorm { .. } => "LayerNorm",
            Self::InstanceNorm { .. } => "InstanceNorm",
            Self::BatchNorm { .. } => "BatchNorm",
            Self::Activation(_) => "Activation",
            Self::Softmax => "Softmax",
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
            Self::Resize { .. } => "Resize",
        }
    }

    /// The weight tensors that the op reads.
    pub fn params(&self) -> Vec<ParamId> {
        match self {
            Self::Linear { weight, bias } | Self::Conv { weight, bias, .. } => {
                std::iter::once(*weight).chain(*bias).collect()
            }
            Self::LayerNorm { gamma, beta, .. } => vec![*gamma, *beta],
            Self::BatchNorm { gamma, beta, mean, variance, .. } => vec![*gamma, *beta, *mean, *variance],
            Self::Embedding { table } => vec![*table],
            _ => Vec::new(),
        }
    }

    /// The sites of a layer; none for a node that does not multiply.
    pub(crate) fn slots(&self) -> Option<&'static [Slot]> {
        match self {
            Self::Linear { .. } | Self::Conv { .. } => Some(&[Slot::Input, Slot::Weight]),
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
                | Self::Resize { .. }
        )
    }
}
