//! The search for the plan of least loss under a budget: what is chosen among, what that costs, and the exact choice.
//!
//! A [`Space`] holds the groups of sites that are decided together, each with its candidates: a width with fitted
//! parameters and the measured loss of quantizing only that group so. Losses of small perturbations add up nearly as
//! their noise powers do (second-order expansion around full precision, as in HAWQ-V2, Dong et al. 2020), so the plan of
//! least summed loss under a [`Limit`] is a multiple-choice knapsack, which [`best`] solves exactly. Runs of the
//! model then say which of these plans are good; the measured ones are the points of a [`Front`].

mod allocate;
mod effort;
mod error;
#[cfg(test)]
mod example;
mod file;
mod front;
mod knapsack;
mod limit;
mod space;

pub use effort::{Effort, Share};
pub use error::SearchError;
pub use file::{FRONT_FILE, SCORES_FILE};
pub use front::{Figures, Front, Point, Solved};
pub use knapsack::{Best, Choice, best, least};
pub use limit::Limit;
pub use space::{Candidate, Group, Space};
