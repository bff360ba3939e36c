//! One operand of one layer.

use super::words;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Which operand of a layer is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// The activation a Linear or convolution reads.
    Input,
    /// Its parameter.
    Weight,
    /// The left operand of a matrix product of two activations.
    Lhs,
    /// The right operand.
    Rhs,
}

words!(Slot, "slot", {
    Input => "input",
    Weight => "weight",
    Lhs => "lhs",
    Rhs => "rhs",
});

/// One operand of one layer, written `layer:slot`. It is what is observed and quantized.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId {
    /// Module path of the layer; contains no `:`.
    pub layer: String,
    /// The operand.
    pub slot: Slot,
}

/// A text that is not `layer:slot`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no site; expected `layer:slot` with slot input, weight, lhs or rhs")]
pub struct SiteIdError(pub String);

impl SiteId {
    /// The site of `layer` at `slot`.
    pub fn new(layer: impl Into<String>, slot: Slot) -> Self {
        Self { layer: layer.into(), slot }
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.layer, self.slot))
    }
}

impl FromStr for SiteId {
    type Err = SiteIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SiteIdError(text.to_owned());
        let (layer, slot) = text.split_once(':').ok_or_else(error)?;
        if layer.is_empty() {
            return Err(error());
        }
        Ok(Self { layer: layer.to_owned(), slot: slot.parse().map_err(|_| error())? })
    }
}

impl Serialize for SiteId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SiteId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{SiteId, Slot};
    use std::collections::BTreeMap;

    #[test]
    fn a_site_is_written_layer_colon_slot() {
        let site = SiteId::new("layers.2.blocks.0.attn.qkv", Slot::Input);
        assert_eq!(site.to_string(), "layers.2.blocks.0.attn.qkv:input");
        assert_eq!(site.to_string().parse(), Ok(site));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "fc1", ":input", "fc1:", "fc1:bias", "a:b:input"] {
            assert!(text.parse::<SiteId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_site_is_a_json_key() {
        let map = BTreeMap::from([(SiteId::new("fc1", Slot::Weight), 1)]);
        let json = serde_json::to_string(&map).unwrap();
        assert_eq!(json, r#"{"fc1:weight":1}"#);
        assert_eq!(serde_json::from_str::<BTreeMap<SiteId, i32>>(&json).unwrap(), map);
    }
}
