//! What can go wrong with plans and their files.

use std::io;

use crate::terms::SiteId;

/// A plan that cannot be read, applied or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The operating system refused.
    #[error("{path}: {source}{}", crate::terms::advice(source))]
    Io {
        /// File or folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is no plan.
    #[error("{path}:{line}:{column}: {reason}")]
    Json {
        /// File.
        path: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A plan of another version.
    #[error("{path}: the format is `{found}`; this program reads `{expected}`, save the plan with it again")]
    Format {
        /// File.
        path: String,
        /// What the file says.
        found: String,
        /// What is read.
        expected: &'static str,
    },
    /// A file larger than any plan.
    #[error("{path}: {bytes} bytes are more than a plan can have ({limit})")]
    TooLarge {
        /// File.
        path: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A value that is well-formed and means nothing.
    #[error("{path}: {reason}")]
    Value {
        /// File.
        path: String,
        /// Which value, what was expected and what to do.
        reason: String,
    },
    /// A plan of another model.
    #[error(
        "{path}: the plan is for model {plan} ({plan_fingerprint}), not for {model} ({model_fingerprint}); \
         open that model or make a new plan"
    )]
    OtherModel {
        /// File.
        path: String,
        /// The model it was made for.
        plan: String,
        /// Its fingerprint.
        plan_fingerprint: String,
        /// The model that is open.
        model: String,
        /// Its fingerprint.
        model_fingerprint: String,
    },
    /// Sites that the model does not have.
    #[error("{path}: the model has no {}", list(sites))]
    UnknownSites {
        /// File.
        path: String,
        /// Each with the names it may have meant.
        sites: Vec<(SiteId, Vec<String>)>,
    },
    /// An edit made for another state of the plan.
    #[error("{site} is no longer as it was when this edit was made; make the edit again")]
    Stale {
        /// The site.
        site: String,
    },
}

fn list(sites: &[(SiteId, Vec<String>)]) -> String {
    const SHOWN: usize = 5;
    let mut parts: Vec<String> = sites
        .iter()
        .take(SHOWN)
        .map(|(site, near)| {
            if near.is_empty() {
                format!("{site}")
            } else {
                format!("{site} (did you mean {}?)", near.join(" or "))
            }
        })
        .collect();
    if sites.len() > SHOWN {
        parts.push(format!("{} more", sites.len() - SHOWN));
    }
    parts.join(", ")
}
