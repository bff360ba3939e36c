//! What to do when the operating system refuses.

use std::io::{Error, ErrorKind};

/// A clause that follows the system's own words: `; …`, or nothing where they say it all.
pub(crate) fn advice(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "; make room or choose a place on another disk"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; choose a place that you may use, or change who may"
        }
        ErrorKind::NotFound => "; check the name, and that its folder is there",
        ErrorKind::IsADirectory => "; it is a folder: name a file",
        ErrorKind::NotADirectory => "; a part of the path is a file: name a folder",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::advice;
    use std::io::{Error, ErrorKind};

    #[test]
    fn a_full_disk_and_a_closed_folder_ask_for_another_place() {
        // ENOSPC and EROFS, as the system gives them.
        assert!(advice(&Error::from_raw_os_error(28)).contains("make room"));
        assert!(advice(&Error::from_raw_os_error(30)).contains("choose a place"));
        assert!(advice(&Error::from(ErrorKind::PermissionDenied)).contains("choose a place"));
        assert_eq!(advice(&Error::from(ErrorKind::Interrupted)), "");
    }
}
