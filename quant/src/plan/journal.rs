//! The plan that is being edited, kept against a crash.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::file::{MAX_BYTES, read_bounded};
use super::{Kept, Plan, PlanError};
use crate::export::write_atomic;

/// Two files per model in a folder for state. That of the plan is there only while it has changes that are not saved;
/// that of the snapshots as long as there are any. They are apart because one is written with every edit.
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
    kept: PathBuf,
    fingerprint: String,
}

impl Journal {
    /// The journal of a model. Nothing is created before the first [`save`](Self::save).
    pub fn new(folder: &Path, model_fingerprint: &str) -> Self {
        // Hashed, as a fingerprint may come from a file and must not name a path.
        let hash = Sha256::digest(model_fingerprint.as_bytes());
        let name = hash.iter().take(8).fold(String::new(), |name, b| format!("{name}{b:02x}"));
        let file = |kind: &str| folder.join(format!("{kind}-{name}.json"));
        Self { path: file("plan"), kept: file("snapshots"), fingerprint: model_fingerprint.to_owned() }
    }

    /// Where the plan is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the plan as it is now.
    pub fn save(&self, plan: &Plan) -> Result<(), PlanError> {
        make_folder(&self.path)?;
        plan.write(&self.path)
    }

    /// The plan of a session that did not end well. A journal that cannot be read is moved aside, so that it
    /// is neither lost nor in the way, and the error names where it is.
    pub fn recover(&self) -> Result<Option<Plan>, PlanError> {
        read_or_move_aside(&self.path, "an unsaved plan", |path, json| {
            let plan = Plan::from_json(path, json)?;
            if plan.model.fingerprint == self.fingerprint {
                return Ok(plan);
            }
            let reason = format!("it is for model {}", plan.model.name);
            Err(PlanError::Value { path: path.to_owned(), reason })
        })
    }

    /// Forgets the plan, after it was saved or given up. Snapshots stay.
    pub fn clear(&self) -> Result<(), PlanError> {
        remove(&self.path)
    }

    /// Keeps the snapshots; without any the file goes.
    pub fn keep(&self, kept: &Kept) -> Result<(), PlanError> {
        if kept.is_empty() {
            return remove(&self.kept);
        }
        let json = kept.to_json(&self.fingerprint)?;
        if json.len() as u64 > MAX_BYTES {
            let (path, bytes) = (self.kept.display().to_string(), json.len() as u64);
            return Err(PlanError::TooLarge { path, bytes, limit: MAX_BYTES });
        }
        make_folder(&self.kept)?;
        write_atomic(&self.kept, |file| io::Write::write_all(file, json.as_bytes()))
            .map_err(|e| failed(&self.kept, e))
    }

    /// The snapshots; broken ones are moved aside as a broken plan is.
    pub fn kept(&self) -> Result<Kept, PlanError> {
        let read = |path: &str, json: &[u8]| Kept::from_json(path, json, &self.fingerprint);
        read_or_move_aside(&self.kept, "snapshots of plans", read).map(Option::unwrap_or_default)
    }
}

fn read_or_move_aside<T>(
    path: &Path,
    what: &str,
    read: impl FnOnce(&str, &[u8]) -> Result<T, PlanError>,
) -> Result<Option<T>, PlanError> {
    let found = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(path, e)),
        Ok(_) => read_bounded(path).and_then(|json| read(&path.display().to_string(), &json)),
    };
    match found {
        Ok(value) => Ok(Some(value)),
        // Perhaps only now: a full disk, a missing permission. It stays where it is.
        Err(error @ PlanError::Io { .. }) => Err(error),
        Err(error) => {
            let aside = move_aside(path).map_err(|e| failed(path, e))?;
            Err(PlanError::Value {
                path: aside.display().to_string(),
                reason: format!("{what} could not be read; the file is now here: {error}"),
            })
        }
    }
}

fn move_aside(path: &Path) -> io::Result<PathBuf> {
    for n in 1..1000 {
        let aside = path.with_extension(format!("broken-{n}.json"));
        if fs::symlink_metadata(&aside).is_err() {
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many broken journals; delete the oldest"))
}

fn make_folder(path: &Path) -> Result<(), PlanError> {
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(|e| failed(path, e))
}

fn remove(path: &Path) -> Result<(), PlanError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(path, e)),
        _ => Ok(()),
    }
}

fn failed(path: &Path, source: io::Error) -> PlanError {
    PlanError::Io { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::super::example::{model, plan};
    use super::super::snapshot::tests::kept;
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
    fn snapshots_outlive_the_plan() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(&dir.path().join("state"), &model().fingerprint);
        assert_eq!(journal.kept().unwrap(), Kept::default());
        journal.save(&plan()).unwrap();
        journal.keep(&kept()).unwrap();
        journal.clear().unwrap();
        let again = Journal::new(&dir.path().join("state"), &model().fingerprint);
        assert_eq!(again.kept().unwrap(), kept());
        assert!(again.recover().unwrap().is_none());
        assert_eq!(Journal::new(&dir.path().join("state"), "other").kept().unwrap(), Kept::default());
        journal.keep(&Kept::default()).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("state")).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn broken_snapshots_are_kept_aside_and_leave_the_plan_alone() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path(), &model().fingerprint);
        journal.save(&plan()).unwrap();
        journal.keep(&kept()).unwrap();
        let half = fs::read(&journal.kept).unwrap().len() / 2;
        fs::OpenOptions::new().write(true).open(&journal.kept).unwrap().set_len(half as u64).unwrap();
        let error = journal.kept().unwrap_err().to_string();
        assert!(error.contains("snapshots-") && error.contains("broken-1.json"), "{error}");
        assert_eq!(journal.kept().unwrap(), Kept::default());
        assert_eq!(journal.recover().unwrap(), Some(plan()));
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
