//! The lane of measurements that take minutes: they run beside everything else and are stopped only by a newer one or by
//! hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::{Shared, fit, lock, parts, reporter};
use crate::eval::search::{Front, Limit, Point};
use crate::eval::sensitivity::By;
use crate::exec::Cancel;
use crate::plan::Plan;
use crate::session::messages::{
    Event, FrontPoint, FrontView, Generation, Job, Request, SensitivityView, SiteEffect,
};
use crate::session::{FittedPlan, On, SearchOptions, SearchStage, SessionError, Sweep, SweepOptions};

/// How often a table of what is known so far is sent.
pub(super) const TABLE_EVERY: Duration = Duration::from_millis(400);
/// Samples of a sweep.
pub(super) const SAMPLES: usize = 32;
/// Journals of sweeps that are kept, so that going back to a plan needs no new runs.
const JOURNALS: usize = 12;

/// The job that a request begins here.
const fn job(request: &Request) -> Option<Job> {
    match request {
        Request::Sweep { .. } => Some(Job::Sensitivity),
        Request::Parts { .. } => Some(Job::Parts),
        Request::Search { .. } => Some(Job::Search),
        _ => None,
    }
}

/// Does what is asked, of waiting requests the newest. Each comes with what stops it, so that it can be stopped before it
/// begins.
pub(super) fn measuring(shared: &Shared, requests: &Receiver<(Request, Cancel)>) {
    while let Ok(first) = requests.recv() {
        let (mut request, mut cancel) = first;
        for (newer, stops) in requests.try_iter() {
            // What never ran is told like what was stopped, so that nobody waits for it.
            if let Some(job) = job(&request).filter(|old| job(&newer) != Some(*old)) {
                shared.send(Event::Cancelled { job });
            }
            (request, cancel) = (newer, stops);
        }
        let Some(job) = job(&request) else { continue };
        let outcome = match request {
            _ if cancel.is_cancelled() => Err(crate::exec::ExecError::Cancelled.into()),
            Request::Sweep { generation, plan } => sweep(shared, generation, &plan, &cancel),
            Request::Parts { generation, plan, of } => parts::parts(shared, generation, &plan, of, &cancel),
            Request::Search { generation, seconds } => {
                search(shared, generation, Duration::from_secs(seconds), &cancel)
            }
            _ => continue,
        };
        if let Err(error) = outcome {
            shared.failed(job, &error);
        }
    }
}

/// Solves for other budgets, of waiting ones the newest.
pub(super) fn solving(shared: &Shared, requests: &Receiver<(Generation, f64)>) {
    while let Ok(first) = requests.recv() {
        let (generation, average_bits) = requests.try_iter().last().unwrap_or(first);
        solve(shared, generation, average_bits);
    }
}

fn sweep(shared: &Shared, generation: Generation, plan: &Plan, cancel: &Cancel) -> Result<(), SessionError> {
    let session = &shared.session;
    let fitted = fit(session, plan)?;
    let journal = shared.journal.get().and_then(|journal| {
        let folder = journal.path().parent()?;
        std::fs::create_dir_all(folder).ok()?;
        prune(folder);
        Some(session.sweep_journal(folder, &fitted, By::Site, On::Samples))
    });
    let options = SweepOptions { samples: SAMPLES, journal, ..SweepOptions::default() };
    let mut report = reporter(shared, Job::Sensitivity);
    let mut last = Instant::now();
    let mut report = |done: usize, total: usize, so_far: &dyn Fn() -> Sweep| {
        report(done, total);
        if last.elapsed() >= TABLE_EVERY && done < total {
            shared.send(Event::Sensitivity(Arc::new(view(shared, generation, &fitted, &so_far()))));
            last = Instant::now();
        }
    };
    let found = match session.sweep(&fitted, &options, cancel, &mut report) {
        // A journal that cannot be used or written must not stop the sweep.
        Err(SessionError::Sweep(error)) => {
            shared.send(Event::Warning { message: format!("the sweep is not kept for a restart: {error}") });
            session.sweep(&fitted, &SweepOptions { journal: None, ..options }, cancel, &mut report)?
        }
        found => found?,
    };
    shared.send(Event::Sensitivity(Arc::new(view(shared, generation, &fitted, &found))));
    if found.complete { Ok(()) } else { Err(crate::exec::ExecError::Cancelled.into()) }
}

/// Steps of a stage of a search in the progress that is shown: the stages' own numbers cannot be compared.
const STAGE: usize = 1000;

