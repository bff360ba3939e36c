//! Functions of single values that no layer is fused with. They come with imported graphs, where most of them work on a
//! few numbers.

use super::dispatch::multiversion;
use super::{math, parallel};

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `-x`
    Neg,
    /// `|x|`
    Abs,
    /// -1, 0 or 1.
    Sign,
    /// `e^x`
    Exp,
    /// The natural logarithm.
    Log,
    /// `√x`
    Sqrt,
    /// `1 / x`
    Reciprocal,
    /// The sine of an angle in radians.
    Sin,
    /// The cosine of an angle in radians.
    Cos,
    /// The error function.
    Erf,
    /// `ln(1 + e^x)`
    Softplus,
    /// The largest whole number up to `x`.
    Floor,
    /// The smallest whole number from `x` on.
    Ceil,
    /// The nearest whole number, half to even.
    Round,
    /// The whole number between 0 and `x` nearest to `x`.
    Truncate,
    /// 1 where `x` is 0, else 0.
    Not,
    /// `clamp(x / 6 + 1/2, 0, 1)`
    HardSigmoid,
    /// `x · clamp(x / 6 + 1/2, 0, 1)`
    HardSwish,
}

impl Function {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Neg => "Neg",
            Self::Abs => "Abs",
            Self::Sign => "Sign",
            Self::Exp => "Exp",
            Self::Log => "Log",
            Self::Sqrt => "Sqrt",
            Self::Reciprocal => "Reciprocal",
            Self::Sin => "Sin",
            Self::Cos => "Cos",
            Self::Erf => "Erf",
            Self::Softplus => "Softplus",
            Self::Floor => "Floor",
            Self::Ceil => "Ceil",
            Self::Round => "Round",
            Self::Truncate => "Truncate",
            Self::Not => "Not",
            Self::HardSigmoid => "HardSigmoid",
            Self::HardSwish => "HardSwish",
        }
    }

    /// The function of one value. What the kernels of layers do not have is taken from `libm`, whose digits do not
    /// depend on the system.
    #[inline(always)]
    pub fn of(self, x: f32) -> f32 {
        match self {
            Self::Neg => -x,
            Self::Abs => x.abs(),
            Self::Sign => {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    x
                }
            }
            Self::Exp => math::exp(x),
            Self::Log => libm::logf(x),
            Self::Sqrt => x.sqrt(),
            Self::Reciprocal => 1.0 / x,
            Self::Sin => libm::sinf(x),
            Self::Cos => libm::cosf(x),
            Self::Erf => math::erf(x),
            Self::Softplus => x.max(0.0) + libm::log1pf(math::exp(-x.abs())),
            Self::Floor => libm::floorf(x),
            Self::Ceil => libm::ceilf(x),
            Self::Round => libm::rintf(x),
            Self::Truncate => libm::truncf(x),
            Self::Not => f32::from(u8::from(x == 0.0)),
            Self::HardSigmoid => hard_sigmoid(x),
            Self::HardSwish => x * hard_sigmoid(x),
        }
    }
}

#[inline(always)]
fn hard_sigmoid(x: f32) -> f32 {
    (x / 6.0 + 0.5).clamp(0.0, 1.0)
}

/// Applies a function to every value in place.
pub fn apply(function: Function, x: &mut [f32]) {
    parallel::for_chunks(x, 8, |_, chunk| serial(function, chunk));
}

multiversion! {
    fn serial(function: Function, x: &mut [f32]) {
        match function {
            // Those that vectorise have loops of their own.
            Function::Exp => x.iter_mut().for_each(|v| *v = math::exp(*v)),
            Function::Erf => x.iter_mut().for_each(|v| *v = math::erf(*v)),
            Function::Sqrt => x.iter_mut().for_each(|v| *v = v.sqrt()),
            Function::HardSwish => x.iter_mut().for_each(|v| *v *= hard_sigmoid(*v)),
            _ => x.iter_mut().for_each(|v| *v = function.of(*v)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_same_everywhere, ramp};
    use super::*;

    const ALL: [Function; 18] = [
        Function::Neg,
        Function::Abs,
        Function::Sign,
        Function::Exp,
        Function::Log,
        Function::Sqrt,
        Function::Reciprocal,
        Function::Sin,
        Function::Cos,
        Function::Erf,
        Function::Softplus,
        Function::Floor,
        Function::Ceil,
        Function::Round,
        Function::Truncate,
        Function::Not,
        Function::HardSigmoid,
        Function::HardSwish,
    ];

    #[test]
    fn values_are_those_of_wider_arithmetic() {
        for x in ramp(400, -4.0, 4.0) {
            let wide = f64::from(x);
            let cases = [
                (Function::Exp, wide.exp()),
                (Function::Sin, wide.sin()),
                (Function::Cos, wide.cos()),
                (Function::Log, wide.ln()),
                (Function::Softplus, wide.exp().ln_1p()),
                (Function::Round, wide.round_ties_even()),
                (Function::Floor, wide.floor()),
                (Function::Ceil, wide.ceil()),
                (Function::Truncate, wide.trunc()),
                (Function::HardSwish, wide * (wide / 6.0 + 0.5).clamp(0.0, 1.0)),
            ];
            for (function, expected) in cases {
                let got = f64::from(function.of(x));
                let same = got.is_nan() && expected.is_nan();
                assert!(same || (got - expected).abs() <= 4e-7 * expected.abs().max(1.0), "{function:?} {x}");
            }
        }
        assert_eq!(Function::Round.of(2.5), 2.0);
        assert_eq!((Function::Not.of(0.0), Function::Not.of(2.0), Function::Sign.of(-3.0)), (1.0, 0.0, -1.0));
    }

    #[test]
    fn same_bits_everywhere() {
        for function in ALL {
            assert_same_everywhere(|| {
                let mut x = ramp(70_000, 0.01, 9.0);
                apply(function, &mut x);
                x
            });
            assert!(!function.name().is_empty());
        }
    }
}
