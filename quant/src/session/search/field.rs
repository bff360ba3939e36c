//! The calibration samples of a search, and runs of them under plans.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::data::Geometry;
use crate::eval::answer::{Answer, Sheet};
use crate::eval::output_loss::between_outputs;
use crate::eval::search::{Figures, Share};
use crate::eval::sensitivity::Judged;
use crate::exec::{Baseline, Cancel, ExecError, Keep, NoTap, Quantization, Value};
use crate::quantizer::Params;
use crate::session::variant::Variant;
use crate::session::{Session, SessionError, lock};

/// Samples of each part at most: as many as the papers calibrate with.
const MOST: usize = 32;
/// Samples that are prepared whatever the time: one for each part.
const FEWEST: usize = 2;

/// Parameters by site; none: full precision.
pub(super) type BySite = Vec<Option<Arc<Params>>>;

/// When to stop: at a time, or when told so.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    pub(super) cancel: Cancel,
    pub(super) end: Instant,
}

impl Stop {
    /// The same, `share` of the time that is left from now on.
    pub(super) fn within(&self, share: f64) -> Self {
        let now = Instant::now();
        let left = self.end.saturating_duration_since(now);
        Self { cancel: self.cancel.clone(), end: now + left.mul_f64(share.clamp(0.0, 1.0)) }
    }

    pub(super) fn over(&self) -> bool {
        self.cancel.is_cancelled() || Instant::now() >= self.end
    }

    /// What a piece of work that comes too late gives: a time that is over is an end like any other, being told to stop
    /// is not.
    pub(super) fn cut<T>(&self) -> Result<Option<T>, SessionError> {
        if self.cancel.is_cancelled() { Err(ExecError::Cancelled.into()) } else { Ok(None) }
    }
}

/// A sample with its results in full precision.
struct Prepared {
    inputs: Vec<Value>,
    geometry: Option<Geometry>,
    truth: Option<Answer>,
    outputs: Vec<(String, Value)>,
    answer: Answer,
}

/// A change of some sites.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'c> {
    pub(super) sites: &'c [usize],
    pub(super) params: &'c [Arc<Params>],
}

/// The calibration samples: choices are made on one part, plans are judged on the other.
pub(super) struct Field<'s> {
    session: &'s Session,
    samples: Vec<Prepared>,
    pub(super) fit: Vec<usize>,
    pub(super) confirm: Vec<usize>,
    /// How many samples were prepared of how many.
    pub(super) prepared: Share,
}

impl<'s> Field<'s> {
    /// Prepares the samples, at least one for each part: every other one for each; a single one is in both.
    pub(super) fn new(session: &'s Session, stop: &Stop) -> Result<Self, SessionError> {
        let set = session.calibration.as_ref().ok_or(SessionError::NoCalibration)?;
        let count = set.len().min(2 * MOST);
        if count == 0 {
            return Err(SessionError::NoCalibration);
        }
        let none = Quantization::none(&session.model.graph);
        let mut samples: Vec<Option<Prepared>> = (0..count).map(|_| None).collect();
        session.workers.for_each(
            count,
            |index| -> Result<Option<Prepared>, SessionError> {
                if index >= FEWEST && stop.over() {
                    return stop.cut();
                }
                let made = session.sample_inputs(set, index, None)?;
                let run = session.base.engine.run(&made.values, &none, None, &mut NoTap, &stop.cancel)?;
                let outputs = session.named(run.outputs);
                let answer = session.read(&outputs, made.geometry.as_ref())?;
                let (inputs, geometry, truth) = (made.values, made.geometry, made.truth);
                Ok(Some(Prepared { inputs, geometry, truth, outputs, answer }))
            },
            |index, one| {
                samples[index] = one;
                Ok(())
            },
        )?;
        let samples: Vec<Prepared> = samples.into_iter().flatten().collect();
        let part = |of: usize| (0..samples.len()).filter(|i| samples.len() == 1 || i % 2 == of).collect();
        let (fit, confirm) = (part(0), part(1));
        let prepared = Share { done: samples.len(), of: count };
        Ok(Self { session, samples, fit, confirm, prepared })
    }

    /// What runs of a plan give, in the order of the samples: of the first `least` in any case, of the others as long as
    /// there is time.
    fn run(
        &self,
        variant: &Variant,
        params: &[Option<Arc<Params>>],
        samples: &[usize],
        least: usize,
        stop: &Stop,
    ) -> Result<Vec<Option<Judged>>, SessionError> {
        let quantization = Quantization::new(&variant.engine, params)?;
        let mut judged = vec![None; samples.len()];
        self.session.workers.for_each(
            samples.len(),
            |at| -> Result<Option<Judged>, SessionError> {
                if at >= least && stop.over() {
                    return stop.cut();
                }
                let sample = &self.samples[samples[at]];
                let run =
                    variant.engine.run(&sample.inputs, &quantization, None, &mut NoTap, &stop.cancel)?;
                let outputs = self.session.named(run.outputs);
                let answer = self.session.read(&outputs, sample.geometry.as_ref())?;
                Ok(Some(Judged {
                    truth: sample.truth.as_ref().and_then(|truth| answer.compare(truth)),
                    agreement: answer.compare(&sample.answer),
                    loss: Some(self.loss(sample, &outputs)),
                }))
            },
            |at, one| {
                judged[at] = one;
                Ok(())
            },
        )?;
        Ok(judged)
    }

