//! Files that a person asked for. What others have put there is not replaced without leave.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Evaluation, Event, Job, Request, Shared, fit, reporter};
use crate::exec::Cancel;
use crate::plan::Plan;
use crate::session::{Parts, SessionError, lock};

/// Exports a plan, with the figures of all samples if there are any.
pub(super) fn export(
    shared: &Shared,
    plan: &Arc<Plan>,
    folder: &Path,
    replace: bool,
    cancel: &Cancel,
) -> Result<(), SessionError> {
    let strangers = strangers(shared, Parts::ALL.files(folder));
    if !replace && !strangers.is_empty() {
        let request = Request::Export { plan: Arc::clone(plan), folder: folder.to_owned(), replace: true };
        shared.send(Event::Occupied { request: Box::new(request), files: strangers });
        return Ok(());
    }
    let session = &shared.session;
    let fitted = fit(session, plan)?;
    let mut report = reporter(shared, Job::Export);
    let progress = |done, total, _: &dyn Fn() -> Evaluation| {
        report(done, total);
    };
    let evaluation = match session.samples() {
        Some(_) => Some(session.evaluate(&fitted, cancel, progress)?),
        None => None,
    };
    let exported = session.export(&fitted, evaluation.as_ref(), folder, Parts::ALL)?;
    lock(&shared.written).extend(exported.files.iter().cloned());
    shared.send(Event::Exported { files: exported.files });
    Ok(())
}

/// Writes a plan with its parameters.
pub(super) fn save(
    shared: &Shared,
    plan: &Arc<Plan>,
    path: &Path,
    replace: bool,
) -> Result<(), SessionError> {
    let strangers = strangers(shared, vec![path.to_owned()]);
    if !replace && !strangers.is_empty() {
        let request = Request::Save { plan: Arc::clone(plan), path: path.to_owned(), replace: true };
        shared.send(Event::Occupied { request: Box::new(request), files: strangers });
        return Ok(());
    }
    let fitted = fit(&shared.session, plan)?;
    fitted.plan.write(path)?;
    lock(&shared.written).insert(path.to_owned());
    if let Some(journal) = shared.journal.get() {
        let _ = journal.clear();
    }
    shared.send(Event::Saved { path: path.to_owned() });
    Ok(())
}

/// Those of the files that are there and were not written by this session.
fn strangers(shared: &Shared, mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    let written = lock(&shared.written);
    files.retain(|file| file.symlink_metadata().is_ok() && !written.contains(file));
    files
}
