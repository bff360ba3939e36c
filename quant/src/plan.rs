//! Plans: which quantizer and how many bits each site gets, and the ways to change, compare and keep them.
//!
//! A [`Plan`] is a value. It is changed by [`PlanEdit`]s, which know their inverse, inside a [`History`]; kept
//! in files of the format `bitloupe-plan/1` ([`SCHEMA`]) and, while it is being edited, in a [`Journal`], beside the
//! [`Snapshot`]s that were taken on the way.

mod budget;
mod diff;
mod edit;
mod error;
mod file;
mod history;
mod journal;
mod nearest;
mod site_plan;
mod snapshot;
mod value;

pub use budget::{Budget, LayerCost, budget};
pub(crate) use budget::{FLOAT_BITS, FLOAT_BYTES, fitted_bytes};
pub use diff::{Difference, diff};
pub use edit::{PlanEdit, SiteChange};
pub use error::PlanError;
pub use file::{FORMAT, SCHEMA};
pub use history::History;
pub use journal::Journal;
pub use nearest::nearest;
pub use site_plan::SitePlan;
pub use snapshot::{Accuracy, Cost, Figures, Hidden, Kept, MAX_SNAPSHOTS, Snapshot, clean_name};
pub use value::{CalibrationRef, ModelRef, Plan, Rewrite};

#[cfg(test)]
mod example;
