//! Checkpoints in safetensors form: the header names each tensor's type, shape and bytes.

use std::sync::Arc;

use safetensors::tensor::{Dtype, SafeTensors};

use super::stored::{Bytes, Format, Stored};
use crate::models::ModelError;

/// The tensors of a file and where they lie. The header is checked as a whole: every byte of the data belongs to
/// exactly one tensor, and each has the bytes that its shape and type need.
pub(super) fn read(file: &str, bytes: &Arc<Bytes>) -> Result<Vec<(String, Stored)>, ModelError> {
    let fail = |message: String| ModelError::Safetensors { file: file.to_owned(), message };
    let (header, metadata) = SafeTensors::read_metadata(bytes.as_slice()).map_err(|e| fail(e.to_string()))?;
    let start = header + size_of::<u64>();
    let mut names = metadata.offset_keys();
    names.sort_unstable();
    let locate = |name: String| {
        let info = metadata.info(&name).ok_or_else(|| fail(format!("`{name}` has no entry")))?;
        let (from, to) = info.data_offsets;
        let format = format(info.dtype);
        let shape = info.shape.clone();
        let part = start + from..start + to;
        Ok((name, Stored { bytes: Arc::clone(bytes), part, format, shape, strides: None }))
    };
    names.into_iter().map(locate).collect()
}

fn format(dtype: Dtype) -> Format {
    match dtype {
        Dtype::F32 => Format::F32,
        Dtype::F16 => Format::F16,
        Dtype::BF16 => Format::BF16,
        Dtype::F64 => Format::F64,
        other => Format::Other(format!("{other:?}")),
    }
}
