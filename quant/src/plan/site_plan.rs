//! What a plan says about one site.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::quantizer::{Params, Scheme};
use crate::terms::Bits;

/// A site in full precision, or its quantizer. Written `"float"`, or `{"scheme", "bits", "params"}`.
#[derive(Debug, Clone, PartialEq)]
pub enum SitePlan {
    /// Full precision.
    Float,
    /// Quantized.
    Quantized {
        /// Family of grids, range search, symmetry and granularity.
        scheme: Scheme,
        /// Bits of a code.
        bits: Bits,
        /// What was fitted; none before fitting.
        params: Option<Params>,
    },
}

impl SitePlan {
    /// Quantized with nothing fitted yet; full precision when the bits are.
    pub fn unfitted(scheme: Scheme, bits: Bits) -> Self {
        if bits.is_float() { Self::Float } else { Self::Quantized { scheme, bits, params: None } }
    }

    /// Quantized with fitted parameters; full precision when their bits are.
    pub fn fitted(params: Params) -> Self {
        if params.bits.is_float() {
            return Self::Float;
        }
        Self::Quantized { scheme: params.scheme.clone(), bits: params.bits, params: Some(params) }
    }

    /// The bits, [`Bits::FLOAT`] in full precision.
    pub fn bits(&self) -> Bits {
        match self {
            Self::Float => Bits::FLOAT,
            Self::Quantized { bits, .. } => *bits,
        }
    }

    /// The fitted parameters.
    pub fn params(&self) -> Option<&Params> {
        match self {
            Self::Float => None,
            Self::Quantized { params, .. } => params.as_ref(),
        }
    }

    /// Whether the site stays in full precision.
    pub fn is_float(&self) -> bool {
        matches!(self, Self::Float)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<S, P> {
    scheme: S,
    bits: Bits,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    params: Option<P>,
}

impl Serialize for SitePlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Float => serializer.serialize_str("float"),
            Self::Quantized { scheme, bits, params } => {
                Written { scheme, bits: *bits, params: params.as_ref() }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for SitePlan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = SitePlan;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"float\" or an object with scheme and bits")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<SitePlan, E> {
                if word == "float" { Ok(SitePlan::Float) } else { Err(E::unknown_variant(word, &["float"])) }
            }

            // By hand, as serde's untagged enums lose the line and the reason of an error.
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SitePlan, A::Error> {
                let written: Written<Scheme, Params> =
                    Deserialize::deserialize(MapAccessDeserializer::new(map))?;
                if written.bits.is_float() {
                    return Err(A::Error::custom("a site in full precision is written \"float\""));
                }
                if let Some(params) = &written.params
                    && (params.bits != written.bits || params.scheme != written.scheme)
                {
                    return Err(A::Error::custom(
                        "params were fitted for another scheme or other bits; fit again",
                    ));
                }
                Ok(SitePlan::Quantized { scheme: written.scheme, bits: written.bits, params: written.params })
            }
        }
        deserializer.deserialize_any(Either)
    }
}
