//! Measures the budgets of bitloupe on the bundled model and prints one table:
//!
//! `cargo bench --workspace --bench budgets [-- PART…]`, with PART of `forward`, `calibration`, `operations`, `edits`,
//! `reached`, `fits`, `memory`, `start`, `frames`; all if none is named.
//!
//! Everything is a ratio of two times taken in turn in one process, in processor time where one thread does the work,
//! or a time that a person waits for, on the wall. The median of several rounds counts. Nothing fails when a budget is
//! missed: the table says so.

#![allow(
    clippy::result_large_err,
    clippy::unnecessary_wraps,
    clippy::type_complexity,
    reason = "parts of a benchmark have one shape, and their errors end the program"
)]

mod engine;
#[path = "../../views/tests/support/fake.rs"]
mod fake;
#[path = "../../views/tests/support/harness.rs"]
mod harness;
mod incremental;
mod interface;
mod memory;
mod session;
mod timing;

use std::error::Error;

use bitloupe_quant::models::ModelFiles;
use bitloupe_quant::session::{Options, Session};

type Lines = Result<Vec<timing::Line>, Box<dyn Error>>;

/// Options for the bundled model.
fn options(threads: usize) -> Result<Options, Box<dyn Error>> {
    let bundled = &bitloupe_samples::bundled()[0];
    let (name, label, files) = (bundled.name, bundled.label, bundled.files);
    let model = ModelFiles::Embedded { name, label, files, replace: bundled.replacements()? };
    Ok(Options { threads: Some(threads), ..Options::new(model) })
}

/// The bundled model, open.
fn open(threads: usize) -> Result<Session, Box<dyn Error>> {
    Ok(Session::open(&options(threads)?)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench`.
    let said: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [mode, of] = said.as_slice() {
        match mode.as_str() {
            memory::CHILD => return memory::child(of.as_ref()),
            memory::SWEEPING => return memory::sweeping(of.as_ref()),
            _ => {}
        }
    }
    let parts: [(&str, fn() -> Lines); 9] = [
        ("forward", engine::forward),
        ("calibration", engine::calibration),
        ("operations", engine::operations),
        ("edits", session::edits),
        ("reached", incremental::reached),
        ("fits", session::fits),
        ("memory", memory::peaks),
        ("start", interface::start),
        ("frames", interface::frames),
    ];
    let mut lines = Vec::new();
    for (name, measure) in parts {
        if said.is_empty() || said.iter().any(|s| s == name) {
            eprintln!("{name} …");
            lines.extend(measure()?);
        }
    }
    timing::print(&lines);
    Ok(())
}
