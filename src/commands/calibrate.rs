//! `bitloupe calibrate` and `bitloupe merge`.

use std::path::{Path, PathBuf};

use bitloupe_quant::exec::Cancel;
use bitloupe_quant::stats::StatsFile;
use color_eyre::eyre::{Result, eyre};
use serde_json::json;

use super::{Outcome, print_json};
use crate::cli::Calibrate;
use crate::open;

/// Gathers sketches and writes them.
pub fn run(args: &Calibrate) -> Result<Outcome> {
    let mut session = open::session(&args.model, args.calibration.clone(), None)?;
    if let Some(limit) = args.limit {
        session.limit_calibration(limit);
    }
    let known =
        if args.resume && args.output.exists() { Some(session.read_stats(&args.output)?) } else { None };
    let before = known.as_ref().map_or(0, |k| k.samples.len());
    let stats = session.gather(known, &Cancel::default(), open::progress("calibrating"))?;
    session.write_stats(&stats, &args.output)?;
    let sites = stats.sketches.iter().flatten().count();
    if args.json {
        print_json(&json!({
            "samples": stats.samples.len(),
            "added": stats.samples.len() - before,
            "sites": sites,
            "calibration_fingerprint": stats.fingerprint,
        }))?;
    } else {
        let added = stats.samples.len() - before;
        say!(
            "{}: {sites} sites over {} samples ({added} added)",
            args.output.display(),
            stats.samples.len()
        )?;
    }
    Ok(Outcome::Done)
}

/// Joins statistics files of the same model.
pub fn merge(files: &[PathBuf], output: &Path) -> Result<Outcome> {
    let (first, rest) = files.split_first().ok_or_else(|| eyre!("give at least one statistics file"))?;
    let mut all = StatsFile::read(first)?;
    for path in rest {
        all.merge(&StatsFile::read(path)?, false)?;
    }
    all.write(output)?;
    say!("{}: {} sites over {} samples", output.display(), all.sites.len(), all.samples.len())?;
    Ok(Outcome::Done)
}
