//! What a quantizer can refuse.

use crate::terms::{Bits, Layout};

/// Errors of fitting and of reading schemes.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizerError {
    /// Nothing to fit: the site stays in floating point.
    #[error("a site in floating point has no quantizer parameters")]
    Float,
    /// The family has no such range search.
    #[error("{family} has no range search {range}")]
    Unsupported {
        /// Name of the family.
        family: &'static str,
        /// The search asked for.
        range: String,
    },
    /// A grid made for other values.
    #[error("{family} does not fit: {problem}; choose another quantizer for it")]
    Unfit {
        /// Name of the family.
        family: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A percentile is not in (0, 1], or the exponent of an error is not positive.
    #[error("{what} {value} is out of range")]
    Setting {
        /// What was set.
        what: &'static str,
        /// To what.
        value: f64,
    },
    /// The values do not fit the layout.
    #[error("{len} values do not fit the layout {layout:?}")]
    Layout {
        /// Values given.
        len: usize,
        /// Layout given with them.
        layout: Layout,
    },
    /// No calibration batch at all.
    #[error("there is no calibration batch to fit on")]
    NoData,
    /// The right operand of a product has another summed dimension.
    #[error("{len} values cannot be multiplied by {other} values with an inner dimension of {inner}")]
    Product {
        /// Values of the left operand.
        len: usize,
        /// Values of the right operand.
        other: usize,
        /// The summed dimension.
        inner: usize,
    },
    /// Parameters made for another number of channels or by another family.
    #[error("the parameters have {found} scales, expected 1 or {expected}")]
    Channels {
        /// Channels of the layout.
        expected: usize,
        /// Scales found.
        found: usize,
    },
    /// Parameters that no fit makes.
    #[error("parameters at {bits} bits: {problem}")]
    Params {
        /// The width.
        bits: Bits,
        /// What is wrong.
        problem: String,
    },
}
