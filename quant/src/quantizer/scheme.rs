//! Which grid, how its range is found, and for what.

use super::error::QuantizerError;
pub use crate::terms::Granularity;
use crate::terms::{UnknownWord, words};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// The percentiles RepQ-ViT chooses from.
pub const REPQ_PERCENTILES: [f64; 3] = [0.999, 0.9999, 0.99999];

/// A family of grids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Equal steps.
    Uniform,
    /// Powers of two below a scale, and zero.
    Log2,
    /// Powers of √2 below a scale, and zero.
    LogSqrt2,
    /// Powers of 2, √2 or ⁴√2 below a scale, and zero.
    Agq,
    /// Equal steps of `ln(1 + alpha · x)`.
    Lnq,
    /// Powers of `2^(-q / 37)`, from shifts and a table, below a scale, and zero.
    Adalog,
    /// Powers of two below 1 as an integer softmax rounds to them, and zero.
    LogIntSoftmax,
    /// A step for negative values and one for positive ones (after GELU).
    DrqGelu,
    /// A fine step below a split and a coarse one above (after softmax).
    DrqSoftmax,
    /// Equal steps in groups of magnitudes.
    Rorq,
    /// Equal steps, per channel times a power of two.
    Ptf,
    /// Powers of two below a threshold, equal steps above.
    Hluq,
    /// Equal steps in groups of channels.
    ChannelGroups,
}

words!(Family, "quantizer", {
    Uniform => "uniform",
    Log2 => "log2",
    LogSqrt2 => "log-sqrt2",
    Agq => "agq",
    Lnq => "lnq",
    Adalog => "adalog",
    LogIntSoftmax => "log-int-softmax",
    DrqGelu => "drq-gelu",
    DrqSoftmax => "drq-softmax",
    Rorq => "rorq",
    Ptf => "ptf",
    Hluq => "hluq",
    ChannelGroups => "channel-groups",
});

impl Family {
    /// The search that the family was published with, where there is one.
    pub const fn usual_range(self) -> RangeSearch {
        match self {
            Self::Agq | Self::Lnq => RangeSearch::Mse { p: 2.4 },
            Self::Adalog | Self::DrqGelu | Self::DrqSoftmax | Self::Hluq => RangeSearch::Mse { p: 2.0 },
            _ => RangeSearch::MinMax,
        }
    }
}

impl Family {
    /// What the grid is for and how it works, in two lines for people.
    pub const fn explanation(self) -> [&'static str; 2] {
        match self {
            Self::Uniform => [
                "Equal steps between two ends: what every integer kernel multiplies.",
                "Good where values fill their range evenly; few far values take its levels from all others.",
            ],
            Self::Log2 => [
                "Powers of two below the largest value: products become shifts.",
                "Fine near zero, coarse near the top, where attention matters most.",
            ],
            Self::LogSqrt2 => [
                "Powers of √2 below a scale: twice as fine as log2 at half the reach (RepQ-ViT).",
                "A shift and a second scale for odd codes; made for attention probabilities.",
            ],
            Self::Agq => [
                "Powers of 2, √2 or ⁴√2: the base is chosen for each attention (PTQ4SAM).",
                "Chosen by the error after the product with the values where these are known.",
            ],
            Self::Lnq => [
                "Equal steps of ln(1 + alpha·x), true b bits (AHCQ-SAM).",
                "alpha bends the grid from uniform to logarithmic as the site needs it.",
            ],
            Self::Adalog => [
                "Powers of a searched base 2^(-q/37): shifts and a small table (AdaLog).",
                "After GELU the values are shifted above zero first; the shift goes into the next bias.",
            ],
            Self::LogIntSoftmax => [
                "Powers of two below 1 as an integer-only softmax rounds them (FQ-ViT).",
                "Nothing to fit: codes follow from the integer exponentials.",
            ],
            Self::DrqGelu => [
                "One step for negative values, one for positive ones; a bit says which (PTQ4ViT, PTQ4RIS).",
                "GELU's short negative side keeps its detail whatever the positive side reaches.",
            ],
            Self::DrqSoftmax => [
                "A fine step below a power-of-two split, a coarse one above (PTQ4ViT, PTQ4RIS).",
                "The many small probabilities and the few large ones each get half of the codes.",
            ],
            Self::Rorq => [
                "Groups by magnitude at mean + 3·std, each with a grid of its own (PTQ4RIS).",
                "Costs a group index where outliers are, more than b bits on average.",
            ],
            Self::Ptf => [
                "One grid whose step is 1, 2, 4 or 8 times larger per channel (FQ-ViT).",
                "Channels of unlike reach share a scale; kernels shift.",
            ],
            Self::Hluq => [
                "Powers of two below a threshold, equal steps above (AHCPTQ).",
                "For GELU at 4 or 5 bits; at 6 and more a plain grid is usually better.",
            ],
            Self::ChannelGroups => [
                "Channels with alike ranges share one of a few grids (AHCPTQ's CAG).",
                "Nearly as good as a grid per channel, with a group index per channel instead.",
            ],
        }
    }
}

