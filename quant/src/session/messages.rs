//! What an interface and the session say to each other: requests in, events out, all plain values.
//!
//! An interface never sees a tensor. It keeps the newest `Arc` of each view and draws from that. The plan
//! belongs to the interface (it edits, undoes and compares it); the session is told the whole plan with every
//! request that depends on it, fits what is not fitted yet, and answers with the same `generation`. A newer
//! request of the same kind replaces an older one that still waits or runs.

mod measured;

use std::path::PathBuf;
use std::sync::Arc;

use super::explain::{ModelExplanation, SiteExplanation};
use crate::eval::answer::{Answer, Metric};
use crate::method::{Exceptions, MethodBits};
use crate::plan::{Kept, Plan, Rewrite};
use crate::quantizer::Scheme;
use crate::terms::{Bits, Class, Role, SiteId};

pub use measured::{FrontPoint, FrontView, PartEffect, PartsOf, PartsView, SensitivityView, SiteEffect};

/// Number of a request, given by the interface and returned with the answer; larger is newer.
pub type Generation = u64;

/// What an interface may ask for.
#[derive(Debug, Clone)]
pub enum Request {
    /// Gather sketches of every site over the calibration set (done once at opening; again after a cancel).
    Calibrate,
    /// Fit the plan, run sample `sample` in full precision and under `plan`, and answer with
    /// [`Event::Plan`] and [`Event::Sample`]. `text` replaces the sample's own sentence.
    Show {
        /// Number of the request.
        generation: Generation,
        /// The whole plan.
        plan: Arc<Plan>,
        /// Number of the sample.
        sample: usize,
        /// A sentence in place of its own.
        text: Option<String>,
    },
    /// Evaluate all samples under `plan` in the background; answers with [`Event::Set`].
    Evaluate {
        /// Number of the request.
        generation: Generation,
        /// The whole plan.
        plan: Arc<Plan>,
    },
    /// What each site alone costs under `plan`, measured on samples in the background; answers with
    /// [`Event::Sensitivity`] again and again. Nothing but a newer one or [`Request::Cancel`] stops it.
    Sweep {
        /// Number of the request.
        generation: Generation,
        /// The whole plan.
        plan: Arc<Plan>,
    },
    /// What parts of the model cost under `plan`; answers with [`Event::Parts`] again and again. Nothing but a newer
    /// measurement or [`Request::Cancel`] stops it.
    Parts {
        /// Number of the request.
        generation: Generation,
        /// The whole plan.
        plan: Arc<Plan>,
        /// What is measured.
        of: PartsOf,
    },
    /// Where the accuracy of the whole model goes under `plan` and what would help, from sketches, held-out samples and swapped
    /// sentences; answers with [`Event::Diagnosed`]. A newer one stops it.
    Diagnose {
        /// Number of the request.
        generation: Generation,
        /// The whole plan.
        plan: Arc<Plan>,
    },
    /// Search the best plans for a front of budgets on the calibration set, in the background; answers with
    /// [`Event::Front`] again and again. A cancelled search keeps what it has found.
    Search {
        /// Number of the request.
        generation: Generation,
        /// Seconds that it may take.
        seconds: u64,
    },
    /// The plan for another budget from what the last search has measured, without new runs; answers with
    /// [`Event::Solved`].
    Solve {
        /// Number of the request.
        generation: Generation,
        /// Average bits at most, of weights and of activations.
        average_bits: f64,
    },
    /// Everything about one site under `plan`: histograms, channels, choices; answers with [`Event::Site`].
    Site {
        /// Number of the request.
        generation: Generation,
        /// Which site.
        site: SiteId,
        /// The whole plan.
        plan: Arc<Plan>,
    },
    /// The plan of a method, without numbers; answers with [`Event::Method`].
    Method {
        /// Number of the request.
        generation: Generation,
        /// Name of the method.
        method: String,
        /// Its bits.
        bits: MethodBits,
    },
    /// Write plan, quantized weights and report into `folder`; answers with [`Event::Exported`].
    Export {
        /// The whole plan.
        plan: Arc<Plan>,
        /// Where to.
        folder: PathBuf,
        /// Whether files that this session has not written may be replaced; else the answer is [`Event::Occupied`].
        replace: bool,
    },
    /// Write only the plan; answers with [`Event::Saved`].
    Save {
        /// The whole plan.
        plan: Arc<Plan>,
        /// The file.
        path: PathBuf,
        /// As for [`Request::Export`].
        replace: bool,
    },
    /// Keep `plan` in the journal so that it survives a crash; one that names no site clears the journal. No answer.
    Journal {
        /// The whole plan.
        plan: Arc<Plan>,
    },
    /// Keep snapshots beside the journal's plan, in place of those kept so far. No answer.
    Keep {
        /// All of them.
        kept: Kept,
    },
    /// Stop what runs in the background (calibration, evaluation, export); partial results are kept.
    Cancel,
    /// End the worker.
    Quit,
}

