//! Where samples and model files are read from: a folder, or a table inside the binary.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use super::DataError;
use crate::plan::nearest;

/// Largest file that is read into memory, in bytes. Weights are memory-mapped and never come this way.
const MAX_FILE: u64 = 256 << 20;
/// Most files that a folder may list.
const MAX_ENTRIES: usize = 200_000;
/// How many folders deep a listing goes.
const MAX_DEPTH: usize = 6;

/// Files by name. Names are relative to one folder, with `/` between the parts, and never lead out of it.
pub trait Files: Send + Sync {
    /// The content of one file.
    fn read(&self, name: &str) -> Result<Cow<'_, [u8]>, DataError>;
    /// All names, sorted.
    fn list(&self) -> Result<Vec<String>, DataError>;
    /// The name as a person would find it, for messages.
    fn display(&self, name: &str) -> String;
    /// Whether the file is there.
    fn contains(&self, name: &str) -> bool;
}

/// A folder on disk.
#[derive(Debug, Clone)]
pub struct DirFiles {
    shown: PathBuf,
    root: PathBuf,
    max_bytes: u64,
    follow: bool,
}

impl DirFiles {
    /// Opens a folder. Files reached through links that leave it are refused.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let failed = |source| DataError::Io { path: folder.display().to_string(), source };
        let root = folder.canonicalize().map_err(failed)?;
        if !root.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::NotADirectory)));
        }
        Ok(Self { shown: folder.to_owned(), root, max_bytes: MAX_FILE, follow: false })
    }

    /// The same folder with another limit on the size of a file, in bytes.
    #[must_use]
    pub fn with_limit(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// The same folder, where links may lead out of it, as in the caches of model hubs (`snapshots/X/config.json` →
    /// `../../blobs/HASH`). Only for a folder that the user named and names that this program chose: never for
    /// names that a manifest gives.
    #[must_use]
    pub fn following_links(mut self) -> Self {
        self.follow = true;
        self
    }

    /// Whether a file found under the folder may be read.
    fn allowed(&self, real: &Path) -> bool {
        self.follow || real.starts_with(&self.root)
    }

    fn locate(&self, name: &str) -> Result<PathBuf, DataError> {
        let relative = inside(name)?;
        let path = self.root.join(relative);
        match path.canonicalize() {
            Ok(real) if self.allowed(&real) => Ok(real),
            Ok(_) => Err(DataError::Escapes { path: self.display(name) }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(missing(self.display(name), name, &self.list().unwrap_or_default()))
            }
            Err(source) => Err(DataError::Io { path: self.display(name), source }),
        }
    }

    fn walk(
        &self,
        folder: &Path,
        prefix: &str,
        depth: usize,
        out: &mut Vec<String>,
    ) -> Result<(), DataError> {
        let failed = |source| DataError::Io { path: folder.display().to_string(), source };
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // A name that is not Unicode cannot be written in a manifest either.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                if depth < MAX_DEPTH {
                    self.walk(&entry.path(), &name, depth + 1, out)?;
                }
            } else if kind.is_file() || (kind.is_symlink() && entry.path().is_file()) {
                out.push(name);
            }
            if out.len() > MAX_ENTRIES {
                return Err(DataError::TooLarge {
                    path: self.shown.display().to_string(),
                    size: out.len() as u64,
                    limit: MAX_ENTRIES as u64,
                    unit: "files",
                });
            }
        }
        Ok(())
    }
}

