//! The directory of a zip file (APPNOTE 6.3, with Zip64), as far as torch checkpoints need it: entries are stored as
//! they are and read in place; deflated ones, which other tools leave behind, are unpacked with a limit.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;

/// Most entries in one file. Checkpoints have one per tensor.
const MAX_ENTRIES: u64 = 1 << 20;

const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_64: [u8; 4] = *b"PK\x06\x07";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";

/// Whether bytes begin like a zip file.
pub(super) fn looks_like_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(&LOCAL) || bytes.starts_with(&END)
}

/// The entries of a zip file.
pub(super) struct Archive<'a> {
    bytes: &'a [u8],
    entries: HashMap<&'a str, Entry>,
    /// Where the directory begins: entries lie before it.
    directory: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    method: Method,
    packed: u64,
    unpacked: u64,
    header: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Method {
    Stored,
    Deflated,
    Other(u16),
}

/// The bytes of an entry.
pub(super) enum Content {
    /// They lie in the file as they are.
    Stored(Range<usize>),
    /// They were unpacked.
    Unpacked(Vec<u8>),
}

impl<'a> Archive<'a> {
    /// Reads the directory. Errors say what is wrong, without the file's name.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let cut = || "its zip directory is missing or cut off".to_owned();
        let (count, size, start) = directory(bytes).ok_or_else(cut)?;
        if count > MAX_ENTRIES {
            return Err(format!("its zip directory lists {count} entries, more than {MAX_ENTRIES}"));
        }
        let end = start.checked_add(size).ok_or_else(cut)?;
        let mut rest = bytes.get(place(start)?..place(end)?).ok_or_else(cut)?;
        let mut entries = HashMap::new();
        for _ in 0..count {
            let (name, entry, after) = central(rest).ok_or_else(cut)?;
            // A name that is no text cannot be one that torch writes.
            if let Ok(name) = std::str::from_utf8(name)
                && entries.insert(name, entry).is_some()
            {
                return Err(format!("its zip directory lists `{name}` twice"));
            }
            rest = after;
        }
        Ok(Self { bytes, entries, directory: place(start)? })
    }

    /// Names of all entries, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().copied()
    }

    /// The bytes of an entry, if there is one of this name; at most `limit` of them are unpacked.
    pub(super) fn content(&self, name: &str, limit: u64) -> Result<Option<Content>, String> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let damaged = || format!("the zip entry `{name}` lies outside the file");
        let header = place(entry.header)?;
        let local = self.bytes.get(header..).filter(|b| b.starts_with(&LOCAL)).ok_or_else(damaged)?;
        let (names, extra) = (u16_at(local, 26), u16_at(local, 28));
        let (Some(names), Some(extra)) = (names, extra) else { return Err(damaged()) };
        let start = header + 30 + usize::from(names) + usize::from(extra);
        let end = start.checked_add(place(entry.packed)?).ok_or_else(damaged)?;
        if end > self.directory {
            return Err(damaged());
        }
        match entry.method {
            Method::Stored if entry.packed == entry.unpacked => Ok(Some(Content::Stored(start..end))),
            Method::Stored => {
                let (packed, unpacked) = (entry.packed, entry.unpacked);
                Err(format!(
                    "the zip entry `{name}` is not compressed, yet has {packed} and {unpacked} bytes"
                ))
            }
            Method::Deflated => {
                let packed = self.bytes.get(start..end).ok_or_else(damaged)?;
                inflate(name, packed, entry.unpacked, limit).map(|bytes| Some(Content::Unpacked(bytes)))
            }
            Method::Other(method) => {
                Err(format!("the zip entry `{name}` is compressed or encrypted (method {method})"))
            }
        }
    }
}

/// Unpacks an entry. Memory grows with what comes out, not with what the directory promises.
fn inflate(name: &str, packed: &[u8], promised: u64, limit: u64) -> Result<Vec<u8>, String> {
    if promised > limit {
        return Err(format!("the zip entry `{name}` would unpack to {promised} bytes, more than {limit}"));
    }
    let mut bytes = Vec::new();
    let unpacked = flate2::read::DeflateDecoder::new(packed).take(promised + 1).read_to_end(&mut bytes);
    match unpacked {
        Ok(found) if found as u64 == promised => Ok(bytes),
        Ok(_) => Err(format!("the zip entry `{name}` does not unpack to the {promised} bytes it promises")),
        Err(error) => Err(format!("the zip entry `{name}` does not unpack ({error})")),
    }
}

/// Number of entries, size and place of the directory.
fn directory(bytes: &[u8]) -> Option<(u64, u64, u64)> {
    // The end record is 22 bytes and a comment of at most 65535.
    let earliest = bytes.len().saturating_sub(22 + usize::from(u16::MAX));
    let ends_file = |at: &usize| {
        let end = &bytes[*at..];
        end.starts_with(&END) && u16_at(end, 20).is_some_and(|comment| 22 + usize::from(comment) <= end.len())
    };
    let at = (earliest..bytes.len()).rev().find(ends_file)?;
    let end = &bytes[at..];
    let (count, size, start) = (u16_at(end, 10)?, u32_at(end, 12)?, u32_at(end, 16)?);
    if count != u16::MAX && size != u32::MAX && start != u32::MAX {
        return Some((count.into(), size.into(), start.into()));
    }
    let locator = at.checked_sub(20).map(|at| &bytes[at..]).filter(|b| b.starts_with(&LOCATOR_64));
    let Some(locator) = locator else { return Some((count.into(), size.into(), start.into())) };
    let record = usize::try_from(u64_at(locator, 8)?).ok()?;
    let record = bytes.get(record..).filter(|b| b.starts_with(&END_64))?;
    Some((u64_at(record, 32)?, u64_at(record, 40)?, u64_at(record, 48)?))
}

