//! `bitloupe export`: plan, quantized weights, report.

use bitloupe_quant::exec::Cancel;
use bitloupe_quant::session::Parts;
use color_eyre::eyre::{Result, eyre};

use super::Outcome;
use crate::cli::Export;
use crate::open;

/// Writes the files of a plan.
pub fn run(args: &Export) -> Result<Outcome> {
    let parts = match args.format.as_str() {
        "all" => Parts::ALL,
        "plan" => Parts { plan: true, weights: false, report: false },
        "weights" => Parts { plan: false, weights: true, report: false },
        "report" => Parts { plan: false, weights: false, report: true },
        other => return Err(eyre!("`{other}` is no format; give all, plan, weights or report")),
    };
    let session = open::session(&args.model, args.calibration.clone(), args.samples.clone())?;
    let plan = open::plan(&session, &args.plan)?;
    // The report says how each site is distributed and what its grid makes of that, so the sketches are wanted even if
    // the plan is fitted, and before it is taken.
    if parts.report && session.stats().is_none() && session.calibration().is_some() {
        open::calibrate(&session)?;
    }
    let fitted = open::fit(&session, &plan)?;
    let evaluation = match session.samples() {
        Some(_) if parts.plan || parts.report => {
            let mut report = open::progress("evaluating");
            Some(session.evaluate(&fitted, &Cancel::default(), |done, total, _| report(done, total))?)
        }
        _ => None,
    };
    for file in session.export(&fitted, evaluation.as_ref(), &args.output, parts)?.files {
        say!("{}", file.display())?;
    }
    Ok(Outcome::Done)
}
