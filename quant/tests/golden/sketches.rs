//! Fits from the sketch of a golden input against the fit on its values: errors within 2 %.

use crate::ledger::{Section, Tolerance};
use bitloupe_quant::quantizer::{Distribution, Family, Params, RangeSearch, Scheme, quantizer};
use bitloupe_quant::stats::Sketch;
use bitloupe_quant::terms::{Bits, Layout};

/// How much more error a fit from a sketch may have.
const SLACK: f64 = 0.02;

/// What a tensor holds, and with it which quantizers are for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Attention probabilities.
    Probabilities,
    /// Values after GELU.
    Gelu,
    /// The input of a linear layer, channels last.
    Input,
    /// Queries, keys, values, feature maps.
    Other,
}

fn schemes(holds: Holds) -> Vec<Scheme> {
    let uniform = |range| Scheme::new(Family::Uniform, range);
    let mut schemes: Vec<Scheme> = [
        RangeSearch::MinMax,
        RangeSearch::repq(),
        RangeSearch::Mse { p: 2.0 },
        RangeSearch::Mse { p: 2.4 },
        RangeSearch::Omse,
    ]
    .map(uniform)
    .into();
    schemes.push(uniform(RangeSearch::MinMax).symmetric());
    schemes.push(uniform(RangeSearch::Mse { p: 2.0 }).symmetric());
    let own: &[Family] = match holds {
        Holds::Probabilities => &[
            Family::Log2,
            Family::LogSqrt2,
            Family::Agq,
            Family::Adalog,
            Family::DrqSoftmax,
            Family::Lnq,
            Family::LogIntSoftmax,
        ],
        Holds::Gelu => &[Family::DrqGelu, Family::Adalog, Family::Hluq],
        Holds::Input => &[Family::ChannelGroups, Family::Ptf, Family::Rorq],
        Holds::Other => &[Family::Rorq],
    };
    schemes.extend(own.iter().map(|&family| Scheme::published(family)));
    if holds == Holds::Input {
        schemes.push(uniform(RangeSearch::MinMax).per_channel());
    }
    schemes
}

/// The sum of squared errors of parameters.
fn error(values: &[f32], layout: Layout, params: &Params) -> f64 {
    let mut out = values.to_vec();
    quantizer(params.scheme.family).fake_quantize(&mut out, layout, params);
    values.iter().zip(&out).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// All quantizers for each of the named tensors at 4, 6 and 8 bits.
pub fn check(golden: &mut Section, tensors: &[(&str, Holds)]) {
    for &(name, holds) in tensors {
        let tensor = golden.tensor(name);
        let values = &tensor.values;
        let layout = match holds {
            Holds::Input => Layout::axis(&tensor.shape, -1).unwrap(),
            _ => Layout::tensor(values.len()),
        };
        let mut sketch = Sketch::sampling(layout.channels);
        sketch.observe(values, layout).unwrap();
        for scheme in schemes(holds) {
            for bits in [4, 6, 8] {
                let fit = |data: &Distribution<'_>| {
                    quantizer(scheme.family).fit(data, &scheme, Bits::new(bits).unwrap()).unwrap()
                };
                let least = error(values, layout, &fit(&Distribution::Raw { values, layout }));
                let found = error(values, layout, &fit(&Distribution::Sketch(&sketch)));
                let ratio = if found <= least { 1.0 } else { found / least };
                let what = format!("{name}: {scheme} at {bits} bits from a sketch");
                golden.compare_with(&what, &[ratio as f32], &[1.0], Tolerance::Relative(SLACK));
            }
        }
    }
}
