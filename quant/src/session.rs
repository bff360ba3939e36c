//! An open model with its samples, sketches, caches and plans: what the interfaces talk to.
//!
//! [`Session`] does the work, called from any thread. [`worker::start`] puts it behind channels for an interface that
//! must never wait.

mod by_output;
mod calibrate;
mod carried;
mod choices;
mod detail;
mod error;
mod evaluate;
pub mod explain;
mod exponents;
mod export;
mod fit;
mod hessian;
mod inputs;
pub mod messages;
mod on_samples;
mod overlap;
mod patches;
mod presets;
mod recent;
mod rewrites;
mod search;
mod sensitivity;
mod show;
mod variant;
pub mod worker;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

pub use calibrate::SiteStats;
pub use choices::fits;
pub use error::SessionError;
pub use evaluate::Evaluation;
pub use export::{Exported, Parts};
pub use fit::{Fit, FittedPlan};
pub use on_samples::SAMPLES as FITTED_SAMPLES;
pub use search::{BUDGETS, MINUTES, SearchOptions, SearchProgress, SearchStage};
pub use sensitivity::{On, Sweep, SweepOptions};

use crate::data::SampleSet;
use crate::eval::answer::{Answer, Metric};
use crate::exec::{Engine, Keep, Workers};
use crate::models::{self, InputShapes, Model, ModelFiles, OwnSizes, Reopened, Task, Weights};
use crate::plan::ModelRef;
use crate::stats::Sketch;
use crate::terms::{SiteId, Slot};

/// Folders of a model that hold its own samples, when no others are given.
const CALIBRATION: &str = "calibration/samples.jsonl";
const SAMPLES: &str = "evaluation/samples.jsonl";

/// The part of the memory for values between runs that the one sample gets that is looked at.
const SHOWN_SHARE: usize = 4;

/// How to open a session.
#[derive(Debug, Clone)]
pub struct Options {
    /// The model.
    pub model: ModelFiles,
    /// Weights that take the place of the model's own: a `bitloupe-weights/1` export.
    pub exported_weights: Option<PathBuf>,
    /// Calibration set; none: the model folder's own `calibration/`.
    pub calibration: Option<PathBuf>,
    /// Samples; none: the model folder's own `evaluation/`.
    pub samples: Option<PathBuf>,
    /// Worker threads; none: all cores.
    pub threads: Option<usize>,
    /// Bytes of activations kept between runs.
    pub cache_bytes: usize,
    /// Shapes of inputs other than the usual ones.
    pub shapes: InputShapes,
}

impl Options {
    /// The usual options for a model.
    pub fn new(model: ModelFiles) -> Self {
        let (exported_weights, calibration, samples, threads) = (None, None, None, None);
        let shapes = InputShapes::default();
        Self { model, exported_weights, calibration, samples, threads, cache_bytes: 512 << 20, shapes }
    }
}

/// An open model and everything gathered about it.
#[derive(Debug)]
pub struct Session {
    model: Model,
    /// As it was opened.
    base: Arc<variant::Variant>,
    /// After the rewrites of plans in use.
    variants: Mutex<Vec<Arc<variant::Variant>>>,
    /// Once a plan asked for them.
    key_signs: Mutex<Option<Arc<rewrites::KeySigns>>>,
    workers: Workers,
    /// For the one sample that is being looked at: all threads on one run.
    pool: rayon::ThreadPool,
    /// Whether the weights came from an export, which has the plan's rewrites in it.
    weights_rewritten: bool,
    calibration: Option<SampleSet>,
    samples: Option<SampleSet>,
    /// Runs of the samples that are looked at.
    shown: show::ShownRuns,
    /// The cap of everything that is kept between runs.
    cache_bytes: usize,
    stats: RwLock<Option<Arc<SiteStats>>>,
    fits: Mutex<HashMap<fit::FitKey, Arc<Fit>>>,
    given: Mutex<fit::Given>,
    ready: Mutex<Option<Arc<fit::Ready>>>,
    /// By sample: the last run under an edited plan.
    kept: Mutex<HashMap<usize, evaluate::KeptPlace>>,
    /// What is kept of each; none if that would be nothing.
    keep: OnceLock<Option<Keep>>,
    /// Answers of the full-precision model to the samples' own sentences.
    reference: Mutex<HashMap<usize, Arc<Answer>>>,
    /// What sweeps found that holds for later ones.
    outcomes: sensitivity::Outcomes,
    /// What explanations gathered.
    explained: explain::Known,
}

