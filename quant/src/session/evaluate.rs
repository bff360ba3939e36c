//! Metrics over the whole set of samples, in full precision and under a plan.

mod notes;

use std::sync::{Arc, Mutex};

use super::{FittedPlan, Session, SessionError, lock};
use crate::data::{Geometry, SampleSet, TextWarning};
use crate::eval::answer::{Answer, Match, Metric, Sheet};
use crate::eval::metrics::Scores;
use crate::exec::{Baseline, Cancel, Keep, NoTap, Quantization, Value};
use crate::models::Task;
use notes::Noted;

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
    /// What a person should know about these figures, each fact once; only of a whole set.
    pub warnings: Vec<String>,
}

/// What one sample contributes.
#[derive(Debug, Clone)]
pub(super) struct One {
    full: Option<Match>,
    quantized: Option<Match>,
    agreement: Option<Match>,
    noted: Noted,
}

impl One {
    /// `full` is the answer of full precision and how far it agrees with the truth; `text` what was lost of the sentence.
    fn of(
        (full, with_truth): (&Answer, Option<Match>),
        quantized: &Answer,
        truth: Option<&Answer>,
        text: Vec<TextWarning>,
    ) -> Self {
        let ours = truth.and_then(|truth| quantized.compare(truth));
        let noted = Noted { compared: ours.is_some(), text };
        Self { full: with_truth, quantized: ours, agreement: quantized.compare(full), noted }
    }
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
            warnings: Vec::new(),
        }
    }
}

/// A sample of the set, with the run that the next one starts from.
#[derive(Debug)]
pub(super) struct KeptRun {
    baseline: Baseline,
    geometry: Option<Geometry>,
    truth: Option<Answer>,
    /// What was lost of the sentence.
    text: Vec<TextWarning>,
    /// The answer of full precision, and how far it agrees with the truth.
    full: Option<(Arc<Answer>, Option<Match>)>,
}

impl KeptRun {
    /// Bytes of what is kept.
    pub(super) fn bytes(&self) -> usize {
        self.baseline.bytes()
    }
}

/// The kept run of a sample, once there is one.
pub(super) type KeptPlace = Arc<Mutex<Option<KeptRun>>>;

impl Session {
    /// Evaluates all samples. `progress(done, total, so far)` is called on this thread after each; answers of the
    /// full-precision model are kept for the next time.
    pub fn evaluate(
        &self,
        fitted: &FittedPlan,
        cancel: &Cancel,
        progress: impl FnMut(usize, usize, &dyn Fn() -> Evaluation),
    ) -> Result<Evaluation, SessionError> {
        self.evaluate_by(fitted, progress, |set, index, quantization| {
            self.whole(set, index, fitted, quantization, cancel)
        })
    }

    /// The same for a plan that is edited: values of every sample are kept within the session's cap, and the next
    /// evaluation computes only what the edits since then reach. Its figures are those of [`evaluate`](Self::evaluate).
    pub fn evaluate_edited(
        &self,
        fitted: &FittedPlan,
        cancel: &Cancel,
        progress: impl FnMut(usize, usize, &dyn Fn() -> Evaluation),
    ) -> Result<Evaluation, SessionError> {
        let keep = self.keep.get_or_init(|| self.keep_of_samples()).as_ref();
        self.evaluate_by(fitted, progress, |set, index, quantization| match keep {
            Some(keep) => self.edited(set, index, fitted, (quantization, keep), cancel),
            None => self.whole(set, index, fitted, quantization, cancel),
        })
    }

