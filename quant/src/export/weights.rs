//! Quantized weights in safetensors, format `bitloupe-weights/1`.
//!
//! A quantized tensor `NAME` becomes `NAME.codes` (U8, packed as in [`packing`](super::packing)) and either
//!
//! * `NAME.scale` and `NAME.zero_point` (F32, one number or one a channel): value = (code − zero point) · scale,
//!   in 32-bit arithmetic, or
//! * `NAME.levels` (F32, `[1 or channels, 2^bits]`): value = level of the code, for grids that are not uniform.
//!
//! Codes are packed row by row, a row is the first dimension's slice. Channels are those of the output: the first dimension,
//! or the second where the layer says `"axis": 1` (the weight of a transposed convolution is `[in, out, …]`). The file's
//! metadata holds `format` and, as JSON in `layers`, each tensor's shape, bits and scheme. Tensors in full precision stay
//! under their own names.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, View};
use serde::{Deserialize, Serialize};

pub use super::grid::{Grid, affine_codes, level_codes};
use super::grid::{check_grid, decode};
use super::header::sort_file;
use super::packing::{PackingError, pack, unpack};
use super::replace_atomic;
use crate::quantizer::Params;
use crate::terms::{Bits, Layout};

/// The version of the format.
pub const FORMAT: &str = "bitloupe-weights/1";

/// Weights that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The operating system refused.
    #[error("{path}: {source}{}", crate::terms::advice(source))]
    Io {
        /// File.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// No safetensors file.
    #[error("{path}: {reason}")]
    File {
        /// File.
        path: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// One tensor is wrong.
    #[error("{path}: tensor {tensor}: {reason}")]
    Tensor {
        /// File.
        path: String,
        /// Tensor.
        tensor: String,
        /// What was expected.
        reason: String,
    },
}

/// The values of a tensor to be written.
#[derive(Debug, Clone)]
pub enum Payload<'a> {
    /// Full precision.
    Float(Cow<'a, [f32]>),
    /// Codes, as many as values.
    Codes {
        /// Bits of a code.
        bits: Bits,
        /// The codes.
        codes: Cow<'a, [u16]>,
        /// Their meaning.
        grid: Grid,
        /// The axis of the channels that the grid may have numbers for.
        axis: usize,
        /// The quantizer's name, for readers.
        scheme: String,
    },
}

impl Payload<'static> {
    /// Codes of values that were fake-quantized with `params` over rows (the first dimension), so that they read
    /// back to the last bit. Grids that no affine rule gives exactly get a table, with one bit more where the
    /// family needs it; `None` when the values have more than 256 levels and are not affine. Then they can
    /// only be kept in full precision.
    pub fn of_quantized(values: &[f32], shape: &[usize], params: &Params) -> Option<Self> {
        let layout = layout(shape, 0)?;
        let affine = Grid::Affine {
            scale: params.scale.clone(),
            zero_point: if params.zero_point.is_empty() { vec![0.0] } else { params.zero_point.clone() },
        };
        let scheme = params.scheme.to_string();
        if let Some(codes) = affine_codes(values, layout, params.bits, &affine) {
            return Some(Self::Codes {
                bits: params.bits,
                codes: codes.into(),
                grid: affine,
                axis: 0,
                scheme,
            });
        }
        // The logarithmic grids have an exact zero beside 2^b powers: one level more than b bits tell apart.
        let wider = Bits::new(params.bits.get()?.checked_add(1)?).ok();
        [Some(params.bits), wider].into_iter().flatten().find_map(|bits| {
            let (codes, grid) = level_codes(values, layout, bits)?;
            Some(Self::Codes { bits, codes: codes.into(), grid, axis: 0, scheme: scheme.clone() })
        })
    }
}

/// A tensor to be written.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// Name in the checkpoint.
    pub name: String,
    /// Shape, rows first.
    pub shape: Vec<usize>,
    /// Values.
    pub payload: Payload<'a>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layer {
    shape: Vec<usize>,
    bits: Bits,
    scheme: String,
    /// Axis of the channels, where it is not the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    axis: Option<usize>,
}

