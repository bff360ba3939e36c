//! Memory-mapping of checkpoints: opening a large file costs address space, not memory.
#![allow(unsafe_code)] // Mapping a file is unsafe in Rust; the reason it is sound enough stands below.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

/// Maps a file for reading.
pub(super) fn map(path: &Path) -> io::Result<memmap2::Mmap> {
    // Checked on the name first: opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::open(path)?;
    // SAFETY: the map is read-only and private to this process. If another process shortens the file while it is
    // mapped, a later read may end the program with SIGBUS, as in every loader that maps checkpoints. Programs that
    // replace a checkpoint write a new file and rename it, which leaves a map of the old one whole.
    unsafe { memmap2::Mmap::map(&file) }
}

/// Tells the system that a part of a map is not needed for now, so that it does not count as this program's memory.
/// The next read brings it back from the file. Only advice: nothing is lost if the system does not follow it.
pub(super) fn release(map: &memmap2::Mmap, part: Range<usize>) {
    #[cfg(unix)]
    if !part.is_empty() && part.end <= map.len() {
        // SAFETY: the map is of a file and nothing is ever written to it, so that the pages that come back hold what
        // the file holds, as those did that go.
        let advised =
            unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, part.start, part.len()) };
        if let Err(error) = advised {
            tracing::debug!(%error, "the system keeps the pages of a checkpoint");
        }
    }
    #[cfg(not(unix))]
    let _ = (map, part);
}
