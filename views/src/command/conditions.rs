//! When a command can be used, and why not.

use super::Reason;
use crate::app::App;

#[expect(clippy::unnecessary_wraps, reason = "has the shape of the other conditions")]
pub(super) fn always(_: &App) -> Result<(), Reason> {
    Ok(())
}

pub(super) fn open(app: &App) -> Result<(), Reason> {
    if app.model.is_some() { Ok(()) } else { Err("the model is still opening") }
}

pub(super) fn alive(app: &App) -> Result<(), Reason> {
    open(app)?;
    if app.ended { Err("the engine has stopped") } else { Ok(()) }
}

pub(super) fn editable(app: &App) -> Result<(), Reason> {
    alive(app)?;
    if app.targets().is_empty() { Err("no site is selected") } else { Ok(()) }
}

pub(super) fn exchangeable(app: &App) -> Result<(), Reason> {
    alive(app)?;
    app.exchangeable().map(|_| ())
}

pub(super) fn choosable(app: &App) -> Result<(), Reason> {
    editable(app)?;
    if app.choices().is_empty() { Err("the choices are still being fitted") } else { Ok(()) }
}

pub(super) fn presets(app: &App) -> Result<(), Reason> {
    alive(app)?;
    let none = app.model.as_ref().is_none_or(|model| model.presets.is_empty());
    if none { Err("the model brings no ready-made plans") } else { Ok(()) }
}

pub(super) fn measurable(app: &App) -> Result<(), Reason> {
    alive(app)?;
    if app.sample_count() == 0 {
        Err("there are no samples")
    } else if !app.calibration.complete {
        Err("the calibration is not complete")
    } else {
        Ok(())
    }
}

pub(super) fn searchable(app: &App) -> Result<(), Reason> {
    alive(app)?;
    if app.model.as_ref().is_none_or(|model| model.calibration_samples < 2) {
        Err("a search needs at least two calibration samples")
    } else if !app.calibration.complete {
        Err("the calibration is not complete")
    } else {
        Ok(())
    }
}

pub(super) fn methods(app: &App) -> Result<(), Reason> {
    alive(app)?;
    let none = app.model.as_ref().is_none_or(|model| model.methods.is_empty());
    if none { Err("the model brings no methods") } else { Ok(()) }
}

pub(super) fn rewritable(app: &App) -> Result<(), Reason> {
    alive(app)?;
    if app.rewrites_in_reach().is_empty() { Err("no rewrite fits here") } else { Ok(()) }
}

pub(super) fn kept(app: &App) -> Result<(), Reason> {
    alive(app)?;
    if app.snapshots.list().is_empty() {
        Err("there are no snapshots; K keeps the plan as one")
    } else {
        Ok(())
    }
}

pub(super) fn switchable(app: &App) -> Result<(), Reason> {
    alive(app)?;
    if app.compare.is_some() || !app.partners().is_empty() {
        Ok(())
    } else {
        Err("there is no other plan; K keeps this one as a snapshot to compare with")
    }
}

pub(super) fn compared(app: &App) -> Result<(), Reason> {
    alive(app)?;
    if app.compare.is_some() { Ok(()) } else { Err("no two plans are compared; B chooses the other one") }
}

pub(super) fn marked(app: &App) -> Result<(), Reason> {
    open(app)?;
    if app.layers.has_marks() { Ok(()) } else { Err("no layer is marked") }
}

pub(super) fn undoable(app: &App) -> Result<(), Reason> {
    if app.plan.can_undo() { Ok(()) } else { Err("nothing to undo") }
}

pub(super) fn redoable(app: &App) -> Result<(), Reason> {
    if app.plan.can_redo() { Ok(()) } else { Err("nothing to redo") }
}

pub(super) fn sampled(app: &App) -> Result<(), Reason> {
    alive(app)?;
    if app.sample_count() == 0 { Err("there are no samples") } else { Ok(()) }
}

pub(super) fn calibrated(app: &App) -> Result<(), Reason> {
    if app.calibration.complete {
        Ok(())
    } else {
        Err("a plan cannot be fitted before the calibration is complete")
    }
}

pub(super) fn evaluable(app: &App) -> Result<(), Reason> {
    sampled(app)?;
    calibrated(app)
}

pub(super) fn writable(app: &App) -> Result<(), Reason> {
    alive(app)?;
    calibrated(app)
}

pub(super) fn scored(app: &App) -> Result<(), Reason> {
    sampled(app)?;
    if app.worst_sample().is_some() { Ok(()) } else { Err("the samples are not evaluated yet") }
}

pub(super) fn retyped(app: &App) -> Result<(), Reason> {
    sampled(app)?;
    if app.typed_sentence().is_some() { Ok(()) } else { Err("the sentence is the sample's own") }
}

pub(super) fn calibratable(app: &App) -> Result<(), Reason> {
    alive(app)?;
    if app.calibration.complete { Err("all calibration samples are gathered") } else { Ok(()) }
}

pub(super) fn running(app: &App) -> Result<(), Reason> {
    if app.jobs.cancellable() { Ok(()) } else { Err("nothing runs in the background") }
}