fn search(
    shared: &Shared,
    generation: Generation,
    time: Duration,
    cancel: &Cancel,
) -> Result<(), SessionError> {
    let options = SearchOptions { time, ..SearchOptions::default() };
    let mut report = reporter(shared, Job::Search);
    let found = shared.session.search(&options, cancel, |progress| {
        let stages = SearchStage::ALL;
        let stage = stages.iter().position(|stage| *stage == progress.stage).unwrap_or(0);
        let within = progress.done.min(progress.total) * STAGE / progress.total.max(1);
        // Only the answer ends it.
        report((stage * STAGE + within).min(stages.len() * STAGE - 1), stages.len() * STAGE);
        if let Some(front) = progress.front {
            let doing = Some(progress.stage.name());
            shared.send(Event::Front(Arc::new(front_view(shared, generation, front, doing))));
            // Other budgets are solved from what is there by now.
            *lock(&shared.front) = Some(Arc::new(front.clone()));
        }
    })?;
    shared.send(Event::Front(Arc::new(front_view(shared, generation, &found, None))));
    *lock(&shared.front) = Some(Arc::new(found));
    if cancel.is_cancelled() { Err(crate::exec::ExecError::Cancelled.into()) } else { Ok(()) }
}

/// A plan between those that were measured.
fn solve(shared: &Shared, generation: Generation, average_bits: f64) {
    let Some(front) = lock(&shared.front).clone() else {
        let message = "nothing was found yet that other budgets could be solved from".to_owned();
        return shared.send(Event::Warning { message });
    };
    let limit = Limit::AverageBits(average_bits);
    match front.solve(limit) {
        Ok(solved) => {
            let known = solved.point.and_then(|at| front.points.get(at));
            let point = FrontPoint {
                limit: limit.to_string(),
                origin: known
                    .map_or_else(|| "between measured plans".to_owned(), |point| point.origin.clone()),
                weight_bits: solved.budget.average_weight_bits,
                activation_bits: solved.budget.average_activation_bits,
                weight_bytes: solved.budget.weight_bytes,
                figure: known.and_then(|point| figure(shared, &point.figures.truth)),
                agreement: known.and_then(|point| figure(shared, &point.figures.agreement)),
                plan: solved.plan,
            };
            shared.send(Event::Solved { generation, point: Arc::new(point) });
        }
        // A search that runs goes on.
        Err(error) => shared.send(Event::Warning { message: error.to_string() }),
    }
}

fn front_view(
    shared: &Shared,
    generation: Generation,
    front: &Front,
    doing: Option<&'static str>,
) -> FrontView {
    let point = |point: &Point| FrontPoint {
        limit: point.limit.to_string(),
        origin: point.origin.clone(),
        weight_bits: point.budget.average_weight_bits,
        activation_bits: point.budget.average_activation_bits,
        weight_bytes: point.budget.weight_bytes,
        figure: figure(shared, &point.figures.truth),
        agreement: figure(shared, &point.figures.agreement),
        plan: Arc::clone(&point.plan),
    };
    let metric = shared.session.metric();
    let points = front.points.iter().map(point).collect();
    FrontView { generation, metric, points, doing, effort: front.effort.clone() }
}

/// The figure that stands for the task.
fn figure(shared: &Shared, named: &BTreeMap<String, f64>) -> Option<f64> {
    named.get(shared.session.metric().figure()).copied()
}

fn view(shared: &Shared, generation: Generation, fitted: &FittedPlan, sweep: &Sweep) -> SensitivityView {
    let sites = fitted.variant.graph().sites();
    let effect = |finding: &crate::eval::sensitivity::Finding| {
        let only = finding.only?;
        let site = sites.get(*finding.sites.first()?)?.id.clone();
        Some(SiteEffect {
            site,
            isolated_sqnr_db: finding.isolated_sqnr_db,
            cumulative_sqnr_db: finding.cumulative_sqnr_db,
            delta: only.delta,
            agreement: only.agreement,
            samples: finding.samples,
        })
    };
    SensitivityView {
        generation,
        plan: Arc::clone(&fitted.plan),
        metric: shared.session.metric(),
        sites: sweep.findings.iter().filter_map(effect).collect(),
        samples: sweep.samples,
        reused: sweep.reused,
        complete: sweep.complete,
    }
}

/// Deletes the oldest journals of sweeps beyond a few.
fn prune(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let own = |name: &str| {
        name.strip_prefix("sweep-")
            .and_then(|rest| rest.strip_suffix(".jsonl"))
            .is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(own))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    found.sort_by_key(|(modified, _)| std::cmp::Reverse(*modified));
    for (_, path) in found.into_iter().skip(JOURNALS - 1) {
        let _ = std::fs::remove_file(path);
    }
}
