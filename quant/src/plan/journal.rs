//! The plan that is being edited, kept against a crash.

mod slot;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::file::{MAX_BYTES, read_bounded};
use super::snapshot::Hidden;
use super::{Kept, Plan, PlanError};
use crate::export::write_atomic;
use slot::Slot;

/// How long another program that writes the same snapshots is waited for.
const OTHERS_WRITE: Duration = Duration::from_millis(500);

/// Two files per model in a folder for state. That of the plan is there only while it has changes that are not saved;
/// that of the snapshots as long as there are any. They are apart because one is written with every edit. Programs that
/// have the same model open at the same time have a plan file each and share the snapshots: none loses those of another.
#[derive(Debug, Clone)]
pub struct Journal {
    folder: PathBuf,
    /// What the names of the plan's files begin with.
    stem: String,
    /// Which of them is this program's; taken when it is first needed.
    slot: Arc<OnceLock<Slot>>,
    kept: PathBuf,
    fingerprint: String,
    own: Arc<Mutex<Own>>,
}

/// What this program has read or written: of what is in the file beside it another program takes care.
#[derive(Debug, Default)]
struct Own {
    names: BTreeSet<String>,
    hidden: Option<Hidden>,
}

impl Own {
    fn note(&mut self, kept: &Kept) {
        self.names.extend(kept.snapshots.iter().map(|snapshot| snapshot.name.clone()));
        self.hidden.clone_from(&kept.hidden);
    }

    /// What is to be kept, and what others have put into the file beside it. Of two snapshots of one name the own one
    /// stays; what this program had and has no longer, it has deleted.
    fn merged(&self, kept: &Kept, found: Kept) -> Kept {
        let mut all = kept.clone();
        let ours = |name: &String| kept.snapshots.iter().any(|snapshot| snapshot.name == *name);
        let others = found.snapshots.into_iter();
        all.snapshots.extend(others.filter(|one| !self.names.contains(&one.name) && !ours(&one.name)));
        if all.hidden.is_none() && found.hidden != self.hidden {
            all.hidden = found.hidden;
        }
        all
    }
}

impl Journal {
    /// The journal of a model. Nothing is created before the first [`save`](Self::save).
    pub fn new(folder: &Path, model_fingerprint: &str) -> Self {
        // Hashed, as a fingerprint may come from a file and must not name a path.
        let hash = Sha256::digest(model_fingerprint.as_bytes());
        let name = hash.iter().take(8).fold(String::new(), |name, b| format!("{name}{b:02x}"));
        Self {
            folder: folder.to_owned(),
            stem: format!("plan-{name}"),
            slot: Arc::default(),
            kept: folder.join(format!("snapshots-{name}.json")),
            fingerprint: model_fingerprint.to_owned(),
            own: Arc::default(),
        }
    }

    /// Where the plan is.
    pub fn path(&self) -> &Path {
        &self.slot.get_or_init(|| Slot::take(&self.folder, &self.stem)).path
    }

    /// Keeps the plan as it is now.
    pub fn save(&self, plan: &Plan) -> Result<(), PlanError> {
        make_folder(&self.kept)?;
        plan.write(self.path())
    }

