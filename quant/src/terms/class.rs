//! The diagnosis of a distribution in one word.

use super::words;

/// What kind of distribution a site has; decided from the data alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// One peak, light tails: a uniform grid fits.
    Normal,
    /// Two well separated peaks with a valley between them.
    Bimodal,
    /// Non-negative, mass near zero, a tail that falls like a power of the value (attention probabilities).
    PowerLaw,
    /// One peak and rare values far outside the bulk, in any channel.
    HeavyTailed,
    /// A few channels reach many times further than the rest.
    OutlierChannel,
    /// Almost everything on one side of zero (the output of GELU or `ReLU`).
    OneSided,
    /// A single value.
    Constant,
}

words!(Class, "class", {
    Normal => "normal",
    Bimodal => "bimodal",
    PowerLaw => "power-law",
    HeavyTailed => "heavy-tailed",
    OutlierChannel => "outlier-channel",
    OneSided => "one-sided",
    Constant => "constant",
});

#[cfg(test)]
mod tests {
    use super::Class;

    #[test]
    fn words_survive_a_round_trip() {
        for &class in Class::ALL {
            assert_eq!(class.to_string().parse(), Ok(class));
        }
    }
}