/// How the range of a grid is found.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RangeSearch {
    /// From the smallest value to the largest.
    MinMax,
    /// From percentile `1 - p` to `p`: of several `p` the one of least mean squared error (RepQ-ViT).
    Percentile(Vec<f64>),
    /// The range of least mean `|x - q(x)|^p`.
    Mse {
        /// The exponent; 2 is the mean squared error.
        p: f64,
    },
    /// The range whose quantized histogram diverges least from the original (TensorRT).
    Kl,
    /// From the mean of the smallest values of the calibration batches to the mean of the largest (PTQ4SAM).
    AverageMinMax,
    /// The moving average of the ranges of the calibration batches: `momentum · new + (1 - momentum) · old`.
    Ema {
        /// The weight of a new batch.
        momentum: f64,
        /// Of the ranges of least mean `|x - q(x)|^p` (PTQ4RIS's decoder); of min–max without it (I-ViT, FQ-ViT).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        p: Option<f64>,
    },
    /// The range of least mean `|x - q(x)|^p` by a bounded minimiser, averaged over batches (PTQ4SAM's keys).
    Bounded {
        /// The exponent; 2.4 in the paper's code.
        p: f64,
    },
    /// Both ends shrunk together in 80 steps of 1 %, least mean `|x - q(x)|^2.4` (BRECQ).
    Shrink,
    /// Both ends shrunk together in 90 steps of 1 %, least mean squared error (FQ-ViT).
    Omse,
    /// Of both operands of a layer in turn, by the squared error of its output weighted by squared gradients of the
    /// model's loss (PTQ4ViT, PTQ4RIS). Needs the calibration samples; elsewhere see [`RangeSearch::on_values`].
    Hessian,
    /// Of a weight, by the squared error of its layer's output. Needs the calibration samples, as above.
    Output,
    /// Of queries and keys, the percentile that least changes what is attended to (SAQ-SAM). Needs the calibration
    /// samples, as above.
    Overlap,
}

impl RangeSearch {
    /// RepQ-ViT's choice among three percentiles.
    pub fn repq() -> Self {
        Self::Percentile(REPQ_PERCENTILES.to_vec())
    }

    /// What takes the place of a search that looks at whole layers where there is only one tensor or its sketch: the
    /// least squared error of its values, among the same percentiles for [`RangeSearch::Overlap`].
    #[must_use]
    pub fn on_values(&self) -> Self {
        match self {
            Self::Hessian | Self::Output => Self::Mse { p: 2.0 },
            Self::Overlap => Self::Percentile(super::output::OVERLAP_PERCENTILES.to_vec()),
            other => other.clone(),
        }
    }

    /// What identifies the value, floats by their bits.
    fn identity(&self) -> (u8, Vec<u64>) {
        match self {
            Self::MinMax => (0, vec![]),
            Self::Percentile(levels) => (1, levels.iter().map(|p| p.to_bits()).collect()),
            Self::Mse { p } => (2, vec![p.to_bits()]),
            Self::Kl => (3, vec![]),
            Self::AverageMinMax => (4, vec![]),
            Self::Ema { momentum, p } => {
                (5, [Some(*momentum), *p].into_iter().flatten().map(f64::to_bits).collect())
            }
            Self::Bounded { p } => (6, vec![p.to_bits()]),
            Self::Shrink => (7, vec![]),
            Self::Omse => (8, vec![]),
            Self::Hessian => (9, vec![]),
            Self::Output => (10, vec![]),
            Self::Overlap => (11, vec![]),
        }
    }

