//! The outcomes of a sweep, kept line by line so that one that was killed goes on where it stopped.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Base, Findings, Mode, Outcome, Unit};

/// The format's name and version, in the first line.
const FORMAT: &str = "bitloupe-sweep/1";
/// Longest line that is read: the errors of some hundred thousand layers.
const MAX_LINE: u64 = 16 << 20;

/// What a journal cannot be used for.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Reading or writing.
    #[error("{path}: {source}{}", crate::terms::advice(source))]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A line that is none of a journal.
    #[error("{path}, line {line}: {reason}; delete the file or give another one to start anew")]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A journal of another sweep.
    #[error(
        "{path}: it is the journal of a sweep with another {what}; give another file, or delete it to start anew"
    )]
    Other {
        /// The file.
        path: String,
        /// What is different.
        what: &'static str,
    },
}

/// What a sweep is of. Outcomes are taken up again only if all of it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Fingerprint of the model.
    pub model: String,
    /// Fingerprint of the plan: its parameters and rewrites.
    pub plan: String,
    /// Fingerprint of the samples.
    pub set: String,
    /// What counts as one part.
    pub by: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    format: String,
    sweep: Header,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    sample: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<Base>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
}

/// An open journal.
#[derive(Debug)]
pub struct SweepJournal {
    path: PathBuf,
    file: File,
}

impl SweepJournal {
    /// Opens or makes the journal of a sweep, with what was found before. A last line that was cut off is dropped.
    pub fn open(path: &Path, header: &Header, units: &[Unit]) -> Result<(Self, Findings), JournalError> {
        let failed = |source| JournalError::Io { path: path.display().to_string(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let mut reading = Reading { path, reader: BufReader::new(&file), line: 0, whole: 0 };
        let mut findings = Findings::default();
        if let Some(text) = reading.next()? {
            let first: First = reading.parse(&text)?;
            reading.check(first.format == FORMAT, "format")?;
            let found = first.sweep;
            reading.check(found.model == header.model, "model")?;
            reading.check(found.plan == header.plan, "plan")?;
            reading.check(found.set == header.set, "set of samples")?;
            reading.check(found.by == header.by, "kind of parts")?;
            while let Some(text) = reading.next()? {
                let line: Line = reading.parse(&text)?;
                reading.take(line, units, &mut findings)?;
            }
        }
        let whole = reading.whole;
        // Only the end of a journal may be cut off: a file without a whole first line is somebody else's.
        if whole == 0 && file.metadata().map_err(failed)?.len() > 0 {
            let (path, reason) = (path.display().to_string(), "it is no journal of a sweep".to_owned());
            return Err(JournalError::Line { path, line: 1, reason });
        }
        file.set_len(whole).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut journal = Self { path: path.to_owned(), file };
        if whole == 0 {
            journal.write(&First { format: FORMAT.to_owned(), sweep: header.clone() })?;
        }
        Ok((journal, findings))
    }

    /// Keeps what the runs of a sample are compared with.
    pub fn base(&mut self, sample: usize, base: &Base) -> Result<(), JournalError> {
        self.write(&Line { sample, base: Some(base.clone()), unit: None, mode: None, outcome: None })
    }

    /// Keeps one outcome.
    pub fn outcome(
        &mut self,
        sample: usize,
        unit: &Unit,
        mode: Mode,
        outcome: &Outcome,
    ) -> Result<(), JournalError> {
        let (unit, outcome) = (Some(unit.name.clone()), Some(outcome.clone()));
        self.write(&Line { sample, base: None, unit, mode: Some(mode), outcome })
    }

    /// One line in one piece: what is written by then survives a kill.
    fn write(&mut self, line: &impl Serialize) -> Result<(), JournalError> {
        let failed = |source| JournalError::Io { path: self.path.display().to_string(), source };
        let mut text = serde_json::to_vec(line).map_err(|e| failed(e.into()))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(failed)
    }
}

/// A journal while it is read.
struct Reading<'p, R> {
    path: &'p Path,
    reader: R,
    line: usize,
    /// Bytes of whole lines.
    whole: u64,
}

impl<R: BufRead> Reading<'_, R> {
    /// The next whole line.
    fn next(&mut self) -> Result<Option<Vec<u8>>, JournalError> {
        let mut text = Vec::new();
        let mut limited = (&mut self.reader).take(MAX_LINE);
        limited
            .read_until(b'\n', &mut text)
            .map_err(|source| JournalError::Io { path: self.path.display().to_string(), source })?;
        if text.last() != Some(&b'\n') {
            self.line += 1;
            return if text.len() as u64 == MAX_LINE {
                Err(self.wrong("it is too long".to_owned()))
            } else {
                Ok(None)
            };
        }
        self.line += 1;
        self.whole += text.len() as u64;
        Ok(Some(text))
    }

