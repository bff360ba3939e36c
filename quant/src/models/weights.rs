//! Named tensors of a checkpoint: safetensors or torch, in one file or several. Values stay in the file until they
//! are asked for.

mod find;
mod numbers;
mod pickle;
mod safetensors_file;
mod state_dict;
mod stored;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod torch_file;
mod zip;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use safetensors::tensor::{Dtype, TensorView};

pub use numbers::Numbers;
pub(crate) use numbers::little_endian;
use stored::{Bytes, Format, Stored};

use super::{ModelError, mapping};
use crate::export::weights::WeightFile;

/// How a file begins that git put in the place of a large one.
const LFS_POINTER: &[u8] = b"version https://git-lfs";
/// What BERT's first checkpoints call weight and bias of a LayerNorm (names of its TensorFlow original).
const OLD_NAMES: [(&str, &str); 2] =
    [("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")];

/// What DataParallel puts before each name.
const PARALLEL: &str = "module.";

/// Tensors of up to this many values are copied when they are asked for: biases and scales are used in every run, and
/// the pages that they share with the weights around them would stay in memory for them.
const SMALL: usize = 16 << 10;

/// A tensor as f32, row-major.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub data: Numbers,
}

/// The tensors of one checkpoint.
pub struct Weights {
    file: String,
    tensors: Tensors,
    order: Vec<String>,
    overrides: HashMap<String, Numbers>,
    /// Whether names are those of a file's own graph (ONNX), which no architecture prescribes.
    of_graph: bool,
    /// What a graph asked for and did not find.
    absent: Mutex<Absent>,
}

/// Names that do not fit between an architecture and its checkpoint.
#[derive(Debug, Default)]
struct Absent {
    /// Asked for and not there.
    missing: BTreeSet<String>,
    /// There and not asked for, where that is known.
    unknown: Vec<String>,
}

/// Tensors by name, each with the file it is in.
#[derive(Default)]
struct Tensors(HashMap<String, (Arc<str>, Stored)>);

impl Tensors {
    /// Takes the tensors of one file.
    fn add(&mut self, file: &str, tensors: Vec<(String, Stored)>) -> Result<(), ModelError> {
        let file: Arc<str> = file.into();
        for (name, stored) in tensors {
            match self.0.entry(name) {
                Entry::Vacant(place) => {
                    place.insert((Arc::clone(&file), stored));
                }
                Entry::Occupied(place) => {
                    return Err(ModelError::DuplicateTensor {
                        tensor: place.key().clone(),
                        first: place.get().0.to_string(),
                        second: file.to_string(),
                    });
                }
            }
        }
        Ok(())
    }

    fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The same without DataParallel's prefix, if all names have it.
    fn without_parallel(self) -> Self {
        if !self.0.keys().all(|name| name.strip_prefix(PARALLEL).is_some_and(|rest| !rest.is_empty())) {
            return self;
        }
        Self(self.0.into_iter().map(|(name, tensor)| (name[PARALLEL.len()..].to_owned(), tensor)).collect())
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weights").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Weights {
    /// Opens the weights that a path means: a `.safetensors`, `.pth`, `.pt` or `.bin` file, a `….index.json` beside
    /// several of them, or a folder with one of these (`model.safetensors` is taken first).
    pub fn find(path: &Path) -> Result<Self, ModelError> {
        find::find(path)
    }

    /// Opens one file, safetensors or torch, by mapping it.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::of_file(path.display().to_string(), read_file(path)?)
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
        Self::from_bytes(&file, bytes)
    }

    /// Tensors embedded in the program, in safetensors form.
    pub fn embedded(file: &str, bytes: &'static [u8]) -> Result<Self, ModelError> {
        let tensors = safetensors_file::read(file, &Arc::new(Bytes::Embedded(bytes)))?;
        Self::of_file(file.to_owned(), tensors)
    }

    /// Tensors in memory, in safetensors form.
    pub fn from_bytes(file: &str, bytes: Vec<u8>) -> Result<Self, ModelError> {
        let tensors = safetensors_file::read(file, &Arc::new(Bytes::Owned(bytes)))?;
        Self::of_file(file.to_owned(), tensors)
    }

    /// Tensors that were read from another form of file, as values in memory.
    pub fn from_tensors(
        file: &str,
        tensors: Vec<(String, Vec<usize>, Arc<Vec<f32>>)>,
    ) -> Result<Self, ModelError> {
        let nothing = Arc::new(Bytes::Owned(Vec::new()));
        let (mut stored, mut values) = (Vec::new(), HashMap::new());
        for (name, shape, data) in tensors {
            if let Some(index) = data.iter().position(|x| !x.is_finite()) {
                let (file, value) = (file.to_owned(), data[index]);
                return Err(ModelError::NonFinite { file, tensor: name, index, value });
            }
            let bytes = Arc::clone(&nothing);
            stored.push((
                name.clone(),
                Stored { bytes, part: 0..0, format: Format::F32, shape, strides: None },
            ));
            values.insert(name, Numbers::from(data));
        }
        // Such names are those of another file's own, whatever they begin with.
        let mut all = Tensors::default();
        all.add(file, stored)?;
        let mut weights = Self::new(file.to_owned(), all);
        weights.overrides = values;
        weights.of_graph = true;
        Ok(weights)
    }

