//! What can go wrong with a search.

use std::io;

use super::Limit;
use crate::plan::PlanError;

/// A search that cannot be made, kept or taken up again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// Nothing is cheap enough.
    #[error("no plan has {limit}: the least is {least}; give a larger budget or allow fewer bits")]
    TooSmall {
        /// The budget.
        limit: Limit,
        /// The least that any plan costs, in its unit.
        least: String,
    },
    /// A budget that is none.
    #[error("{value} is no budget; expected a positive number")]
    NoBudget {
        /// What was said.
        value: f64,
    },
    /// Nothing to choose from.
    #[error("there is nothing to choose: {reason}")]
    Nothing {
        /// Why.
        reason: String,
    },
    /// More joint choices than are looked at.
    #[error(
        "{group}: its layers have {choices} joint choices, at most {most} are looked at; offer fewer bits"
    )]
    TooManyChoices {
        /// A group among them.
        group: String,
        /// How many there are.
        choices: usize,
        /// How many are allowed.
        most: usize,
    },
    /// The operating system refused.
    #[error("{path}: {source}{}", crate::terms::advice(source))]
    Io {
        /// File or folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is no kept search.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A plan of it.
    #[error(transparent)]
    Plan(#[from] PlanError),
}
