//! Matrix products of slices.

use crate::quantizer::error::QuantizerError;
use candle_core::{Device, Tensor};

/// `[rows, inner] · [columns, inner]ᵀ`, row by row. Candle's kernel, which is as quick as the executor's.
pub(super) fn rows_by_rows(a: &[f32], b: &[f32], inner: usize) -> Result<Vec<f32>, QuantizerError> {
    if inner == 0 || a.is_empty() || b.is_empty() {
        return Ok(vec![
            0.0;
            a.len().checked_div(inner).unwrap_or(0) * b.len().checked_div(inner).unwrap_or(0)
        ]);
    }
    let (rows, columns) = (a.len() / inner, b.len() / inner);
    let product = || {
        let a = Tensor::from_slice(a, (rows, inner), &Device::Cpu)?;
        let b = Tensor::from_slice(b, (columns, inner), &Device::Cpu)?;
        a.matmul(&b.t()?)?.flatten_all()?.to_vec1::<f32>()
    };
    product().map_err(|_| QuantizerError::Product { len: a.len(), other: b.len(), inner })
}

/// `[rows, columns]` as `[columns, rows]`.
pub(super) fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len().checked_div(columns).unwrap_or(0);
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

/// `Σ (g · (y - found))²` over the columns of every group of `columns / groups` columns.
pub(super) fn weighted_errors(
    expected: &[f32],
    found: &[f32],
    gradient: &[f32],
    columns: usize,
    groups: usize,
) -> Vec<f64> {
    let (width, mut sums) = ((columns / groups.max(1)).max(1), vec![0.0; groups]);
    let rows =
        expected.chunks_exact(columns).zip(found.chunks_exact(columns)).zip(gradient.chunks_exact(columns));
    for ((expected, found), gradient) in rows {
        for (group, sum) in sums.iter_mut().enumerate() {
            let own = group * width..(group + 1) * width;
            let row = expected[own.clone()].iter().zip(&found[own.clone()]).zip(&gradient[own]);
            *sum += row.map(|((y, q), g)| f64::from(g * (y - q)).powi(2)).sum::<f64>();
        }
    }
    sums
}