/// What the session reports.
#[derive(Debug, Clone)]
pub enum Event {
    /// The model is open; sent once, before anything else.
    Opened(Arc<ModelView>),
    /// A long job moved on. `done == total` ends it.
    Progress {
        /// Which job.
        job: Job,
        /// Steps done.
        done: usize,
        /// Steps in all.
        total: usize,
        /// Estimated seconds left, once there is something to go by.
        eta_seconds: Option<f64>,
    },
    /// Sketches are there (or grew: it is sent a few times during calibration); in the order of the layers.
    Calibrated {
        /// In the order of the layers.
        sites: Arc<Vec<SiteSummary>>,
        /// Samples counted.
        samples: usize,
        /// Whether that is the whole set.
        complete: bool,
    },
    /// The plan was fitted.
    Plan(Arc<PlanView>),
    /// One sample was run.
    Sample(Arc<SampleView>),
    /// The whole set was evaluated (`complete`) or partly so far.
    Set(Arc<SetView>),
    /// What sites cost, as far as it is known.
    Sensitivity(Arc<SensitivityView>),
    /// What parts cost, as far as it is known.
    Parts(Arc<PartsView>),
    /// Where the accuracy of the whole model goes.
    Diagnosed {
        /// Number of the request.
        generation: Generation,
        /// The plan that was explained.
        plan: Arc<Plan>,
        /// All that is known.
        explanation: Arc<ModelExplanation>,
    },
    /// The front of a search, as far as it is known.
    Front(Arc<FrontView>),
    /// A plan for a budget between those of the front.
    Solved {
        /// Number of the request.
        generation: Generation,
        /// The plan.
        point: Arc<FrontPoint>,
    },
    /// Detail of one site.
    Site(Arc<SiteDetail>),
    /// Why that site is as it is, after [`Event::Site`]; and once more when held-out samples and rewrites were looked at.
    Explained {
        /// Of the request.
        generation: Generation,
        /// The explanation under the request's plan.
        explanation: Arc<SiteExplanation>,
    },
    /// The plan of a method for every site, without numbers, with the rewrites it asks for.
    Method {
        /// Number of the request.
        generation: Generation,
        /// The plan.
        plan: Arc<Plan>,
    },
    /// Files were written.
    Exported {
        /// The files.
        files: Vec<PathBuf>,
    },
    /// The plan was written.
    Saved {
        /// The file.
        path: PathBuf,
    },
    /// Nothing was written, because these files are there and are not of this session. The request, sent again as it
    /// comes back, replaces them.
    Occupied {
        /// What was asked for, now with leave to replace.
        request: Box<Request>,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// A job ended early because it was cancelled.
    Cancelled {
        /// Which job.
        job: Job,
    },
    /// Something failed; the session goes on. `message` says what to do.
    Failed {
        /// Which job.
        job: Job,
        /// For people.
        message: String,
    },
    /// The answer to [`Request::Quit`]: all that was to be kept is on the disk.
    Ended,
    /// Something the user should know, e.g. a word the model does not know.
    Warning {
        /// For people.
        message: String,
    },
}

/// The kinds of work, for progress and failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Job {
    /// Gathering sketches.
    Calibration,
    /// Running the shown sample.
    Sample,
    /// Evaluating the whole set.
    Evaluation,
    /// Measuring what each site costs.
    Sensitivity,
    /// Measuring what parts of the model cost.
    Parts,
    /// Explaining the whole model.
    Diagnosis,
    /// Searching plans for budgets.
    Search,
    /// Detail of a site.
    Site,
    /// Writing export files.
    Export,
    /// Writing the plan.
    Save,
}

