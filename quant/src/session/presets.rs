//! Plans to start from.

use std::sync::Arc;

use super::Session;
use crate::method::{self, MethodBits};
use crate::plan::Plan;
use crate::terms::Bits;

impl Session {
    /// Names of the methods of [`Session::method_plan`].
    pub fn methods() -> impl Iterator<Item = &'static str> {
        method::METHODS.iter().map(|method| method.name())
    }

    /// An unfitted plan of a method; `None` if there is no such method.
    pub fn method_plan(&self, name: &str, bits: &MethodBits) -> Option<Plan> {
        Some(method::plan(method::method(name)?, &self.model.graph, self.model_ref(), bits))
    }

    /// A plan that leaves everything in full precision.
    pub fn float_plan(&self) -> Plan {
        Plan::uniform_over(self.model_ref(), self.site_ids(), None, None)
    }

    /// Ready-made plans with their names.
    pub(super) fn presets(&self) -> Vec<(String, Arc<Plan>)> {
        let mut presets = vec![("full precision".to_owned(), Arc::new(self.float_plan()))];
        for (w, a) in [(8, 8), (6, 6), (4, 8), (4, 4)] {
            let (Ok(weights), Ok(activations)) = (Bits::new(w), Bits::new(a)) else { continue };
            for name in Self::methods() {
                let plan = self.method_plan(name, &MethodBits::new(weights, activations));
                presets.extend(plan.map(|plan| (format!("W{w}A{a} {name}"), Arc::new(plan))));
            }
        }
        presets
    }
}