    /// Runs the samples on the weights that an export was made of: what full precision means from then on.
    /// `progress(done, total)` is called on this thread.
    pub fn compare_with(
        &self,
        original: &Self,
        cancel: &Cancel,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<(), SessionError> {
        let set = self.samples.as_ref().ok_or(SessionError::NoSamples)?;
        let (mut done, total) = (0, set.len());
        self.workers.for_each(
            total,
            |index| {
                let inputs = original.sample_inputs(set, index, None)?;
                let answer = original.full(index, &inputs.values, inputs.geometry.as_ref(), cancel)?;
                lock(&self.reference).insert(index, answer);
                Ok::<_, SessionError>(())
            },
            |_, ()| {
                done += 1;
                progress(done, total);
                Ok(())
            },
        )
    }

    fn evaluate_by(
        &self,
        fitted: &FittedPlan,
        mut progress: impl FnMut(usize, usize, &dyn Fn() -> Evaluation),
        one: impl Fn(&SampleSet, usize, &Quantization) -> Result<One, SessionError> + Sync,
    ) -> Result<Evaluation, SessionError> {
        let set = self.samples.as_ref().ok_or(SessionError::NoSamples)?;
        let quantization = self.quantization(fitted)?;
        let (total, metric) = (set.len(), self.metric());
        let mut parts: Vec<Option<One>> = vec![None; total];
        let mut done = 0;
        self.workers.for_each(
            total,
            |index| one(set, index, &quantization),
            |index, one| {
                parts[index] = Some(one);
                done += 1;
                progress(done, total, &|| Evaluation::of(&parts, metric));
                Ok(())
            },
        )?;
        let labelled = matches!(self.model.task, Task::Classes { .. } | Task::Letters { .. });
        let noted =
            parts.iter().zip(set.entries()).filter_map(|(one, entry)| Some((entry, &one.as_ref()?.noted)));
        let warnings = notes::of_set(noted, labelled);
        Ok(Evaluation { warnings, ..Evaluation::of(&parts, metric) })
    }

    /// A truth that an answer can be compared with: a class must be one of the model's.
    fn comparable(&self, truth: Option<Answer>) -> Option<Answer> {
        truth.filter(|truth| match (truth, &self.model.task) {
            (Answer::Classes(classes), Task::Classes { labels, .. }) => {
                classes.iter().all(|ranked| ranked.class < labels.len())
            }
            _ => true,
        })
    }

    /// One sample from its picture to its figures.
    fn whole(
        &self,
        set: &SampleSet,
        index: usize,
        fitted: &FittedPlan,
        quantization: &Quantization,
        cancel: &Cancel,
    ) -> Result<One, SessionError> {
        let inputs = self.sample_inputs(set, index, None)?;
        let full = self.full(index, &inputs.values, inputs.geometry.as_ref(), cancel)?;
        // Weights of an export are quantized whatever the plan says.
        let quantized = if fitted.params.iter().all(Option::is_none) && !self.weights_rewritten {
            Arc::clone(&full)
        } else {
            Arc::new(self.answer(&fitted.variant.engine, &inputs, quantization, cancel)?)
        };
        let truth = self.comparable(inputs.truth);
        let with_truth = truth.as_ref().and_then(|truth| full.compare(truth));
        Ok(One::of((&full, with_truth), &quantized, truth.as_ref(), inputs.warnings))
    }

    /// One sample from its last run on.
    fn edited(
        &self,
        set: &SampleSet,
        index: usize,
        fitted: &FittedPlan,
        (quantization, keep): (&Quantization, &Keep),
        cancel: &Cancel,
    ) -> Result<One, SessionError> {
        let place = Arc::clone(lock(&self.kept).entry(index).or_default());
        let mut kept = lock(&place);
        let engine = &fitted.variant.engine;
        let outputs = if let Some(run) = &mut *kept {
            engine.advance(&mut run.baseline, quantization, keep, cancel)?.outputs
        } else {
            let inputs = self.sample_inputs(set, index, None)?;
            let (run, baseline) = engine.baseline(&inputs.values, quantization, keep, &mut NoTap, cancel)?;
            *kept = Some(KeptRun {
                baseline,
                geometry: inputs.geometry,
                truth: self.comparable(inputs.truth),
                text: inputs.warnings,
                full: None,
            });
            run.outputs
        };
        let Some(run) = &mut *kept else { return Err(SessionError::NoSamples) };
        let (full, with_truth) = if let Some(known) = &run.full {
            known.clone()
        } else {
            let full = self.full(index, run.baseline.inputs(), run.geometry.as_ref(), cancel)?;
            let with_truth = run.truth.as_ref().and_then(|truth| full.compare(truth));
            run.full.insert((full, with_truth)).clone()
        };
        let quantized = self.read(&self.named(outputs), run.geometry.as_ref())?;
        Ok(One::of((&full, with_truth), &quantized, run.truth.as_ref(), run.text.clone()))
    }

    /// The answer of the full-precision model to a sample's own sentence.
    fn full(
        &self,
        index: usize,
        inputs: &[Value],
        geometry: Option<&Geometry>,
        cancel: &Cancel,
    ) -> Result<Arc<Answer>, SessionError> {
        if let Some(known) = lock(&self.reference).get(&index) {
            return Ok(Arc::clone(known));
        }
        let engine = &self.base.engine;
        let run = engine.run(inputs, &Quantization::none(engine.graph()), None, &mut NoTap, cancel)?;
        let answer = Arc::new(self.read(&self.named(run.outputs), geometry)?);
        lock(&self.reference).insert(index, Arc::clone(&answer));
        Ok(answer)
    }

    /// What is kept of every sample; none if that would be nothing.
    fn keep_of_samples(&self) -> Option<Keep> {
        let graph = &*self.model.graph;
        let inputs: usize =
            graph.inputs().iter().map(|&id| graph.node(id).shape.iter().product::<usize>()).sum();
        let share = self.kept_cap() / self.samples.as_ref()?.len().max(1);
        let keep = Keep::within(graph, share.checked_sub(inputs * size_of::<f32>())?);
        (keep.bytes() > 0).then_some(keep)
    }
}
