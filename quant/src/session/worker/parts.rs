//! What parts of the model cost: groups of sites, alone or all but them, on samples and on the calibration set.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::measure::{SAMPLES, TABLE_EVERY};
use super::{Shared, fit, reporter};
use crate::eval::sensitivity::{Finding, Mode};
use crate::exec::{Cancel, ExecError};
use crate::plan::Plan;
use crate::session::messages::{Event, Generation, Job, PartEffect, PartsOf, PartsView};
use crate::session::{FittedPlan, On, SessionError, Sweep, SweepOptions};

/// Measures parts and sends tables of what is known so far.
pub(super) fn parts(
    shared: &Shared,
    generation: Generation,
    plan: &Plan,
    of: PartsOf,
    cancel: &Cancel,
) -> Result<(), SessionError> {
    let fitted = fit(&shared.session, plan)?;
    let sets = if of.calibration { &[On::Samples, On::Calibration][..] } else { &[On::Samples] };
    let mut report = reporter(shared, Job::Parts);
    let mut found: Vec<Sweep> = Vec::new();
    for (at, &on) in sets.iter().enumerate() {
        let mut modes = vec![Mode::Only];
        // What is left of the plan without a part is asked of the samples only.
        modes.extend((of.all_but && on == On::Samples).then_some(Mode::AllBut));
        let options = SweepOptions { by: of.by, modes, on, samples: SAMPLES, journal: None };
        let mut last = Instant::now();
        let sweep = shared.session.sweep(&fitted, &options, cancel, |done, total, so_far| {
            // Only the answer ends it.
            report((at * total + done).min(sets.len() * total - 1), sets.len() * total);
            if last.elapsed() >= TABLE_EVERY && done < total {
                let so_far = so_far();
                let sweeps: Vec<&Sweep> = found.iter().chain([&so_far]).collect();
                shared.send(Event::Parts(Arc::new(view(shared, (generation, of), &fitted, &sweeps, false))));
                last = Instant::now();
            }
        })?;
        let complete = sweep.complete;
        found.push(sweep);
        if !complete {
            break;
        }
    }
    let complete = found.len() == sets.len() && found.iter().all(|sweep| sweep.complete);
    let sweeps: Vec<&Sweep> = found.iter().collect();
    shared.send(Event::Parts(Arc::new(view(shared, (generation, of), &fitted, &sweeps, complete))));
    if complete { Ok(()) } else { Err(ExecError::Cancelled.into()) }
}

/// The table of the samples' sweep, with what the calibration's says of the same parts.
fn view(
    shared: &Shared,
    (generation, of): (Generation, PartsOf),
    fitted: &FittedPlan,
    sweeps: &[&Sweep],
    complete: bool,
) -> PartsView {
    let calibration: HashMap<&str, f64> = sweeps
        .get(1)
        .map(|sweep| sweep.findings.iter().filter_map(|f| Some((f.unit.as_str(), f.only?.delta))).collect())
        .unwrap_or_default();
    let effect = |finding: &Finding| {
        Some(PartEffect {
            name: finding.unit.clone(),
            sites: finding.sites.len(),
            only: finding.only?.delta,
            all_but: finding.all_but.map(|effect| effect.delta),
            calibration: calibration.get(finding.unit.as_str()).copied(),
        })
    };
    let first = sweeps.first();
    PartsView {
        generation,
        plan: Arc::clone(&fitted.plan),
        of,
        metric: shared.session.metric(),
        parts: first.map(|sweep| sweep.findings.iter().filter_map(effect).collect()).unwrap_or_default(),
        samples: first.map_or(0, |sweep| sweep.samples),
        complete,
    }
}