/// The open model, as the interface lists it.
#[derive(Debug, Clone)]
pub struct ModelView {
    /// Short name, e.g. `lavt-mini`.
    pub name: String,
    /// Architecture, e.g. `lavt`.
    pub architecture: String,
    /// A label that must be shown wherever the model's name is (the planted sample says so here).
    pub label: Option<String>,
    /// Fingerprint of graph and weights; plans carry it.
    pub fingerprint: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Multiply-accumulates of one sample.
    pub macs: u64,
    /// Bytes of the weights at 32 bits.
    pub float_bytes: u64,
    /// Layers in execution order.
    pub layers: Vec<LayerView>,
    /// Number of calibration samples.
    pub calibration_samples: usize,
    /// The samples that can be shown and evaluated.
    pub samples: Vec<SampleInfo>,
    /// A plan found in the journal of a session that did not end cleanly.
    pub recovered: Option<Arc<Plan>>,
    /// Snapshots of plans of this model, from this and earlier sessions.
    pub kept: Kept,
    /// Ready-made plans to start from: (name as `W8A8 min–max`, plan).
    pub presets: Vec<(String, Arc<Plan>)>,
    /// Methods for [`Request::Method`].
    pub methods: Vec<MethodView>,
    /// Every place where a rewrite fits, in execution order by kind.
    pub rewrites: Vec<RewriteView>,
    /// The choices that fit a site, by slot kind: for weights and for activations.
    pub weight_schemes: Vec<Scheme>,
    /// Schemes offered for activations (log grids are offered only where values are non-negative).
    pub activation_schemes: Vec<Scheme>,
}

/// A method and what it does.
#[derive(Debug, Clone, Copy)]
pub struct MethodView {
    /// The word for it.
    pub name: &'static str,
    /// Authors, year, and what of the paper is left out.
    pub source: &'static str,
    /// Which roles are treated how.
    pub treatment: &'static [(&'static str, &'static str)],
    /// What its paper does where bits of their own can be asked for.
    pub exceptions: Exceptions,
}

/// A rewrite that can be switched on.
#[derive(Debug, Clone)]
pub struct RewriteView {
    /// As in plans: neither has numbers yet.
    pub rewrite: Rewrite,
    /// Sites whose values it changes; their parameters are to be fitted again when it is switched.
    pub sites: Vec<SiteId>,
}

/// One layer.
#[derive(Debug, Clone)]
pub struct LayerView {
    /// The checkpoint's module path (dots separate the levels of the tree).
    pub name: String,
    /// `Linear`, `Conv2d`, `MatMul`, …
    pub op: &'static str,
    /// Multiply-accumulates of one sample.
    pub macs: u64,
    /// Number of weights, 0 for a product of activations.
    pub weights: u64,
    /// Whether a result of the model depends on it.
    pub used: bool,
    /// Its sites: (`input`, `weight`) or (`lhs`, `rhs`).
    pub sites: Vec<SiteView>,
}

/// One site of a layer.
#[derive(Debug, Clone)]
pub struct SiteView {
    /// `<layer>:<slot>`.
    pub site: SiteId,
    /// What it holds.
    pub role: Role,
    /// Shape for one sample (or of the weight).
    pub shape: Vec<usize>,
    /// Number of channels along its channel axis.
    pub channels: usize,
}

/// A sample as listed.
#[derive(Debug, Clone)]
pub struct SampleInfo {
    /// File name or number, and the picture that shows what is looked for.
    pub id: String,
    /// Its sentence.
    pub text: String,
    /// Whether there is a truth mask.
    pub has_truth: bool,
}

/// Distribution of a site in figures.
#[derive(Debug, Clone)]
pub struct SiteSummary {
    /// Which site.
    pub site: SiteId,
    /// What the site holds.
    pub role: Role,
    /// The diagnosis.
    pub class: Class,
    /// One or two sentences for people: what it means for a grid.
    pub sentence: String,
    /// Named evidence of the class, e.g. (`peaks`, `-3.1, 2.9`).
    pub evidence: Vec<(String, String)>,
    /// Least and largest finite value, mean, standard deviation.
    pub min: f32,
    /// Largest finite value.
    pub max: f32,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
    /// Number of values seen, of zeros, NaN and infinite ones.
    pub count: u64,
    /// Zeros.
    pub zeros: u64,
    /// Not-a-numbers.
    pub nan: u64,
    /// Infinities.
    pub inf: u64,
}

/// A fitted plan and what is known of it without running the model.
#[derive(Debug, Clone)]
pub struct PlanView {
    /// Of the request.
    pub generation: Generation,
    /// The plan with all parameters fitted.
    pub plan: Arc<Plan>,
    /// Predicted signal to quantization-noise ratio in dB of every quantized site.
    pub predicted_sqnr_db: Vec<(SiteId, f64)>,
    /// Average bits of weights, weighted by their number.
    pub weight_bits: f64,
    /// Average bits of activations, weighted by the MACs of their layer (FP counts as 16).
    pub activation_bits: f64,
    /// Bytes of the weights under the plan.
    pub weight_bytes: u64,
}

/// An RGB picture, 8 bits a channel, rows from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `3 * width * height` bytes.
    pub rgb: Vec<u8>,
}

