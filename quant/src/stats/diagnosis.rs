//! What kind of distribution a sketch holds.

use super::density::{Density, Peaks};
use super::percentile::Ranks;
use super::sentence::sentence;
use super::sketch::Sketch;
use crate::terms::{Class, Role};
use serde::Serialize;

/// Fewer channels than this have no typical one to compare with.
const FEWEST_CHANNELS: usize = 8;
/// How many times further than the median channel an outlier channel reaches.
const OUTLIER_RATIO: f64 = 4.0;
/// The largest share of channels that can be outliers.
const OUTLIER_SHARE: f64 = 0.25;
/// The valley between two peaks lies below this share of the lower peak.
const VALLEY: f64 = 0.75;
/// Slope of the tail (see [`Evidence::tail_slope`]) above which it is a power law; a half-normal has −2.9, an
/// exponential −2.06, a log-normal of deviation 1 has −1.7, Lomax with exponent 2 −1.3.
const POWER_SLOPE: f64 = -1.85;
/// The shorter side of a one-sided distribution, relative to the longer one.
const ASYMMETRY: f64 = 0.3;
/// How much further than its near end the far end of a one-sided distribution lies from the median.
const LEAN: f64 = 2.0;
/// Kurtosis from which tails are heavy; normal 3, logistic 4.2, Laplace 6.
const KURTOSIS: f64 = 5.2;
/// Spread of the outer percent in quarter spreads from which tails are heavy; normal 3.8, t(3) 7.6.
const TAIL_SPREAD: f64 = 5.8;
/// Largest magnitude over that of the 99.9th percentile from which tails are heavy.
const REACH_RATIO: f64 = 3.0;

/// The class of a distribution, the figures that decided it, and what it means.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The class.
    pub class: Class,
    /// Every figure that the rules look at.
    pub evidence: Evidence,
    /// One or two sentences on the distribution. They advise nothing: what would help is predicted for each quantizer.
    pub sentence: String,
}

/// The figures behind a diagnosis.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Evidence {
    /// Fourth standardised moment; 3 for a normal distribution.
    pub kurtosis: f64,
    /// Third standardised moment.
    pub skewness: f64,
    /// Share of exact zeros.
    pub zeros: f64,
    /// Smallest, 1st percentile, median, 99th percentile, largest value.
    pub quantiles: [f64; 5],
    /// Largest magnitude over the 99.9th percentile of the magnitudes (of the longer side).
    pub max_over_p999: f64,
    /// The larger of the two `|p99.5 or p0.5 - median| / half the quartile distance`.
    pub tail_spread: f64,
    /// Slope of log P(X > x) over log x between the median and the 99th percentile of the non-zero values of
    /// a non-negative distribution; 0 for any other.
    pub tail_slope: f64,
    /// Peaks of the smoothed density.
    pub peaks: Peaks,
    /// The furthest-reaching channel relative to the median one (by the 8th most extreme value).
    pub channel_ratio: f64,
    /// Reach of the median channel from the common centre.
    pub typical_reach: f64,
    /// The centre the reaches are measured from: the median of the channel means.
    pub centre: f64,
    /// The outlier channels, furthest-reaching first.
    pub outlier_channels: Vec<OutlierChannel>,
    /// Number of channels.
    pub channels: usize,
}

/// A channel that reaches much further than the others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OutlierChannel {
    /// Its number.
    pub channel: usize,
    /// Its smallest value.
    pub min: f32,
    /// Its largest value.
    pub max: f32,
    /// How many times further than the median channel it reaches.
    pub ratio: f64,
}

/// Decides the class of a sketch. The data alone decide; `role` may only word the sentence.
///
/// The rules in their order, the first that holds wins:
/// 1. **constant**: no finite value or a single one;
/// 2. **outlier-channel**: at most a quarter of at least 8 channels reaches 4 times as far from the common centre
///    as the median channel, judged by the 8th most extreme value of each, so that a few stray values of a
///    heavy tail do not count;
/// 3. **bimodal**: exactly two peaks of the smoothed density (see [`Peaks`]) with a valley below ¾ of the lower;
/// 4. **power-law**: no negative value, a tail flatter than x^-1.85, and a median below a tenth of the maximum;
/// 5. **one-sided**: the 1st and 99th percentile lie as 0.3 : 1 or less about zero and the far one is twice as
///    far from the median;
/// 6. **heavy-tailed**: kurtosis above 5.2, or outer percent wider than 5.8 quarter spreads, or a maximum 3
///    times the 99.9th percentile;
/// 7. **normal** otherwise.
pub fn diagnose(sketch: &Sketch, role: Role) -> Diagnosis {
    let evidence = Evidence::gather(sketch);
    let class = evidence.class();
    let sentence = sentence(class, &evidence, role);
    Diagnosis { class, evidence, sentence }
}

