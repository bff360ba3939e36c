//! Distributions gathered in one pass, and what they mean.
//!
//! A [`Sketch`] is filled sample by sample while the model runs, merged across threads and files, and then
//! answers every question about the distribution of a site: range, moments, percentiles, histograms, and what
//! kind of distribution it is ([`diagnose`]). Quantizers are fitted from it without running the model again.
//!
//! ```
//! use bitloupe_quant::{stats::Sketch, terms::Layout};
//!
//! let mut sketch = Sketch::new(2);
//! sketch.observe(&[1.0, -20.0, 2.0, 20.0], Layout { outer: 2, channels: 2, inner: 1 })?;
//! assert_eq!((sketch.min(), sketch.max()), (-20.0, 20.0));
//! assert_eq!(sketch.channel(0).map(|c| c.mean), Some(1.5));
//! # Ok::<(), bitloupe_quant::stats::StatsError>(())
//! ```

mod buckets;
mod channels;
mod density;
mod diagnosis;
mod error;
mod exact;
mod extremes;
mod file;
mod histogram;
mod moments;
mod pages;
mod percentile;
mod reduce;
mod rows;
mod sentence;
mod signs;
mod sketch;
mod sums;
mod tail;

pub use buckets::Bucket;
pub use density::{Density, Peaks};
pub use diagnosis::{Diagnosis, Evidence, OutlierChannel, diagnose};
pub use error::StatsError;
pub use extremes::CHANNEL_TAIL;
pub use file::{StatsFile, join_fingerprints};
pub use histogram::Histogram;
pub use percentile::Ranks;
pub(crate) use sentence::short;
pub use signs::channel_signs;
pub use sketch::{ChannelStats, Sketch};
pub use tail::TAIL;

#[cfg(test)]
pub(crate) mod tests;