impl Files for DirFiles {
    fn read(&self, name: &str) -> Result<Cow<'_, [u8]>, DataError> {
        let path = self.locate(name)?;
        let failed = |source| DataError::Io { path: self.display(name), source };
        // Checked on the name first: opening a pipe would wait for its writer.
        let about = fs::metadata(&path).map_err(failed)?;
        if !about.is_file() {
            return Err(DataError::NotAFile { path: self.display(name) });
        }
        let too_large = |size| DataError::TooLarge {
            path: self.display(name),
            size,
            limit: self.max_bytes,
            unit: "bytes",
        };
        if about.len() > self.max_bytes {
            return Err(too_large(about.len()));
        }
        let file = fs::File::open(&path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(self.max_bytes + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > self.max_bytes {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(Cow::Owned(bytes))
    }

    fn list(&self) -> Result<Vec<String>, DataError> {
        let mut names = Vec::new();
        self.walk(&self.root, "", 0, &mut names)?;
        names.sort();
        Ok(names)
    }

    fn display(&self, name: &str) -> String {
        self.shown.join(name).display().to_string()
    }

    fn contains(&self, name: &str) -> bool {
        // Not by `locate`, which looks for similar names when there is none.
        inside(name)
            .ok()
            .and_then(|relative| self.root.join(relative).canonicalize().ok())
            .is_some_and(|real| self.allowed(&real) && real.is_file())
    }
}

/// Files compiled into the binary.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedFiles(pub &'static [(&'static str, &'static [u8])]);

impl Files for EmbeddedFiles {
    fn read(&self, name: &str) -> Result<Cow<'_, [u8]>, DataError> {
        if let Some((_, bytes)) = self.0.iter().find(|(known, _)| *known == name) {
            return Ok(Cow::Borrowed(bytes));
        }
        let names: Vec<String> = self.0.iter().map(|(name, _)| (*name).to_owned()).collect();
        Err(missing(self.display(name), name, &names))
    }

    fn list(&self) -> Result<Vec<String>, DataError> {
        let mut names: Vec<String> = self.0.iter().map(|(name, _)| (*name).to_owned()).collect();
        names.sort();
        Ok(names)
    }

    fn display(&self, name: &str) -> String {
        format!("(bundled) {name}")
    }

    fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }
}

/// A relative path that stays where it is: no root, no drive, no `..`.
fn inside(name: &str) -> Result<&Path, DataError> {
    let path = Path::new(name);
    let stays = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if name.is_empty() || name.contains('\0') || !stays {
        return Err(DataError::Escapes { path: name.to_owned() });
    }
    Ok(path)
}

fn missing(path: String, name: &str, names: &[String]) -> DataError {
    DataError::Missing { path, nearest: nearest(name, names.iter().map(String::as_str), 2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_and_a_table_read_alike() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("a.txt"), b"one").unwrap();
        fs::write(dir.path().join("sub/b.txt"), b"two").unwrap();
        fs::write(dir.path().join(".hidden"), b"x").unwrap();
        let folder = DirFiles::open(dir.path()).unwrap();
        let table = EmbeddedFiles(&[("sub/b.txt", b"two"), ("a.txt", b"one")]);
        for files in [&folder as &dyn Files, &table] {
            assert_eq!(files.list().unwrap(), ["a.txt", "sub/b.txt"]);
            assert_eq!(&*files.read("sub/b.txt").unwrap(), b"two");
            assert!(files.contains("a.txt") && !files.contains("c.txt"));
            let error = files.read("a.tx").unwrap_err().to_string();
            assert!(error.contains("did you mean a.txt"), "{error}");
        }
    }

    #[test]
    fn names_never_leave_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(dir.path().join("secret"), b"s").unwrap();
        let files = DirFiles::open(&root).unwrap();
        for name in ["../secret", "/etc/passwd", "a/../../secret", "", "\0"] {
            assert!(matches!(files.read(name), Err(DataError::Escapes { .. })), "{name:?}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(dir.path().join("secret"), root.join("link")).unwrap();
            assert!(matches!(files.read("link"), Err(DataError::Escapes { .. })));
            assert!(!files.contains("link"));
            let following = files.following_links();
            assert!(following.contains("link"));
            assert_eq!(&*following.read("link").unwrap(), b"s");
            assert!(matches!(following.read("../secret"), Err(DataError::Escapes { .. })));
        }
    }

    #[test]
    fn folders_and_large_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("a"), [0; 100]).unwrap();
        let files = DirFiles::open(dir.path()).unwrap().with_limit(99);
        assert!(matches!(files.read("sub"), Err(DataError::NotAFile { .. })));
        assert!(matches!(files.read("a"), Err(DataError::TooLarge { size: 100, .. })));
        assert!(DirFiles::open(&dir.path().join("none")).is_err());
        assert!(DirFiles::open(&dir.path().join("a")).is_err());
    }
}
