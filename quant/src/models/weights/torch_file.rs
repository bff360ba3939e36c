//! Checkpoints that `torch.save` writes since torch 1.6: a zip file with a pickle, `data.pkl`, that names the tensors,
//! and one entry `data/<key>` per storage. Nothing in the pickle is run; see [`super::pickle`].

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::pickle::{self, Problem, Storage, Tensor};
use super::state_dict;
use super::stored::{Bytes, Format, Stored};
use super::zip::{Archive, Content};
use crate::models::ModelError;

/// Largest pickle, in bytes. It holds names and shapes, not values.
const MAX_PICKLE: u64 = 64 << 20;
/// A compressed file unpacks to at most this many times its size; torch itself does not compress.
const MAX_RATIO: u64 = 64;
/// Values of all tensors together, per value in the file: tied weights share their storage, but only a few times.
const MAX_SHARING: u64 = 16;

/// How a pickle outside a zip begins, as torch wrote it before 1.6.
pub(super) fn looks_like_old_torch(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, next, ..] if *next != 0)
}

/// The weights of a checkpoint and where they lie.
pub(super) fn read(file: &str, bytes: &Arc<Bytes>) -> Result<Vec<(String, Stored)>, ModelError> {
    let fail = |message: String| ModelError::Torch { file: file.to_owned(), message };
    let archive = Archive::read(bytes.as_slice()).map_err(fail)?;
    let root =
        archive.names().filter_map(|name| name.strip_suffix("/data.pkl")).min_by_key(|root| root.len());
    let Some(root) = root else {
        return Err(fail("it is a zip file without data.pkl".to_owned()));
    };
    if archive.names().any(|name| name.strip_prefix(root) == Some("/constants.pkl")) {
        return Err(fail("it is TorchScript, a program, instead of a dict of tensors".to_owned()));
    }
    let order = content(&archive, bytes, &format!("{root}/byteorder"), 16).map_err(fail)?;
    if order.is_some_and(|(bytes, part)| bytes.as_slice()[part].starts_with(b"big")) {
        return Err(fail("its numbers are stored with the highest byte first".to_owned()));
    }
    let program = content(&archive, bytes, &format!("{root}/data.pkl"), MAX_PICKLE).map_err(fail)?;
    let Some((program, part)) = program.filter(|(_, part)| part.len() as u64 <= MAX_PICKLE) else {
        return Err(fail(format!("its data.pkl has more than {MAX_PICKLE} bytes")));
    };
    let pickle = pickle::read(&program.as_slice()[part]).map_err(|problem| match problem {
        Problem::Broken(message) => fail(message),
        Problem::Harmful(function) => ModelError::Harmful { file: file.to_owned(), function },
    })?;
    let mut storages = Storages {
        archive,
        root,
        bytes,
        left: MAX_RATIO * bytes.as_slice().len() as u64,
        known: HashMap::new(),
    };
    let mut last = HashMap::new();
    let mut made = Vec::new();
    for (name, tensor) in state_dict::tensors(&pickle).map_err(fail)? {
        let stored = storages.view(pickle.storage(tensor), tensor).map_err(|message| {
            ModelError::TensorDamaged { file: file.to_owned(), tensor: name.clone(), message }
        })?;
        match last.insert(name.clone(), made.len()) {
            // A dict keeps the last of equal keys.
            Some(place) => made[place] = (name, stored),
            None => made.push((name, stored)),
        }
    }
    let values = made.iter().fold(0_u64, |all, (_, stored)| all.saturating_add(stored.len() as u64));
    let held = bytes.as_slice().len() as u64;
    if values > held.saturating_mul(MAX_SHARING) {
        return Err(fail(format!("its tensors have {values} values, the whole file only {held} bytes")));
    }
    Ok(made)
}

/// Bytes of an entry: a part of the file, or of what was unpacked from it.
type Located = (Arc<Bytes>, Range<usize>);

fn content(
    archive: &Archive<'_>,
    bytes: &Arc<Bytes>,
    name: &str,
    limit: u64,
) -> Result<Option<Located>, String> {
    Ok(archive.content(name, limit)?.map(|content| match content {
        Content::Stored(part) => (Arc::clone(bytes), part),
        Content::Unpacked(unpacked) => {
            let part = 0..unpacked.len();
            (Arc::new(Bytes::Owned(unpacked)), part)
        }
    }))
}