    /// Whether the search is about the two ends of a grid of equal steps.
    pub(super) fn is_for_uniform(&self) -> bool {
        !matches!(self, Self::MinMax | Self::Percentile(_) | Self::Mse { .. })
    }

    pub(super) fn check(&self) -> Result<(), QuantizerError> {
        match self {
            Self::Percentile(levels) => match levels.iter().find(|p| !(**p > 0.0 && **p <= 1.0)) {
                Some(&value) => Err(QuantizerError::Setting { what: "percentile", value }),
                None if levels.is_empty() => {
                    Err(QuantizerError::Setting { what: "percentile", value: f64::NAN })
                }
                None => Ok(()),
            },
            Self::Mse { p } | Self::Bounded { p } | Self::Ema { p: Some(p), .. }
                if !(*p > 0.0 && *p <= 16.0) =>
            {
                Err(QuantizerError::Setting { what: "error exponent", value: *p })
            }
            Self::Ema { momentum, .. } if !(*momentum > 0.0 && *momentum <= 1.0) => {
                Err(QuantizerError::Setting { what: "momentum", value: *momentum })
            }
            _ => Ok(()),
        }
    }
}

impl PartialEq for RangeSearch {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for RangeSearch {}

impl Hash for RangeSearch {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl fmt::Display for RangeSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinMax => f.pad("min-max"),
            Self::Percentile(levels) if levels == &REPQ_PERCENTILES => f.pad("percentile"),
            Self::Percentile(levels) => {
                let levels: Vec<String> = levels.iter().map(f64::to_string).collect();
                f.pad(&format!("percentile:{}", levels.join(",")))
            }
            Self::Mse { p } if *p == 2.0 => f.pad("mse"),
            Self::Mse { p } => f.pad(&format!("mse:{p}")),
            Self::Kl => f.pad("kl"),
            Self::AverageMinMax => f.pad("average-min-max"),
            Self::Ema { momentum, p: None } => f.pad(&format!("ema:{momentum}")),
            Self::Ema { momentum, p: Some(p) } => f.pad(&format!("ema:{momentum},{p}")),
            Self::Bounded { p } => f.pad(&format!("bounded:{p}")),
            Self::Shrink => f.pad("shrink"),
            Self::Omse => f.pad("omse"),
            Self::Hessian => f.pad("hessian"),
            Self::Output => f.pad("output"),
            Self::Overlap => f.pad("overlap"),
        }
    }
}

impl FromStr for RangeSearch {
    type Err = UnknownWord;

    /// Reads what `Display` writes: `min-max`, `percentile`, `percentile:0.99`, `mse`, `mse:2.4`, `kl`,
    /// `average-min-max`, `ema:0.1`, `ema:0.1,2.4`, `bounded:2.4`, `shrink`, `omse`, `hessian`,
    /// `output`, `overlap`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownWord {
            what: "range search",
            found: text.to_owned(),
            expected: "min-max, percentile, percentile:P[,P…], mse, mse:EXPONENT, kl, average-min-max, \
                       ema:MOMENTUM[,EXPONENT], bounded:EXPONENT, shrink, omse, hessian, output, overlap"
                .to_owned(),
        };
        let search = match text.split_once(':') {
            None => match text {
                "min-max" => Self::MinMax,
                "percentile" => Self::repq(),
                "mse" => Self::Mse { p: 2.0 },
                "kl" => Self::Kl,
                "average-min-max" => Self::AverageMinMax,
                "shrink" => Self::Shrink,
                "omse" => Self::Omse,
                "hessian" => Self::Hessian,
                "output" => Self::Output,
                "overlap" => Self::Overlap,
                _ => return Err(unknown()),
            },
            Some(("percentile", levels)) => {
                let levels: Result<Vec<f64>, _> = levels.split(',').map(str::parse).collect();
                Self::Percentile(levels.map_err(|_| unknown())?)
            }
            Some(("mse", p)) => Self::Mse { p: p.parse().map_err(|_| unknown())? },
            Some(("bounded", p)) => Self::Bounded { p: p.parse().map_err(|_| unknown())? },
            Some(("ema", settings)) => {
                let (momentum, p) = settings.split_once(',').map_or((settings, None), |(m, p)| (m, Some(p)));
                let p = p.map(|p| p.parse().map_err(|_| unknown())).transpose()?;
                Self::Ema { momentum: momentum.parse().map_err(|_| unknown())?, p }
            }
            Some(_) => return Err(unknown()),
        };
        search.check().map_err(|_| unknown())?;
        Ok(search)
    }
}

