//! The plan that is being edited, kept against a crash.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::file::read_bounded;
use super::{Plan, PlanError};

/// One file per model in a folder for state. It is there only while a plan has changes that are not saved.
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
    fingerprint: String,
}

impl Journal {
    /// The journal of a model. Nothing is created before the first [`save`](Self::save).
    pub fn new(folder: &Path, model_fingerprint: &str) -> Self {
        // Hashed, as a fingerprint may come from a file and must not name a path.
        let hash = Sha256::digest(model_fingerprint.as_bytes());
        let name = hash.iter().take(8).fold(String::from("plan-"), |name, b| format!("{name}{b:02x}"));
        Self { path: folder.join(format!("{name}.json")), fingerprint: model_fingerprint.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the plan as it is now.
    pub fn save(&self, plan: &Plan) -> Result<(), PlanError> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(|e| self.failed(e))?;
        }
        plan.write(&self.path)
    }

    /// The plan of a session that did not end well. A journal that cannot be read is moved aside, so that it
    /// is neither lost nor in the way, and the error names where it is.
    pub fn recover(&self) -> Result<Option<Plan>, PlanError> {
        let found = match fs::symlink_metadata(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.failed(e)),
            Ok(_) => self.read(),
        };
        match found {
            Ok(plan) => Ok(Some(plan)),
            // Perhaps only now: a full disk, a missing permission. It stays where it is.
            Err(error @ PlanError::Io { .. }) => Err(error),
            Err(error) => {
                let aside = self.move_aside().map_err(|e| self.failed(e))?;
                Err(PlanError::Value {
                    path: aside.display().to_string(),
                    reason: format!("an unsaved plan could not be recovered and is kept here: {error}"),
                })
            }
        }
    }

    /// Forgets the plan, after it was saved or given up.
    pub fn clear(&self) -> Result<(), PlanError> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.failed(e)),
            _ => Ok(()),
        }
    }

    fn read(&self) -> Result<Plan, PlanError> {
        let shown = self.path.display().to_string();
        let plan = Plan::from_json(&shown, &read_bounded(&self.path)?)?;
        if plan.model.fingerprint == self.fingerprint {
            return Ok(plan);
        }
        Err(PlanError::Value { path: shown, reason: format!("it is for model {}", plan.model.name) })
    }

    fn move_aside(&self) -> io::Result<PathBuf> {
        for n in 1..1000 {
            let aside = self.path.with_extension(format!("broken-{n}.json"));
            if fs::symlink_metadata(&aside).is_err() {
                fs::rename(&self.path, &aside)?;
                return Ok(aside);
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many broken journals; delete the oldest"))
    }

    fn failed(&self, source: io::Error) -> PlanError {
        PlanError::Io { path: self.path.display().to_string(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::{model, plan};
    use super::*;

    #[test]
    fn a_plan_survives() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(&dir.path().join("state"), &model().fingerprint);
        assert!(journal.recover().unwrap().is_none());
        journal.clear().unwrap();
        journal.save(&plan()).unwrap();
        assert_eq!(Journal::new(&dir.path().join("state"), "0123abcd").recover().unwrap(), Some(plan()));
        assert!(Journal::new(&dir.path().join("state"), "other").recover().unwrap().is_none());
        journal.clear().unwrap();
        assert!(journal.recover().unwrap().is_none());
    }

    #[test]
    fn a_broken_journal_is_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path(), &model().fingerprint);
        for n in 1..3 {
            fs::write(journal.path(), b"{\"format\": \"bitlou").unwrap();
            let error = journal.recover().unwrap_err().to_string();
            assert!(error.contains(&format!("broken-{n}.json")), "{error}");
            assert!(journal.recover().unwrap().is_none());
        }
        let kept = journal.path().with_extension("broken-1.json");
        assert_eq!(fs::read(kept).unwrap(), b"{\"format\": \"bitlou");
    }

    #[test]
    fn hostile_fingerprints_and_places() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path(), "../../etc/passwd");
        assert_eq!(journal.path().parent(), Some(dir.path()));
        fs::write(dir.path().join("file"), b"").unwrap();
        assert!(Journal::new(&dir.path().join("file"), "x").save(&plan()).is_err());
    }
}
