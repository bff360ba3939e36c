//! Named tensors of a checkpoint in safetensors form.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo, TensorView};

use super::{ModelError, mapping};
use crate::export::weights::WeightFile;

/// A tensor as f32, row-major.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub data: Arc<Vec<f32>>,
}

enum Bytes {
    Mapped(memmap2::Mmap),
    Embedded(&'static [u8]),
    Owned(Vec<u8>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Embedded(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// The tensors of one checkpoint file; values are converted when asked for.
pub struct Weights {
    file: String,
    bytes: Bytes,
    metadata: Metadata,
    start: usize,
    order: Vec<String>,
    overrides: HashMap<String, Arc<Vec<f32>>>,
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weights").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Weights {
    /// Opens a file by mapping it.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = path.display().to_string();
        match mapping::map(path) {
            Ok(map) => Self::new(file, Bytes::Mapped(map)),
            Err(source) => Err(ModelError::Read { file, source }),
        }
    }

    /// Tensors of a `bitloupe-weights/1` export, dequantized to the values that the quantized model computes with.
    pub fn from_export(path: &Path) -> Result<Self, ModelError> {
        let file = path.display().to_string();
        let map = mapping::map(path).map_err(|source| ModelError::Read { file: file.clone(), source })?;
        let exported = WeightFile::open(&file, &map)?;
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = exported
            .names()
            .into_iter()
            .map(|name| {
                let (shape, values) = exported.read(&name)?;
                Ok((name, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect()))
            })
            .collect::<Result<_, ModelError>>()?;
        let failed = |e: safetensors::SafeTensorError| ModelError::Safetensors {
            file: file.clone(),
            message: e.to_string(),
        };
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| {
                Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        let bytes = safetensors::serialize(views, None).map_err(failed)?;
        Self::new(file.clone(), Bytes::Owned(bytes))
    }

    /// Tensors embedded in the program.
    pub fn embedded(file: &str, bytes: &'static [u8]) -> Result<Self, ModelError> {
        Self::new(file.to_owned(), Bytes::Embedded(bytes))
    }

    /// Tensors in memory.
    pub fn from_bytes(file: &str, bytes: Vec<u8>) -> Result<Self, ModelError> {
        Self::new(file.to_owned(), Bytes::Owned(bytes))
    }

    /// Tensors that were read from another form of file.
    pub fn from_tensors(
        file: &str,
        tensors: Vec<(String, Vec<usize>, Arc<Vec<f32>>)>,
    ) -> Result<Self, ModelError> {
        let failed = |message: String| ModelError::Safetensors { file: file.to_owned(), message };
        let (mut infos, mut overrides, mut end) = (Vec::new(), HashMap::new(), 0);
        for (name, shape, data) in tensors {
            if let Some(index) = data.iter().position(|x| !x.is_finite()) {
                let (file, value) = (file.to_owned(), data[index]);
                return Err(ModelError::NonFinite { file, tensor: name, index, value });
            }
            let start = end;
            end += data.len() * size_of::<f32>();
            infos.push((name.clone(), TensorInfo { dtype: Dtype::F32, shape, data_offsets: (start, end) }));
            overrides.insert(name, data);
        }
        let metadata = Metadata::new(None, infos).map_err(|e| failed(e.to_string()))?;
        let mut order = metadata.offset_keys();
        order.sort_unstable();
        let bytes = Bytes::Owned(Vec::new());
        Ok(Self { file: file.to_owned(), bytes, metadata, start: 0, order, overrides })
    }

    fn new(file: String, bytes: Bytes) -> Result<Self, ModelError> {
        let parsed = SafeTensors::read_metadata(bytes.as_slice());
        let (header, metadata) =
            parsed.map_err(|e| ModelError::Safetensors { file: file.clone(), message: e.to_string() })?;
        let start = header + size_of::<u64>();
        let mut order = metadata.offset_keys();
        order.sort_unstable();
        Ok(Self { file, bytes, metadata, start, order, overrides: HashMap::new() })
    }

    /// The file's name, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Names of all tensors, in a fixed order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// Shape of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.metadata.info(name).map(|info| info.shape.clone())
    }

    /// Replaces the values of a tensor (same number of values).
    pub fn replace(&mut self, name: &str, data: Vec<f32>) {
        self.overrides.insert(name.to_owned(), Arc::new(data));
    }

    /// A tensor as f32.
    pub fn get(&self, name: &str) -> Result<Tensor, ModelError> {
        let Some(info) = self.metadata.info(name) else {
            let nearest = crate::plan::nearest(name, self.names(), 3);
            return Err(ModelError::MissingTensor {
                file: self.file.clone(),
                tensor: name.to_owned(),
                nearest,
            });
        };
        let shape = info.shape.clone();
        if let Some(data) = self.overrides.get(name) {
            return Ok(Tensor { shape, data: Arc::clone(data) });
        }
        let (from, to) = info.data_offsets;
        let bytes = self.bytes.as_slice().get(self.start + from..self.start + to).unwrap_or_default();
        let data: Vec<f32> = match info.dtype {
            Dtype::F32 => words(bytes).map(f32::from_le_bytes).collect(),
            Dtype::F16 => words(bytes).map(|b| half::f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::BF16 => words(bytes).map(|b| half::bf16::from_le_bytes(b).to_f32()).collect(),
            other => {
                let (file, tensor) = (self.file.clone(), name.to_owned());
                return Err(ModelError::TensorType { file, tensor, dtype: format!("{other:?}") });
            }
        };
        if let Some(index) = data.iter().position(|x| !x.is_finite()) {
            let (file, tensor) = (self.file.clone(), name.to_owned());
            return Err(ModelError::NonFinite { file, tensor, index, value: data[index] });
        }
        Ok(Tensor { shape, data: Arc::new(data) })
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}
