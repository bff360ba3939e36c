//! The lane that explains the whole model.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::{Shared, fit, reporter};
use crate::exec::Cancel;
use crate::plan::Plan;
use crate::session::SessionError;
use crate::session::messages::{Event, Generation, Job};

/// Samples that are run with swapped sentences, as many as `bitloupe explain` runs.
const SAMPLES: usize = 16;
/// Steps of progress of gathering, and of runs.
const HALF: usize = 500;

/// Explains, of waiting plans the newest. Each comes with what stops it.
pub(super) fn diagnosing(shared: &Shared, requests: &Receiver<(Generation, Arc<Plan>, Cancel)>) {
    while let Ok(first) = requests.recv() {
        let (generation, plan, cancel) = requests.try_iter().last().unwrap_or(first);
        match diagnose(shared, generation, &plan, &cancel) {
            // A newer one is on its way.
            Err(error) if error.is_cancelled() && !requests.is_empty() => {}
            Err(error) => shared.failed(Job::Diagnosis, &error),
            Ok(()) => {}
        }
    }
}

fn diagnose(
    shared: &Shared,
    generation: Generation,
    plan: &Arc<Plan>,
    cancel: &Cancel,
) -> Result<(), SessionError> {
    let session = &shared.session;
    let fitted = fit(session, plan)?;
    let mut report = reporter(shared, Job::Diagnosis);
    // Each half counts by itself, and only the answer ends it.
    let half = |done: usize, total: usize| done.min(total) * HALF / total.max(1);
    session.prepare_explanations(&fitted, cancel, |done, total| {
        report(half(done, total), 2 * HALF);
    })?;
    let found = session.explain(&fitted, None, SAMPLES, cancel, |done, total| {
        report((HALF + half(done, total)).min(2 * HALF - 1), 2 * HALF);
    })?;
    let plan = Arc::clone(plan);
    shared.send(Event::Diagnosed { generation, plan, explanation: Arc::new(found) });
    Ok(())
}
