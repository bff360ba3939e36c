//! What measurements in the background found.

use std::sync::Arc;

use super::Generation;
use crate::eval::answer::Metric;
use crate::eval::search::Effort;
use crate::eval::sensitivity::By;
use crate::plan::Plan;
use crate::terms::SiteId;

/// What sites cost when only they are quantized.
#[derive(Debug, Clone, PartialEq)]
pub struct SensitivityView {
    /// Of the request.
    pub generation: Generation,
    /// The plan whose choices were measured, with all parameters.
    pub plan: Arc<Plan>,
    /// The figure that `delta` is a change of.
    pub metric: Metric,
    /// The most harmful first; sites that were not run yet are left out.
    pub sites: Vec<SiteEffect>,
    /// Samples that every site was run on.
    pub samples: usize,
    /// Runs of sites with the same quantizers as in an earlier table, which were taken from there.
    pub reused: usize,
    /// Whether that is all.
    pub complete: bool,
}

/// What a search found: from the smallest budget to the largest.
#[derive(Debug, Clone, PartialEq)]
pub struct FrontView {
    /// Of the request.
    pub generation: Generation,
    /// The figure of the points.
    pub metric: Metric,
    /// One plan per budget.
    pub points: Vec<FrontPoint>,
    /// What the search is doing; none when it has ended.
    pub doing: Option<&'static str>,
    /// What was done of what there was to do, when it has ended.
    pub effort: Option<Effort>,
}

/// The best plan for a budget.
#[derive(Debug, Clone, PartialEq)]
pub struct FrontPoint {
    /// The budget, for people.
    pub limit: String,
    /// Where the plan comes from: `search`, or a method with its bits.
    pub origin: String,
    /// Average bits of weights.
    pub weight_bits: f64,
    /// Average bits of activations.
    pub activation_bits: f64,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// The figure with the truth on calibration samples that no choice was made on, if they have one; none for a plan
    /// that was not run.
    pub figure: Option<f64>,
    /// The figure with full precision there.
    pub agreement: Option<f64>,
    /// The plan, fitted.
    pub plan: Arc<Plan>,
}

/// What one site costs.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteEffect {
    /// The site.
    pub site: SiteId,
    /// SQNR of its layer's output when only it is quantized, in dB.
    pub isolated_sqnr_db: Option<f64>,
    /// SQNR of its layer's output under the whole plan, in dB.
    pub cumulative_sqnr_db: Option<f64>,
    /// The figure when only it is quantized minus that of full precision (with the truth; without one, the agreement
    /// minus 1).
    pub delta: f64,
    /// Agreement with full precision when only it is quantized.
    pub agreement: f64,
    /// Samples that it was run on.
    pub samples: usize,
}

/// What is measured of which parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartsOf {
    /// What counts as one part.
    pub by: By,
    /// Whether also with everything but the part quantized.
    pub all_but: bool,
    /// Whether also on calibration samples.
    pub calibration: bool,
}

/// What parts of the model cost.
#[derive(Debug, Clone, PartialEq)]
pub struct PartsView {
    /// Of the request.
    pub generation: Generation,
    /// The plan whose choices were measured, with all parameters.
    pub plan: Arc<Plan>,
    /// What was asked for.
    pub of: PartsOf,
    /// The figure that changes.
    pub metric: Metric,
    /// The most harmful first.
    pub parts: Vec<PartEffect>,
    /// Samples that every part was run on.
    pub samples: usize,
    /// Whether that is all.
    pub complete: bool,
}

/// What one part costs: the figure minus that of full precision (with the truth; without one, by agreement).
#[derive(Debug, Clone, PartialEq)]
pub struct PartEffect {
    /// Site, layer, role, block, `weights` or `activations`.
    pub name: String,
    /// Sites of it.
    pub sites: usize,
    /// When only it is quantized.
    pub only: f64,
    /// What the plan would get back without it: positive if the figure is better with everything but it quantized.
    pub all_but: Option<f64>,
    /// When only it is quantized, on calibration samples.
    pub calibration: Option<f64>,
}