/// Everything that decides a fit besides the data and the bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    /// The grid.
    pub family: Family,
    /// How its range is found.
    pub range: RangeSearch,
    /// Whether the grid is symmetric about zero (uniform only): the codes `1..=2^b - 1` about `2^(b-1)`, that
    /// is −(2^(b−1)−1) to 2^(b−1)−1 in signed form. The lowest code is left out ("narrow range"), so that
    /// negating a weight negates its quantized value.
    pub symmetric: bool,
    /// What has its own scale.
    pub granularity: Granularity,
    /// Whether to reproduce the released code of the paper where it is known to be wrong (each family says what
    /// that is); otherwise the sound form is used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paper: bool,
}

impl Scheme {
    /// An asymmetric scheme with one scale for the tensor.
    pub const fn new(family: Family, range: RangeSearch) -> Self {
        Self { family, range, symmetric: false, granularity: Granularity::Tensor, paper: false }
    }

    /// The scheme that a family was published with.
    pub fn published(family: Family) -> Self {
        let by_channel = matches!(family, Family::Ptf | Family::ChannelGroups);
        let granularity = if by_channel { Granularity::Channel } else { Granularity::Tensor };
        Self { granularity, ..Self::new(family, family.usual_range()) }
    }

    /// The same with a scale for every channel.
    #[must_use]
    pub fn per_channel(self) -> Self {
        Self { granularity: Granularity::Channel, ..self }
    }

    /// The same with a scale for every head.
    #[must_use]
    pub fn per_head(self) -> Self {
        Self { granularity: Granularity::Head, ..self }
    }

    /// The same, symmetric about zero.
    #[must_use]
    pub fn symmetric(self) -> Self {
        Self { symmetric: true, ..self }
    }

    /// The same with the search that one tensor alone allows: see [`RangeSearch::on_values`].
    #[must_use]
    pub fn on_values(&self) -> Self {
        Self { range: self.range.on_values(), ..self.clone() }
    }

    /// The same as released, with its defects.
    #[must_use]
    pub fn paper(self) -> Self {
        Self { paper: true, ..self }
    }
}

/// `uniform symmetric mse per channel`, `log-sqrt2 percentile`, `agq`: a family with a search of its own is its name,
/// unless something else is asked of it.
impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let published = Self::published(self.family);
        let own_search = !matches!(self.family, Family::Uniform | Family::Log2 | Family::LogSqrt2);
        let mut text = self.family.to_string();
        if self.symmetric {
            text.push_str(" symmetric");
        }
        if !own_search || self.range != published.range {
            text.push_str(&format!(" {}", self.range));
        }
        if self.granularity != published.granularity {
            text.push_str(&format!(" per {}", self.granularity));
        }
        if self.paper {
            text.push_str(RELEASED);
        }
        f.pad(&text)
    }
}

/// How a scheme ends that reproduces a release.
const RELEASED: &str = " as released";

impl FromStr for Scheme {
    type Err = UnknownWord;

    /// Reads what `Display` writes; what is left out is as published.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (text, paper) = match text.trim().strip_suffix(RELEASED) {
            Some(text) => (text, true),
            None => (text.trim(), false),
        };
        let (text, granularity) = match text.rsplit_once(" per ") {
            Some((text, of)) => (text, Some(of.parse()?)),
            None => (text, None),
        };
        let mut words = text.split_whitespace();
        let mut scheme = Self { paper, ..Self::published(words.next().unwrap_or_default().parse()?) };
        scheme.granularity = granularity.unwrap_or(scheme.granularity);
        for word in words {
            match word {
                "symmetric" => scheme.symmetric = true,
                "minmax" => scheme.range = RangeSearch::MinMax,
                range => scheme.range = range.parse()?,
            }
        }
        Ok(scheme)
    }
}
