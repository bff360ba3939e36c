//! A session behind channels, for an interface that must never wait.
//!
//! Seven threads: one sorts requests, one answers what a person is looking at (`Show`, `Site`), one explains it, one
//! explains the whole model, one does the long jobs (calibration, evaluation, export), one what takes minutes (sweeps,
//! searches), one solves for other budgets. Of requests of one kind only the newest is answered; a newer one stops an older one that runs.

mod diagnose;
mod measure;
mod parts;
mod why;
mod write;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::messages::{Event, Job, LayerView, ModelView, PlanView, Request, SampleInfo, SetView, SiteView};
use super::recent::Recent;
use super::{Evaluation, FittedPlan, Options, Session, SessionError, choices, lock};
use crate::eval::metrics::Scores;
use crate::eval::search::Front;
use crate::exec::Cancel;
use crate::plan::{Journal, Kept, Plan};

/// Progress is reported at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(80);

/// The two ends that an interface holds.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    /// Requests go in.
    pub requests: Sender<Request>,
    /// Events come out.
    pub events: Receiver<Event>,
}

/// Opens a session in the background and answers requests until [`Request::Quit`] or until the interface is gone.
/// `journal` is the folder where edited plans are kept for the case of a crash.
pub fn start(options: Options, journal: Option<PathBuf>) -> SessionHandle {
    let (requests, incoming) = unbounded();
    let (outgoing, events) = unbounded();
    let worker = move || sort(&options, journal, &incoming, &outgoing);
    if let Err(error) = std::thread::Builder::new().name("bitloupe-session".into()).spawn(worker) {
        tracing::error!("the session thread could not be started: {error}");
    }
    SessionHandle { requests, events }
}

/// What the lanes share.
struct Shared {
    session: Session,
    journal: OnceLock<Journal>,
    /// Files that were written here; they may be written again.
    written: Mutex<HashSet<PathBuf>>,
    events: Sender<Event>,
    recent: Recent,
    /// The plan whose evaluation runs or ran last.
    evaluated: Mutex<Option<Arc<Plan>>>,
    /// What the last search found.
    front: Mutex<Option<Arc<Front>>>,
    /// Stops the show that runs, the long job, the evaluation, the sweep, what is gathered for explanations, the diagnosis.
    running: [Mutex<Cancel>; 6],
    /// Whether a long job runs; what is only gathered for explanations waits for it.
    busy: AtomicBool,
}

const SHOW: usize = 0;
const LONG: usize = 1;
/// Apart from the other long jobs: a newer evaluation stops an older one, but no calibration and no export.
const EVALUATION: usize = 2;
const MEASURE: usize = 3;
const WHY: usize = 4;
const DIAGNOSIS: usize = 5;

impl Shared {
    fn send(&self, event: Event) {
        // The interface may be gone; the sorting thread notices by its own channel.
        let _ = self.events.send(event);
    }

    fn fresh(&self, lane: usize) -> Cancel {
        let cancel = Cancel::default();
        *lock(&self.running[lane]) = cancel.clone();
        cancel
    }

    /// Stops what was asked of a lane so far; what is asked for now is stopped by the flag that comes back.
    fn renew(&self, lane: usize) -> Cancel {
        let cancel = Cancel::default();
        std::mem::replace(&mut *lock(&self.running[lane]), cancel.clone()).cancel();
        cancel
    }

    fn stop(&self, lane: usize) {
        lock(&self.running[lane]).cancel();
    }

    fn failed(&self, job: Job, error: &SessionError) {
        if error.is_cancelled() {
            self.send(Event::Cancelled { job });
        } else {
            self.send(Event::Failed { job, message: error.to_string() });
        }
    }
}

