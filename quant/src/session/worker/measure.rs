//! The lane of measurements that take minutes: they run beside everything else and are stopped only by a newer one or by
//! hand.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::{MEASURE, Shared, fit, reporter};
use crate::eval::sensitivity::By;
use crate::exec::Cancel;
use crate::plan::Plan;
use crate::session::messages::{Event, Generation, Job, Request, SensitivityView, SiteEffect};
use crate::session::{FittedPlan, On, SessionError, Sweep, SweepOptions};

/// How often a table of what is known so far is sent.
const TABLE_EVERY: Duration = Duration::from_millis(400);
/// Samples of a sweep.
const SAMPLES: usize = 32;
/// Journals of sweeps that are kept, so that going back to a plan needs no new runs.
const JOURNALS: usize = 12;

/// Does what is asked, of waiting requests the newest.
pub(super) fn measuring(shared: &Shared, requests: &Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let Some(request) = requests.try_iter().last().or(Some(first)) else { continue };
        let cancel = shared.fresh(MEASURE);
        if let Request::Sweep { generation, plan } = request
            && let Err(error) = sweep(shared, generation, &plan, &cancel)
        {
            shared.failed(Job::Sensitivity, &error);
        }
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
