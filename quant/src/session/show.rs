//! One sample as an interface shows it.

mod runs;

pub(super) use runs::ShownRuns;

use std::sync::Arc;
use std::time::Instant;

use super::messages::{Generation, OutputView, SampleView};
use super::{FittedPlan, Session, SessionError, lock};
use crate::eval::answer::{Answer, Match, Vector};
use crate::eval::metrics::sqnr_db;
use crate::exec::{Cancel, Quantization};

impl Session {
    /// Runs one sample in full precision and under a fitted plan. What the last runs of it have in common with these is
    /// not computed again.
    pub fn show(
        &self,
        generation: Generation,
        index: usize,
        text: Option<&str>,
        fitted: &FittedPlan,
        cancel: &Cancel,
    ) -> Result<SampleView, SessionError> {
        let start = Instant::now();
        let set = self.samples.as_ref().ok_or(SessionError::NoSamples)?;
        if index >= set.len() {
            return Err(SessionError::NoSample { index, count: set.len() });
        }
        let asked = (index, text.map(str::to_owned));
        let quantization = self.quantization(fitted)?;
        let none = Quantization::none(&self.model.graph);
        let (inputs, full, quantized, nodes_run) = self.shown.with(|runs, keep| {
            let inputs = runs.inputs(self, set, &asked)?;
            let of = (index, &inputs.made);
            let (base, variant) = (&self.base.engine, &fitted.variant.engine);
            let (full, _) = self.pool.install(|| runs.answer(self, of, (base, &none), keep, cancel))?;
            let (quantized, nodes_run) =
                self.pool.install(|| runs.answer(self, of, (variant, &quantization), keep, cancel))?;
            Ok::<_, SessionError>((inputs, full, quantized, nodes_run))
        })?;
        let (picture, inputs) = (inputs.picture.clone(), &inputs.made);
        if text.is_none() {
            lock(&self.reference).insert(index, Arc::clone(&full));
        }
        let standing = |found: Option<Match>| found.map(|found| found.standing());
        let with_truth =
            |answer: &Answer| standing(inputs.truth.as_ref().and_then(|truth| answer.compare(truth)));
        Ok(SampleView {
            generation,
            sample: index,
            own_text: text.is_none(),
            warnings: inputs.warnings.iter().map(ToString::to_string).collect(),
            picture,
            full_precision_score: with_truth(&full),
            quantized_score: with_truth(&quantized),
            agreement: standing(quantized.compare(&full)).unwrap_or(0.0),
            outputs: compare_outputs(&full, &quantized),
            truth: inputs.truth.clone(),
            full_precision: full.as_ref().clone(),
            quantized: quantized.as_ref().clone(),
            nodes_run,
            nodes: self.model.graph.nodes().len(),
            milliseconds: start.elapsed().as_secs_f64() * 1e3,
            text: inputs.text.clone(),
        })
    }
}

/// Vectors of both answers, one by one.
fn compare_outputs(full: &Answer, quantized: &Answer) -> Vec<OutputView> {
    let (Answer::Vectors(full), Answer::Vectors(quantized)) = (full, quantized) else { return Vec::new() };
    let view = |(before, after): (&Vector, &Vector)| {
        let one = |vector: &Vector| Answer::Vectors(vec![vector.clone()]);
        OutputView {
            name: before.name.clone(),
            numbers: before.values.len(),
            cosine: one(after).compare(&one(before)).map_or(0.0, |found| found.standing()),
            sqnr_db: sqnr_db(&before.values, &after.values),
        }
    };
    full.iter().zip(quantized).map(view).collect()
}
