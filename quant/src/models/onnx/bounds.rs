//! Between which numbers the values of a step lie, as far as its operator says it: interval arithmetic over the steps
//! of a flow. It tells a product of softmax and nothing negative from a convolution whose ReLU a quantizer took away.

use super::flow::{Binary, Flow, Function, Id, Op, PoolKind, Reduce, Unary};
use super::op::{Interpolation, is_comparison};
use super::tensor::{Data, Dtype};
use crate::exec::kernels::activation::Activation;

/// Larger tables are not looked through.
const MAX_VALUES: usize = 1 << 16;
/// The least value of `x · (1 + erf(x / √2))` and of its form with tanh, rounded down.
const GATED: f32 = 0.341;
/// The least value of `x · sigmoid(x)`, rounded down.
const SILU: f32 = 0.279;

/// The least and the largest value there can be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub(super) low: f32,
    pub(super) high: f32,
}

const ANY: Bounds = Bounds { low: f32::NEG_INFINITY, high: f32::INFINITY };
const SHARE: Bounds = Bounds { low: 0.0, high: 1.0 };

impl Bounds {
    /// Of bounds where one may be the product of zero and infinity: nothing is known then.
    fn new(low: f32, high: f32) -> Self {
        let (low, high) = if low <= high { (low, high) } else { (ANY.low, ANY.high) };
        Self { low, high }
    }

    fn from(low: f32) -> Self {
        Self { low, high: f32::INFINITY }
    }

