//! Headers of safetensors files in one order.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// The header with the entries of `__metadata__` sorted: the library writes them in that of a random hash, and the same
/// content should be the same bytes, with the format in front. Spaces at the end are dropped. None if it is no header.
pub(crate) fn sorted_header(header: &[u8]) -> Option<Vec<u8>> {
    let mut header: serde_json::Value = serde_json::from_slice(header).ok()?;
    header.get_mut("__metadata__")?.as_object_mut()?.sort_keys();
    serde_json::to_vec(&header).ok()
}

/// Sorts the metadata of a file that was just written, in place.
pub(super) fn sort_file(file: &mut File) -> io::Result<()> {
    let disordered = || io::Error::other("the header could not be put in order");
    let mut length = [0; 8];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut header = Vec::new();
    Read::by_ref(file).take(length).read_to_end(&mut header)?;
    let mut sorted = sorted_header(&header).ok_or_else(disordered)?;
    if sorted.len() > header.len() {
        return Err(disordered());
    }
    sorted.resize(header.len(), b' ');
    file.seek(SeekFrom::Start(8))?;
    file.write_all(&sorted)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::tensor::{Dtype, SafeTensors, TensorView};

    use super::*;

    #[test]
    fn the_same_content_is_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let written = |number: usize| {
            let path = folder.path().join(number.to_string());
            let entry = |key: char| (key.to_string(), format!("\"{key}\" — {}", "x".repeat(number % 3)));
            let metadata: HashMap<String, String> = ('a'..='h').map(entry).collect();
            let data = [1_u8, 2, 3];
            let tensors = [("t", TensorView::new(Dtype::U8, vec![3], &data).unwrap())];
            safetensors::serialize_to_file(tensors, Some(metadata), &path).unwrap();
            sort_file(&mut File::options().read(true).write(true).open(&path).unwrap()).unwrap();
            std::fs::read(path).unwrap()
        };
        let first = written(0);
        for number in (3..30).step_by(3) {
            assert_eq!(written(number), first);
        }
        let read = SafeTensors::deserialize(&first).unwrap();
        assert_eq!(read.tensor("t").unwrap().data(), [1, 2, 3]);
        let (_, metadata) = SafeTensors::read_metadata(&first).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["b"], "\"b\" — ");
    }

    #[test]
    fn what_is_no_header_is_not_sorted() {
        for broken in [&b"{}"[..], b"[]", b"{\"__metadata__\":3}", b"\xff"] {
            assert!(sorted_header(broken).is_none());
        }
    }
}
