//! What the runs of a sweep share: samples, prepared once, with runs to start from.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::Task;
use crate::data::{Geometry, SampleSet};
use crate::eval::answer::Answer;
use crate::eval::output_loss::between_outputs;
use crate::eval::sensitivity::{Base, Judged, Mode, Noise};
use crate::exec::{Baseline, Cancel, Engine, Keep, NoTap, Quantization, Tap, Value};
use crate::graph::NodeId;
use crate::session::{FittedPlan, Session, SessionError, lock};

/// Samples whose values are kept at a time: the one that is run, and the next, which a thread begins before the others
/// are through.
const AT_ONCE: usize = 2;

/// The samples of a sweep.
pub(super) struct Bench<'b> {
    pub(super) session: &'b Session,
    pub(super) fitted: &'b FittedPlan,
    set: &'b SampleSet,
    places: BTreeMap<usize, Place>,
    keep: Keep,
    /// Under the plan.
    whole: Quantization,
    all_but: bool,
}

/// One sample: runs that are left, and what they start from while there are any.
#[derive(Default)]
struct Place {
    left: AtomicUsize,
    ready: Mutex<Option<Arc<Ready>>>,
}

/// A sample that runs can start from.
pub(super) struct Ready {
    geometry: Option<Geometry>,
    truth: Option<Answer>,
    /// In full precision, before rewrites.
    answer: Answer,
    outputs: Vec<(String, Value)>,
    /// In full precision, after the plan's rewrites.
    full: Baseline,
    /// Under the plan, if runs start from there.
    quantized: Option<Baseline>,
    pub(super) base: Base,
}

impl<'b> Bench<'b> {
    pub(super) fn new(
        session: &'b Session,
        fitted: &'b FittedPlan,
        set: &'b SampleSet,
        tasks: &[Task],
        all_but: bool,
    ) -> Result<Self, SessionError> {
        let mut places: BTreeMap<usize, Place> = BTreeMap::new();
        for task in tasks {
            *places.entry(task.sample).or_default().left.get_mut() += 1;
        }
        let runs = AT_ONCE * if all_but { 2 } else { 1 };
        let layers = Layers::of(&fitted.variant.engine);
        let keep = Keep::with(fitted.variant.graph(), session.kept_cap() / runs, |node| layers.wants(node));
        let whole = session.quantization(fitted)?;
        Ok(Self { session, fitted, set, places, keep, whole, all_but })
    }

    /// A run of a mode in which only `sites` are, or are not, quantized.
    pub(super) fn quantization(&self, sites: &[usize], mode: Mode) -> Result<Quantization, SessionError> {
        let (engine, all) = (&self.fitted.variant.engine, &self.fitted.params);
        let chosen = |site: usize| sites.contains(&site) == (mode == Mode::Only);
        let params: Vec<_> =
            all.iter().enumerate().map(|(site, params)| params.clone().filter(|_| chosen(site))).collect();
        Ok(match mode {
            Mode::Only => Quantization::new(engine, &params)?,
            Mode::AllBut => self.whole.changed(engine, all, &params)?,
        })
    }

    /// A sample, prepared by the first who asks; whether that was this call.
    pub(super) fn ready(&self, sample: usize, cancel: &Cancel) -> Result<(Arc<Ready>, bool), SessionError> {
        let Some(place) = self.places.get(&sample) else {
            return Err(SessionError::NoSample { index: sample, count: self.set.len() });
        };
        let mut known = lock(&place.ready);
        if let Some(ready) = &*known {
            return Ok((Arc::clone(ready), false));
        }
        let ready = Arc::new(self.prepare(sample, cancel)?);
        *known = Some(Arc::clone(&ready));
        Ok((ready, true))
    }

    /// Counts a run of a sample; after the last one its values are forgotten.
    pub(super) fn done(&self, sample: usize) {
        if let Some(place) = self.places.get(&sample)
            && place.left.fetch_sub(1, Ordering::AcqRel) == 1
        {
            *lock(&place.ready) = None;
        }
    }

