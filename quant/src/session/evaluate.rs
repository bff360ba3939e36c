//! Metrics over the whole set of samples, in full precision and under a plan.

use std::sync::Arc;

use super::{FittedPlan, Session, SessionError, lock};
use crate::eval::metrics::{BinaryMask, Overlap, Scores, Tally};
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
    /// Masks under the plan against full-precision masks.
    pub agreement: Option<Scores>,
    /// Per sample: number, IoU under the plan with truth, else with full precision.
    pub per_sample: Vec<(usize, f64)>,
}

/// What one sample contributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct One {
    full: Option<Overlap>,
    quantized: Option<Overlap>,
    agreement: Option<Overlap>,
}

impl Evaluation {
    /// Adds up what is there, in the order of the samples.
    pub(super) fn of(parts: &[Option<One>]) -> Self {
        let (mut full, mut quantized, mut agreement) = (Tally::new(), Tally::new(), Tally::new());
        let mut per_sample = Vec::new();
        for (index, one) in parts.iter().enumerate() {
            let Some(one) = one else { continue };
            one.full.into_iter().for_each(|o| full.add(o));
            one.quantized.into_iter().for_each(|o| quantized.add(o));
            one.agreement.into_iter().for_each(|o| agreement.add(o));
            if let Some(overlap) = one.quantized.or(one.agreement) {
                per_sample.push((index, overlap.iou()));
            }
        }
        Self {
            samples: parts.iter().flatten().count(),
            full_precision: full.scores(),
            quantized: quantized.scores(),
            agreement: agreement.scores(),
            per_sample,
        }
    }
}

impl Session {
    /// Evaluates all samples. `progress(done, total, so far)` is called on this thread after each; masks of the
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
        let total = set.len();
        let mut parts: Vec<Option<One>> = vec![None; total];
        let mut done = 0;
        self.workers.for_each(
            total,
            |index| -> Result<One, SessionError> {
                let inputs = self.sample_inputs(set, index, None)?;
                let known = lock(&self.reference).get(&index).cloned();
                let full = match known {
                    Some(mask) => mask,
                    None => Arc::new(self.mask(&self.base.engine, &inputs, &none, None, cancel)?.0),
                };
                lock(&self.reference).insert(index, Arc::clone(&full));
                let quantized = if float {
                    Arc::clone(&full)
                } else {
                    Arc::new(self.mask(&fitted.variant.engine, &inputs, &quantization, None, cancel)?.0)
                };
                let with_truth = |mask: &BinaryMask| inputs.truth.as_ref().and_then(|t| mask.overlap(t));
                Ok(One {
                    full: with_truth(&full),
                    quantized: with_truth(&quantized),
                    agreement: quantized.overlap(&full),
                })
            },
            |index, one| {
                parts[index] = Some(one);
                done += 1;
                progress(done, total, &|| Evaluation::of(&parts));
                Ok(())
            },
        )?;
        Ok(Evaluation::of(&parts))
    }
}