/// A tensor as the library writes it.
struct Raw {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Raw {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

impl Raw {
    fn floats(shape: Vec<usize>, values: &[f32]) -> Self {
        Self { dtype: Dtype::F32, shape, bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
    }
}

/// Rows and columns of a shape: the first dimension and the product of the others.
fn matrix(shape: &[usize]) -> Option<(usize, usize)> {
    match shape.split_first() {
        None => Some((1, 1)),
        Some((&rows, rest)) => {
            let columns = rest.iter().try_fold(1usize, |a, &b| a.checked_mul(b))?;
            rows.checked_mul(columns)?;
            Some((rows, columns))
        }
    }
}

/// A tensor seen by the channels of an axis; a single value has one.
fn layout(shape: &[usize], axis: usize) -> Option<Layout> {
    if shape.is_empty() && axis == 0 {
        return Some(Layout::tensor(1));
    }
    Layout::axis(shape, isize::try_from(axis).ok()?).ok()
}

/// Writes all tensors to a file that replaces what was there at once; gives its size in bytes.
pub fn write_weights<'a>(
    path: &Path,
    entries: impl IntoIterator<Item = Entry<'a>>,
) -> Result<u64, WeightsError> {
    let shown = path.display().to_string();
    let mut tensors: BTreeMap<String, Raw> = BTreeMap::new();
    let mut layers: BTreeMap<String, Layer> = BTreeMap::new();
    for entry in entries {
        let failed =
            |reason: String| WeightsError::Tensor { path: shown.clone(), tensor: entry.name.clone(), reason };
        let size =
            matrix(&entry.shape).ok_or_else(|| failed(format!("shape {:?} is too large", entry.shape)))?;
        let mut parts = Vec::new();
        match entry.payload {
            Payload::Float(values) => {
                if values.len() != size.0 * size.1 {
                    return Err(failed(format!("{} values for shape {:?}", values.len(), entry.shape)));
                }
                parts.push((String::new(), Raw::floats(entry.shape, &values)));
            }
            Payload::Codes { bits, codes, grid, axis, scheme } => {
                let layout = layout(&entry.shape, axis)
                    .ok_or_else(|| failed(format!("shape {:?} has no axis {axis}", entry.shape)))?;
                check_grid(&grid, layout.channels, bits).map_err(failed)?;
                let packed = pack(&codes, size.0, size.1, bits).map_err(|e| failed(e.to_string()))?;
                let row = packed.len().checked_div(size.0).unwrap_or(0);
                parts.push((
                    ".codes".to_owned(),
                    Raw { dtype: Dtype::U8, shape: vec![size.0, row], bytes: packed },
                ));
                match grid {
                    Grid::Affine { scale, zero_point } => {
                        parts.push((".scale".to_owned(), Raw::floats(vec![scale.len()], &scale)));
                        parts.push((
                            ".zero_point".to_owned(),
                            Raw::floats(vec![zero_point.len()], &zero_point),
                        ));
                    }
                    Grid::Levels(levels) => {
                        let each = bits.levels().unwrap_or(1) as usize;
                        parts.push((
                            ".levels".to_owned(),
                            Raw::floats(vec![levels.len() / each, each], &levels),
                        ));
                    }
                }
                layers.insert(
                    entry.name.clone(),
                    Layer { shape: entry.shape, bits, scheme, axis: Some(axis).filter(|&a| a > 0) },
                );
            }
        }
        for (suffix, raw) in parts {
            let name = format!("{}{suffix}", entry.name);
            if tensors.insert(name, raw).is_some() {
                return Err(failed("its name comes twice".to_owned()));
            }
        }
    }
    let file = |reason: String| WeightsError::File { path: shown.clone(), reason };
    let layers = serde_json::to_string(&layers).map_err(|e| file(e.to_string()))?;
    let metadata = HashMap::from([("format".to_owned(), FORMAT.to_owned()), ("layers".to_owned(), layers)]);
    replace_atomic(path, |temporary| {
        safetensors::serialize_to_file(tensors, Some(metadata), temporary).map_err(|error| match error {
            SafeTensorError::IoError(e) => e,
            other => io::Error::other(other),
        })?;
        sort_file(&mut File::options().read(true).write(true).open(temporary)?)
    })
    .and_then(|()| Ok(std::fs::metadata(path)?.len()))
    .map_err(|source| WeightsError::Io { path: shown.clone(), source })
}

/// A file of quantized weights, checked as a whole when it is opened.
#[derive(Debug)]
pub struct WeightFile<'a> {
    path: String,
    tensors: SafeTensors<'a>,
    layers: BTreeMap<String, Layer>,
}

impl<'a> WeightFile<'a> {
    /// Reads the header; `bytes` is the whole file (mapped or read), `path` is for messages.
    pub fn open(path: &str, bytes: &'a [u8]) -> Result<Self, WeightsError> {
        let failed = |reason: String| WeightsError::File { path: path.to_owned(), reason };
        let (_, metadata) =
            SafeTensors::read_metadata(bytes).map_err(|e| failed(format!("no safetensors file: {e}")))?;
        let metadata = metadata.metadata().clone().unwrap_or_default();
        match metadata.get("format").map(String::as_str) {
            Some(FORMAT) => {}
            found => {
                return Err(failed(format!("expected format {FORMAT}, found {}", found.unwrap_or("none"))));
            }
        }
        let layers = metadata.get("layers").ok_or_else(|| failed("no metadata `layers`".to_owned()))?;
        let layers: BTreeMap<String, Layer> =
            serde_json::from_str(layers).map_err(|e| failed(format!("metadata `layers`: {e}")))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| failed(e.to_string()))?;
        Ok(Self { path: path.to_owned(), tensors, layers })
    }

