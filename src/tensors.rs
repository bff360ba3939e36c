//! Raw tensors in and out of safetensors files.

use std::collections::BTreeMap;
use std::path::Path;

use color_eyre::eyre::{Result, WrapErr, eyre};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// A tensor as f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// All tensors of a file; integers and small floats are converted.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let unreadable = || format!("{}: cannot be read", path.display());
    // Checked on the name first: a pipe would wait for its writer, a device has no end.
    if !std::fs::metadata(path).wrap_err_with(unreadable)?.is_file() {
        return Err(eyre!("{}: not a regular file", path.display()));
    }
    let bytes = std::fs::read(path).wrap_err_with(unreadable)?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|e| eyre!("{}: not a readable safetensors file ({e})", path.display()))?;
    file.iter()
        .map(|(name, view)| {
            let data = convert(&view).ok_or_else(|| {
                eyre!(
                    "{}: tensor `{name}` is stored as {:?}, which is not read",
                    path.display(),
                    view.dtype()
                )
            })?;
            Ok((name.to_owned(), Tensor { shape: view.shape().to_vec(), data }))
        })
        .collect()
}

fn convert(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Dtype::I64 => bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect(),
        Dtype::I32 => bytes.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b) as f32).collect(),
        Dtype::U8 => bytes.iter().map(|b| f32::from(*b)).collect(),
        Dtype::I8 => bytes.iter().map(|b| f32::from(b.cast_signed())).collect(),
        Dtype::BOOL => bytes.iter().map(|b| f32::from(u8::from(*b != 0))).collect(),
        _ => return None,
    })
}

/// Writes tensors as F32, to a temporary file that is renamed.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, t)| {
            (name.clone(), t.shape.clone(), t.data.iter().flat_map(|x| x.to_le_bytes()).collect())
        })
        .collect();
    let views: Vec<(&str, TensorView<'_>)> = bytes
        .iter()
        .map(|(name, shape, data)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), data)?)))
        .collect::<Result<_>>()?;
    let file = safetensors::serialize(views, None)?;
    bitloupe_quant::export::write_atomic(path, |out| std::io::Write::write_all(out, &file))
        .wrap_err_with(|| format!("{}: cannot be written", path.display()))
}
