//! What can go wrong with files that hold images, texts and samples.

use std::io;

/// An input that cannot be used: which file, what was expected, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused.
    #[error("{path}: {source}{}", crate::terms::advice(source))]
    Io {
        /// File or folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// No such file in the folder.
    #[error("{path}: no such file{}", suggestion(nearest))]
    Missing {
        /// The name that was asked for.
        path: String,
        /// Files with a similar name.
        nearest: Vec<String>,
    },
    /// A name that leads out of the folder it was read from.
    #[error(
        "{path}: leads out of the folder of the samples; name a file inside it, without `..` or a leading `/`"
    )]
    Escapes {
        /// The name as written.
        path: String,
    },
    /// A folder, pipe or device where a file was expected.
    #[error("{path}: not a regular file")]
    NotAFile {
        /// The name as written.
        path: String,
    },
    /// More than is read from a stranger.
    #[error("{path}: {size} {unit} is more than the limit of {limit}")]
    TooLarge {
        /// File or folder.
        path: String,
        /// What was found.
        size: u64,
        /// The limit.
        limit: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// Bytes that are no picture, or a broken one.
    #[error("{path}: not a readable picture ({reason}); PNG, JPEG and WebP are read")]
    Image {
        /// File.
        path: String,
        /// What the decoder said.
        reason: String,
    },
    /// A picture with no pixels or too many.
    #[error("{path}: a picture of {width}x{height} pixels; {expected}")]
    ImageSize {
        /// File.
        path: String,
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// What is accepted.
        expected: &'static str,
    },
    /// A configuration file that does not describe a usable preprocessing.
    #[error("{path}: {reason}")]
    Config {
        /// File.
        path: String,
        /// Field, expectation and what to do.
        reason: String,
    },
    /// A tokenizer that cannot be used.
    #[error("{path}: {reason}")]
    Tokenizer {
        /// File.
        path: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A sentence with no words in it.
    #[error("the text is empty; this model needs a phrase such as \"the dog on the left\"")]
    EmptyText,
    /// A manifest line that cannot be read.
    #[error("{path}:{line}:{column}: {reason}")]
    Manifest {
        /// File.
        path: String,
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A manifest or folder without a sample.
    #[error("{path}: no samples; expected {expected}")]
    Empty {
        /// File or folder.
        path: String,
        /// What a sample would look like.
        expected: &'static str,
    },
    /// A mask that does not describe its picture.
    #[error("{place}: mask: {reason}")]
    Mask {
        /// Manifest and line, or mask file.
        place: String,
        /// What is wrong.
        reason: String,
    },
}

fn suggestion(nearest: &[String]) -> String {
    if nearest.is_empty() {
        " in the folder; check the spelling".to_owned()
    } else {
        format!("; did you mean {}?", nearest.join(" or "))
    }
}
