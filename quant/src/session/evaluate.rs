//! Metrics over the whole set of samples, in full precision and under a plan.

use std::sync::Arc;

use super::{FittedPlan, Session, SessionError, lock};
use crate::eval::answer::{Answer, Match, Metric, Sheet};
use crate::eval::metrics::Scores;
use crate::exec::{Cancel, Quantization};

/// Figures of a set. Sums are taken in the order of the samples, so they do not depend on threads.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Samples evaluated.
    pub samples: usize,
    /// With truth: of those, in full precision.
    pub full_precision: Option<Scores>,
    /// With truth: under the plan.
    pub quantized: Option<Scores>,
    /// Answers under the plan against those of full precision.
    pub agreement: Option<Scores>,
    /// Per sample: number, standing figure under the plan with truth, else with full precision.
    pub per_sample: Vec<(usize, f64)>,
    /// The figure that stands for the task.
    pub metric: Metric,
}

/// What one sample contributes.
#[derive(Debug, Clone)]
pub(super) struct One {
    full: Option<Match>,
    quantized: Option<Match>,
    agreement: Option<Match>,
}

impl Evaluation {
    /// Adds up what is there, in the order of the samples.
    pub(super) fn of(parts: &[Option<One>], metric: Metric) -> Self {
        let (mut full, mut quantized, mut agreement) = (Sheet::default(), Sheet::default(), Sheet::default());
        let mut per_sample = Vec::new();
        for (index, one) in parts.iter().enumerate() {
            let Some(one) = one else { continue };
            one.full.iter().for_each(|found| full.add(found));
            one.quantized.iter().for_each(|found| quantized.add(found));
            one.agreement.iter().for_each(|found| agreement.add(found));
            if let Some(found) = one.quantized.as_ref().or(one.agreement.as_ref()) {
                per_sample.push((index, found.standing()));
            }
        }
        Self {
            samples: parts.iter().flatten().count(),
            full_precision: full.scores(),
            quantized: quantized.scores(),
            agreement: agreement.scores(),
            per_sample,
            metric,
        }
    }
}

impl Session {
    /// Evaluates all samples. `progress(done, total, so far)` is called on this thread after each; answers of the
    /// full-precision model are kept for the next time.
    pub fn evaluate(
        &self,
        fitted: &FittedPlan,
        cancel: &Cancel,
        mut progress: impl FnMut(usize, usize, &dyn Fn() -> Evaluation),
    ) -> Result<Evaluation, SessionError> {
        let set = self.samples.as_ref().ok_or(SessionError::NoSamples)?;
        let quantization = self.quantization(fitted)?;
        let none = Quantization::none(&self.model.graph);
        let float = fitted.params.iter().all(Option::is_none);
        let (total, metric) = (set.len(), self.metric());
        let mut parts: Vec<Option<One>> = vec![None; total];
        let mut done = 0;
        self.workers.for_each(
            total,
            |index| -> Result<One, SessionError> {
                let inputs = self.sample_inputs(set, index, None)?;
                let known = lock(&self.reference).get(&index).cloned();
                let full = match known {
                    Some(answer) => answer,
                    None => Arc::new(self.answer(&self.base.engine, &inputs, &none, None, cancel)?.0),
                };
                lock(&self.reference).insert(index, Arc::clone(&full));
                let quantized = if float {
                    Arc::clone(&full)
                } else {
                    Arc::new(self.answer(&fitted.variant.engine, &inputs, &quantization, None, cancel)?.0)
                };
                let with_truth =
                    |answer: &Answer| inputs.truth.as_ref().and_then(|truth| answer.compare(truth));
                Ok(One {
                    full: with_truth(&full),
                    quantized: with_truth(&quantized),
                    agreement: quantized.compare(&full),
                })
            },
            |index, one| {
                parts[index] = Some(one);
                done += 1;
                progress(done, total, &|| Evaluation::of(&parts, metric));
                Ok(())
            },
        )?;
        Ok(Evaluation::of(&parts, metric))
    }
}