/// Opens the session and hands requests to the lanes.
fn sort(options: &Options, journal: Option<PathBuf>, incoming: &Receiver<Request>, outgoing: &Sender<Event>) {
    let session = match Session::open(options) {
        Ok(session) => session,
        Err(error) => {
            let _ = outgoing.send(Event::Failed { job: Job::Sample, message: error.to_string() });
            return;
        }
    };
    let shared = Arc::new(Shared {
        session,
        journal: OnceLock::new(),
        written: Mutex::default(),
        events: outgoing.clone(),
        recent: Recent::default(),
        evaluated: Mutex::default(),
        front: Mutex::default(),
        running: Default::default(),
        busy: AtomicBool::default(),
    });
    let (mut recovered, mut kept) = (None, Kept::default());
    if let Some(folder) = journal {
        let journal = Journal::new(&folder, &shared.session.model().fingerprint);
        match journal.recover() {
            Ok(plan) => recovered = plan.map(Arc::new),
            Err(error) => shared.send(Event::Warning { message: error.to_string() }),
        }
        match journal.kept() {
            Ok(found) => kept = found,
            Err(error) => shared.send(Event::Warning { message: error.to_string() }),
        }
        let _ = shared.journal.set(journal);
    }
    match shared.session.warnings() {
        Ok(warnings) => warnings.into_iter().for_each(|message| shared.send(Event::Warning { message })),
        Err(error) => shared.send(Event::Warning { message: error.to_string() }),
    }
    shared.send(Event::Opened(Arc::new(model_view(&shared.session, recovered, kept))));

    let (show, shows) = unbounded();
    let (long, longs) = unbounded();
    let (slow, slows) = unbounded();
    let (why, whys) = unbounded();
    let (solve, solves) = unbounded();
    let (diagnose, diagnoses) = unbounded();
    let lanes = [
        spawn("bitloupe-diagnose", Arc::clone(&shared), diagnoses, diagnose::diagnosing),
        spawn("bitloupe-measure", Arc::clone(&shared), slows, measure::measuring),
        spawn("bitloupe-solve", Arc::clone(&shared), solves, measure::solving),
        spawn("bitloupe-why", Arc::clone(&shared), whys, why::explaining),
        spawn("bitloupe-show", Arc::clone(&shared), shows, looking),
        spawn("bitloupe-jobs", Arc::clone(&shared), longs, working),
    ];
    for request in incoming {
        match request {
            Request::Show { .. } | Request::Site { .. } => {
                if let Request::Show { plan, .. } = &request {
                    shared.stop(SHOW);
                    // Figures of a plan that nobody looks at any more must not keep those of the new one waiting.
                    let evaluated = lock(&shared.evaluated).clone();
                    if evaluated
                        .is_some_and(|evaluated| !Arc::ptr_eq(&evaluated, plan) && *evaluated != **plan)
                    {
                        shared.stop(EVALUATION);
                    }
                } else {
                    shared.stop(WHY);
                    let _ = why.send(request.clone());
                }
                let _ = show.send(request);
            }
            Request::Evaluate { .. } => {
                shared.stop(EVALUATION);
                let _ = long.send(request);
            }
            Request::Method { generation, method, bits } => {
                if let Some(plan) = shared.session.method_plan(&method, &bits) {
                    shared.send(Event::Method { generation, plan: Arc::new(plan) });
                }
            }
            Request::Calibrate | Request::Export { .. } | Request::Save { .. } => {
                let _ = long.send(request);
            }
            Request::Journal { plan } => keep(&shared, &plan),
            Request::Keep { kept } => {
                if let Some(Err(error)) = shared.journal.get().map(|journal| journal.keep(&kept)) {
                    let message = format!("the snapshots are not kept: {error}");
                    shared.send(Event::Warning { message });
                }
            }
            Request::Solve { generation, average_bits } => drop(solve.send((generation, average_bits))),
            Request::Diagnose { generation, plan } => {
                let cancel = shared.renew(DIAGNOSIS);
                let _ = diagnose.send((generation, plan, cancel));
            }
            Request::Sweep { .. } | Request::Parts { .. } | Request::Search { .. } => {
                let cancel = shared.renew(MEASURE);
                let _ = slow.send((request, cancel));
            }
            Request::Cancel => {
                for lane in [LONG, EVALUATION, MEASURE, DIAGNOSIS] {
                    shared.stop(lane);
                }
            }
            Request::Quit => {
                (0..shared.running.len()).for_each(|lane| shared.stop(lane));
                shared.send(Event::Ended);
                break;
            }
        }
    }
    drop((show, long, slow, why, solve, diagnose));
    for lane in lanes.into_iter().flatten() {
        let _ = lane.join();
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    shared: Arc<Shared>,
    requests: Receiver<T>,
    lane: fn(&Shared, &Receiver<T>),
) -> Option<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(move || lane(&shared, &requests)).ok()
}

/// Keeps a plan in the journal, or clears the journal when the plan says nothing.
fn keep(shared: &Shared, plan: &Plan) {
    let Some(journal) = shared.journal.get() else { return };
    let nothing = plan.sites().next().is_none();
    if let Err(error) = if nothing { journal.clear() } else { journal.save(plan) } {
        shared.send(Event::Warning { message: format!("the plan is not kept for recovery: {error}") });
    }
}

