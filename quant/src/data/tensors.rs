//! Tensors of a sample, from a safetensors file: the model's inputs as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::DataError;

/// A tensor that is given to an input of its name.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenTensor {
    /// Its shape, the leading axis of 1 included.
    pub shape: Vec<usize>,
    /// Its values, row-major; integers and truth values are converted.
    pub values: Arc<Vec<f32>>,
}

/// All tensors of a file by name.
pub(super) fn read_tensors(path: &str, bytes: &[u8]) -> Result<BTreeMap<String, GivenTensor>, DataError> {
    let failed = |reason: String| DataError::Config { path: path.to_owned(), reason };
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| failed(format!("not a readable safetensors file ({e}); `inputs` names one")))?;
    file.iter()
        .map(|(name, view)| {
            let values = values(&view).ok_or_else(|| {
                failed(format!("tensor `{name}` is stored as {:?}; expected numbers", view.dtype()))
            })?;
            Ok((name.to_owned(), GivenTensor { shape: view.shape().to_vec(), values: Arc::new(values) }))
        })
        .collect()
}

fn values(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect(),
        Dtype::I32 => bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b) as f32).collect(),
        Dtype::U8 => bytes.iter().map(|b| f32::from(*b)).collect(),
        Dtype::I8 => bytes.iter().map(|b| f32::from(b.cast_signed())).collect(),
        Dtype::BOOL => bytes.iter().map(|b| f32::from(u8::from(*b != 0))).collect(),
        _ => return None,
    })
}
