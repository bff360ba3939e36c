//! Memory-mapping of checkpoints: opening a large file costs address space, not memory.
#![allow(unsafe_code)] // Mapping a file is unsafe in Rust; the reason it is sound enough stands below.

use std::fs::File;
use std::io;
use std::path::Path;

/// Maps a file for reading.
pub(super) fn map(path: &Path) -> io::Result<memmap2::Mmap> {
    // Checked on the name first: opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::open(path)?;
    // SAFETY: the map is read-only and private to this process. If another process shortens the file while it is
    // mapped, a later read may end the program with SIGBUS, as in every loader that maps checkpoints; all tensors
    // are converted and checked while the model is opened, so the window is the opening itself.
    unsafe { memmap2::Mmap::map(&file) }
}