/// Answers `Show` and `Site`: always the newest of each.
fn looking(shared: &Shared, requests: &Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let (mut show, mut site) = (None, None);
        for request in std::iter::once(first).chain(requests.try_iter()) {
            match request {
                Request::Show { .. } => show = Some(request),
                Request::Site { .. } => site = Some(request),
                _ => {}
            }
        }
        if let Some(Request::Show { generation, plan, sample, text }) = show {
            let cancel = shared.fresh(SHOW);
            if let Err(error) = show_sample(shared, (generation, sample), text.as_deref(), &plan, &cancel)
                && !error.is_cancelled()
            {
                shared.failed(Job::Sample, &error);
            }
        }
        if let Some(Request::Site { generation, site, plan }) = site {
            match shared.session.site_detail(generation, &site, &plan) {
                Ok(detail) => shared.send(Event::Site(Arc::new(detail))),
                Err(SessionError::NotCalibrated { .. }) => {}
                Err(error) => shared.failed(Job::Site, &error),
            }
        }
    }
}

/// Fits a plan of this model. One that names no model yet (the interface's first) is everybody's.
fn fit(session: &Session, plan: &Plan) -> Result<FittedPlan, SessionError> {
    if !plan.model.fingerprint.is_empty() {
        session.check_plan("the plan", plan)?;
    }
    session.fit_plan(plan)
}

fn show_sample(
    shared: &Shared,
    (generation, sample): (u64, usize),
    text: Option<&str>,
    plan: &Arc<Plan>,
    cancel: &Cancel,
) -> Result<(), SessionError> {
    let (session, recent) = (&shared.session, &shared.recent);
    if let Some((fitted, view)) = recent.shown(generation, plan, sample, text) {
        shared.send(Event::Plan(Arc::new(fitted)));
        shared.send(Event::Sample(Arc::new(view)));
        return Ok(());
    }
    let epoch = recent.epoch();
    let fitted = fit(session, plan)?;
    let budget = session.budget(&fitted.plan);
    let plan_view = Arc::new(PlanView {
        generation,
        plan: Arc::clone(&fitted.plan),
        predicted_sqnr_db: fitted.predicted_sqnr_db.clone(),
        weight_bits: budget.average_weight_bits,
        activation_bits: budget.average_activation_bits,
        weight_bytes: budget.weight_bytes,
    });
    shared.send(Event::Plan(Arc::clone(&plan_view)));
    if session.samples().is_none() {
        return Ok(());
    }
    let view = Arc::new(session.show(generation, sample, text, &fitted, cancel)?);
    recent.keep_shown(epoch, (plan, sample, text), &plan_view, &view);
    shared.send(Event::Sample(view));
    Ok(())
}

/// Does the long jobs in order; of waiting evaluations only the newest.
fn working(shared: &Shared, requests: &Receiver<Request>) {
    let mut waiting: Vec<Request> = Vec::new();
    loop {
        if waiting.is_empty() {
            let Ok(request) = requests.recv() else { return };
            waiting.push(request);
        }
        waiting.extend(requests.try_iter());
        let newest = waiting.iter().rposition(|r| matches!(r, Request::Evaluate { .. }));
        let mut index = 0;
        waiting.retain(|r| {
            index += 1;
            !matches!(r, Request::Evaluate { .. }) || Some(index - 1) == newest
        });
        let request = waiting.remove(0);
        let lane = if matches!(request, Request::Evaluate { .. }) { EVALUATION } else { LONG };
        let cancel = shared.fresh(lane);
        shared.busy.store(true, Ordering::Relaxed);
        let (job, outcome) = match request {
            Request::Calibrate => (Job::Calibration, calibrate(shared, &cancel)),
            Request::Evaluate { generation, plan } => {
                (Job::Evaluation, evaluate(shared, generation, &plan, &cancel))
            }
            Request::Export { plan, folder, replace } => {
                (Job::Export, write::export(shared, &plan, &folder, replace, &cancel))
            }
            Request::Save { plan, path, replace } => (Job::Save, write::save(shared, &plan, &path, replace)),
            _ => {
                shared.busy.store(false, Ordering::Relaxed);
                continue;
            }
        };
        shared.busy.store(false, Ordering::Relaxed);
        if let Err(error) = outcome {
            shared.failed(job, &error);
        }
    }
}

