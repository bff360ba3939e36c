//! Makes the files that tests read: zip archives and pickles, byte by byte.

use std::io::Write;

/// A zip file of entries that are not compressed.
pub(super) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    zip_with(&entries.iter().map(|(name, bytes)| (*name, *bytes, false)).collect::<Vec<_>>())
}

/// A zip file of entries, some of them deflated.
pub(super) fn zip_with(entries: &[(&str, &[u8], bool)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes, deflated) in entries {
        let packed = if *deflated { deflate(bytes) } else { bytes.to_vec() };
        let header = file.len() as u32;
        let mut about = vec![20, 0, 0, 0, if *deflated { 8 } else { 0 }, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        about.extend((packed.len() as u32).to_le_bytes());
        about.extend((bytes.len() as u32).to_le_bytes());
        about.extend((name.len() as u16).to_le_bytes());
        // Data of uncompressed entries begin at a multiple of 64 bytes, as torch writes them.
        let extra = (64 - (file.len() + 30 + name.len()) % 64) % 64;
        file.extend(b"PK\x03\x04");
        file.extend(&about);
        file.extend((extra as u16).to_le_bytes());
        file.extend(name.as_bytes());
        file.extend(vec![0; extra]);
        file.extend(&packed);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&about);
        directory.extend([0; 12]);
        directory.extend(header.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (count, start) = ((entries.len() as u16).to_le_bytes(), file.len() as u32);
    let size = directory.len() as u32;
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend(count);
    file.extend(count);
    file.extend(size.to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes pickles of protocol 2, one opcode after another.
#[derive(Clone)]
pub(super) struct Pickler(Vec<u8>);

impl Pickler {
    pub(super) fn new() -> Self {
        Self(vec![0x80, 2])
    }

    /// Opcodes as they are.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    pub(super) fn int(self, value: i32) -> Self {
        self.raw(b"J").raw(&value.to_le_bytes())
    }

    pub(super) fn tuple(self, values: &[i32]) -> Self {
        values.iter().fold(self.raw(b"("), |p, &v| p.int(v)).raw(b"t")
    }

    pub(super) fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    /// A tensor in torch's own words: storage class and key, number of its values, view.
    pub(super) fn tensor(
        self,
        (class, key, numel): (&str, &str, i32),
        offset: i32,
        shape: &[i32],
        strides: &[i32],
    ) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"((")
            .text("storage")
            .global("torch", class)
            .text(key)
            .text("cpu")
            .int(numel)
            .raw(b"tQ")
            .int(offset)
            .tuple(shape)
            .tuple(strides)
            .raw(b"\x89ccollections\nOrderedDict\n)RtR")
    }

    pub(super) fn stop(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

/// A torch checkpoint: its pickle and its storages.
pub(super) fn torch(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let names: Vec<String> = storages.iter().map(|(key, _)| format!("archive/data/{key}")).collect();
    let mut entries: Vec<(&str, &[u8])> = vec![("archive/data.pkl", pickle), ("archive/version", b"3\n")];
    entries.extend(names.iter().map(String::as_str).zip(storages.iter().map(|(_, bytes)| *bytes)));
    zip(&entries)
}

/// Values as torch writes them.
pub(super) fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}
