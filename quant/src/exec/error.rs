//! Why a run failed.

/// A run that gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// Stopped by the user.
    #[error("cancelled")]
    Cancelled,
    /// An input of the graph was not given.
    #[error("input `{name}` is missing; expected {expected:?}")]
    MissingInput {
        /// Its name.
        name: String,
        /// Its shape.
        expected: Vec<usize>,
    },
    /// An input has another shape than the graph was built for.
    #[error("input `{name}` has shape {found:?}; the model was opened for {expected:?}")]
    InputShape {
        /// Its name.
        name: String,
        /// What the graph expects.
        expected: Vec<usize>,
        /// What was given.
        found: Vec<usize>,
    },
    /// There is no graph for inputs of a size.
    #[error("inputs of shapes {shapes:?}: {message}")]
    Size {
        /// Shapes of all inputs.
        shapes: Vec<Vec<usize>>,
        /// Why.
        message: String,
    },
    /// A token number that the table does not have.
    #[error("{node}: token {token} at position {position} is not one of the {rows} of the vocabulary")]
    Token {
        /// The embedding.
        node: String,
        /// The number.
        token: f32,
        /// Where.
        position: usize,
        /// Size of the table.
        rows: usize,
    },
    /// Quantizer parameters that do not fit their site.
    #[error("{site}: {message}")]
    Quantizer {
        /// The site.
        site: String,
        /// What does not fit.
        message: String,
    },
    /// A derivative that does not exist or is not finite.
    #[error("{node} ({op}): {problem}; choose ranges without gradients (`mse` or `output` for `hessian`)")]
    Gradient {
        /// The node.
        node: String,
        /// Its operation.
        op: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// The worker threads could not be started.
    #[error("cannot start worker threads: {0}")]
    Threads(String),
    /// candle reported an error (reference execution only).
    #[error("reference execution: {0}")]
    Reference(#[from] candle_core::Error),
}
