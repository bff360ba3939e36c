//! What a fit yields.

use super::error::QuantizerError;
use super::scheme::Scheme;
use crate::terms::{Bits, Layout};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The parameters of a fitted quantizer: one of each for the tensor, or one per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// What was fitted.
    pub scheme: Scheme,
    /// The width.
    pub bits: Bits,
    /// Step of a uniform grid, largest level of a logarithmic one; in the unit of the values, positive.
    pub scale: Vec<f32>,
    /// Code of the value 0 on a uniform grid; may be fractional and outside the codes. Empty for families
    /// without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zero_point: Vec<f32>,
    /// Further parameters of special families by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<f32>>,
}

impl Params {
    /// All parameters by name.
    pub fn parameters(&self) -> Vec<(&str, &[f32])> {
        let mut all = vec![("scale", &self.scale[..])];
        if !self.zero_point.is_empty() {
            all.push(("zero_point", &self.zero_point));
        }
        all.extend(self.extra.iter().map(|(name, values)| (name.as_str(), &values[..])));
        all
    }

    /// The scale of channel `c`; that of the tensor if there is only one.
    pub fn scale_of(&self, c: usize) -> f32 {
        of(&self.scale, c).unwrap_or(1.0)
    }

    /// The zero point of channel `c`; 0 for families without one.
    pub fn zero_point_of(&self, c: usize) -> f32 {
        of(&self.zero_point, c).unwrap_or(0.0)
    }

    /// The number of codes, 2^bits.
    pub fn levels(&self) -> u32 {
        self.bits.levels().unwrap_or(u32::MAX)
    }

    /// Whether the parameters can be used on a tensor of this layout; parameters from a file must pass this.
    pub fn check(&self, layout: Layout) -> Result<(), QuantizerError> {
        if self.bits.is_float() {
            return Err(QuantizerError::Float);
        }
        let fits = |len: usize| len == 1 || len == layout.channels;
        let zero_point_fits = self.zero_point.is_empty() || self.zero_point.len() == self.scale.len();
        if !fits(self.scale.len()) || !zero_point_fits {
            return Err(QuantizerError::Channels { expected: layout.channels, found: self.scale.len() });
        }
        let problem = |problem: &str| QuantizerError::Params { bits: self.bits, problem: problem.to_owned() };
        if !self.scale.iter().all(|scale| scale.is_finite() && *scale > 0.0) {
            return Err(problem("every scale must be finite and positive"));
        }
        if !self.zero_point.iter().all(|zero| zero.is_finite()) {
            return Err(problem("every zero point must be finite"));
        }
        Ok(())
    }
}

fn of(values: &[f32], c: usize) -> Option<f32> {
    if values.len() == 1 { values.first().copied() } else { values.get(c).copied() }
}
