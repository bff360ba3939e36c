//! What each part of a model costs when it is quantized: what is measured and how it is added up.
//!
//! A sweep runs a model once per part and sample, in two ways: *only* this part quantized (the harm that it does alone)
//! and *all but* this part (what leaving it in full precision would give back). Every run gives an [`Outcome`]; outcomes
//! are added up in the order of the samples, so findings do not depend on threads or on where a sweep was interrupted.

mod finding;
mod journal;
mod unit;

pub use finding::{Base, Effect, Finding, Findings, rank};
pub use journal::{Header, JournalError, SweepJournal};
pub use unit::{By, Unit, units};

use serde::{Deserialize, Serialize};

use super::answer::{Match, Metric};
use super::metrics::Overlap;
use crate::terms::words;

/// How a part is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Only this part is quantized.
    Only,
    /// Everything that the plan quantizes is, but for this part.
    AllBut,
}

words!(Mode, "way of measuring", { Only => "only", AllBut => "all-but" });

/// Power of a signal and of what differs from it, in squared units of the values.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Noise {
    /// Sum of the squares in full precision.
    pub signal: f64,
    /// Sum of the squared differences.
    pub noise: f64,
}

impl Noise {
    /// Of `other` against `reference`, finite differences only; sums are f64, sixteen lanes in a fixed order.
    pub fn between(reference: &[f32], other: &[f32]) -> Self {
        const LANES: usize = 16;
        let (mut signal, mut noise) = ([0.0_f64; LANES], [0.0_f64; LANES]);
        for (a, b) in reference.chunks(LANES).zip(other.chunks(LANES)) {
            for (lane, (a, b)) in a.iter().zip(b).enumerate() {
                let (a, d) = (f64::from(*a), f64::from(*b) - f64::from(*a));
                signal[lane] += a * a;
                noise[lane] += d * d;
            }
        }
        Self { signal: signal.iter().sum(), noise: noise.iter().sum() }
    }

    /// Adds another sample's.
    pub fn add(&mut self, other: Self) {
        self.signal += other.signal;
        self.noise += other.noise;
    }

    /// `10 log10(signal / noise)`, at most 200; 0 without a signal, or if anything is not finite.
    pub fn sqnr_db(self) -> f64 {
        if !(self.signal.is_finite() && self.noise.is_finite()) || self.signal <= 0.0 {
            0.0
        } else if self.noise <= 0.0 {
            200.0
        } else {
            (10.0 * (self.signal / self.noise).log10()).min(200.0)
        }
    }
}

/// How good one answer is: with the truth if there is one, with that of full precision, and its distance from the
/// results of full precision before they were turned into an answer (see
/// [`between_outputs`](super::output_loss::between_outputs)); none if that is not finite.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Judged {
    /// With the truth.
    #[serde(with = "as_figures")]
    pub truth: Option<Match>,
    /// With full precision.
    #[serde(with = "as_figures")]
    pub agreement: Option<Match>,
    /// The output loss.
    pub loss: Option<f64>,
}

/// What one run of a sweep gave.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// The answer.
    pub judged: Judged,
    /// Of a part with one layer, alone: the error of that layer's own output.
    pub isolated: Option<Noise>,
}

/// Matches in a journal: overlaps as two counts, everything else as the metric's figures.
mod as_figures {
    use super::{Match, Metric, Overlap};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Written {
        Overlap(u64, u64),
        TopOne(Vec<f64>),
        BoxF1(Vec<f64>),
        Cosine(Vec<f64>),
        Similarity(Vec<f64>),
    }

    #[allow(clippy::ref_option, reason = "serde gives a reference to the field")]
    pub(super) fn serialize<S: Serializer>(found: &Option<Match>, serializer: S) -> Result<S::Ok, S::Error> {
        let written = found.as_ref().map(|found| match found {
            Match::Overlap(both) => Written::Overlap(both.intersection, both.union),
            Match::Figures(Metric::TopOne, figures) => Written::TopOne(figures.clone()),
            Match::Figures(Metric::BoxF1, figures) => Written::BoxF1(figures.clone()),
            Match::Figures(Metric::Similarity, figures) => Written::Similarity(figures.clone()),
            // Masks have overlaps, so what is left are vectors.
            Match::Figures(Metric::Cosine | Metric::Miou, figures) => Written::Cosine(figures.clone()),
        });
        written.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Match>, D::Error> {
        Ok(Option::<Written>::deserialize(deserializer)?.map(|written| match written {
            Written::Overlap(intersection, union) => Match::Overlap(Overlap { intersection, union }),
            Written::TopOne(figures) => Match::Figures(Metric::TopOne, figures),
            Written::BoxF1(figures) => Match::Figures(Metric::BoxF1, figures),
            Written::Cosine(figures) => Match::Figures(Metric::Cosine, figures),
            Written::Similarity(figures) => Match::Figures(Metric::Similarity, figures),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_adds_up() {
        let a: Vec<f32> = (0..37).map(|i| i as f32).collect();
        let b: Vec<f32> = a.iter().map(|x| x + 0.5).collect();
        let noise = Noise::between(&a, &b);
        assert_eq!(
            (noise.signal, noise.noise),
            ((0..37).map(|i| f64::from(i * i)).sum::<f64>(), 37.0 * 0.25)
        );
        assert_eq!(Noise::between(&a, &a).sqnr_db(), 200.0);
        assert_eq!(Noise { signal: 100.0, noise: 1.0 }.sqnr_db(), 20.0);
        assert_eq!(Noise { signal: 0.0, noise: 1.0 }.sqnr_db(), 0.0);
        assert_eq!(Noise { signal: f64::NAN, noise: 1.0 }.sqnr_db(), 0.0);
    }

    #[test]
    fn outcomes_come_back_from_json_as_they_were() {
        let overlap = Some(Match::Overlap(Overlap { intersection: 3, union: 7 }));
        let figures = Some(Match::Figures(Metric::BoxF1, vec![0.1 + 0.2, 1.0 / 3.0]));
        let judged = Judged { truth: overlap, agreement: figures, loss: Some(1e-17 / 3.0) };
        let one = Outcome { judged, isolated: Some(Noise { signal: 0.1, noise: 1e-300 }) };
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), one);
        let nothing = serde_json::to_string(&Outcome::default()).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&nothing).unwrap(), Outcome::default());
    }
}