    /// The mean loss of a plan; none if the time did not suffice for all samples.
    pub(super) fn mean_loss(
        &self,
        variant: &Variant,
        params: &[Option<Arc<Params>>],
        samples: &[usize],
        stop: &Stop,
    ) -> Result<Option<f64>, SessionError> {
        let judged = self.run(variant, params, samples, 0, stop)?;
        let losses: Option<Vec<f64>> = judged.iter().map(|one| one.as_ref()?.loss).collect();
        Ok(losses.map(|losses| mean(losses.into_iter())))
    }

    /// Figures of a plan on the part that no choice was made on; none if the time did not suffice for all of it. With
    /// `least`, those of the samples that it sufficed for, at least so many: what is judged so stands alone.
    pub(super) fn figures(
        &self,
        variant: &Variant,
        params: &[Option<Arc<Params>>],
        least: usize,
        stop: &Stop,
    ) -> Result<Option<Figures>, SessionError> {
        let judged = self.run(variant, params, &self.confirm, least, stop)?;
        if least == 0 && judged.iter().any(Option::is_none) {
            return Ok(None);
        }
        let judged: Vec<Judged> = judged.into_iter().flatten().collect();
        let (mut truth, mut agreement) = (Sheet::default(), Sheet::default());
        for one in &judged {
            one.truth.iter().for_each(|found| truth.add(found));
            one.agreement.iter().for_each(|found| agreement.add(found));
        }
        let loss = mean(judged.iter().filter_map(|one| one.loss));
        let (truth, agreement) = (truth.scores(), agreement.scores());
        Ok(Some(Figures::of(judged.len(), truth.as_ref(), agreement.as_ref(), loss)))
    }

    fn loss(&self, sample: &Prepared, outputs: &[(String, Value)]) -> f64 {
        between_outputs(&self.session.model.task, &sample.outputs, outputs)
    }

    /// The loss of every change alone, made to a plan, on every sample: by change, in the order of `samples`. Every run
    /// computes only what its change reaches, from a run of the plan. Runs that the time did not suffice for are none;
    /// samples are taken one after another, so all changes of the earlier ones come first.
    pub(super) fn measure(
        &self,
        variant: &Variant,
        plan: &[Option<Arc<Params>>],
        changes: &[Change<'_>],
        samples: &[usize],
        stop: &Stop,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Vec<Vec<Option<f64>>>, SessionError> {
        let total = samples.len() * changes.len();
        let engine = &variant.engine;
        let threads = self.session.workers.count();
        let keep = Keep::within(engine.graph(), self.session.kept_cap() / (threads + 1));
        let base = Quantization::new(engine, plan)?;
        let places: Vec<Place> = samples.iter().map(|_| Place::new(changes.len())).collect();
        let mut losses = vec![vec![None; samples.len()]; changes.len()];
        let mut done = 0;
        self.session.workers.for_each(
            total,
            |task| -> Result<Option<f64>, SessionError> {
                let (at, change) = (task / changes.len(), &changes[task % changes.len()]);
                if stop.over() {
                    return stop.cut();
                }
                let sample = &self.samples[samples[at]];
                let baseline = places[at].ready(|| {
                    let (_, made) =
                        engine.baseline(&sample.inputs, &base, &keep, &mut NoTap, &stop.cancel)?;
                    Ok(made)
                })?;
                let mut params = plan.to_vec();
                for (&site, new) in change.sites.iter().zip(change.params) {
                    params[site] = Some(Arc::clone(new));
                }
                let changed = Quantization::new(engine, &params)?;
                let run = engine.run_from(&baseline, &changed, &mut NoTap, &stop.cancel)?;
                let loss = self.loss(sample, &self.session.named(run.outputs));
                places[at].done();
                Ok(Some(loss))
            },
            |task, loss| {
                losses[task % changes.len()][task / changes.len()] = loss;
                done += 1;
                progress(done, total);
                Ok(())
            },
        )?;
        Ok(losses)
    }
}

/// A sample's run to start from, while changes of it are left to run.
struct Place {
    left: AtomicUsize,
    ready: Mutex<Option<Arc<Baseline>>>,
}

impl Place {
    fn new(runs: usize) -> Self {
        Self { left: AtomicUsize::new(runs), ready: Mutex::default() }
    }

    fn ready(
        &self,
        make: impl FnOnce() -> Result<Baseline, SessionError>,
    ) -> Result<Arc<Baseline>, SessionError> {
        let mut known = lock(&self.ready);
        if let Some(ready) = &*known {
            return Ok(Arc::clone(ready));
        }
        let made = Arc::new(make()?);
        *known = Some(Arc::clone(&made));
        Ok(made)
    }

    fn done(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            *lock(&self.ready) = None;
        }
    }
}

/// In the order given; infinite if one is.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), x| (sum + x, count + 1));
    if count == 0 { f64::INFINITY } else { sum / count as f64 }
}