    fn prepare(&self, sample: usize, cancel: &Cancel) -> Result<Ready, SessionError> {
        let (session, engine) = (self.session, &self.fitted.variant.engine);
        let inputs = session.sample_inputs(self.set, sample, None)?;
        let none = Quantization::none(engine.graph());
        let mut layers = Layers::of(engine);
        let (run, full) = engine.baseline(&inputs.values, &none, &self.keep, &mut layers, cancel)?;
        let outputs = if self.fitted.plan.rewrites.is_empty() {
            run.outputs
        } else {
            session.base.engine.run(&inputs.values, &none, None, &mut NoTap, cancel)?.outputs
        };
        let outputs = session.named(outputs);
        let answer = session.read(&outputs, inputs.geometry.as_ref())?;
        let mut ready = Ready {
            geometry: inputs.geometry,
            truth: inputs.truth,
            answer,
            outputs,
            full,
            quantized: None,
            base: Base::default(),
        };
        let quantization = &self.whole;
        let mut cumulative =
            Cumulative { layers, ready: &ready, engine, cancel, heard: BTreeMap::new(), failed: None };
        let (under_plan, quantized) = if self.all_but {
            let (run, baseline) =
                engine.baseline(&inputs.values, quantization, &self.keep, &mut cumulative, cancel)?;
            (run.outputs, Some(baseline))
        } else {
            (engine.run_from(&ready.full, quantization, &mut cumulative, cancel)?.outputs, None)
        };
        let cumulative = cumulative.finish()?;
        let full = ready.full.outputs().to_vec();
        ready.base = Base {
            full: ready.judge(session, full)?,
            quantized: ready.judge(session, under_plan)?,
            cumulative,
        };
        ready.quantized = quantized;
        Ok(ready)
    }
}

impl Ready {
    /// What a run of a mode starts from.
    pub(super) fn baseline(&self, mode: Mode) -> &Baseline {
        match mode {
            Mode::AllBut => self.quantized.as_ref().unwrap_or(&self.full),
            Mode::Only => &self.full,
        }
    }

    /// How good the answer of a run is.
    pub(super) fn judge(&self, session: &Session, outputs: Vec<Value>) -> Result<Judged, SessionError> {
        let outputs = session.named(outputs);
        let answer = session.read(&outputs, self.geometry.as_ref())?;
        let loss = between_outputs(&session.model.task, &self.outputs, &outputs);
        Ok(Judged {
            truth: self.truth.as_ref().and_then(|truth| answer.compare(truth)),
            agreement: answer.compare(&self.answer),
            loss: loss.is_finite().then_some(loss),
        })
    }

    /// The error of a layer's output.
    pub(super) fn noise(
        &self,
        engine: &Engine,
        layer: NodeId,
        heard: &Value,
        cancel: &Cancel,
    ) -> Result<Noise, SessionError> {
        if let Some(value) = self.full.value(layer) {
            return Ok(Noise::between(value.as_slice(), heard.as_slice()));
        }
        // It was not kept; made again from what was.
        let mut tap = Listen { node: Some(layer), heard: None };
        engine.run_from(&self.full, &Quantization::none(engine.graph()), &mut tap, cancel)?;
        Ok(tap.heard.map(|value| Noise::between(value.as_slice(), heard.as_slice())).unwrap_or_default())
    }
}

/// Keeps the value of one node.
pub(super) struct Listen {
    pub(super) node: Option<NodeId>,
    pub(super) heard: Option<Value>,
}

impl Tap for Listen {
    fn wants(&self, node: NodeId) -> bool {
        self.node == Some(node)
    }

    fn value(&mut self, _: NodeId, value: &Value) {
        self.heard = Some(value.clone());
    }
}

/// Asks for the outputs of all layers, so that they are among the values that are kept.
struct Layers(BTreeMap<NodeId, usize>);

impl Layers {
    fn of(engine: &Engine) -> Self {
        Self(engine.graph().layers().iter().enumerate().map(|(at, layer)| (layer.node, at)).collect())
    }
}

impl Tap for Layers {
    fn wants(&self, node: NodeId) -> bool {
        self.0.contains_key(&node)
    }

    fn value(&mut self, _: NodeId, _: &Value) {}
}

/// Compares the outputs of all layers with those of full precision.
struct Cumulative<'c> {
    layers: Layers,
    ready: &'c Ready,
    engine: &'c Engine,
    cancel: &'c Cancel,
    heard: BTreeMap<usize, Noise>,
    failed: Option<SessionError>,
}

impl Tap for Cumulative<'_> {
    fn wants(&self, node: NodeId) -> bool {
        self.layers.wants(node)
    }

    fn value(&mut self, node: NodeId, value: &Value) {
        let Some(&layer) = self.layers.0.get(&node) else { return };
        match self.ready.noise(self.engine, node, value, self.cancel) {
            Ok(noise) => drop(self.heard.insert(layer, noise)),
            Err(error) => drop(self.failed.get_or_insert(error)),
        }
    }
}

impl Cumulative<'_> {
    fn finish(self) -> Result<Vec<Noise>, SessionError> {
        let noise = |at: usize| self.heard.get(&at).copied().unwrap_or_default();
        self.failed.map_or(Ok((0..self.layers.0.len()).map(noise).collect()), Err)
    }
}
