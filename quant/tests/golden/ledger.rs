//! The golden tensors of a file, and what was found about them.

use safetensors::SafeTensors;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

/// Results of all files.
#[derive(Default)]
pub struct Ledger {
    sections: Vec<Section>,
}

/// One golden file: reads tensors, notes comparisons.
pub struct Section {
    name: &'static str,
    bytes: Vec<u8>,
    compared: usize,
    worst: f64,
    wrong: Vec<String>,
}

/// A golden tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// Its values; integers as the nearest floats.
    pub values: Vec<f32>,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

/// How far values may be off.
#[derive(Debug, Clone, Copy)]
pub enum Tolerance {
    /// Equal as numbers (−0 and +0 are one level).
    Exact,
    /// `|found - expected| ≤ share · max(|expected|, largest |expected| / 1000)`.
    Relative(f64),
    /// The same, but up to `flips` of the values may be off by at most `step`: rounding ties.
    Ties {
        /// Allowed share of the magnitude.
        share: f64,
        /// Largest part of the values that may be on another level.
        flips: f64,
        /// Distance of two levels there.
        step: f64,
    },
}

impl Ledger {
    /// Runs one file's comparisons; a panic in them is a failure of that file.
    pub fn section(&mut self, name: &'static str, check: fn(&mut Section)) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/golden/{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut section = Section { name, bytes, compared: 0, worst: 0.0, wrong: Vec::new() };
        if catch_unwind(AssertUnwindSafe(|| check(&mut section))).is_err() {
            section.wrong.push("panicked".to_owned());
        }
        if section.compared == 0 {
            section.wrong.push("nothing was compared".to_owned());
        }
        self.sections.push(section);
    }

    /// Prints the table; a failure if anything is off.
    pub fn report(&self) -> ExitCode {
        println!("\n{:<16} {:>8} {:>14} {:>6}", "golden file", "compared", "worst relative", "wrong");
        for section in &self.sections {
            let Section { name, compared, worst, wrong, .. } = section;
            println!("{name:<16} {compared:>8} {worst:>14.2e} {:>6}", wrong.len());
        }
        let compared: usize = self.sections.iter().map(|section| section.compared).sum();
        let wrong: Vec<&String> = self.sections.iter().flat_map(|section| &section.wrong).collect();
        println!("{:<16} {compared:>8} {:>14} {:>6}\n", "all", "", wrong.len());
        for line in &wrong {
            println!("{line}");
        }
        if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Section {
    /// A tensor of the file.
    pub fn tensor(&self, name: &str) -> Golden {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{}: {name}: {e}", self.name));
        let data = view.data();
        let values = match view.dtype() {
            safetensors::Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            safetensors::Dtype::F64 => {
                data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()
            }
            safetensors::Dtype::I64 => {
                data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect()
            }
            safetensors::Dtype::I32 => {
                data.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b) as f32).collect()
            }
            safetensors::Dtype::U8 | safetensors::Dtype::BOOL => data.iter().map(|&b| f32::from(b)).collect(),
            other => panic!("{}: {name} is stored as {other:?}", self.name),
        };
        Golden { values, shape: view.shape().to_vec() }
    }

    /// A tensor of one value.
    pub fn number(&self, name: &str) -> f32 {
        let tensor = self.tensor(name);
        assert_eq!(tensor.values.len(), 1, "{}: {name} is no single number", self.name);
        tensor.values[0]
    }

    /// Compares with the tensor `name` of the file.
    pub fn compare(&mut self, name: &str, found: &[f32], tolerance: Tolerance) {
        let expected = self.tensor(name).values;
        self.compare_with(name, found, &expected, tolerance);
    }

    /// Compares with values that were derived from the file.
    pub fn compare_with(&mut self, what: &str, found: &[f32], expected: &[f32], tolerance: Tolerance) {
        self.compared += 1;
        if found.len() != expected.len() {
            self.fail(format!("{what}: {} values, expected {}", found.len(), expected.len()));
            return;
        }
        let largest = expected.iter().fold(0.0_f64, |most, x| most.max(f64::from(x.abs())));
        let relative = |(a, b): (&f32, &f32)| {
            let (a, b) = (f64::from(*a), f64::from(*b));
            if a == b || (a.is_nan() && b.is_nan()) {
                0.0
            } else {
                (a - b).abs() / b.abs().max(largest / 1e3)
            }
        };
        let deviations: Vec<f64> = found.iter().zip(expected).map(relative).collect();
        let allowed = match tolerance {
            Tolerance::Exact => 0.0,
            Tolerance::Relative(share) | Tolerance::Ties { share, .. } => share,
        };
        let off: Vec<usize> =
            (0..found.len()).filter(|&i| deviations[i] > allowed || deviations[i].is_nan()).collect();
        if let Tolerance::Ties { flips, step, .. } = tolerance {
            let near = |&i: &usize| f64::from((found[i] - expected[i]).abs()) <= step * 1.001;
            if off.iter().all(near) && off.len() as f64 <= (flips * found.len() as f64).max(1.0) {
                let within = (0..found.len()).filter(|i| !off.contains(i)).map(|i| deviations[i]);
                self.worst = within.fold(self.worst, f64::max);
                return;
            }
        }
        self.worst = deviations.iter().copied().fold(self.worst, f64::max);
        if let Some(&at) = off.first() {
            let (count, of) = (off.len(), found.len());
            let (found, expected) = (found[at], expected[at]);
            self.fail(format!(
                "{what}: {count} of {of} are off, the first at {at}: {found}, expected {expected}"
            ));
        }
    }

    /// Notes that something is not as it must be.
    pub fn fail(&mut self, problem: String) {
        self.wrong.push(format!("{}: {problem}", self.name));
    }
}
