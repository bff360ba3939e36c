//! A plan file for each of the programs that have one model open.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Programs with one model open at the same time that have a file of their own; what comes later shares the last one.
const MOST: usize = 16;

/// The file of one program, locked for as long as it runs, however it ends.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) path: PathBuf,
    _lock: Option<File>,
}

impl Slot {
    /// The first file that no running program has. Where the system locks nothing, it is the first of all.
    pub(super) fn take(folder: &Path, stem: &str) -> Self {
        for number in 0..MOST {
            let path = file(folder, stem, number);
            match lock(&path) {
                Lock::Ours(lock) => return Self { path, _lock: Some(lock) },
                Lock::Taken => {}
                Lock::Impossible => return Self { path: file(folder, stem, 0), _lock: None },
            }
        }
        Self { path: file(folder, stem, MOST - 1), _lock: None }
    }
}

/// Gives `own` the plan of a program that has ended, if there is one.
pub(super) fn take_over(folder: &Path, stem: &str, own: &Path) {
    for number in 0..MOST {
        let path = file(folder, stem, number);
        if path == own || fs::symlink_metadata(&path).is_err() {
            continue;
        }
        // The lock is held until the file is ours: another program may look for one, too.
        if let Lock::Ours(_held) = lock(&path)
            && fs::rename(&path, own).is_ok()
        {
            return;
        }
    }
}

enum Lock {
    Ours(File),
    Taken,
    Impossible,
}

/// The lock of a plan file lies beside it, because the file itself is replaced with every edit.
fn lock(path: &Path) -> Lock {
    let beside = path.with_extension("lock");
    let Ok(file) = File::options().create(true).append(true).open(beside) else { return Lock::Impossible };
    match file.try_lock() {
        Ok(()) => Lock::Ours(file),
        Err(fs::TryLockError::WouldBlock) => Lock::Taken,
        Err(fs::TryLockError::Error(_)) => Lock::Impossible,
    }
}

fn file(folder: &Path, stem: &str, number: usize) -> PathBuf {
    // Programs that came before there were numbers have left a file without one.
    let number = if number == 0 { String::new() } else { format!("-{}", number + 1) };
    folder.join(format!("{stem}{number}.json"))
}