/// One sample, run in full precision and under a plan.
#[derive(Debug, Clone)]
pub struct SampleView {
    /// Of the request.
    pub generation: Generation,
    /// Number of the sample.
    pub sample: usize,
    /// The sentence that was run.
    pub text: String,
    /// Whether the sentence is the sample's own (then the truth applies).
    pub own_text: bool,
    /// What a person should know about the sentence: words that the model does not know, an end that it does not read.
    pub warnings: Vec<String>,
    /// The picture, if there is one.
    pub picture: Option<Arc<Picture>>,
    /// Truth, if the sample has one and the sentence is its own.
    pub truth: Option<Answer>,
    /// Answer of the full-precision model.
    pub full_precision: Answer,
    /// Answer under the plan.
    pub quantized: Answer,
    /// Standing figure of the full-precision answer with the truth.
    pub full_precision_score: Option<f64>,
    /// Standing figure of the plan's answer with the truth.
    pub quantized_score: Option<f64>,
    /// Standing figure of the plan's answer with that of full precision.
    pub agreement: f64,
    /// Of vectors: how far the plan turned and moved each.
    pub outputs: Vec<OutputView>,
    /// Nodes that ran for this answer (the rest came from the cache), and nodes of the graph.
    pub nodes_run: usize,
    /// Nodes of the graph.
    pub nodes: usize,
    /// Milliseconds the answer took.
    pub milliseconds: f64,
}

/// One output under the plan against full precision.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputView {
    /// Its name.
    pub name: String,
    /// How many numbers it has.
    pub numbers: usize,
    /// Cosine of the angle between both.
    pub cosine: f64,
    /// Signal to quantization-noise ratio.
    pub sqnr_db: f64,
}

/// Figures of the whole set.
#[derive(Debug, Clone)]
pub struct SetView {
    /// Of the request.
    pub generation: Generation,
    /// Samples evaluated so far.
    pub samples: usize,
    /// Whether that is all of them.
    pub complete: bool,
    /// The figure that the following are.
    pub metric: Metric,
    /// With the truth in full precision over the same samples (none without truth).
    pub full_precision: Option<f64>,
    /// With the truth under the plan.
    pub quantized: Option<f64>,
    /// Of the plan's answers with those of full precision.
    pub agreement: f64,
    /// Per sample: number, the figure under the plan (with truth, else with full precision).
    pub per_sample: Vec<(usize, f64)>,
    /// Bytes of values kept between runs, and their cap.
    pub cache: (usize, usize),
}

/// Counts over intervals: `edges` has one more entry than `counts`.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramView {
    /// Ascending interval borders.
    pub edges: Vec<f32>,
    /// Number of values in each interval (fractional where a sketch bucket spans two).
    pub counts: Vec<f64>,
}

/// All about one site under the current plan.
#[derive(Debug, Clone)]
pub struct SiteDetail {
    /// Of the request.
    pub generation: Generation,
    /// Which site.
    pub site: SiteId,
    /// Distribution on a linear axis (256 intervals over its whole range).
    pub linear: HistogramView,
    /// Distribution of magnitudes on a logarithmic axis (256 intervals), signs together.
    pub logarithmic: HistogramView,
    /// Distribution after the plan's quantizer, same edges as `linear`; none if the site stays float or every channel has
    /// its own grid.
    pub dequantized: Option<HistogramView>,
    /// The grid of the plan's quantizer, ascending, at most 512 levels; empty when every channel has its own.
    pub levels: Vec<f32>,
    /// Where the plan's quantizer clips, if one grid serves all channels.
    pub clip: Option<(f32, f32)>,
    /// Range of each channel: (min, max).
    pub channels: Vec<(f32, f32)>,
    /// Per channel a coarse histogram over the whole range for the heat map: `heat_rows x heat_columns`,
    /// shares of the channel's values; channels are grouped when there are more than `heat_rows`.
    pub heat: Vec<f32>,
    /// Rows of `heat`.
    pub heat_rows: usize,
    /// Columns of `heat`.
    pub heat_columns: usize,
    /// What the site can be given, each with the predicted SQNR at every bit width offered.
    pub choices: Vec<ChoiceView>,
    /// Time it took to fit and score all choices at all bits.
    pub milliseconds: f64,
}

/// One quantizer that fits the site.
#[derive(Debug, Clone)]
pub struct ChoiceView {
    /// What would be written into the plan.
    pub scheme: Scheme,
    /// For the list, e.g. `uniform percentile`.
    pub label: String,
    /// Predicted SQNR in dB for each width.
    pub sqnr_db: Vec<(Bits, f64)>,
}
