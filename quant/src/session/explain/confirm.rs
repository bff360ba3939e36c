//! Trying a remedy on samples.

use serde::Serialize;

use super::remedy::Remedy;
use super::words;
use crate::eval::answer::{Answer, Sheet};
use crate::eval::metrics::Scores;
use crate::eval::output_loss::between_outputs;
use crate::exec::{Cancel, Quantization};
use crate::session::{FittedPlan, Session, SessionError};
use crate::terms::SiteId;

/// A remedy, tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Confirmation {
    /// The site.
    pub site: SiteId,
    /// What was tried.
    #[serde(flatten)]
    pub remedy: Remedy,
    /// Samples that ran.
    pub samples: usize,
    /// The figure, as `mIoU`.
    pub metric: &'static str,
    /// With the truth in full precision; none without truth.
    pub full_precision: Option<f64>,
    /// Under the plan as it is.
    pub before: Outcome,
    /// With the remedy.
    pub after: Outcome,
    /// For people.
    pub sentence: String,
}

/// Samples under one plan.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outcome {
    /// The figure with the truth; none without truth.
    pub truth: Option<f64>,
    /// The figure with the answers of full precision.
    pub agreement: f64,
    /// Mean distance of the outputs from those of full precision, in the terms of the task; infinite where a run gave
    /// numbers that are not finite (in JSON null).
    #[serde(serialize_with = "finite")]
    pub output_loss: f64,
}

fn finite<S: serde::Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    x.is_finite().then_some(*x).serialize(serializer)
}

/// One sample: answers in full precision, before, after; truth; losses before and after.
type One = ([Answer; 3], Option<Answer>, [f64; 2]);

impl Session {
    /// Runs the first `samples` samples in full precision, under the plan, and with the remedy. `progress(done, total)`
    /// is called on this thread.
    pub fn confirm(
        &self,
        site: &SiteId,
        fitted: &FittedPlan,
        remedy: &Remedy,
        samples: usize,
        cancel: &Cancel,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Confirmation, SessionError> {
        self.index_of(site)?;
        if matches!(remedy, Remedy::Recalibrate) {
            return Err(SessionError::NoChange { remedy: remedy.label() });
        }
        let set = self.samples.as_ref().filter(|set| set.len() > 0).ok_or(SessionError::NoSamples)?;
        let mended = self.fit_plan(&self.remedied(fitted, site, remedy)?)?;
        let plans = [self.quantization(fitted)?, self.quantization(&mended)?];
        let engines = [&fitted.variant.engine, &mended.variant.engine];
        let none = Quantization::none(&self.model.graph);
        let total = set.len().min(samples.max(1));
        let mut all: Vec<Option<One>> = vec![None; total];
        progress(0, total);
        let mut done = 0;
        self.workers.for_each(
            total,
            |index| -> Result<One, SessionError> {
                let inputs = self.sample_inputs(set, index, None)?;
                let run = |engine, plan| {
                    self.outputs(engine, &inputs, plan, None, cancel).map(|(values, _)| values)
                };
                let full = run(&self.base.engine, &none)?;
                let before = run(engines[0], &plans[0])?;
                let after = run(engines[1], &plans[1])?;
                let loss = |other: &[_]| between_outputs(&self.model.task, &full, other);
                let losses = [loss(&before), loss(&after)];
                let read = |values: &[_]| self.read(&inputs, values);
                Ok::<One, SessionError>((
                    [read(&full)?, read(&before)?, read(&after)?],
                    inputs.truth.clone(),
                    losses,
                ))
            },
            |index, one| {
                all[index] = Some(one);
                done += 1;
                progress(done, total);
                Ok(())
            },
        )?;
        Ok(self.sum_up(site, remedy, &all))
    }

    /// Adds up in the order of the samples.
    fn sum_up(&self, site: &SiteId, remedy: &Remedy, all: &[Option<One>]) -> Confirmation {
        let (mut truth, mut agreement): ([Sheet; 3], [Sheet; 3]) = Default::default();
        let mut losses = [0.0, 0.0];
        let samples = all.iter().flatten().count();
        for (answers, exact, loss) in all.iter().flatten() {
            for (at, answer) in answers.iter().enumerate() {
                exact
                    .iter()
                    .filter_map(|exact| answer.compare(exact))
                    .for_each(|found| truth[at].add(&found));
                answer.compare(&answers[0]).iter().for_each(|found| agreement[at].add(found));
            }
            losses.iter_mut().zip(loss).for_each(|(sum, loss)| *sum += loss);
        }
        let figure = |sheet: &Sheet| sheet.scores().as_ref().map(Scores::standing);
        let outcome = |at: usize| Outcome {
            truth: figure(&truth[at]),
            agreement: figure(&agreement[at]).unwrap_or(0.0),
            output_loss: losses[at - 1] / samples.max(1) as f64,
        };
        let mut made = Confirmation {
            site: site.clone(),
            remedy: remedy.clone(),
            samples,
            metric: self.metric().name(),
            full_precision: figure(&truth[0]),
            before: outcome(1),
            after: outcome(2),
            sentence: String::new(),
        };
        made.sentence = words::confirmation(&made);
        made
    }
}
