//! Tensors of a file: in it, or in another file of the same folder.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::proto::Tensor;
use super::tensor::{Data, Dtype, numbers, type_name};
use crate::models::mapping;

/// Where external data lies.
#[derive(Debug, Default)]
pub(super) struct Files {
    maps: HashMap<String, memmap2::Mmap>,
}

impl Files {
    /// Maps every file that `locations` name. They must lie in `folder`; the last part may be a link out of it, as the
    /// hub's cache lays out all files of a model.
    pub(super) fn open(folder: &Path, locations: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut maps = HashMap::new();
        for location in locations {
            if maps.contains_key(&location) {
                continue;
            }
            let path = inside(folder, &location)?;
            let map = mapping::map(&path).map_err(|e| format!("external data `{location}`: {e}"))?;
            maps.insert(location, map);
        }
        Ok(Self { maps })
    }

    /// Shape, type and values of a tensor.
    pub(super) fn tensor(&self, tensor: &Tensor<'_>) -> Result<(Vec<usize>, Dtype, Data), String> {
        let fail = |message: String| Err(format!("tensor `{}`: {message}", tensor.name));
        let shape: Option<Vec<usize>> = tensor.dims.iter().map(|&n| usize::try_from(n).ok()).collect();
        let count = shape.as_ref().and_then(|s| numbers(s)).filter(|&n| n < 1 << 40);
        let (Some(shape), Some(count)) = (shape, count) else {
            return fail(format!("its shape is {:?}; sizes are 0 to 2^40 values in all", tensor.dims));
        };
        let Some(dtype) = Dtype::of(tensor.dtype) else {
            return fail(format!(
                "values of type {} are not supported; export it as numbers",
                type_name(tensor.dtype)
            ));
        };
        let bytes = match self.bytes(tensor) {
            Ok(bytes) => bytes,
            Err(message) => return fail(message),
        };
        match bytes {
            Some(bytes) => match raw(bytes, tensor.dtype, count) {
                Some(data) => Ok((shape, dtype, data)),
                None => fail(format!("{} bytes do not hold a tensor of shape {shape:?}", bytes.len())),
            },
            None => match typed(tensor, dtype) {
                data if data.len() == count => Ok((shape, dtype, data)),
                data => fail(format!("{} values do not make a tensor of shape {shape:?}", data.len())),
            },
        }
    }

    /// The bytes of a tensor, if it is stored as bytes.
    fn bytes<'t>(&'t self, tensor: &Tensor<'t>) -> Result<Option<&'t [u8]>, String> {
        if !tensor.is_external {
            return Ok(tensor.raw);
        }
        let value = |key: &str| tensor.external.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        let location = value("location").ok_or("its external data has no location")?;
        let number = |key: &str| match value(key) {
            Some(text) => text.parse::<usize>().map(Some).map_err(|_| format!("its {key} is `{text}`")),
            None => Ok(None),
        };
        let map =
            self.maps.get(location).ok_or_else(|| format!("its external data `{location}` is not there"))?;
        let offset = number("offset")?.unwrap_or(0);
        let len = number("length")?.unwrap_or_else(|| map.len().saturating_sub(offset));
        let part = offset.checked_add(len).and_then(|end| map.get(offset..end));
        part.map(Some).ok_or_else(|| {
            format!(
                "its data, {len} bytes from {offset}, reach past the end of `{location}` ({} bytes)",
                map.len()
            )
        })
    }
}

/// The path of an external file: relative, without `..`, in a folder that is inside the model's after links are followed.
/// The file itself may be a link: whoever made it had access to this folder, a path is written by the file's author.
fn inside(folder: &Path, location: &str) -> Result<PathBuf, String> {
    let relative = Path::new(location);
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    let outside =
        || format!("external data `{location}` lies outside of the model's folder; copy it beside the model");
    let name = relative.file_name().filter(|_| plain && !location.is_empty()).ok_or_else(outside)?;
    let parent = folder.join(relative.parent().unwrap_or(Path::new("")));
    let real = parent.canonicalize().map_err(|e| format!("external data `{location}`: {e}"))?;
    let root = folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
    if real.starts_with(root) { Ok(real.join(name)) } else { Err(outside()) }
}

/// Little-endian bytes as values; none if their number is not `count`.
fn raw(bytes: &[u8], dtype: i64, count: usize) -> Option<Data> {
    fn words<const N: usize, T>(bytes: &[u8], count: usize, f: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
        let (words, rest) = bytes.as_chunks::<N>();
        (words.len() == count && rest.is_empty()).then(|| words.iter().map(|w| f(*w)).collect())
    }
    Some(match dtype {
        1 => Data::floats(words(bytes, count, f32::from_le_bytes)?),
        10 => Data::floats(words(bytes, count, |b| half::f16::from_le_bytes(b).to_f32())?),
        16 => Data::floats(words(bytes, count, |b| half::bf16::from_le_bytes(b).to_f32())?),
        11 => Data::floats(words(bytes, count, |b| f64::from_le_bytes(b) as f32)?),
        2 | 9 => Data::ints(words(bytes, count, |[b]: [u8; 1]| i64::from(b))?),
        3 => Data::ints(words(bytes, count, |b| i64::from(i8::from_le_bytes(b)))?),
        4 => Data::ints(words(bytes, count, |b| i64::from(u16::from_le_bytes(b)))?),
        5 => Data::ints(words(bytes, count, |b| i64::from(i16::from_le_bytes(b)))?),
        6 => Data::ints(words(bytes, count, |b| i64::from(i32::from_le_bytes(b)))?),
        12 => Data::ints(words(bytes, count, |b| i64::from(u32::from_le_bytes(b)))?),
        7 | 13 => Data::ints(words(bytes, count, i64::from_le_bytes)?),
        21 | 22 => {
            // Two codes a byte, the lower half first.
            if bytes.len() != count.div_ceil(2) {
                return None;
            }
            let signed = dtype == 22;
            let code = |i: usize| {
                let half = i64::from((bytes[i / 2] >> (4 * (i % 2))) & 15);
                if signed && half > 7 { half - 16 } else { half }
            };
            Data::ints((0..count).map(code).collect())
        }
        _ => return None,
    })
}

/// Values of the typed fields.
fn typed(tensor: &Tensor<'_>, dtype: Dtype) -> Data {
    match (dtype, tensor.dtype) {
        (Dtype::Float, 11) => Data::floats(tensor.doubles.iter().map(|&x| x as f32).collect()),
        // Half floats are stored by their bits.
        (Dtype::Float, 10) => {
            Data::floats(tensor.ints.iter().map(|&x| half::f16::from_bits(x as u16).to_f32()).collect())
        }
        (Dtype::Float, 16) => {
            Data::floats(tensor.ints.iter().map(|&x| half::bf16::from_bits(x as u16).to_f32()).collect())
        }
        (Dtype::Float, _) => Data::floats(tensor.floats.clone()),
        _ => Data::ints(tensor.ints.clone()),
    }
}
