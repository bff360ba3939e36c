//! Published recipes that make a whole plan for any model.
//!
//! A method looks at the role of a site and the layers around it, never at names, and says which quantizer it gets;
//! it may ask for rewrites. The plan has no numbers yet: fitting it gives them, from sketches or from the calibration
//! samples themselves ([`Protocol`]).

mod adalog;
mod ahcptq;
mod detptq;
mod exceptions;
mod fq_vit;
mod place;
mod plain;
mod ptq4ris;
mod ptq4sam;
mod ptq4vit;
mod repq_vit;
mod saq_sam;

pub use detptq::EXPONENTS;
pub use exceptions::{Exceptions, PaperBits, PaperLayers, exceptions};
pub use place::Place;

use crate::graph::{Graph, RewriteKind};
use crate::plan::{ModelRef, Plan, Rewrite, SitePlan};
use crate::quantizer::Scheme;
use crate::terms::{Bits, Role, Slot};

/// A published recipe.
pub trait Method: Sync {
    /// The word on the command line and in plans.
    fn name(&self) -> &'static str;

    /// Authors, year, and what of the paper is left out.
    fn source(&self) -> &'static str;

    /// Which roles are treated how, one line each.
    fn treatment(&self) -> &'static [(&'static str, &'static str)];

    /// What a site gets at `bits`, weights' or activations'; `None`: it stays in full precision.
    fn site(&self, place: &Place<'_>, bits: Bits) -> Option<(Scheme, Bits)>;

    /// Rewrites that are applied wherever they fit.
    fn rewrites(&self) -> &'static [RewriteKind] {
        &[]
    }

    /// How the paper calibrates.
    fn protocol(&self) -> Protocol {
        Protocol::Parallel
    }
}

/// What a site is fitted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Activations of the full-precision model.
    Parallel,
    /// Activations of the model whose earlier sites are quantized already.
    Sequential,
    /// Exponents of errors are chosen by the loss of the model's results.
    OutputLoss,
}

/// Bits of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodBits {
    /// Of weights.
    pub weights: Bits,
    /// Of activations.
    pub activations: Bits,
    /// Of weight and input of the patch embedding (the layer that reads the picture); none: as the paper does.
    pub patch_embedding: Option<Bits>,
    /// Of weight and input of the last layers; none: as the paper does.
    pub last: Option<Bits>,
    /// Of attention probabilities; none: as the paper does.
    pub softmax: Option<Bits>,
}

impl MethodBits {
    /// The same everywhere the paper makes no exception.
    pub const fn new(weights: Bits, activations: Bits) -> Self {
        Self { weights, activations, patch_embedding: None, last: None, softmax: None }
    }
}

/// All methods.
pub const METHODS: &[&dyn Method] = &[
    &plain::MIN_MAX,
    &plain::PERCENTILE,
    &plain::MSE,
    &plain::KL,
    &ptq4vit::Ptq4Vit,
    &fq_vit::FqVit,
    &repq_vit::RepqVit,
    &ptq4sam::Ptq4Sam,
    &ptq4ris::Ptq4Ris,
    &adalog::AdaLog,
    &detptq::DetPtq,
    &ahcptq::Ahcptq,
    &saq_sam::SaqSam,
];

/// The method of a name.
pub fn method(name: &str) -> Option<&'static dyn Method> {
    METHODS.iter().copied().find(|method| method.name() == name)
}

/// The plan of a method, without numbers.
pub fn plan(method: &dyn Method, graph: &Graph, model: ModelRef, bits: &MethodBits) -> Plan {
    let mut plan = Plan::new(model);
    method.name().clone_into(&mut plan.method);
    let places = Place::all(graph);
    for place in &places {
        let said = if place.site.id.slot == Slot::Weight { bits.weights } else { bits.activations };
        let chosen = if said.is_float() { None } else { method.site(place, said) };
        let forced = place.forced(*bits);
        let to = match (chosen, forced) {
            (_, Some(forced)) if forced.is_float() => SitePlan::Float,
            (Some((scheme, _)), Some(forced)) => SitePlan::unfitted(scheme, forced),
            // The paper leaves it alone; asked for all the same, it gets what is plain.
            (None, Some(forced)) if !said.is_float() => SitePlan::unfitted(plain::scheme(place), forced),
            (Some((scheme, bits)), None) => SitePlan::unfitted(scheme, bits),
            (None, _) => SitePlan::Float,
        };
        plan.set(&place.site.id, Some(to));
    }
    for &kind in method.rewrites() {
        plan.rewrites.extend(graph.rewritable(kind).into_iter().map(|node| Rewrite {
            rewrite: kind.as_str().to_owned(),
            layer: graph.node(node).name.clone(),
            vectors: std::collections::BTreeMap::new(),
        }));
    }
    plan
}

impl Place<'_> {
    /// Bits that were asked for in the place of the paper's.
    fn forced(&self, bits: MethodBits) -> Option<Bits> {
        let of_softmax = bits.softmax.filter(|_| self.site.role == Role::PostSoftmax);
        let of_patches = bits.patch_embedding.filter(|_| self.patch_embedding);
        let of_last = bits.last.filter(|_| self.last);
        of_softmax.or(of_patches).or(of_last)
    }
}

#[cfg(test)]
mod tests;
