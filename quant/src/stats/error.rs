//! What can go wrong between values, sketches and files.

use crate::terms::Layout;
use std::path::PathBuf;

/// Errors of sketches and of statistics files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// The slice does not hold what the layout says.
    #[error("{len} values do not fit layout {outer}×{channels}×{inner}",
        outer = layout.outer, channels = layout.channels, inner = layout.inner)]
    Layout {
        /// Values given.
        len: usize,
        /// Layout given with them.
        layout: Layout,
    },
    /// The layout or the other sketch has another number of channels.
    #[error("the sketch has {expected} channels, found {found}")]
    Channels {
        /// Channels of this sketch.
        expected: usize,
        /// Channels of what was to be added.
        found: usize,
    },
    /// Two files describe different models.
    #[error("statistics of another {what}: `{found}` instead of `{expected}`")]
    Fingerprint {
        /// `model`.
        what: &'static str,
        /// Fingerprint of the first file.
        expected: String,
        /// Fingerprint of the second.
        found: String,
    },
    /// A sample would be counted twice.
    #[error(
        "sample `{sample}` is counted in both ({shared} shared in all); merge files of different samples"
    )]
    SharedSample {
        /// The first one.
        sample: String,
        /// How many there are.
        shared: usize,
    },
    /// A site appears in one of two files only.
    #[error("site `{site}` is in only one of the files; they were not made by the same run")]
    MissingSite {
        /// The site.
        site: String,
    },
    /// The file cannot be read or written.
    #[error("{path}: {source}{}", crate::terms::advice(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{context}: {problem}")]
    Format {
        /// The file, and where known the site.
        context: String,
        /// What was found and expected.
        problem: String,
    },
}
