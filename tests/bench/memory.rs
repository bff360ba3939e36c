//! Peak memory of calibration and of sweeps, measured in processes of their own.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use bitloupe_quant::exec::Cancel;
use bitloupe_quant::method::MethodBits;
use bitloupe_quant::session::{Options, Session, SweepOptions};
use bitloupe_quant::terms::Bits;

use super::timing::Line;
use super::{Lines, options};

/// First argument of a process that only calibrates; the second is the manifest.
pub const CHILD: &str = "--calibrate-and-report-peak";
/// First argument of a process that only sweeps; the second is the number of samples.
pub const SWEEPING: &str = "--sweep-and-report-peak";
/// Cap of what is kept between runs.
const CAP: usize = 32 << 20;

/// Calibrates on a manifest and prints the peak of resident memory in KiB.
pub fn child(manifest: &Path) -> Result<(), Box<dyn Error>> {
    let with = Options { calibration: Some(manifest.to_owned()), ..options(2)? };
    let session = Session::open(&with)?;
    session.calibrate(&Cancel::default(), |_, _| {})?;
    println!("{}", resident("VmHWM:")?);
    Ok(())
}

/// Sweeps over the first samples and prints the resident memory before it and its peak since then, in KiB.
pub fn sweeping(samples: &Path) -> Result<(), Box<dyn Error>> {
    let samples: usize = samples.to_str().ok_or("no number")?.parse()?;
    let session = Session::open(&Options { cache_bytes: CAP, ..options(2)? })?;
    let cancel = Cancel::default();
    session.calibrate(&cancel, |_, _| {})?;
    let four = Bits::new(4)?;
    let plan = session.method_plan("minmax", &MethodBits::new(four, four)).ok_or("no method")?;
    let fitted = session.fit_plan(&plan)?;
    // The quantized weights are part of the model. The peak counts from here.
    drop(session.quantization(&fitted)?);
    std::fs::write("/proc/self/clear_refs", "5")?;
    let before = resident("VmRSS:")?;
    let sweep = session.sweep(
        &fitted,
        &SweepOptions { samples, ..SweepOptions::default() },
        &cancel,
        |_, _, _| {},
    )?;
    if sweep.samples != samples {
        return Err(format!("{} samples, not {samples}", sweep.samples).into());
    }
    println!("{before} {}", resident("VmHWM:")?);
    Ok(())
}

/// A line of this process's status, in KiB.
fn resident(name: &str) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let found = status.lines().find_map(|line| line.strip_prefix(name));
    Ok(found.and_then(|rest| rest.split_whitespace().next()).ok_or("no such line")?.parse()?)
}

/// Figures in MiB that a process like this one prints.
fn measured(mode: &str, of: &Path) -> Result<Vec<f64>, Box<dyn Error>> {
    let run = Command::new(std::env::current_exe()?).arg(mode).arg(of).output()?;
    let printed = String::from_utf8(run.stdout)?;
    let figures: Vec<f64> = printed.split_whitespace().filter_map(|kib| kib.parse().ok()).collect();
    if figures.is_empty() {
        return Err(String::from_utf8_lossy(&run.stderr).into_owned().into());
    }
    Ok(figures.into_iter().map(|kib| kib / 1024.0).collect())
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
    let mut peaks: Vec<f64> = Vec::new();
    for (file, times) in [("once.jsonl", 1), ("four.jsonl", 4)] {
        let path = folder.path().join(file);
        std::fs::write(&path, manifest.repeat(times))?;
        peaks.extend(measured(CHILD, &path)?.first());
    }
    let samples = manifest.lines().count();
    let what =
        format!("peak memory of calibration, {} / {samples} samples ({:.0} MiB)", samples * 4, peaks[0]);
    let (few, many) = (measured(SWEEPING, "32".as_ref())?, measured(SWEEPING, "96".as_ref())?);
    let ([_, few], [before, many]) = (few.as_slice(), many.as_slice()) else { return Err("no peaks".into()) };
    let cap = (CAP >> 20) as f64;
    Ok(vec![
        Line::at_most(what, peaks[1] / peaks[0], 1.05, ""),
        Line::at_most(
            format!("peak memory of a sweep, 96 / 32 samples ({few:.0} MiB)"),
            many / few,
            1.05,
            "",
        ),
        Line::at_most(
            format!(
                "the same / the session with its plan ({before:.0} MiB) + the cap of caches ({cap:.0} MiB)"
            ),
            many / (before + cap),
            1.0,
            "",
        ),
    ])
}
