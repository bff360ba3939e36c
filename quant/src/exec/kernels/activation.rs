//! Activation functions.

use super::dispatch::multiversion;
use super::{math, parallel};

/// The activations that models of this field use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// The identity.
    #[default]
    None,
    /// `max(x, 0)`; NaN stays NaN.
    Relu,
    /// `x/2 · (1 + erf(x/√2))`, the exact form.
    Gelu,
    /// `x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
    GeluTanh,
    /// `x · sigmoid(1.702·x)`, of CLIP.
    QuickGelu,
    /// The hyperbolic tangent.
    Tanh,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `x · sigmoid(x)`.
    Silu,
}

/// Applies `act` to every value in place, over the current rayon pool.
pub fn apply(act: Activation, x: &mut [f32]) {
    if act != Activation::None {
        parallel::for_chunks(x, 4, |_, chunk| apply_serial(act, chunk));
    }
}

/// Applies `act` in place on this thread.
pub(crate) fn apply_serial(act: Activation, x: &mut [f32]) {
    match act {
        Activation::None => {}
        Activation::Relu => relu(x),
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => gelu_tanh(x),
        Activation::QuickGelu => quick_gelu(x),
        Activation::Tanh => tanh(x),
        Activation::Sigmoid => sigmoid(x),
        Activation::Silu => silu(x),
    }
}

multiversion! {
    fn relu(x: &mut [f32]) {
        for v in x {
            *v = if *v < 0.0 { 0.0 } else { *v };
        }
    }

    fn gelu(x: &mut [f32]) {
        for v in x {
            let half = 0.5 * *v;
            *v = half.mul_add(math::erf(*v * std::f32::consts::FRAC_1_SQRT_2), half);
        }
    }

    fn gelu_tanh(x: &mut [f32]) {
        // x/2 · (1 + tanh u) = x · sigmoid(2u), which does not cancel for negative x.
        for v in x {
            let cubic = (0.044_715 * *v * *v).mul_add(*v, *v);
            *v *= math::sigmoid(1.595_769 * cubic);
        }
    }

    fn quick_gelu(x: &mut [f32]) {
        for v in x {
            *v *= math::sigmoid(1.702 * *v);
        }
    }

    fn tanh(x: &mut [f32]) {
        for v in x {
            *v = math::tanh(*v);
        }
    }

    fn sigmoid(x: &mut [f32]) {
        for v in x {
            *v = math::sigmoid(*v);
        }
    }

    fn silu(x: &mut [f32]) {
        for v in x {
            *v *= math::sigmoid(*v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_same_everywhere, ramp};
    use super::*;
    use candle_core::{Device, Tensor};

    const ALL: [Activation; 8] = [
        Activation::None,
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Silu,
    ];

    fn reference(act: Activation, x: &Tensor) -> candle_core::Result<Tensor> {
        let sigmoid = |t: &Tensor| (t.neg()?.exp()? + 1.0)?.recip();
        match act {
            Activation::None => Ok(x.clone()),
            Activation::Relu => x.relu(),
            Activation::Gelu => x.gelu_erf(),
            Activation::GeluTanh => x.gelu(),
            Activation::QuickGelu => x * sigmoid(&(x * 1.702)?)?,
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => sigmoid(x),
            Activation::Silu => x * sigmoid(x)?,
        }
    }

    #[test]
    fn agrees_with_f64() {
        let x = ramp(40_001, -10.0, 10.0);
        let wide: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let wide = Tensor::from_vec(wide, x.len(), &Device::Cpu).unwrap();
        for act in ALL {
            let exact = reference(act, &wide).unwrap().to_vec1::<f64>().unwrap();
            let mut got = x.clone();
            apply(act, &mut got);
            for ((&x, &got), exact) in x.iter().zip(&got).zip(exact) {
                let bound = 3e-7 * f64::from(x.abs().max(1.0));
                assert!((f64::from(got) - exact).abs() <= bound, "{act:?}({x}) = {got}, not {exact}");
            }
        }
    }

    #[test]
    fn special_values_pass_through() {
        for act in ALL {
            let mut x = [f32::NAN, f32::INFINITY, 0.0, -0.0, f32::MIN_POSITIVE, -1e38];
            apply(act, &mut x);
            assert!(x[0].is_nan(), "{act:?}");
            apply(act, &mut []);
        }
    }

    #[test]
    fn same_bits_everywhere() {
        for act in ALL {
            assert_same_everywhere(|| {
                let mut x = ramp(200_003, -8.0, 8.0);
                apply(act, &mut x);
                x
            });
        }
    }
}
