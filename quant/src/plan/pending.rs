//! Placeholder.
use crate::terms::Bits;
use serde::{Deserialize, Serialize};
/// S.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    /// f
    pub family: String,
    /// g
    pub granularity: String,
}
/// P.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// s
    pub scheme: Scheme,
    /// b
    pub bits: Bits,
    /// s
    pub scale: Vec<f32>,
    /// z
    pub zero_point: Vec<f32>,
}
