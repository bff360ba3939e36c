//! Peak memory of calibration, measured in processes of its own.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use bitloupe_quant::exec::Cancel;
use bitloupe_quant::session::{Options, Session};

use super::timing::Line;
use super::{Lines, options};

/// First argument of a process that only calibrates; the second is the manifest.
pub const CHILD: &str = "--calibrate-and-report-peak";

/// Calibrates on a manifest and prints the peak of resident memory in KiB.
pub fn child(manifest: &Path) -> Result<(), Box<dyn Error>> {
    let with = Options { calibration: Some(manifest.to_owned()), ..options(2)? };
    let session = Session::open(&with)?;
    session.calibrate(&Cancel::default(), |_, _| {})?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    println!("{}", peak.and_then(|p| p.split_whitespace().next()).ok_or("no VmHWM")?);
    Ok(())
}

/// The bundled calibration set once and repeated four times.
pub fn peaks() -> Lines {
    let folder = tempfile::tempdir()?;
    let mut manifest = String::new();
    for (name, bytes) in bitloupe_samples::bundled()[0].files {
        let Some(name) = name.strip_prefix("calibration/") else { continue };
        if name == "samples.jsonl" {
            manifest = String::from_utf8(bytes.to_vec())?;
        } else {
            std::fs::write(folder.path().join(name), bytes)?;
        }
    }
    let mut peaks = Vec::new();
    for (file, times) in [("once.jsonl", 1), ("four.jsonl", 4)] {
        let path = folder.path().join(file);
        std::fs::write(&path, manifest.repeat(times))?;
        let run = Command::new(std::env::current_exe()?).arg(CHILD).arg(&path).output()?;
        let printed = String::from_utf8(run.stdout)?;
        let kib: f64 =
            printed.trim().parse().map_err(|_| String::from_utf8_lossy(&run.stderr).into_owned())?;
        peaks.push(kib / 1024.0);
    }
    let samples = manifest.lines().count();
    let what =
        format!("peak memory of calibration, {} / {samples} samples ({:.0} MiB)", samples * 4, peaks[0]);
    Ok(vec![Line::at_most(what, peaks[1] / peaks[0], 1.05, "")])
}
