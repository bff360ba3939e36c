//! Families of grids and the searches for their ranges.
//!
//! A [`Scheme`] says which grid, how its range is found and for what; [`Quantizer::fit`] turns it with the data
//! of a site (values or a sketch) into [`Params`]; [`Quantizer::fake_quantize`] applies them; [`predict`] says from
//! a sketch what they cost.
//!
//! ```
//! use bitloupe_quant::quantizer::{Distribution, Family, RangeSearch, Scheme, predict, quantizer};
//! use bitloupe_quant::{stats::Sketch, terms::{Bits, Layout}};
//!
//! let values: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin()).collect();
//! let layout = Layout::tensor(values.len());
//! let mut sketch = Sketch::new(1);
//! sketch.observe(&values, layout)?;
//!
//! let scheme = Scheme::new(Family::Uniform, RangeSearch::MinMax);
//! let uniform = quantizer(scheme.family);
//! let params = uniform.fit(&Distribution::Sketch(&sketch), &scheme, Bits::new(4)?)?;
//! assert_eq!(uniform.levels(&params, 0).len(), 16);
//! assert!(predict(&sketch, &params).sqnr_db > 20.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adalog;
mod agq;
mod cells;
mod channel_groups;
mod distribution;
mod drq_gelu;
mod drq_softmax;
mod error;
mod grid;
mod hluq;
mod k_means;
mod lnq;
mod log;
mod log_int_softmax;
pub mod output;
mod params;
mod pieces;
mod predict;
mod ptf;
mod quantile;
pub mod rewriting;
mod rorq;
mod scheme;
mod search;
mod staircase;
mod survey;
mod uniform;

pub use agq::agq_candidates;
pub use cells::Cells;
pub use channel_groups::fit_channel_groups;
pub use distribution::{Batch, Distribution, Product};
pub use error::QuantizerError;
pub use hluq::hluq_losses;
pub use k_means::{Clusters, cluster, cluster_from};
pub use lnq::lnq_candidates;
pub use log_int_softmax::{IntegerSoftmax, integer_softmax};
pub use params::Params;
pub use predict::{Prediction, predict, predict_scaled, predict_surveyed};
pub use scheme::{Family, Granularity, REPQ_PERCENTILES, RangeSearch, Scheme};
pub use search::Candidate;
pub use survey::Survey;

use crate::terms::{Bits, Layout};

/// A family of grids. One file per family, with its formula and source.
///
/// Methods that take a layout expect `params.check(layout)` to hold and the slice to have `layout.len()` values;
/// otherwise values may be left as they are, but nothing panics for want of a parameter.
pub trait Quantizer: Send + Sync {
    /// The name on screen and on the command line.
    fn name(&self) -> &'static str;

    /// Finds the parameters. Values that are not finite are left out; without any value, or for nothing but
    /// zeros, the parameters are valid and arbitrary.
    fn fit(&self, data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError>;

    /// Whether parameters, perhaps from a file, can be used on a tensor of this layout.
    fn check(&self, params: &Params, layout: Layout) -> Result<(), QuantizerError> {
        params.check_scales(layout)
    }

    /// Replaces every value by its level. NaN stays NaN, infinities become the outermost levels.
    fn fake_quantize(&self, x: &mut [f32], layout: Layout, params: &Params);

    /// The integer code of every value, for export. NaN gets the code of 0.
    fn codes(&self, x: &[f32], layout: Layout, params: &Params) -> Vec<u32>;

    /// The values of codes: for values that are not NaN and integer zero points,
    /// `dequantize(codes(x)) == fake_quantize(x)` bit for bit.
    fn dequantize(&self, codes: &[u32], layout: Layout, params: &Params) -> Vec<f32>;

    /// The levels of channel `c` in ascending order, without repetition.
    fn levels(&self, params: &Params, c: usize) -> Vec<f32>;

    /// Which values of channel `c` go to which level, for predictions.
    fn cells(&self, params: &Params, c: usize) -> Cells;
}

/// The quantizer of a family.
pub fn quantizer(family: Family) -> &'static dyn Quantizer {
    match family {
        Family::Uniform => &uniform::Uniform,
        Family::Log2 => &log::LOG2,
        Family::LogSqrt2 => &log::LOG_SQRT2,
        Family::Agq => &agq::Agq,
        Family::Lnq => &lnq::Lnq,
        Family::Adalog => &adalog::Adalog,
        Family::LogIntSoftmax => &log_int_softmax::LogIntSoftmax,
        Family::DrqGelu => &drq_gelu::DrqGelu,
        Family::DrqSoftmax => &drq_softmax::DrqSoftmax,
        Family::Rorq => &rorq::Rorq,
        Family::Ptf => &ptf::Ptf,
        Family::Hluq => &hluq::Hluq,
        Family::ChannelGroups => &channel_groups::ChannelGroups,
    }
}

/// What every fit checks first.
fn check_family(scheme: &Scheme, family: Family, bits: Bits) -> Result<(), QuantizerError> {
    if bits.is_float() {
        return Err(QuantizerError::Float);
    }
    if scheme.family != family {
        let problem = format!("scheme `{scheme}` given to the quantizer `{family}`");
        return Err(QuantizerError::Params { bits, problem });
    }
    let twin = matches!(family, Family::DrqGelu | Family::DrqSoftmax) && scheme.range == RangeSearch::Hessian;
    if family != Family::Uniform && scheme.range.is_for_uniform() && !twin {
        return Err(QuantizerError::Unsupported { family: family.as_str(), range: scheme.range.to_string() });
    }
    scheme.range.check()
}

/// Calls `apply` on every run of values that share parameters, with their channel.
fn by_channel(x: &mut [f32], layout: Layout, params: &Params, mut apply: impl FnMut(&mut [f32], usize)) {
    if !params.per_channel() {
        apply(x, 0);
        return;
    }
    for (run, values) in x.chunks_mut(layout.inner.max(1)).enumerate() {
        apply(values, run % layout.channels.max(1));
    }
}

#[cfg(test)]
mod tests;
