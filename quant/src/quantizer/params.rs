//! What a fit yields.

use super::error::QuantizerError;
use super::scheme::{Granularity, Scheme};
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

    /// Whether channels (or heads, which are the channels of another layout) have parameters of their own.
    pub fn per_channel(&self) -> bool {
        self.scheme.granularity != Granularity::Tensor && self.scale.len() > 1
    }

    /// A further parameter that is one number; `default` if it is not there.
    pub fn number(&self, name: &str, default: f32) -> f32 {
        self.extra.get(name).and_then(|values| values.first()).copied().unwrap_or(default)
    }

    /// A further parameter; empty if it is not there.
    pub fn numbers(&self, name: &str) -> &[f32] {
        self.extra.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether the parameters can be used on a tensor of this layout; parameters from a file must pass this.
    pub fn check(&self, layout: Layout) -> Result<(), QuantizerError> {
        if self.bits.is_float() {
            return Err(QuantizerError::Float);
        }
        super::quantizer(self.scheme.family).check(self, layout)
    }

    /// What holds for most families: one scale or one per channel, as many zero points or none, all numbers finite,
    /// scales positive.
    pub(super) fn check_scales(&self, layout: Layout) -> Result<(), QuantizerError> {
        let shared = self.scheme.granularity == Granularity::Tensor;
        let fits = |len: usize| len == 1 || (len == layout.channels && !shared);
        let zero_point_fits = self.zero_point.is_empty() || self.zero_point.len() == self.scale.len();
        if !fits(self.scale.len()) || !zero_point_fits {
            let expected = if shared { 1 } else { layout.channels };
            return Err(QuantizerError::Channels { expected, found: self.scale.len() });
        }
        self.check_numbers()
    }

    /// Scales are positive, all numbers finite.
    pub(super) fn check_numbers(&self) -> Result<(), QuantizerError> {
        if !self.scale.iter().all(|scale| scale.is_finite() && *scale > 0.0) {
            return Err(self.problem("every scale must be finite and positive"));
        }
        if !self.zero_point.iter().all(|zero| zero.is_finite()) {
            return Err(self.problem("every zero point must be finite"));
        }
        if let Some((name, _)) = self.extra.iter().find(|(_, v)| !v.iter().all(|x| x.is_finite())) {
            return Err(self.problem(&format!("`{name}` must be finite")));
        }
        Ok(())
    }

    /// The error for parameters that no fit makes.
    pub(super) fn problem(&self, problem: &str) -> QuantizerError {
        QuantizerError::Params { bits: self.bits, problem: problem.to_owned() }
    }
}

fn of(values: &[f32], c: usize) -> Option<f32> {
    if values.len() == 1 { values.first().copied() } else { values.get(c).copied() }
}
