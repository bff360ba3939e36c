//! What can go wrong in a session.

use crate::data::DataError;
use crate::eval::search::SearchError;
use crate::exec::ExecError;
use crate::export::ExportError;
use crate::models::ModelError;
use crate::plan::PlanError;
use crate::quantizer::QuantizerError;
use crate::stats::StatsError;

/// An error of a session; the message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Opening the model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Pictures, sentences, manifests.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Running the model.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Sketches and their files.
    #[error(transparent)]
    Stats(#[from] StatsError),
    /// Fitting a quantizer.
    #[error("{site}: {source}")]
    Fit {
        /// The site.
        site: String,
        /// Why.
        source: QuantizerError,
    },
    /// Plans and their files.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Writing results.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The journal of a sweep.
    #[error(transparent)]
    Sweep(#[from] crate::eval::sensitivity::JournalError),
    /// Budgets and kept searches.
    #[error(transparent)]
    Search(Box<SearchError>),
    /// A rewrite that does not fit the model.
    #[error("the plan's rewrite {0}; remove it from the plan or make a new one")]
    Rewrite(#[from] crate::graph::RewriteError),
    /// A rewrite that this program does not know.
    #[error("the plan has an {source}")]
    UnknownRewrite {
        /// The word.
        source: crate::terms::UnknownWord,
    },
    /// There is nothing to calibrate with.
    #[error("no calibration set: give one with --calibration (a folder of pictures with a samples.jsonl)")]
    NoCalibration,
    /// There is nothing to evaluate.
    #[error("no samples: give some with --samples (a folder of pictures with a samples.jsonl)")]
    NoSamples,
    /// Sketches are needed and not there.
    #[error("{site}: not calibrated yet; the plan is fitted once calibration is done")]
    NotCalibrated {
        /// The site.
        site: String,
    },
    /// A model that reads text, without tokenizer.
    #[error("the model reads text, and its folder has no tokenizer; copy tokenizer.json there")]
    NoTokenizer,
    /// A model that sees pictures, without preprocessing.
    #[error(
        "the model sees pictures, and its folder does not say how they are prepared; copy preprocessor_config.json there"
    )]
    NoPreprocessor,
    /// Pictures are prepared in another size than the model reads.
    #[error(
        "preprocessor_config.json makes pictures of {} by {} (height by width), the model reads {} by {}; set its \
         `size` (and `crop_size`) to the model's, or export the model with open height and width",
        .prepared.0, .prepared.1, .read.0, .read.1
    )]
    PictureSize {
        /// Height and width that the configuration says.
        prepared: (usize, usize),
        /// Height and width of the model's input.
        read: (usize, usize),
    },
    /// A sample without a picture, which the architecture needs.
    #[error("{place}: it has no picture; add `image` to its line of the manifest")]
    NoPicture {
        /// Manifest and line.
        place: String,
    },
    /// A sample without the prompt that the model was opened for.
    #[error("{place}: it has no fitting `{what}`, which the model reads; add it to its line of the manifest")]
    NoPrompt {
        /// Manifest and line.
        place: String,
        /// The missing field.
        what: &'static str,
    },
    /// A prompt that a model does not read although it reads prompts.
    #[error(
        "{place}: the model has no input for its `{what}`; take it out, or export the model with that input"
    )]
    UnusedPrompt {
        /// Manifest and line.
        place: String,
        /// The field.
        what: &'static str,
    },
    /// Samples that need two forms of a model.
    #[error(
        "{place}: it has {has}, and {other} has {others}; the model is built for sentences or for pictures as prompts, \
         so give all samples of calibration and evaluation the same, or make two sets"
    )]
    MixedPrompts {
        /// Manifest and line.
        place: String,
        /// What that sample has.
        has: &'static str,
        /// Another sample.
        other: String,
        /// What that one has.
        others: &'static str,
    },
    /// A sentence for a model that reads none.
    #[error("{model} reads no sentence: what it looks for comes from the samples")]
    NoSentence {
        /// The model.
        model: String,
    },
    /// An input that no sample gives.
    #[error(
        "the model's input `{name}` of shape {shape:?} cannot be made from samples; give tensors in a file that \
         the line of each sample names as `inputs`, or with `bitloupe run --inputs`"
    )]
    UnknownInput {
        /// The input.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Outputs that do not fit the task.
    #[error(transparent)]
    Reading(#[from] crate::eval::reading::ReadingError),
    /// A sample without a sentence, which the architecture needs.
    #[error("{place}: it has no sentence; add `text` to its line of the manifest")]
    NoText {
        /// Manifest and line, or the picture.
        place: String,
    },
    /// A sentence that cannot be used.
    #[error("{place}: {source}")]
    Text {
        /// Manifest and line.
        place: String,
        /// Why.
        source: DataError,
    },
    /// A sample that cannot be prepared for the model.
    #[error("{place}: {source}")]
    Sample {
        /// Manifest and line and the picture.
        place: String,
        /// Why.
        source: Box<SessionError>,
    },
    /// A sample that is not there.
    #[error("there is no sample {index}; there are {count}")]
    NoSample {
        /// Asked for.
        index: usize,
        /// There are.
        count: usize,
    },
    /// A remedy that cannot be tried by a run.
    #[error("{remedy}: this is no change of the plan, so there is nothing to run; do it and evaluate again")]
    NoChange {
        /// What it was.
        remedy: String,
    },
    /// A site that the model does not have.
    #[error("the model has no site {site}{}", hint(.nearest))]
    NoSite {
        /// Asked for.
        site: String,
        /// Nearest names.
        nearest: Vec<String>,
    },
}

fn hint(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; nearest: {}", nearest.join(", ")) }
}

impl From<SearchError> for SessionError {
    fn from(error: SearchError) -> Self {
        Self::Search(Box::new(error))
    }
}

impl SessionError {
    /// Whether the user stopped it.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Sample { source, .. } => source.is_cancelled(),
            other => matches!(other, Self::Exec(ExecError::Cancelled)),
        }
    }
}