impl Session {
    /// Opens model and samples. Sample sets that are not there are no error until they are needed.
    pub fn open(options: &Options) -> Result<Self, SessionError> {
        let weights = options.exported_weights.as_deref().map(Weights::from_export).transpose()?;
        let mut model = models::open_for(&options.model, weights, &options.shapes)?;
        let set = |path: &Option<PathBuf>, own: &str| match path {
            Some(path) => SampleSet::open(path).map(Some),
            None if model.files.contains(own) => {
                SampleSet::from_manifest(Arc::clone(&model.files), own).map(Some)
            }
            None => Ok(None),
        };
        let calibration = set(&options.calibration, CALIBRATION)?;
        let samples = set(&options.samples, SAMPLES)?;
        let sets: Vec<&SampleSet> = samples.iter().chain(&calibration).collect();
        if options.shapes.is_empty()
            && let Some(shapes) = inputs::asked_shapes(&model, &sets)?
        {
            let weights = options.exported_weights.as_deref().map(Weights::from_export).transpose()?;
            model = models::open_for(&options.model, weights, &shapes)?;
        }
        let threads = options.threads.unwrap_or_else(cores).max(1);
        let mut engine = Engine::new(Arc::clone(&model.graph));
        if model.own_sizes != OwnSizes::None {
            let (model, exported_weights) = (options.model.clone(), options.exported_weights.clone());
            engine = engine.with_sizes(Box::new(Reopened { model, exported_weights }));
        }
        let base = Arc::new(variant::Variant::base(engine)?);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|e| crate::exec::ExecError::Threads(e.to_string()))?;
        Ok(Self {
            base,
            weights_rewritten: options.exported_weights.is_some(),
            variants: Mutex::default(),
            key_signs: Mutex::default(),
            workers: Workers::new(threads)?,
            pool,
            calibration,
            samples,
            shown: show::ShownRuns::new(&model.graph, options.cache_bytes / SHOWN_SHARE),
            cache_bytes: options.cache_bytes,
            kept: Mutex::default(),
            keep: OnceLock::new(),
            stats: RwLock::default(),
            fits: Mutex::default(),
            given: Mutex::default(),
            ready: Mutex::default(),
            reference: Mutex::default(),
            outcomes: sensitivity::Outcomes::default(),
            explained: explain::Known::default(),
            model,
        })
    }

    /// The figure that stands for the model's task.
    pub fn metric(&self) -> Metric {
        match self.model.task {
            Task::Mask { .. } => Metric::Miou,
            Task::Classes { .. } => Metric::TopOne,
            Task::Boxes { .. } => Metric::BoxF1,
            Task::Embeddings { .. } | Task::Tensors => Metric::Cosine,
            Task::Letters { .. } => Metric::Similarity,
        }
    }

    /// Whether an entry of a set says what is true in the terms of the task.
    pub(crate) fn has_truth(&self, entry: &crate::data::Entry) -> bool {
        match self.model.task {
            Task::Mask { .. } => entry.mask.is_some(),
            Task::Classes { .. } | Task::Letters { .. } => entry.label.is_some(),
            Task::Boxes { .. } | Task::Embeddings { .. } | Task::Tensors => false,
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.base.engine
    }

    /// Worker threads for many samples.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Bytes of activations kept at the moment, and the cap.
    pub fn cache_use(&self) -> (usize, usize) {
        let places: Vec<_> = lock(&self.kept).values().map(Arc::clone).collect();
        // One that runs is not waited for; it holds about what it held before.
        let bytes = |place: &evaluate::KeptPlace| match place.try_lock() {
            Ok(run) => run.as_ref().map_or(0, evaluate::KeptRun::bytes),
            Err(_) => 0,
        };
        (self.shown.bytes() + places.iter().map(bytes).sum::<usize>(), self.cache_bytes)
    }

    /// The cap of what is kept of the samples of a set, and that of what a sweep keeps: what is not for the sample that
    /// is looked at, by halves.
    fn kept_cap(&self) -> usize {
        (self.cache_bytes - self.cache_bytes / SHOWN_SHARE) / 2
    }

    /// The calibration set, if there is one.
    pub fn calibration(&self) -> Option<&SampleSet> {
        self.calibration.as_ref()
    }

    /// The samples, if there are any.
    pub fn samples(&self) -> Option<&SampleSet> {
        self.samples.as_ref()
    }

    /// Keeps only the first `count` samples.
    pub fn limit_samples(&mut self, count: usize) {
        self.samples = self.samples.as_ref().map(|set| set.take(count));
        lock(&self.kept).clear();
        self.keep = OnceLock::new();
        self.outcomes.forget();
    }

    /// Keeps only the first `count` calibration samples.
    pub fn limit_calibration(&mut self, count: usize) {
        self.calibration = self.calibration.as_ref().map(|set| set.take(count));
        self.outcomes.forget();
    }

    /// What plans say about this model.
    pub fn model_ref(&self) -> ModelRef {
        ModelRef {
            name: self.model.name.clone(),
            architecture: self.model.architecture.to_owned(),
            fingerprint: self.model.fingerprint.clone(),
        }
    }

    /// All sites of the model.
    pub fn site_ids(&self) -> Vec<SiteId> {
        self.model.graph.sites().iter().map(|site| site.id.clone()).collect()
    }

    /// The sketch of a site, once there is one (weights at once, activations after calibration).
    pub fn sketch(&self, site: usize) -> Option<Arc<Sketch>> {
        if self.model.graph.sites().get(site)?.id.slot == Slot::Weight {
            return self.weight_sketch(site);
        }
        self.stats()?.sketches.get(site)?.clone()
    }

    /// Statistics of the activations, once calibrated.
    pub fn stats(&self) -> Option<Arc<SiteStats>> {
        self.stats.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes statistics gathered here or read from a file; fits made on others are forgotten.
    pub fn set_stats(&self, stats: SiteStats) {
        lock(&self.fits).retain(|key, _| key.weight);
        lock(&self.given).clear();
        self.forget_variants();
        self.explained.forget();
        *lock(&self.key_signs) = None;
        *self.stats.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(stats));
    }

    /// Things to tell the user that are no errors: what of the model's files was assumed or left out, and pictures that
    /// are in both sets.
    pub fn warnings(&self) -> Result<Vec<String>, SessionError> {
        let mut warnings = self.model.warnings.clone();
        if let Some(first) = self.model.unsupported.first() {
            warnings.push(format!(
                "{} nodes have operators that are not supported and are left out with all that depends on them (first: {first})",
                self.model.unsupported.len()
            ));
        }
        for node in &self.model.unsupported {
            warnings.push(format!(
                "node `{}` ({}) is not supported ({}): what depends on it is left out",
                node.node, node.op, node.reason
            ));
        }
        if let (Some(calibration), Some(samples)) = (&self.calibration, &self.samples) {
            let shared = crate::data::duplicates(calibration, samples)?;
            if let Some(first) = shared.first() {
                warnings.push(format!(
                    "{} pictures are in both sets (first: {} = {}): figures on these samples flatter the plan",
                    shared.len(),
                    first.calibration,
                    first.evaluation
                ));
            }
        }
        Ok(warnings)
    }
}

/// Cores this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A lock that a panic elsewhere does not poison: what it guards are caches of whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
