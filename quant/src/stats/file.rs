//! The statistics of all sites in a file.
//!
//! One safetensors file: `__metadata__` holds `format` (`bitloupe-stats/1`) and `statistics`, a JSON text with
//! fingerprints, samples and sites; site number `i` of it owns the tensors `i.pages` (u64 counts, 256 a page),
//! `i.finite` (u64 per channel), `i.sum`, `i.squares` (exact sums, 33 bytes per channel), `i.top`, `i.bottom`
//! (f32, 8 per channel; bottom negated) and `i.largest`, `i.smallest` (f32, at most 256; smallest negated). Sites whose rows
//! are sampled also own `i.rows` (f32 per row and channel) and `i.priorities` (u64 per row, ascending).

mod decode;
mod encode;

use super::error::StatsError;
use super::sketch::Sketch;
use crate::export::write_atomic;
use crate::terms::{Role, SiteId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

/// Value of `format` in the file.
const FORMAT: &str = "bitloupe-stats/1";

/// Tensors that only some sites have.
const ROWS: &str = "rows";
const PRIORITIES: &str = "priorities";

/// Sketches of all sites of a model over a calibration set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StatsFile {
    /// Identifies the weights the sketches were made with.
    pub model_fingerprint: String,
    /// Identifies the calibration set; of several that were merged, see [`join_fingerprints`].
    pub calibration_fingerprint: String,
    /// Ids of the samples already counted.
    pub samples: Vec<String>,
    /// What was observed.
    pub sites: BTreeMap<SiteId, (Role, Sketch)>,
}

/// The JSON text in the header.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    model: String,
    calibration: String,
    samples: Vec<String>,
    sites: Vec<SiteHeader>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteHeader {
    site: SiteId,
    role: Role,
    count: u64,
    zero: u64,
    negative_zero: u64,
    nan: u64,
    infinite: u64,
    negative_infinite: u64,
    /// Numbers of the pages in `pages`, ascending.
    pages: Vec<usize>,
}

impl StatsFile {
    /// Reads a file; everything in it is checked.
    pub fn read(path: &Path) -> Result<Self, StatsError> {
        let io = |source| StatsError::Io { path: path.to_owned(), source };
        // Checked on the name first: a pipe would wait for its writer, a device has no end.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(io(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let bytes = std::fs::read(path).map_err(io)?;
        decode::decode(&bytes, &path.display().to_string())
    }

    /// Writes a file: to a temporary one beside it, which then takes its name.
    pub fn write(&self, path: &Path) -> Result<(), StatsError> {
        let bytes = encode::encode(self, &path.display().to_string())?;
        write_atomic(path, |file| file.write_all(&bytes))
            .map_err(|source| StatsError::Io { path: path.to_owned(), source })
    }

    /// Adds the statistics of other samples of the same model; they may be of another calibration set. Samples that
    /// both files have are an error, or counted twice if `allow_shared`. The result does not depend on the order of
    /// merging. On an error nothing has changed.
    pub fn merge(&mut self, other: &Self, allow_shared: bool) -> Result<(), StatsError> {
        if self.model_fingerprint != other.model_fingerprint {
            return Err(StatsError::Fingerprint {
                what: "model",
                expected: self.model_fingerprint.clone(),
                found: other.model_fingerprint.clone(),
            });
        }
        let ours: BTreeSet<&str> = self.samples.iter().map(String::as_str).collect();
        let mut shared = other.samples.iter().filter(|sample| ours.contains(sample.as_str())).peekable();
        if let (Some(&sample), false) = (shared.peek(), allow_shared) {
            return Err(StatsError::SharedSample { sample: sample.clone(), shared: shared.count() });
        }
        let alone = |a: &Self, b: &Self| a.sites.keys().find(|site| !b.sites.contains_key(*site)).cloned();
        if let Some(site) = alone(self, other).or_else(|| alone(other, self)) {
            return Err(StatsError::MissingSite { site: site.to_string() });
        }
        for ((_, ours), (_, theirs)) in self.sites.values().zip(other.sites.values()) {
            if ours.channels() != theirs.channels() {
                return Err(StatsError::Channels { expected: ours.channels(), found: theirs.channels() });
            }
        }
        for ((_, ours), (_, theirs)) in self.sites.values_mut().zip(other.sites.values()) {
            ours.merge(theirs)?;
        }
        self.samples.extend(other.samples.iter().cloned());
        self.samples.sort();
        self.calibration_fingerprint =
            join_fingerprints(&self.calibration_fingerprint, &other.calibration_fingerprint);
        Ok(())
    }
}

/// The fingerprint of several calibration sets: theirs, each once, sorted, joined by `+`.
pub fn join_fingerprints(a: &str, b: &str) -> String {
    let parts: BTreeSet<&str> = a.split('+').chain(b.split('+')).filter(|part| !part.is_empty()).collect();
    parts.into_iter().collect::<Vec<_>>().join("+")
}

#[cfg(test)]
mod tests;