    fn of_file(file: String, tensors: Vec<(String, Stored)>) -> Result<Self, ModelError> {
        let mut all = Tensors::default();
        all.add(&file, tensors)?;
        Ok(Self::new(file, all.without_parallel()))
    }

    fn new(file: String, tensors: Tensors) -> Self {
        let mut order: Vec<String> = tensors.0.keys().cloned().collect();
        order.sort_unstable();
        Self { file, tensors, order, overrides: HashMap::new(), of_graph: false, absent: Mutex::default() }
    }

    /// Whether equal layers have equal tensors, as those of an architecture do.
    pub(crate) fn are_regular(&self) -> bool {
        !self.of_graph
    }

    fn absent(&self) -> MutexGuard<'_, Absent> {
        self.absent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a graph asks for a tensor that is not there; how many these are by now.
    pub(crate) fn note_missing(&self, name: &str) -> usize {
        let mut absent = self.absent();
        absent.missing.insert(name.to_owned());
        absent.missing.len()
    }

    /// Notes which tensors a graph with missing ones has no place for.
    pub(crate) fn note_unknown(&self, names: Vec<String>) {
        self.absent().unknown = names;
    }

    /// Whether any tensor was noted as missing.
    pub(crate) fn are_missing(&self) -> bool {
        !self.absent().missing.is_empty()
    }

    /// The error that names every tensor that was noted as missing.
    pub(crate) fn missing(&self) -> ModelError {
        let absent = self.absent();
        let names: Vec<String> = absent.missing.iter().cloned().collect();
        if let [one] = names.as_slice() {
            return self.is_missing(one);
        }
        ModelError::MissingTensors { file: self.file.clone(), names, unknown: absent.unknown.clone() }
    }

    fn is_missing(&self, name: &str) -> ModelError {
        let nearest = crate::plan::nearest(name, self.names(), 3);
        ModelError::MissingTensor { file: self.file.clone(), tensor: name.to_owned(), nearest }
    }

    /// The file's name, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Names of all tensors as they stand in the file (without the `module.` that DataParallel puts before all of them),
    /// in a fixed order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// The name under which a tensor stands in the file: the name itself, or the one it had in old checkpoints.
    pub fn stored_name(&self, name: &str) -> Option<&str> {
        let exact = |name: &str| self.tensors.0.get_key_value(name).map(|(stored, _)| stored.as_str());
        exact(name).or_else(|| {
            let old = OLD_NAMES.iter().find_map(|(new, old)| Some((name.strip_suffix(new)?, *old)));
            old.and_then(|(path, old)| exact(&format!("{path}{old}")))
        })
    }

    /// Shape of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let (_, stored) = self.tensors.0.get(self.stored_name(name)?)?;
        Some(stored.shape.clone())
    }

    /// Replaces the values of a tensor (same number of values).
    pub fn replace(&mut self, name: &str, data: Vec<f32>) {
        self.overrides.insert(name.to_owned(), data.into());
    }

    /// A tensor as f32. Its values are checked (all finite); those of large tensors are not copied.
    pub fn get(&self, name: &str) -> Result<Tensor, ModelError> {
        let found = self.stored_name(name).and_then(|stored| self.tensors.0.get_key_value(stored));
        let Some((stored_name, (file, stored))) = found else {
            return Err(self.is_missing(name));
        };
        let shape = stored.shape.clone();
        if let Some(data) = self.overrides.get(stored_name) {
            return Ok(Tensor { shape, data: data.clone() });
        }
        let (file, tensor) = (file.to_string(), stored_name.clone());
        if let Format::Other(dtype) = &stored.format {
            return Err(ModelError::TensorType { file, tensor, dtype: dtype.clone() });
        }
        let data =
            if stored.len() <= SMALL { stored.to_vec().into() } else { Numbers::in_file(stored.clone()) };
        if let Some((index, value)) = data.not_finite() {
            return Err(ModelError::NonFinite { file, tensor, index, value });
        }
        Ok(Tensor { shape, data })
    }
}

/// The tensors of one file on disk and where they lie.
fn read_file(path: &Path) -> Result<Vec<(String, Stored)>, ModelError> {
    let file = path.display().to_string();
    let map = mapping::map(path).map_err(|source| ModelError::Read { file: file.clone(), source })?;
    let bytes = Arc::new(Bytes::Mapped(map));
    let start = bytes.as_slice();
    if start.is_empty() {
        return Err(ModelError::Empty { file });
    }
    if start.starts_with(LFS_POINTER) {
        return Err(ModelError::LfsPointer { file });
    }
    let named = |ending: &str| path.extension().is_some_and(|e| e == ending);
    let tensors = if !named("safetensors") && zip::looks_like_zip(start) {
        torch_file::read(&file, &bytes)?
    } else if !named("safetensors") && torch_file::looks_like_old_torch(start) {
        return Err(ModelError::OldTorch { file });
    } else if named("pth") || named("pt") || named("bin") {
        let message = "it is no zip file".to_owned();
        return Err(ModelError::Torch { file, message });
    } else {
        safetensors_file::read(&file, &bytes)?
    };
    // What was read so far is names; the values come when they are needed.
    bytes.release(0..bytes.as_slice().len());
    Ok(tensors)
}
