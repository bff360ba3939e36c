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
    // Only the answer ends it.
    session.prepare_explanations(&fitted, cancel, |done, total| {
        report(done.min(total) / 2, total.max(1));
    })?;
    let found = session.explain(&fitted, None, SAMPLES, cancel, |done, total| {
        report((total + done.min(total)) / 2, total.max(1) + 1);
    })?;
    let plan = Arc::clone(plan);
    shared.send(Event::Diagnosed { generation, plan, explanation: Arc::new(found) });
    Ok(())
}
