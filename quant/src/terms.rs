//! The words every part of the engine shares: what is observed, what it holds, how many bits it gets.

mod bits;
mod class;
mod granularity;
mod layout;
mod refusal;
mod role;
mod site;

pub use bits::{Bits, BitsError};
pub use class::Class;
pub use granularity::Granularity;
pub use layout::{Layout, LayoutError};
pub(crate) use refusal::advice;
pub use role::Role;
pub use site::{SiteId, SiteIdError, Slot};

/// A word that is none of the known ones, together with those that are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{found}`; expected one of {expected}")]
pub struct UnknownWord {
    /// What was being read: `role`, `class`, `slot`…
    pub what: &'static str,
    /// The text that was found.
    pub found: String,
    /// The accepted words, separated by commas.
    pub expected: String,
}

/// Writes the kebab-case names of a fieldless enum once: list, `Display`, `FromStr` and serde all follow it.
macro_rules! words {
    ($name:ident, $what:literal, { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word used on screen, on the command line and in files.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::terms::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or_else(|| {
                    let words: Vec<&str> = Self::ALL.iter().map(|value| value.as_str()).collect();
                    $crate::terms::UnknownWord {
                        what: $what,
                        found: text.to_owned(),
                        expected: words.join(", "),
                    }
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use words;