/// The storages of a checkpoint, each located once.
struct Storages<'a> {
    archive: Archive<'a>,
    root: &'a str,
    bytes: &'a Arc<Bytes>,
    /// How many bytes may still be unpacked.
    left: u64,
    known: HashMap<String, Located>,
}

impl Storages<'_> {
    fn locate(&mut self, key: &str) -> Result<Located, String> {
        if let Some((bytes, part)) = self.known.get(key) {
            return Ok((Arc::clone(bytes), part.clone()));
        }
        let name = format!("{}/data/{key}", self.root);
        let Some((bytes, part)) = content(&self.archive, self.bytes, &name, self.left)? else {
            return Err(format!("its values, `{name}`, are not in the file"));
        };
        if !Arc::ptr_eq(&bytes, self.bytes) {
            self.left = self.left.saturating_sub(part.len() as u64);
        }
        self.known.insert(key.to_owned(), (Arc::clone(&bytes), part.clone()));
        Ok((bytes, part))
    }

    /// Where the values of a view lie, once it is certain that they do.
    fn view(&mut self, storage: Option<Storage<'_>>, tensor: &Tensor) -> Result<Stored, String> {
        let Some(storage) = storage else { return Err("it has no storage".to_owned()) };
        let shape = sizes(&tensor.shape).ok_or_else(|| format!("it has shape {:?}", tensor.shape))?;
        let format = format(storage.class);
        let Some(size) = format.size() else {
            // Name and shape are all that is used of it.
            return Ok(Stored { bytes: Arc::clone(self.bytes), part: 0..0, format, shape, strides: None });
        };
        let (bytes, part) = self.locate(storage.key)?;
        let held = (part.len() / size) as u64;
        if held < storage.len {
            return Err(format!("its storage has room for {held} values, it names {}", storage.len));
        }
        let count: usize = shape.iter().product();
        let end = end(tensor).filter(|&end| end <= storage.len && count as u64 <= storage.len);
        let Some(end) = end else {
            let (Storage { len, .. }, Tensor { offset, shape, strides, .. }) = (storage, tensor);
            return Err(format!(
                "shape {shape:?} with strides {strides:?} from {offset} on does not fit its storage of {len} values"
            ));
        };
        // Both fit: they are at most the bytes of the entry.
        let place = |values: u64| part.start + values as usize * size;
        let part = if count == 0 { part.start..part.start } else { place(tensor.offset)..place(end) };
        // An axis of one position has no neighbours, whatever its stride.
        let stride = |(&n, &stride): (&u64, &u64)| if n <= 1 { 0 } else { stride as usize };
        let strides =
            (!row_major(tensor)).then(|| tensor.shape.iter().zip(&tensor.strides).map(stride).collect());
        Ok(Stored { bytes, part, format, shape, strides })
    }
}

/// A shape whose number of values can be counted.
fn sizes(shape: &[u64]) -> Option<Vec<usize>> {
    let shape: Vec<usize> = shape.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<_>>()?;
    // Axes of length 0 do not excuse the others.
    shape.iter().try_fold(1_usize, |all, &n| all.checked_mul(n.max(1)))?;
    Some(shape)
}

/// One past the last value that a view reaches.
fn end(tensor: &Tensor) -> Option<u64> {
    if tensor.shape.contains(&0) {
        return Some(tensor.offset);
    }
    let last = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .try_fold(tensor.offset, |last, (&n, &stride)| last.checked_add((n - 1).checked_mul(stride)?))?;
    last.checked_add(1)
}

/// Whether the values lie one after another.
fn row_major(tensor: &Tensor) -> bool {
    let mut expected = 1_u64;
    tensor.shape.iter().zip(&tensor.strides).rev().all(|(&n, &stride)| {
        let fits = n <= 1 || stride == expected;
        expected = expected.saturating_mul(n.max(1));
        fits
    })
}

/// The format of a storage class.
fn format(class: &str) -> Format {
    match class {
        "FloatStorage" => Format::F32,
        "HalfStorage" => Format::F16,
        "BFloat16Storage" => Format::BF16,
        "DoubleStorage" => Format::F64,
        other => Format::Other(other.strip_suffix("Storage").unwrap_or(other).to_owned()),
    }
}

#[cfg(test)]
mod tests;