    /// The plan of a session that did not end well. A journal that cannot be read is moved aside, so that it
    /// is neither lost nor in the way, and the error names where it is.
    ///
    /// If this program's own file is not there, that of another which has ended is taken over.
    pub fn recover(&self) -> Result<Option<Plan>, PlanError> {
        if !self.folder.is_dir() {
            return Ok(None);
        }
        if !self.path().exists() {
            slot::take_over(&self.folder, &self.stem, self.path());
        }
        read_or_move_aside(self.path(), "an unsaved plan", |path, json| {
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
        if self.folder.is_dir() { remove(self.path()) } else { Ok(()) }
    }

    /// Keeps the snapshots beside those that other programs have kept since; without any the file goes. A file that could
    /// not be read is moved aside before, and the error names where it is.
    pub fn keep(&self, kept: &Kept) -> Result<(), PlanError> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.kept.parent().unwrap_or(Path::new("."));
        if folder.exists() || !kept.is_empty() {
            make_folder(&self.kept)?;
        }
        let _turn = turn(folder);
        let (found, broken) = match self.read_kept() {
            Ok(found) => (found, None),
            Err(error @ PlanError::Io { .. }) => return Err(error),
            Err(error) => (Kept::default(), Some(error)),
        };
        let all = own.merged(kept, found);
        if all.is_empty() {
            remove(&self.kept)?;
        } else {
            let json = all.to_json(&self.fingerprint)?;
            if json.len() as u64 > MAX_BYTES {
                let (path, bytes) = (self.kept.display().to_string(), json.len() as u64);
                return Err(PlanError::TooLarge { path, bytes, limit: MAX_BYTES });
            }
            write_atomic(&self.kept, |file| io::Write::write_all(file, json.as_bytes()))
                .map_err(|e| failed(&self.kept, e))?;
        }
        own.note(kept);
        broken.map_or(Ok(()), Err)
    }

    /// The snapshots; broken ones are moved aside as a broken plan is.
    pub fn kept(&self) -> Result<Kept, PlanError> {
        let kept = self.read_kept()?;
        self.own.lock().unwrap_or_else(PoisonError::into_inner).note(&kept);
        Ok(kept)
    }

    fn read_kept(&self) -> Result<Kept, PlanError> {
        let read = |path: &str, json: &[u8]| Kept::from_json(path, json, &self.fingerprint);
        read_or_move_aside(&self.kept, "snapshots of plans", read).map(Option::unwrap_or_default)
    }
}

/// A lock of the folder while the snapshots are read and written, where the system has such: not held for long, and not
/// waited for for ever, as whoever holds it may have been stopped.
fn turn(folder: &Path) -> Option<fs::File> {
    let handle = fs::File::open(folder).ok()?;
    let start = Instant::now();
    loop {
        match handle.try_lock() {
            Ok(()) => return Some(handle),
            Err(fs::TryLockError::WouldBlock) if start.elapsed() < OTHERS_WRITE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => return None,
        }
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
    use super::super::{Figures, Snapshot};
    use super::*;

    #[test]
    fn a_plan_survives() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(&dir.path().join("state"), &model().fingerprint);
        assert!(journal.recover().unwrap().is_none());
        journal.clear().unwrap();
        journal.save(&plan()).unwrap();
        drop(journal);
        let journal = Journal::new(&dir.path().join("state"), "0123abcd");
        assert_eq!(journal.recover().unwrap(), Some(plan()));
        assert!(Journal::new(&dir.path().join("state"), "other").recover().unwrap().is_none());
        journal.clear().unwrap();
        assert!(journal.recover().unwrap().is_none());
    }

    #[test]
    fn programs_side_by_side_keep_a_plan_each() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Journal::new(dir.path(), &model().fingerprint);
        let named = |method: &str| Plan { method: method.to_owned(), ..plan() };
        let (one, two) = (open(), open());
        assert!(one.recover().unwrap().is_none() && two.recover().unwrap().is_none());
        one.save(&named("one")).unwrap();
        two.save(&named("two")).unwrap();
        assert_eq!(one.recover().unwrap(), Some(named("one")));
        // A third one takes nothing from those that run.
        assert!(open().recover().unwrap().is_none());
        // Both end early: one after the other comes back.
        drop((one, two));
        let (first, second, third) = (open(), open(), open());
        assert_eq!(first.recover().unwrap(), Some(named("one")));
        first.clear().unwrap();
        drop(first);
        assert_eq!(second.recover().unwrap(), Some(named("two")), "whatever its place was");
        assert!(third.recover().unwrap().is_none());
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
        let left = fs::read_dir(dir.path().join("state")).unwrap().map(|file| file.unwrap().path());
        assert!(left.into_iter().all(|file| file.extension().is_some_and(|end| end == "lock")));
    }

    #[test]
    fn two_programs_keep_their_snapshots_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Journal::new(dir.path(), &model().fingerprint);
        let of = |names: &[&str]| {
            let snapshot = |name: &&str| Snapshot { name: (*name).to_owned(), ..kept().snapshots.remove(0) };
            Kept::new(names.iter().map(snapshot).collect(), None)
        };
        let names = || -> Vec<String> {
            open().kept().unwrap().snapshots.into_iter().map(|snapshot| snapshot.name).collect()
        };
        open().keep(&of(&["before"])).unwrap();
        let (one, two) = (open(), open());
        assert_eq!(one.kept().unwrap(), two.kept().unwrap());
        one.keep(&of(&["before", "one"])).unwrap();
        two.keep(&of(&["before", "two"])).unwrap();
        assert_eq!(names(), ["before", "two", "one"]);
        // The own one wins, what was deleted stays so, and nobody deletes what is another's.
        let mut mine = of(&["one", "two"]);
        mine.snapshots[1].figures = Figures::default();
        one.keep(&mine).unwrap();
        assert_eq!(open().kept().unwrap().snapshots[1].figures, Figures::default());
        assert_eq!(names(), ["one", "two"]);
        one.keep(&of(&[])).unwrap();
        assert!(names().is_empty(), "both names were its own by then");
        two.keep(&of(&["two"])).unwrap();
        one.keep(&Kept::default()).unwrap();
        one.keep(&of(&["one"])).unwrap();
        // The hidden side of a comparison is that of whoever compares.
        two.keep(&Kept::new(of(&["two"]).snapshots, kept().hidden)).unwrap();
        one.keep(&of(&["one"])).unwrap();
        assert_eq!(open().kept().unwrap().hidden, kept().hidden);
        two.keep(&of(&["two"])).unwrap();
        assert_eq!(open().kept().unwrap().hidden, None);
    }

    #[test]
    fn many_writers_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let journal = Journal::new(dir.path(), &model().fingerprint);
                scope.spawn(move || {
                    let mut own = Kept::default();
                    for step in 0..5 {
                        let name = format!("{writer}.{step}");
                        own.snapshots.push(Snapshot { name, ..kept().snapshots.remove(0) });
                        journal.keep(&own).unwrap();
                    }
                });
            }
        });
        let found = Journal::new(dir.path(), &model().fingerprint).kept().unwrap();
        assert_eq!(found.snapshots.len(), 20);
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
