//! Plans to start from.

use std::sync::Arc;

use super::Session;
use super::messages::{MethodView, RewriteView};
use crate::graph::RewriteKind;
use crate::method::{self, MethodBits};
use crate::plan::{Plan, Rewrite};
use crate::terms::Bits;

/// Methods that are offered as ready-made plans; all others are chosen with their bits.
const PRESETS: [&str; 2] = ["minmax", "percentile"];

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

    /// An unfitted ready-made plan by its name.
    pub fn preset(&self, name: &str) -> Option<Plan> {
        let found = self.presets().into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(Arc::unwrap_or_clone(found.1))
    }

    /// Names of [`Session::preset`].
    pub fn preset_names(&self) -> impl Iterator<Item = String> {
        self.presets().into_iter().map(|(name, _)| name)
    }

    /// Ready-made plans with their names.
    pub(super) fn presets(&self) -> Vec<(String, Arc<Plan>)> {
        let mut presets = vec![("full precision".to_owned(), Arc::new(self.float_plan()))];
        presets.extend(self.carried_plan().map(|plan| (plan.method.clone(), Arc::new(plan))));
        for (w, a) in [(8, 8), (6, 6), (4, 8), (4, 4)] {
            let (Ok(weights), Ok(activations)) = (Bits::new(w), Bits::new(a)) else { continue };
            for name in PRESETS {
                let plan = self.method_plan(name, &MethodBits::new(weights, activations));
                presets.extend(plan.map(|plan| (format!("W{w}A{a} {name}"), Arc::new(plan))));
            }
        }
        presets
    }

    /// The methods, for a list.
    pub(super) fn method_views(&self) -> Vec<MethodView> {
        method::METHODS
            .iter()
            .map(|&m| MethodView {
                name: m.name(),
                source: m.source(),
                treatment: m.treatment(),
                exceptions: method::exceptions(m, &self.model.graph),
            })
            .collect()
    }

    /// Every place where a rewrite fits.
    pub fn rewrite_views(&self) -> Vec<RewriteView> {
        let graph = &self.model.graph;
        let view = |kind: RewriteKind, node| RewriteView {
            rewrite: Rewrite {
                rewrite: kind.to_string(),
                layer: graph.node(node).name.clone(),
                vectors: std::collections::BTreeMap::new(),
            },
            sites: graph.rewrite_sites(kind, node),
        };
        RewriteKind::ALL
            .iter()
            .flat_map(|&kind| graph.rewritable(kind).into_iter().map(move |node| (kind, node)))
            .map(|(kind, node)| view(kind, node))
            .collect()
    }
}
