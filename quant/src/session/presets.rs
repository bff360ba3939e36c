//! Plans to start from, and the choices that fit a site.

use std::sync::Arc;

use super::Session;
use crate::plan::Plan;
use crate::quantizer::{Family, RangeSearch, Scheme};
use crate::terms::Bits;

/// The plain methods: one range search for all activations; weights are symmetric per output channel, min–max except
/// where the method is about weights too.
const METHODS: [(&str, &str); 4] =
    [("minmax", "min–max"), ("percentile", "percentile"), ("mse", "MSE"), ("kl", "KL")];

impl Session {
    /// Names of the methods of [`Session::method_plan`].
    pub fn methods() -> impl Iterator<Item = &'static str> {
        METHODS.iter().map(|(name, _)| *name)
    }

    /// An unfitted plan with one method for every site.
    pub fn method_plan(&self, method: &str, weights: Bits, activations: Bits) -> Option<Plan> {
        let range = match method {
            "minmax" => RangeSearch::MinMax,
            "percentile" => RangeSearch::repq(),
            "mse" => RangeSearch::Mse { p: 2.0 },
            "kl" => RangeSearch::Kl,
            _ => return None,
        };
        let weight_range = if method == "mse" { RangeSearch::Mse { p: 2.0 } } else { RangeSearch::MinMax };
        let weight = Scheme::new(Family::Uniform, weight_range).symmetric().per_channel();
        let activation = Scheme::new(Family::Uniform, range);
        let mut plan = Plan::uniform_over(
            self.model_ref(),
            self.site_ids(),
            (!weights.is_float()).then_some((weight, weights)),
            (!activations.is_float()).then_some((activation, activations)),
        );
        method.clone_into(&mut plan.method);
        Some(plan)
    }

    /// A plan that leaves everything in full precision.
    pub fn float_plan(&self) -> Plan {
        Plan::uniform_over(self.model_ref(), self.site_ids(), None, None)
    }

    /// Ready-made plans with their names.
    pub(super) fn presets(&self) -> Vec<(String, Arc<Plan>)> {
        let mut presets = vec![("full precision".to_owned(), Arc::new(self.float_plan()))];
        for (w, a) in [(8, 8), (6, 6), (4, 8), (4, 4)] {
            for (method, shown) in &METHODS[..2] {
                let (Ok(weights), Ok(activations)) = (Bits::new(w), Bits::new(a)) else { continue };
                let plan = self.method_plan(method, weights, activations);
                presets.extend(plan.map(|plan| (format!("W{w}A{a} {shown}"), Arc::new(plan))));
            }
        }
        presets
    }
}

/// What a weight can be given.
pub(super) fn weight_schemes() -> Vec<Scheme> {
    let uniform = |range| Scheme::new(Family::Uniform, range);
    vec![
        uniform(RangeSearch::MinMax).symmetric().per_channel(),
        uniform(RangeSearch::Mse { p: 2.0 }).symmetric().per_channel(),
        uniform(RangeSearch::MinMax).per_channel(),
        uniform(RangeSearch::repq()).per_channel(),
        uniform(RangeSearch::MinMax).symmetric(),
        uniform(RangeSearch::Mse { p: 2.0 }).symmetric(),
    ]
}

/// What an activation can be given; grids of powers only fit values that are not negative.
pub(super) fn activation_schemes(non_negative: bool) -> Vec<Scheme> {
    let uniform = |range| Scheme::new(Family::Uniform, range);
    let mut schemes = vec![
        uniform(RangeSearch::MinMax),
        uniform(RangeSearch::repq()),
        uniform(RangeSearch::Mse { p: 2.0 }),
        uniform(RangeSearch::Kl),
        uniform(RangeSearch::MinMax).symmetric(),
        uniform(RangeSearch::MinMax).per_channel(),
    ];
    if non_negative {
        schemes.push(Scheme::new(Family::Log2, RangeSearch::MinMax));
        schemes.push(Scheme::new(Family::LogSqrt2, RangeSearch::repq()));
    }
    schemes
}
