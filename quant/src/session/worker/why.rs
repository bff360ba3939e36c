//! Explains the site that is looked at, beside everything else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::{Shared, WHY, fit};
use crate::exec::Cancel;
use crate::plan::Plan;
use crate::session::SessionError;
use crate::session::messages::{Event, Generation, Job, Request};
use crate::terms::SiteId;

/// A site that is looked at for this long is worth passes over samples.
const REST: Duration = Duration::from_secs(1);

/// Explains the newest site from what is known; once nothing was asked for a while, gathers what is missing and explains
/// it again. A newer request stops the gathering.
pub(super) fn explaining(shared: &Shared, requests: &Receiver<Request>) {
    let mut waiting = requests.recv().ok();
    while let Some(first) = waiting.take() {
        let newest = requests.try_iter().last().unwrap_or(first);
        let Request::Site { generation, site, plan } = newest else {
            waiting = requests.recv().ok();
            continue;
        };
        explain(shared, generation, &site, &plan, None);
        waiting = match rest(shared, requests) {
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                let cancel = shared.fresh(WHY);
                // One that came before there was anything to stop.
                if requests.is_empty() {
                    explain(shared, generation, &site, &plan, Some(&cancel));
                }
                requests.recv().ok()
            }
            Ok(next) => Some(next),
        };
    }
}

/// Waits until nothing was asked for a while and no long job runs.
fn rest(shared: &Shared, requests: &Receiver<Request>) -> Result<Request, RecvTimeoutError> {
    loop {
        match requests.recv_timeout(REST) {
            Err(RecvTimeoutError::Timeout) if shared.busy.load(Ordering::Relaxed) => {}
            other => return other,
        }
    }
}

/// Explains a site; with `gather`, only if passes over samples told something new.
fn explain(
    shared: &Shared,
    generation: Generation,
    site: &SiteId,
    plan: &Arc<Plan>,
    gather: Option<&Cancel>,
) {
    let session = &shared.session;
    let explained = || -> Result<bool, SessionError> {
        if session.stats().is_none() {
            return Ok(false);
        }
        let fitted = fit(session, plan)?;
        if let Some(cancel) = gather {
            // The list of quantizers can then say what a grid for every head would give.
            if session.gather_heads(&fitted, site, cancel)? {
                let detail = session.site_detail(generation, site, plan)?;
                shared.send(Event::Site(Arc::new(detail)));
            }
            if session.is_prepared(&fitted) {
                return Ok(false);
            }
            session.prepare_explanations(&fitted, cancel, |_, _| {})?;
        }
        let explanation = Arc::new(session.explain_site(site, &fitted)?);
        shared.send(Event::Explained { generation, explanation });
        Ok(true)
    };
    match explained() {
        Ok(_) | Err(SessionError::NotCalibrated { .. }) => {}
        Err(error) if error.is_cancelled() => {}
        // The site's detail fails for the same reasons and says so.
        Err(error) if gather.is_none() => tracing::debug!("{site} is not explained: {error}"),
        Err(error) => shared.failed(Job::Site, &error),
    }
}