    fn union(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    fn with_zero(self) -> Self {
        self.union(Self { low: 0.0, high: 0.0 })
    }

    /// An increasing function of both ends.
    fn map(self, function: impl Fn(f32) -> f32) -> Self {
        Self::new(function(self.low), function(self.high))
    }

    fn corners(self, other: Self, function: impl Fn(f32, f32) -> f32) -> Self {
        let all = [
            function(self.low, other.low),
            function(self.low, other.high),
            function(self.high, other.low),
            function(self.high, other.high),
        ];
        if all.iter().any(|x| x.is_nan()) {
            // Zero times infinity: the sign is known where both have one.
            return if self.low >= 0.0 && other.low >= 0.0 { Self::from(0.0) } else { ANY };
        }
        Self::new(
            all.iter().copied().fold(f32::INFINITY, f32::min),
            all.into_iter().fold(f32::NEG_INFINITY, f32::max),
        )
    }
}

impl Flow {
    /// The bounds of a step's values. Those of all steps before it are kept for later calls.
    pub(super) fn bounds(&mut self, id: Id) -> Bounds {
        while self.bounds.len() <= id.0 {
            let next = of(self, Id(self.bounds.len()));
            self.bounds.push(next);
        }
        self.bounds[id.0]
    }
}

/// The bounds of a step all of whose operands have theirs.
#[allow(clippy::match_same_arms, reason = "what is alike in kind stands together")]
fn of(flow: &Flow, id: Id) -> Bounds {
    let step = flow.step(id);
    let operand =
        |i: usize| step.inputs.get(i).and_then(|operand| flow.bounds.get(operand.0)).copied().unwrap_or(ANY);
    let x = operand(0);
    match &step.op {
        Op::Input => match step.dtype {
            Dtype::Bool => SHARE,
            // Which tokens or pixels count is said with 0 and 1.
            Dtype::Int { .. } if step.name.contains("mask") => SHARE,
            Dtype::Int { signed: false, .. } => Bounds::from(0.0),
            _ => ANY,
        },
        Op::Constant(data) => constant(data),
        Op::Unary(function) => unary(*function, x),
        Op::Binary(kind) => binary(flow, id, *kind, x, operand(1)),
        Op::Softmax => SHARE,
        Op::Cast(Dtype::Bool) => SHARE,
        Op::Cast(Dtype::Int { .. }) => x.with_zero(),
        Op::Where => operand(1).union(operand(2)),
        Op::Cast(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Expand(_)
        | Op::Slice { .. }
        | Op::Gather { .. }
        | Op::Embedding => x,
        Op::Concat { .. } => (0..step.inputs.len()).map(operand).reduce(Bounds::union).unwrap_or(ANY),
        Op::Pad(_) => x.with_zero(),
        Op::Pool(PoolKind::Max, _) => x,
        Op::Pool(..) => x.with_zero(),
        Op::Resize(spec) if !matches!(spec.interpolation, Interpolation::Cubic { .. }) => x,
        Op::Reduce { kind: Reduce::Max | Reduce::Min | Reduce::Mean, .. } => x,
        Op::Reduce { kind: Reduce::L1 | Reduce::L2 | Reduce::SumSquares, .. } | Op::ArgMax { .. } => {
            Bounds::from(0.0)
        }
        Op::Reduce { .. } | Op::CumSum { .. } if x.low >= 0.0 => Bounds::from(0.0),
        Op::MatMul { alpha, .. } if *alpha >= 0.0 && x.low >= 0.0 && operand(1).low >= 0.0 => {
            Bounds::from(0.0)
        }
        _ => ANY,
    }
}

fn constant(data: &Data) -> Bounds {
    if data.len() > MAX_VALUES {
        return ANY;
    }
    let none = Bounds { low: f32::INFINITY, high: f32::NEG_INFINITY };
    let all = data.to_floats().iter().fold(none, |all, &x| all.union(Bounds { low: x, high: x }));
    Bounds::new(all.low, all.high)
}

fn unary(function: Unary, x: Bounds) -> Bounds {
    match function {
        Unary::HardSigmoid { .. } | Unary::Activation(Activation::Sigmoid) => SHARE,
        Unary::Activation(Activation::None) => x,
        Unary::Activation(Activation::Relu) => x.map(|x| x.max(0.0)),
        Unary::Activation(Activation::Tanh) => Bounds { low: -1.0, high: 1.0 },
        Unary::Activation(Activation::Gelu | Activation::GeluTanh | Activation::QuickGelu) => {
            Bounds::from(-GATED / 2.0)
        }
        Unary::Activation(Activation::Silu) => Bounds::from(-SILU),
        Unary::Function(function) => match function {
            Function::Neg => Bounds::new(-x.high, -x.low),
            Function::Abs if x.low < 0.0 => Bounds::from(0.0),
            Function::Abs => x,
            Function::Sign | Function::Sin | Function::Cos | Function::Erf => Bounds { low: -1.0, high: 1.0 },
            Function::Exp | Function::Sqrt | Function::Softplus => Bounds::from(0.0),
            Function::Reciprocal if x.low >= 0.0 => Bounds::from(0.0),
            Function::Floor => x.map(f32::floor),
            Function::Ceil => x.map(f32::ceil),
            Function::Round => x.map(f32::round_ties_even),
            Function::Truncate => x.map(f32::trunc),
            Function::Not | Function::HardSigmoid => SHARE,
            Function::HardSwish => Bounds::from(-0.375),
            Function::Log | Function::Reciprocal => ANY,
        },
    }
}

fn binary(flow: &Flow, id: Id, kind: Binary, x: Bounds, y: Bounds) -> Bounds {
    if is_comparison(kind) {
        return SHARE;
    }
    let &[a, b] = flow.step(id).inputs.as_slice() else { return ANY };
    match kind {
        Binary::Add => Bounds::new(x.low + y.low, x.high + y.high),
        Binary::Sub => Bounds::new(x.low - y.high, x.high - y.low),
        Binary::Mul if a == b => Bounds::from(0.0),
        Binary::Mul => {
            let gated = gated(flow, a, b).or_else(|| gated(flow, b, a));
            gated.unwrap_or_else(|| x.corners(y, |x, y| x * y))
        }
        Binary::Div if y.low > 0.0 => x.corners(y, |x, y| x / y),
        Binary::Div if x.low >= 0.0 && y.low >= 0.0 => Bounds::from(0.0),
        Binary::Min => Bounds::new(x.low.min(y.low), x.high.min(y.high)),
        Binary::Max => Bounds::new(x.low.max(y.low), x.high.max(y.high)),
        Binary::Pow if x.low >= 0.0 => Bounds::from(0.0),
        Binary::Pow if flow.scalar(b).is_some_and(|power| power % 2.0 == 0.0) => Bounds::from(0.0),
        Binary::Mod if y.low > 0.0 => Bounds::new(0.0, y.high),
        _ => ANY,
    }
}

/// The least value of a product of a value and its own gate, as GELU and SiLU are taken apart: `f · x` times
/// `1 + erf(…)`, `1 + tanh(…)` or `sigmoid(c · x)`.
fn gated(flow: &Flow, value: Id, gate: Id) -> Option<Bounds> {
    let (root, factor) = multiple(flow, value);
    let step = flow.step(gate);
    let least = match (&step.op, step.inputs.as_slice()) {
        (Op::Unary(Unary::Activation(Activation::Sigmoid)), &[argument]) => {
            let (from, scale) = multiple(flow, argument);
            (from == root && scale > 0.0).then_some(SILU / scale)
        }
        (Op::Binary(Binary::Add), &[x, y]) => {
            let bent = if flow.scalar(y) == Some(1.0) { x } else { y };
            let one = flow.scalar(x).or(flow.scalar(y)) == Some(1.0);
            let bend = matches!(
                flow.step(bent).op,
                Op::Unary(Unary::Function(Function::Erf) | Unary::Activation(Activation::Tanh))
            );
            (one && bend && comes_from(flow, bent, root)).then_some(GATED)
        }
        _ => None,
    }?;
    (factor > 0.0).then(|| Bounds::from(-least * factor))
}

/// A value as a number times another.
fn multiple(flow: &Flow, mut id: Id) -> (Id, f32) {
    let mut factor = 1.0;
    for _ in 0..4 {
        let step = flow.step(id);
        let (x, number) = match (&step.op, step.inputs.as_slice()) {
            (Op::Binary(Binary::Mul), &[x, y]) => match (flow.scalar(x), flow.scalar(y)) {
                (_, Some(number)) => (x, number),
                (Some(number), _) => (y, number),
                _ => break,
            },
            (Op::Binary(Binary::Div), &[x, y]) => match flow.scalar(y) {
                Some(number) => (x, 1.0 / number),
                None => break,
            },
            _ => break,
        };
        (id, factor) = (x, factor * number);
    }
    (id, factor)
}

/// Whether a value is computed from `root` alone, in a few steps.
fn comes_from(flow: &Flow, id: Id, root: Id) -> bool {
    let mut open = vec![id];
    for _ in 0..16 {
        let Some(id) = open.pop() else { return true };
        if id == root || flow.data(id).is_some() {
            continue;
        }
        let step = flow.step(id);
        if !matches!(step.op, Op::Unary(_) | Op::Binary(_)) {
            return false;
        }
        open.extend(&step.inputs);
    }
    open.is_empty()
}
