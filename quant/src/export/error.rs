//! Why something could not be written or read back.

use super::weights::WeightsError;

/// An export that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The operating system refused.
    #[error("{path}: {source}{}", crate::terms::advice(source))]
    Io {
        /// File or folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A tensor has no codes.
    #[error("{tensor}: {reason}")]
    Tensor {
        /// The site.
        tensor: String,
        /// Why.
        reason: String,
    },
    /// Writing or reading quantized weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}