/// The first entry of a directory: its name, what it says, and the rest of the directory.
fn central(bytes: &[u8]) -> Option<(&[u8], Entry, &[u8])> {
    if !bytes.starts_with(&CENTRAL) {
        return None;
    }
    let (flags, method) = (u16_at(bytes, 8)?, u16_at(bytes, 10)?);
    let (names, extras, comment) = (u16_at(bytes, 28)?, u16_at(bytes, 30)?, u16_at(bytes, 32)?);
    let (name, rest) = bytes.get(46..)?.split_at_checked(names.into())?;
    let (extra, rest) = rest.split_at_checked(extras.into())?;
    let (_, rest) = rest.split_at_checked(comment.into())?;
    let encrypted = flags & 1 != 0;
    let method = match method {
        0 if !encrypted => Method::Stored,
        8 if !encrypted => Method::Deflated,
        other => Method::Other(other),
    };
    // Sizes that do not fit 32 bits stand in the Zip64 extra field, only those, in this order.
    let mut wide = zip64(extra);
    let mut size = |short: u32| -> Option<u64> {
        if short != u32::MAX {
            return Some(short.into());
        }
        let (value, after) = wide.split_first_chunk::<8>()?;
        wide = after;
        Some(u64::from_le_bytes(*value))
    };
    let unpacked = size(u32_at(bytes, 24)?)?;
    let packed = size(u32_at(bytes, 20)?)?;
    let header = size(u32_at(bytes, 42)?)?;
    Some((name, Entry { method, packed, unpacked, header }, rest))
}

/// The content of the Zip64 field among the extra fields of an entry.
fn zip64(mut extra: &[u8]) -> &[u8] {
    while let (Some(id), Some(size)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some((field, rest)) = extra[4..].split_at_checked(size.into()) else { break };
        if id == 1 {
            return field;
        }
        extra = rest;
    }
    &[]
}

fn place(offset: u64) -> Result<usize, String> {
    usize::try_from(offset).map_err(|_| "it is too large for this computer".to_owned())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{zip, zip_with};
    use super::*;

    fn bytes_of(archive: &Archive<'_>, name: &str) -> Vec<u8> {
        match archive.content(name, 1 << 20).unwrap().unwrap() {
            Content::Stored(range) => archive.bytes[range].to_vec(),
            Content::Unpacked(bytes) => bytes,
        }
    }

    #[test]
    fn stored_and_deflated_entries_are_read() {
        let long = vec![7; 5000];
        let file = zip_with(&[("a/one", b"first", false), ("a/two", &long, true)]);
        let archive = Archive::read(&file).unwrap();
        assert_eq!(bytes_of(&archive, "a/one"), b"first");
        assert_eq!(bytes_of(&archive, "a/two"), long);
        assert!(archive.content("a/three", 10).unwrap().is_none());
        let error = archive.content("a/two", 4999).err().unwrap();
        assert!(error.contains("5000 bytes, more than 4999"), "{error}");
        let mut names: Vec<_> = archive.names().collect();
        names.sort_unstable();
        assert_eq!(names, ["a/one", "a/two"]);
    }

    #[test]
    fn no_prefix_of_a_file_is_read_as_the_file() {
        let file = zip(&[("a/one", b"first"), ("a/two", b"second")]);
        for cut in 0..file.len() {
            assert!(Archive::read(&file[..cut]).is_err(), "{cut} bytes");
        }
    }

    #[test]
    fn no_changed_byte_leads_out_of_the_file() {
        let file = zip_with(&[("a/one", b"first", false), ("a/two", &[7; 300], true)]);
        for at in 0..file.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = file.clone();
                damaged[at] = value;
                let Ok(archive) = Archive::read(&damaged) else { continue };
                for name in archive.names().collect::<Vec<_>>() {
                    if let Ok(Some(Content::Stored(range))) = archive.content(name, 1 << 20) {
                        assert!(range.start <= range.end && range.end <= damaged.len());
                    }
                }
            }
        }
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused() {
        let mut file = zip(&[("one", b"first")]);
        let directory = file.len() - 22 - (46 + 3);
        file[directory + 24] = 6; // unpacked size
        let error = Archive::read(&file).unwrap().content("one", 100).err().unwrap();
        assert!(error.contains("5 and 6 bytes"), "{error}");

        let mut file = zip_with(&[("one", &[0; 100], true)]);
        let at = directory_of(&file);
        file[at + 24] = 99;
        let error = Archive::read(&file).unwrap().content("one", 1000).err().unwrap();
        assert!(error.contains("does not unpack to the 99 bytes"), "{error}");
    }

    fn directory_of(file: &[u8]) -> usize {
        file.windows(4).position(|w| w == CENTRAL).unwrap()
    }

    #[test]
    fn one_name_twice_and_encrypted_entries_are_refused() {
        let file = zip(&[("one", b"a"), ("one", b"b")]);
        assert!(Archive::read(&file).err().unwrap().contains("`one` twice"));
        let mut file = zip(&[("one", b"a")]);
        let at = directory_of(&file);
        file[at + 8] |= 1;
        assert!(Archive::read(&file).unwrap().content("one", 9).err().unwrap().contains("encrypted"));
    }
}