    /// The original names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let part = |name: &str| {
            [".codes", ".scale", ".zero_point", ".levels"]
                .iter()
                .any(|suffix| name.strip_suffix(suffix).is_some_and(|stem| self.layers.contains_key(stem)))
        };
        let mut names: Vec<String> =
            self.tensors.names().into_iter().filter(|n| !part(n)).map(str::to_owned).collect();
        names.extend(self.layers.keys().cloned());
        names.sort();
        names
    }

    /// Bits of a quantized tensor; `None` in full precision.
    pub fn bits(&self, name: &str) -> Option<Bits> {
        self.layers.get(name).map(|layer| layer.bits)
    }

    /// The quantizer's name of a quantized tensor.
    pub fn scheme(&self, name: &str) -> Option<&str> {
        self.layers.get(name).map(|layer| layer.scheme.as_str())
    }

    /// Shape and values of a tensor, exactly as the quantized model computes with them.
    pub fn read(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), WeightsError> {
        let Some(layer) = self.layers.get(name) else {
            return self.floats(name);
        };
        let failed = |reason: String| self.failed(name, reason);
        let (rows, columns) =
            matrix(&layer.shape).ok_or_else(|| failed(format!("shape {:?} is too large", layer.shape)))?;
        let codes = self.part(name, ".codes", Dtype::U8)?;
        let codes =
            unpack(codes, rows, columns, layer.bits).map_err(|e: PackingError| failed(e.to_string()))?;
        let floats = |suffix| self.floats(&format!("{name}{suffix}")).map(|(_, values)| values);
        let grid = if self.tensors.tensor(&format!("{name}.levels")).is_ok() {
            Grid::Levels(floats(".levels")?)
        } else {
            Grid::Affine { scale: floats(".scale")?, zero_point: floats(".zero_point")? }
        };
        let axis = layer.axis.unwrap_or(0);
        let layout = layout(&layer.shape, axis)
            .ok_or_else(|| failed(format!("shape {:?} has no axis {axis}", layer.shape)))?;
        check_grid(&grid, layout.channels, layer.bits).map_err(failed)?;
        Ok((layer.shape.clone(), decode(&codes, layout, layer.bits, &grid)))
    }

    fn part(&self, name: &str, suffix: &str, dtype: Dtype) -> Result<&[u8], WeightsError> {
        let full = format!("{name}{suffix}");
        let view = self.tensors.tensor(&full).map_err(|e| self.failed(&full, e.to_string()))?;
        if view.dtype() != dtype {
            return Err(self.failed(&full, format!("it is {:?}; expected {dtype:?}", view.dtype())));
        }
        Ok(view.data())
    }

    fn floats(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), WeightsError> {
        let bytes = self.part(name, "", Dtype::F32)?;
        let shape = self.tensors.tensor(name).map(|t| t.shape().to_vec()).unwrap_or_default();
        let values =
            bytes.chunks_exact(4).filter_map(|b| b.try_into().ok().map(f32::from_le_bytes)).collect();
        Ok((shape, values))
    }

    fn failed(&self, tensor: &str, reason: String) -> WeightsError {
        WeightsError::Tensor { path: self.path.clone(), tensor: tensor.to_owned(), reason }
    }
}

#[cfg(test)]
mod tests;