    fn parse<T: for<'de> Deserialize<'de>>(&self, text: &[u8]) -> Result<T, JournalError> {
        serde_json::from_slice(text).map_err(|e| self.wrong(e.to_string()))
    }

    fn wrong(&self, reason: String) -> JournalError {
        JournalError::Line { path: self.path.display().to_string(), line: self.line, reason }
    }

    fn check(&self, same: bool, what: &'static str) -> Result<(), JournalError> {
        if same { Ok(()) } else { Err(JournalError::Other { path: self.path.display().to_string(), what }) }
    }

    fn take(&self, line: Line, units: &[Unit], findings: &mut Findings) -> Result<(), JournalError> {
        match line {
            Line { sample, base: Some(base), unit: None, mode: None, outcome: None } => {
                findings.bases.insert(sample, base);
            }
            Line { sample, base: None, unit: Some(name), mode: Some(mode), outcome: Some(outcome) } => {
                let Some(unit) = units.iter().position(|unit| unit.name == name) else {
                    return Err(self.wrong(format!("the model has no part `{name}`")));
                };
                findings.outcomes.entry((mode, unit)).or_default().insert(sample, outcome);
            }
            _ => return Err(self.wrong("it is neither a base nor an outcome".to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::sensitivity::{Judged, Noise};

    fn header() -> Header {
        let text = |word: &str| word.to_owned();
        Header { model: text("m"), plan: text("p"), set: text("s"), by: text("site") }
    }

    fn parts() -> Vec<Unit> {
        let unit = |name: &str| Unit { name: name.to_owned(), sites: vec![0], node: None };
        vec![unit("a:input"), unit("b:weight")]
    }

    fn outcome(loss: f64) -> Outcome {
        let judged = Judged { loss: Some(loss), ..Judged::default() };
        Outcome { judged, isolated: Some(Noise { signal: 0.1, noise: 1.0 / 3.0 }) }
    }

    fn filled(path: &Path) -> Findings {
        let (mut journal, nothing) = SweepJournal::open(path, &header(), &parts()).unwrap();
        assert!(nothing.bases.is_empty() && nothing.outcomes.is_empty());
        let base = Base { cumulative: vec![Noise { signal: 0.3, noise: 0.7 }], ..Base::default() };
        journal.base(4, &base).unwrap();
        journal.outcome(4, &parts()[1], Mode::Only, &outcome(0.1 + 0.2)).unwrap();
        let mut findings = Findings::default();
        findings.bases.insert(4, base);
        findings.outcomes.entry((Mode::Only, 1)).or_default().insert(4, outcome(0.1 + 0.2));
        findings
    }

    fn same(a: &Findings, b: &Findings) -> bool {
        a.bases == b.bases && a.outcomes == b.outcomes
    }

    #[test]
    fn what_was_found_is_found_again_and_a_torn_line_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep.jsonl");
        let findings = filled(&path);
        let whole = std::fs::metadata(&path).unwrap().len();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"sample\":5,\"un").unwrap();
        let (mut journal, again) = SweepJournal::open(&path, &header(), &parts()).unwrap();
        assert!(same(&findings, &again));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole);
        journal.outcome(5, &parts()[0], Mode::AllBut, &outcome(2.0)).unwrap();
        let (_, more) = SweepJournal::open(&path, &header(), &parts()).unwrap();
        assert_eq!(more.outcomes[&(Mode::AllBut, 0)][&5], outcome(2.0));
    }

    #[test]
    fn the_journal_of_another_sweep_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep.jsonl");
        filled(&path);
        let before = std::fs::read(&path).unwrap();
        let changes: [fn(&mut Header); 4] =
            [|h| h.model.push('x'), |h| h.plan.push('x'), |h| h.set.push('x'), |h| h.by.push('x')];
        for change in changes {
            let mut other = header();
            change(&mut other);
            let error = SweepJournal::open(&path, &other, &parts()).unwrap_err();
            assert!(matches!(error, JournalError::Other { .. }), "{error}");
        }
        let error = SweepJournal::open(&path, &header(), &parts()[..1]).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("b:weight"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn lines_that_are_none_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep.jsonl");
        for (at, line) in ["nonsense\n", "{\"sample\":1}\n", "{\"sample\":-1}\n"].iter().enumerate() {
            let _ = std::fs::remove_file(&path);
            filled(&path);
            OpenOptions::new().append(true).open(&path).unwrap().write_all(line.as_bytes()).unwrap();
            let error = SweepJournal::open(&path, &header(), &parts()).unwrap_err().to_string();
            assert!(error.contains("line 4") && error.contains("delete the file"), "{at}: {error}");
        }
        // The files of others are left as they are, with or without an end of line.
        for other in ["{}\n", "{\"plan\": 1}", "notes"] {
            std::fs::write(&path, other).unwrap();
            assert!(SweepJournal::open(&path, &header(), &parts()).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), other);
        }
        assert!(SweepJournal::open(folder.path(), &header(), &parts()).is_err());
    }
}
