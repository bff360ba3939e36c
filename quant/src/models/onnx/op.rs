//! What a step of a [`Flow`](super::flow::Flow) can be.

use super::tensor::{Data, Dtype};
use crate::exec::kernels::activation::Activation;
pub(super) use crate::exec::kernels::elementwise::BinaryOp as Binary;
pub(super) use crate::exec::kernels::function::Function;
pub(super) use crate::exec::kernels::gather::Reduction as Reduce;
pub(super) use crate::exec::kernels::pool::PoolKind;

/// A function of each value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Unary {
    /// One that no layer is fused with.
    Function(Function),
    /// `min(1, max(0, alpha · x + beta))`.
    HardSigmoid { alpha: f32, beta: f32 },
    /// One of the activations that layers have.
    Activation(Activation),
}

/// Whether an operation on two values gives truth values.
pub(super) fn is_comparison(kind: Binary) -> bool {
    use Binary::{And, Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Or, Xor};
    matches!(kind, Equal | Less | LessOrEqual | Greater | GreaterOrEqual | And | Or | Xor)
}

/// Steps of a kernel over an image `[1, C, H, W]` or a sequence `[1, C, W]` (then of height 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    /// Top, left, bottom, right.
    pub(super) pads: [usize; 4],
    pub(super) dilation: [usize; 2],
    pub(super) groups: usize,
    /// Rows and columns that a transposed convolution adds.
    pub(super) extra: [usize; 2],
    /// Whether the last pooling window may reach past the end.
    pub(super) ceil: bool,
}

/// How the last two axes are resized.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Interpolation {
    Nearest(Nearest),
    Linear,
    Cubic { a: f32 },
}

/// Which neighbour is the nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nearest {
    Floor,
    Ceil,
    PreferFloor,
    PreferCeil,
}

/// Where an output place lies in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coordinates {
    HalfPixel,
    /// Half pixels, but 0 where the output has one place.
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
}

/// A resize of the last axes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Resize {
    pub(super) to: Vec<usize>,
    /// Output size over input size, as the file says it: it counts where it is not the ratio of the sizes.
    pub(super) scales: Vec<f32>,
    pub(super) interpolation: Interpolation,
    pub(super) coordinates: Coordinates,
    pub(super) exclude_outside: bool,
}

/// What a step computes.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Input,
    Constant(Data),
    Unary(Unary),
    Binary(Binary),
    /// Another type: the values stay, are cut off towards zero, or compared with zero.
    Cast(Dtype),
    /// Second operand where the first is true, third elsewhere.
    Where,
    Reduce {
        kind: Reduce,
        axes: Vec<usize>,
    },
    /// Place of the largest value; the axis keeps length 1.
    ArgMax {
        axis: usize,
    },
    CumSum {
        axis: usize,
        exclusive: bool,
        reverse: bool,
    },
    /// Entries of `axis` of the first operand at the places that the second names.
    Gather {
        axis: usize,
    },
    Reshape(Vec<usize>),
    Permute(Vec<usize>),
    Expand(Vec<usize>),
    Slice {
        axis: usize,
        start: usize,
        len: usize,
    },
    Concat {
        axis: usize,
    },
    /// Zeros around: `(before, after)` by axis.
    Pad(Vec<(usize, usize)>),
    MatMul {
        transpose_rhs: bool,
        alpha: f32,
    },
    /// Operand, weight `[out, in]`, bias or not.
    Linear,
    /// Operand, weight `[out, in / groups, k…]`, bias or not.
    Conv(Window),
    /// Operand, weight `[in, out / groups, k…]`, bias or not.
    ConvTranspose(Window),
    Pool(PoolKind, Window),
    /// Operand, gain, shift; over the last axis.
    LayerNorm {
        eps: f32,
    },
    /// Of each channel of `[1, C, …]` over its positions.
    InstanceNorm {
        eps: f32,
    },
    /// Operand, gain, shift, mean, variance.
    BatchNorm {
        eps: f32,
    },
    /// Over the last axis.
    Softmax,
    /// Rows of the table, which comes first, by number.
    Embedding,
    Resize(Resize),
}
