//! Whether the sentence still matters: masks for the sample's own sentence against those for another sample's.

use serde::Serialize;

use crate::eval::answer::Answer;
use crate::exec::{Cancel, Quantization};
use crate::models::Task;
use crate::session::inputs::reads_text;
use crate::session::{FittedPlan, Session, SessionError};

/// Masks ignore the sentence when less than this share of what it changed in full precision is left.
pub const IGNORED: f64 = 0.25;
/// The sentence matters less when less than this share is left.
pub const WEAKER: f64 = 0.75;
/// Masks that overlap less than this with those of full precision say nothing about the sentence.
const BROKEN: f64 = 0.3;
/// In full precision a sentence that changes less than this (of 1) changes nothing that could be lost.
const LITTLE: f64 = 0.05;

/// Masks for swapped sentences. Every sample's sentence is replaced by that of the next sample that has another one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SwappedText {
    /// Samples that ran.
    pub samples: usize,
    /// Mean IoU of the masks for own and swapped sentences in full precision; 1 if the sentence changes nothing.
    pub full_precision: f64,
    /// The same under the plan.
    pub quantized: f64,
    /// Mean IoU of the masks for the own sentences under the plan with those of full precision.
    pub agreement: f64,
    /// Whether the sentence still matters under the plan; not where the masks are broken.
    pub text_matters: bool,
    /// For people.
    pub sentence: String,
}

impl Session {
    /// Runs the first `samples` samples with their own and with swapped sentences, in full precision and under the plan.
    /// For models that do not answer sentences with masks, and without two different sentences, says why there is
    /// nothing to swap.
    pub(super) fn swapped_text(
        &self,
        fitted: &FittedPlan,
        samples: usize,
        cancel: &Cancel,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Result<SwappedText, &'static str>, SessionError> {
        if !reads_text(&self.model.graph) {
            return Ok(Err("the model reads no text"));
        }
        if !matches!(self.model.task, Task::Mask { .. }) {
            return Ok(Err("the model does not answer with masks"));
        }
        let Some(set) = self.samples.as_ref().filter(|set| !set.is_empty()) else {
            return Ok(Err("there are no samples"));
        };
        let sentences: Vec<Option<&str>> = set.entries().iter().map(|entry| entry.text.as_deref()).collect();
        let pairs: Vec<(usize, &str)> = (0..sentences.len().min(samples))
            .filter_map(|at| {
                let own = sentences[at]?;
                let mut others = (1..sentences.len()).map(|by| sentences[(at + by) % sentences.len()]);
                Some((at, others.find_map(|other| other.filter(|other| *other != own))?))
            })
            .collect();
        if pairs.is_empty() {
            return Ok(Err("all samples have the same sentence"));
        }
        let quantization = self.quantization(fitted)?;
        let none = Quantization::none(&self.model.graph);
        let mut overlaps = vec![[0.0; 3]; pairs.len()];
        let mut done = 0;
        self.workers.for_each(
            pairs.len(),
            |at| -> Result<[f64; 3], SessionError> {
                let (index, other) = pairs[at];
                let own = self.sample_inputs(set, index, None)?;
                let swapped = self.sample_inputs(set, index, Some(other))?;
                let overlap = |a: &Answer, b: &Answer| a.compare(b).map_or(0.0, |found| found.standing());
                let both = |engine, plan| -> Result<(Answer, f64), SessionError> {
                    let own = self.answer(engine, &own, plan, cancel)?;
                    let swapped = self.answer(engine, &swapped, plan, cancel)?;
                    let same = overlap(&own, &swapped);
                    Ok((own, same))
                };
                let (full, full_same) = both(&self.base.engine, &none)?;
                let (quantized, quantized_same) = both(&fitted.variant.engine, &quantization)?;
                Ok([full_same, quantized_same, overlap(&quantized, &full)])
            },
            |at, overlap| {
                overlaps[at] = overlap;
                done += 1;
                progress(done, pairs.len());
                Ok(())
            },
        )?;
        // In the order of the samples.
        let mean = |which: usize| overlaps.iter().map(|pair| pair[which]).sum::<f64>() / pairs.len() as f64;
        Ok(Ok(judge(pairs.len(), mean(0), mean(1), mean(2))))
    }
}

fn judge(samples: usize, full_precision: f64, quantized: f64, agreement: f64) -> SwappedText {
    let (matters, still) = (1.0 - full_precision, 1.0 - quantized);
    let (text_matters, says) = if matters < LITTLE {
        (true, "the sentence changes little in full precision too, so there is nothing to lose")
    } else if still < IGNORED * matters {
        (false, "masks ignore the sentence")
    } else if agreement < BROKEN {
        (false, "the masks are no longer those of full precision, so little overlap says nothing")
    } else if still < WEAKER * matters {
        (true, "the sentence matters less than in full precision")
    } else {
        (true, "the sentence still matters")
    };
    let sentence = format!(
        "Swapped sentences: masks for own and swapped sentences overlap by {quantized:.2} under the plan, by \
         {full_precision:.2} in full precision ({samples} samples), and with those of full precision by {agreement:.2}: {says}."
    );
    SwappedText { samples, full_precision, quantized, agreement, text_matters, sentence }
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn the_verdict_is_relative_to_full_precision() {
        let says = |full, quantized, words: &str| {
            let made = judge(8, full, quantized, 0.9);
            assert!(made.sentence.contains(words), "{}", made.sentence);
            made.text_matters
        };
        assert!(says(0.2, 0.39, "still matters"));
        assert!(says(0.2, 0.41, "matters less"));
        assert!(says(0.2, 0.79, "matters less"));
        assert!(!says(0.2, 0.81, "ignore the sentence"));
        assert!(!says(0.2, 1.0, "ignore the sentence"));
        assert!(says(0.96, 1.0, "nothing to lose"));
        // Masks of nothing overlap little, whatever the sentence.
        let broken = judge(8, 0.2, 0.0, 0.05);
        assert!(!broken.text_matters && broken.sentence.contains("says nothing"), "{}", broken.sentence);
    }
}
