//! How many bits a site gets.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A width a site can be quantized to: 2 to 8, 16, or left in floating point.
///
/// Ordered by cost: every integer width is less than [`Bits::FLOAT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bits(u8);

/// A width that no quantizer offers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no bit width; expected 2 to 8, 16 or fp")]
pub struct BitsError(pub String);

impl Bits {
    /// Not quantized.
    pub const FLOAT: Self = Self(u8::MAX);
    /// What most papers leave delicate layers at.
    pub const EIGHT: Self = Self(8);

    /// Every width, narrowest first, [`Bits::FLOAT`] last.
    pub const ALL: &[Self] =
        &[Self(2), Self(3), Self(4), Self(5), Self(6), Self(7), Self(8), Self(16), Self::FLOAT];

    /// An integer width: 2 to 8, or 16.
    pub fn new(bits: u8) -> Result<Self, BitsError> {
        match bits {
            2..=8 | 16 => Ok(Self(bits)),
            _ => Err(BitsError(bits.to_string())),
        }
    }

    /// The width in bits; `None` for [`Bits::FLOAT`].
    pub const fn get(self) -> Option<u8> {
        if self.is_float() { None } else { Some(self.0) }
    }

    /// How many codes the width holds, 2^bits; `None` for [`Bits::FLOAT`].
    pub const fn levels(self) -> Option<u32> {
        if self.is_float() { None } else { Some(1 << self.0) }
    }

    /// Whether the site stays in floating point.
    pub const fn is_float(self) -> bool {
        self.0 == u8::MAX
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(bits) => f.pad(&bits.to_string()),
            None => f.pad("fp"),
        }
    }
}

impl FromStr for Bits {
    type Err = BitsError;

    /// Reads `4`, `fp` or `float`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fp" | "float" => Ok(Self::FLOAT),
            _ => text
                .parse()
                .ok()
                .and_then(|bits| Self::new(bits).ok())
                .ok_or_else(|| BitsError(text.to_owned())),
        }
    }
}

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.get() {
            Some(bits) => serializer.serialize_u8(bits),
            None => serializer.serialize_str("float"),
        }
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Files hold a number or the word `float`.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u8),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bits) => Self::new(bits),
            Written::Word(word) if word == "float" => Ok(Self::FLOAT),
            Written::Word(word) => Err(BitsError(word)),
        }
        .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Bits;

    #[test]
    fn every_width_survives_text_and_json() {
        for &bits in Bits::ALL {
            assert_eq!(bits.to_string().parse(), Ok(bits));
            let json = serde_json::to_string(&bits).unwrap();
            assert_eq!(serde_json::from_str::<Bits>(&json).unwrap(), bits);
        }
        assert_eq!(serde_json::to_string(&Bits::FLOAT).unwrap(), "\"float\"");
    }

    #[test]
    fn other_widths_are_refused() {
        for bits in [0, 1, 9, 15, 17, 32, 255] {
            assert!(Bits::new(bits).is_err(), "{bits}");
            assert!(serde_json::from_str::<Bits>(&bits.to_string()).is_err(), "{bits}");
        }
    }

    #[test]
    fn levels_are_powers_of_two() {
        assert_eq!(Bits::new(4).unwrap().levels(), Some(16));
        assert_eq!(Bits::new(16).unwrap().levels(), Some(65536));
        assert_eq!(Bits::FLOAT.levels(), None);
        assert!(Bits::new(16).unwrap() < Bits::FLOAT);
    }
}