/// Reports progress of `job` with the time left, at most every [`PROGRESS_EVERY`].
fn reporter(shared: &Shared, job: Job) -> impl FnMut(usize, usize) -> bool + '_ {
    let start = Instant::now();
    let mut last: Option<Instant> = None;
    move |done, total| {
        let due = done == total || last.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY);
        if due {
            last = Some(Instant::now());
            let eta = start.elapsed().as_secs_f64() / done as f64 * (total - done) as f64;
            shared.send(Event::Progress { job, done, total, eta_seconds: (done > 0).then_some(eta) });
        }
        due
    }
}

fn calibrate(shared: &Shared, cancel: &Cancel) -> Result<(), SessionError> {
    let session = &shared.session;
    let mut report = reporter(shared, Job::Calibration);
    let outcome = session.calibrate(cancel, |done, total| {
        report(done, total);
    });
    shared.recent.forget();
    outcome?;
    let samples = session.stats().map_or(0, |s| s.samples.len());
    let sites = Arc::new(session.summaries());
    shared.send(Event::Calibrated { sites, samples, complete: true });
    Ok(())
}

fn evaluate(shared: &Shared, generation: u64, plan: &Arc<Plan>, cancel: &Cancel) -> Result<(), SessionError> {
    let (session, recent) = (&shared.session, &shared.recent);
    if let Some(set) = recent.set(generation, plan) {
        shared.send(Event::Set(Arc::new(set)));
        return Ok(());
    }
    *lock(&shared.evaluated) = Some(Arc::clone(plan));
    let epoch = recent.epoch();
    let fitted = fit(session, plan)?;
    let mut report = reporter(shared, Job::Evaluation);
    let result = session.evaluate_edited(&fitted, cancel, |done, total, so_far| {
        if report(done, total) && done < total {
            shared.send(Event::Set(Arc::new(set_view(session, generation, false, &so_far()))));
        }
    })?;
    let set = Arc::new(set_view(session, generation, true, &result));
    recent.keep_set(epoch, plan, &set);
    shared.send(Event::Set(set));
    Ok(())
}

fn set_view(session: &Session, generation: u64, complete: bool, e: &Evaluation) -> SetView {
    SetView {
        generation,
        samples: e.samples,
        complete,
        metric: e.metric,
        full_precision: e.full_precision.as_ref().map(Scores::standing),
        quantized: e.quantized.as_ref().map(Scores::standing),
        agreement: e.agreement.as_ref().map_or(0.0, Scores::standing),
        per_sample: e.per_sample.clone(),
        cache: session.cache_use(),
    }
}

/// The model as the interface lists it.
fn model_view(session: &Session, recovered: Option<Arc<Plan>>, kept: Kept) -> ModelView {
    let model = session.model();
    let graph = &*model.graph;
    let layers = graph
        .layers()
        .iter()
        .map(|layer| LayerView {
            name: layer.name.clone(),
            op: graph.node(layer.node).op.kind(),
            macs: layer.cost.macs,
            weights: layer.cost.weights,
            used: graph.is_used(layer.node),
            sites: layer
                .sites
                .iter()
                .map(|&i| &graph.sites()[i])
                .map(|s| SiteView {
                    site: s.id.clone(),
                    role: s.role,
                    shape: s.shape.clone(),
                    channels: s.layout.channels,
                })
                .collect(),
        })
        .collect();
    let weights: u64 = graph.layers().iter().map(|l| l.cost.weights).sum();
    ModelView {
        name: model.name.clone(),
        architecture: model.architecture.to_owned(),
        label: model.label.clone(),
        fingerprint: model.fingerprint.clone(),
        parameters: graph.parameters(),
        macs: graph.macs(),
        float_bytes: weights * 4,
        layers,
        calibration_samples: session.calibration().map_or(0, crate::data::SampleSet::len),
        samples: session.samples().map_or_else(Vec::new, |set| {
            set.entries()
                .iter()
                .enumerate()
                .map(|(i, e)| SampleInfo {
                    id: match (set.id(i).unwrap_or_default(), &e.prompt) {
                        (id, Some(prompt)) => format!("{id} like {prompt}"),
                        (id, None) => id.to_owned(),
                    },
                    text: e.text.clone().unwrap_or_default(),
                    has_truth: session.has_truth(e),
                })
                .collect()
        }),
        recovered,
        kept,
        presets: session.presets(),
        methods: session.method_views(),
        rewrites: session.rewrite_views(),
        weight_schemes: choices::weight_schemes(),
        activation_schemes: choices::activation_schemes(),
    }
}
