//! Budgets of plans.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SearchError;
use crate::plan::Budget;

/// What a plan may cost at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Limit {
    /// Average bits, of weights and of activations alike; see [`budget`](crate::plan::budget).
    AverageBits(f64),
    /// Bytes of the weights as they are exported. Activations get what loses least.
    WeightBytes(u64),
    /// Σ MACs × bits of one operand × bits of the other.
    BitOperations(f64),
}

impl Limit {
    /// An error unless the number is positive and finite.
    pub fn check(self) -> Result<Self, SearchError> {
        let value = self.value();
        if value.is_finite() && value > 0.0 { Ok(self) } else { Err(SearchError::NoBudget { value }) }
    }

    /// The number.
    pub fn value(self) -> f64 {
        match self {
            Self::AverageBits(x) | Self::BitOperations(x) => x,
            Self::WeightBytes(bytes) => bytes as f64,
        }
    }

    /// Whether a plan of this cost is within it.
    pub fn holds(self, budget: &Budget) -> bool {
        match self {
            Self::AverageBits(x) => budget.average_weight_bits <= x && budget.average_activation_bits <= x,
            Self::WeightBytes(bytes) => budget.weight_bytes <= bytes,
            Self::BitOperations(n) => budget.bit_operations <= n,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AverageBits(x) => write!(f, "{x} average bits"),
            Self::WeightBytes(bytes) => write!(f, "{bytes} bytes of weights"),
            Self::BitOperations(n) => write!(f, "{n:.4e} bit-operations"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_averages_must_hold() {
        let cost = |w, a| Budget { average_weight_bits: w, average_activation_bits: a, ..Budget::default() };
        assert!(Limit::AverageBits(4.0).holds(&cost(4.0, 4.0)));
        assert!(!Limit::AverageBits(4.0).holds(&cost(4.1, 3.0)));
        assert!(!Limit::AverageBits(4.0).holds(&cost(3.0, 4.1)));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Limit::AverageBits(bad).check().is_err() && Limit::BitOperations(bad).check().is_err());
        }
        assert!(Limit::WeightBytes(0).check().is_err() && Limit::WeightBytes(1).check().is_ok());
    }
}
