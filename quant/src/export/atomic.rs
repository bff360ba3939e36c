//! Writing a file so that no one ever sees half of it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

/// Writes a file: `write` fills a temporary one in the same folder, which is flushed to the disk and renamed.
/// A device or pipe is written directly. When anything fails, what was there stays.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    if is_special(path)? {
        let mut file = OpenOptions::new().write(true).open(path)?;
        write(&mut file)?;
        return file
            .sync_all()
            .or_else(|e| if e.kind() == io::ErrorKind::InvalidInput { Ok(()) } else { Err(e) });
    }
    replace_atomic(path, |temporary| {
        let mut file = OpenOptions::new().write(true).open(temporary)?;
        write(&mut file)
    })
}

/// The same for writers that want a path: `write` gets that of an empty temporary file.
pub fn replace_atomic(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    if is_special(path)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    // A link is followed: its target is replaced, not the link.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = new_file(folder, &target)?;
    let permissions = temporary.as_file().metadata()?.permissions();
    write(temporary.path())?;
    // A writer may have put another file there, with permissions of its own.
    fs::set_permissions(temporary.path(), permissions)?;
    temporary.as_file().sync_all()?;
    temporary.persist(&target).map_err(|e| e.error)?;
    // The rename itself reaches the disk with the folder; not every file system can do that.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn is_special(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        Ok(about) => Ok(!about.is_file()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// With the permissions of the file that it replaces, or those of any new file (temporary files are private
/// by default).
#[cfg(unix)]
fn new_file(folder: &Path, target: &Path) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".bitloupe-").permissions(fs::Permissions::from_mode(0o666));
    let temporary = builder.tempfile_in(folder)?;
    if let Ok(about) = fs::metadata(target) {
        temporary.as_file().set_permissions(about.permissions())?;
    }
    Ok(temporary)
}

#[cfg(not(unix))]
fn new_file(folder: &Path, _target: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(".bitloupe-").tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_failure_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_atomic(&path, |f| f.write_all(b"one")).unwrap();
        let failed = write_atomic(&path, |f| {
            f.write_all(b"two")?;
            Err(io::Error::other("stop"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        write_atomic(&path, |f| f.write_all(b"3")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"3");
    }

    #[test]
    #[cfg(unix)]
    fn links_and_permissions_stay() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("a"), dir.path().join("link"));
        fs::write(&path, b"x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_atomic(&link, |f| f.write_all(b"y")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"y");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