impl Evidence {
    fn gather(sketch: &Sketch) -> Self {
        let ranks = Ranks::new(sketch);
        if ranks.is_empty() {
            return Self { channels: sketch.channels(), ..Self::default() };
        }
        let at = |p| ranks.percentile(p);
        let median = at(0.5);
        let quarter = 0.5 * (at(0.75) - at(0.25));
        let outer = (at(0.995) - median).abs().max((median - at(0.005)).abs());
        let (min, max) = (at(0.0), at(1.0));
        let far = at(0.999).abs().max(at(0.001).abs());
        let (outlier_channels, channel_ratio, typical_reach, centre) = channel_reaches(sketch);
        Self {
            kurtosis: sketch.kurtosis(),
            skewness: sketch.skewness(),
            zeros: sketch.zeros() as f64 / sketch.finite() as f64,
            quantiles: [min, at(0.01), median, at(0.99), max],
            max_over_p999: ratio(max.abs().max(min.abs()), far),
            tail_spread: if quarter > 0.0 { outer / quarter } else { 0.0 },
            tail_slope: tail_slope(sketch, &ranks),
            peaks: if min < max {
                Density::new(sketch).peaks()
            } else {
                Peaks { at: vec![min], valley: 1.0 }
            },
            channel_ratio,
            typical_reach,
            centre,
            outlier_channels,
            channels: sketch.channels(),
        }
    }

    fn class(&self) -> Class {
        let [min, low, median, high, max] = self.quantiles;
        if min >= max {
            return Class::Constant;
        }
        if !self.outlier_channels.is_empty() {
            return Class::OutlierChannel;
        }
        if self.peaks.at.len() == 2 && self.peaks.valley < VALLEY {
            return Class::Bimodal;
        }
        if min >= 0.0 && self.tail_slope < 0.0 && self.tail_slope > POWER_SLOPE && median <= 0.1 * max {
            return Class::PowerLaw;
        }
        // The mirror image of a one-sided distribution is one-sided too.
        let (near, far, lean) = if high >= -low {
            (low, high, (high - median) / (median - low))
        } else {
            (high, -low, (median - low) / (high - median))
        };
        if far > 0.0 && near.abs() <= ASYMMETRY * far && lean >= LEAN {
            return Class::OneSided;
        }
        let heavy = self.kurtosis > KURTOSIS || self.tail_spread > TAIL_SPREAD;
        // Far values of an offset distribution are no tail.
        let stray = self.max_over_p999 > REACH_RATIO && low < 0.0 && high > 0.0;
        if heavy || stray { Class::HeavyTailed } else { Class::Normal }
    }
}

/// Outlier channels (furthest first), the ratio of the furthest reach to the median one, the median, the centre.
fn channel_reaches(sketch: &Sketch) -> (Vec<OutlierChannel>, f64, f64, f64) {
    let stats: Vec<_> = sketch.channel_stats();
    let centre = median(stats.iter().filter(|c| c.count > 0).map(|c| c.mean).collect());
    let reaches: Vec<f64> = (0..stats.len())
        .map(|c| {
            let far = |values: Vec<f32>| values.last().map_or(0.0, |&x| (f64::from(x) - centre).abs());
            far(sketch.channel_largest(c)).max(far(sketch.channel_smallest(c)))
        })
        .collect();
    let typical = median(reaches.clone());
    let furthest = reaches.iter().copied().fold(0.0, f64::max);
    let limit = typical * OUTLIER_RATIO;
    let mut outliers: Vec<OutlierChannel> = reaches
        .iter()
        .zip(&stats)
        .enumerate()
        .filter(|(_, (reach, _))| **reach > limit)
        .map(|(channel, (&reach, stats))| OutlierChannel {
            channel,
            min: stats.min,
            max: stats.max,
            ratio: ratio(reach, typical),
        })
        .collect();
    outliers.sort_by(|a, b| b.ratio.total_cmp(&a.ratio).then(a.channel.cmp(&b.channel)));
    let few = outliers.len() as f64 <= stats.len() as f64 * OUTLIER_SHARE;
    if stats.len() < FEWEST_CHANNELS || !few {
        outliers.clear();
    }
    (outliers, ratio(furthest, typical), typical, centre)
}

/// See [`Evidence::tail_slope`].
fn tail_slope(sketch: &Sketch, ranks: &Ranks) -> f64 {
    let nonzero = sketch.finite() - sketch.zeros();
    if sketch.min() < 0.0 || nonzero < 2 {
        return 0.0;
    }
    // Zeros come first among non-negative values.
    let value = |p: f64| ranks.value(sketch.zeros() + (p * (nonzero - 1) as f64) as u64);
    let run = (value(0.99) / value(0.5)).ln();
    if run > 0.0 { (0.01_f64 / 0.5).ln() / run } else { f64::NEG_INFINITY }
}

/// `a / b`, finite for any two magnitudes: JSON knows no infinity.
fn ratio(a: f64, b: f64) -> f64 {
    if a == b { 1.0 } else { (a / b).min(1e9) }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => 0.5 * (values[n / 2 - 1] + values[n / 2]),
    }
}
