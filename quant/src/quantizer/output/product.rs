//! Matrix products of slices.

use crate::quantizer::error::QuantizerError;
use candle_core::{Device, Storage, Tensor};

/// Matrices `[batches, rows, inner]` of one size, ready to be multiplied many times.
#[derive(Debug)]
pub(super) struct Rows {
    tensor: Option<Tensor>,
    sizes: [usize; 3],
}

impl Rows {
    /// `values` are `batches · rows · inner`.
    pub(super) fn new(values: Vec<f32>, batches: usize, inner: usize) -> Result<Self, QuantizerError> {
        let len = values.len();
        let rows = len.checked_div(batches.saturating_mul(inner)).unwrap_or(0);
        let sizes = [batches, rows, inner];
        let failed = |_| QuantizerError::Product { len, other: batches, inner };
        let tensor = (rows > 0).then(|| Tensor::from_vec(values, (batches, rows, inner), &Device::Cpu));
        Ok(Self { tensor: tensor.transpose().map_err(failed)?, sizes })
    }

    /// Gives `read` the products `[batches, rows, rows of the other]` with the transposed other. Candle's kernel, which
    /// is as quick as the executor's.
    pub(super) fn times<R>(&self, other: &Self, read: impl FnOnce(&[f32]) -> R) -> Result<R, QuantizerError> {
        let ([batches, rows, inner], [_, columns, _]) = (self.sizes, other.sizes);
        let failed =
            || QuantizerError::Product { len: batches * rows * inner, other: columns * inner, inner };
        let (Some(a), Some(b)) = (&self.tensor, &other.tensor) else {
            return Ok(read(&vec![0.0; batches * rows * columns]));
        };
        let product = b.t().and_then(|b| a.matmul(&b)).map_err(|_| failed())?;
        let (storage, _) = product.storage_and_layout();
        match &*storage {
            Storage::Cpu(values) => Ok(read(values.as_slice().map_err(|_| failed())?)),
            _ => Err(failed()),
        }
    }
}

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
    const LANES: usize = 8;
    let (width, mut sums) = ((columns / groups.max(1)).max(1), vec![0.0; groups]);
    let rows =
        expected.chunks_exact(columns).zip(found.chunks_exact(columns)).zip(gradient.chunks_exact(columns));
    for ((expected, found), gradient) in rows {
        for (group, sum) in sums.iter_mut().enumerate() {
            let own = group * width..(group + 1) * width;
            let (y, q, g) = (&expected[own.clone()], &found[own.clone()], &gradient[own]);
            let square = |i: usize| f64::from(g[i] * (y[i] - q[i])).powi(2);
            // Sums side by side: the processor adds several at a time.
            let mut lanes = [0.0_f64; LANES];
            let whole = y.len() / LANES * LANES;
            for from in (0..whole).step_by(LANES) {
                for (lane, sum) in lanes.iter_mut().enumerate() {
                    *sum += square(from + lane);
                }
            }
            *sum += lanes.iter().sum::<f64>() + (whole..y.len()).map(square).sum::<f64>();
        }
    }
    sums
}
