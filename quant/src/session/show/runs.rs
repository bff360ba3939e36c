//! What is kept of the samples that were looked at last, so that the next look at one runs only what is new.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::data::SampleSet;
use crate::eval::answer::Answer;
use crate::exec::{Baseline, Cancel, Engine, Keep, NoTap, Quantization};
use crate::graph::Graph;
use crate::session::inputs::SampleInputs;
use crate::session::messages::Picture;
use crate::session::{Session, SessionError, lock};

/// Runs kept at most: full precision, the plan, the one before an edit or beside it, and another sample's.
const RUNS: usize = 4;
/// Samples whose pictures and inputs are kept, with their sentences.
const INPUTS: usize = 3;

/// The last runs of samples that were looked at, under a cap of memory.
#[derive(Debug)]
pub(in crate::session) struct ShownRuns {
    cap: usize,
    keep: Keep,
    runs: Mutex<Runs>,
    /// Bytes in use when the runs were looked at last.
    bytes: AtomicUsize,
}

/// Newest first.
#[derive(Debug, Default)]
pub(super) struct Runs {
    inputs: VecDeque<(Asked, Arc<Inputs>)>,
    runs: VecDeque<ShownRun>,
}

/// Which sample, with which sentence in place of its own.
pub(super) type Asked = (usize, Option<String>);

/// A sample made ready.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) made: SampleInputs,
    pub(super) picture: Option<Arc<Picture>>,
}

#[derive(Debug)]
struct ShownRun {
    sample: usize,
    baseline: Baseline,
    answer: Arc<Answer>,
}

impl ShownRuns {
    pub(in crate::session) fn new(graph: &Graph, cap: usize) -> Self {
        // Two at least are in use at a time.
        let keep = Keep::within(graph, cap / 2);
        Self { cap, keep, runs: Mutex::default(), bytes: AtomicUsize::new(0) }
    }

    /// Bytes of the values that are kept; while a run is made, those before it.
    pub(in crate::session) fn bytes(&self) -> usize {
        if let Ok(runs) = self.runs.try_lock() {
            self.bytes.store(runs.bytes(), Ordering::Relaxed);
        }
        self.bytes.load(Ordering::Relaxed)
    }

    /// Gives `work` the runs alone.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Runs, &Keep) -> T) -> T {
        let mut runs = lock(&self.runs);
        let done = work(&mut runs, &self.keep);
        runs.fit(self.cap);
        done
    }
}

impl Runs {
    /// The inputs of a sample, loaded if they are not there.
    pub(super) fn inputs(
        &mut self,
        session: &Session,
        set: &SampleSet,
        asked: &Asked,
    ) -> Result<Arc<Inputs>, SessionError> {
        let place = self.inputs.iter().position(|(known, _)| known == asked);
        if let Some(known) = place.and_then(|place| self.inputs.remove(place)) {
            let inputs = Arc::clone(&known.1);
            self.inputs.push_front(known);
            return Ok(inputs);
        }
        let made = session.sample_inputs(set, asked.0, asked.1.as_deref())?;
        let picture = made.image.as_ref().map(|image| {
            let (width, height) = (image.width() as usize, image.height() as usize);
            Arc::new(Picture { width, height, rgb: image.pixels().to_vec() })
        });
        let inputs = Arc::new(Inputs { made, picture });
        self.inputs.push_front((asked.clone(), Arc::clone(&inputs)));
        self.inputs.truncate(INPUTS);
        Ok(inputs)
    }

    /// The answer to a sample, run from that of the known runs from which the least is to be computed; and how many nodes
    /// were computed.
    pub(super) fn answer(
        &mut self,
        session: &Session,
        (sample, inputs): (usize, &SampleInputs),
        (engine, quantization): (&Engine, &Quantization),
        keep: &Keep,
        cancel: &Cancel,
    ) -> Result<(Arc<Answer>, usize), SessionError> {
        let values = &inputs.values;
        let distance = |run: &ShownRun| engine.distance(&run.baseline, values, quantization);
        let nearest = self.runs.iter().map(distance).zip(0..).min();
        if let Some((0, at)) = nearest
            && self.runs[at].sample == sample
            && let Some(run) = self.runs.remove(at)
        {
            let answer = Arc::clone(&run.answer);
            self.runs.push_front(run);
            return Ok((answer, 0));
        }
        let (run, baseline) = match nearest.and_then(|(_, at)| self.runs.get(at)) {
            Some(near) => engine.branch(&near.baseline, values, quantization, keep, cancel)?,
            None => engine.baseline(values, quantization, keep, &mut NoTap, cancel)?,
        };
        let answer = Arc::new(session.read(&session.named(run.outputs), inputs.geometry.as_ref())?);
        self.runs.push_front(ShownRun { sample, baseline, answer: Arc::clone(&answer) });
        if self.runs.len() > RUNS
            && let Some(oldest) = self.runs.pop_back()
        {
            engine.reuse(oldest.baseline.into_values());
        }
        Ok((answer, run.nodes_run))
    }

    /// Forgets the oldest runs until the values of those that are left take at most `cap` bytes.
    fn fit(&mut self, cap: usize) {
        // What they share counts once, but is not counted where there is room for all of it anyway.
        let apart: usize = self.runs.iter().map(|run| run.baseline.bytes()).sum();
        if apart > cap {
            while self.runs.len() > 1 && self.bytes() > cap {
                self.runs.pop_back();
            }
        }
    }

    /// Bytes of all values, each counted once.
    fn bytes(&self) -> usize {
        let values = self.runs.iter().flat_map(|run| run.baseline.values());
        let mut buffers: Vec<(usize, usize)> =
            values.map(|value| (value.buffer(), value.len() * size_of::<f32>())).collect();
        buffers.sort_unstable();
        buffers.dedup_by_key(|(buffer, _)| *buffer);
        buffers.into_iter().map(|(_, bytes)| bytes).sum()
    }
}
