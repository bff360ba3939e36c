//! What a candidate costs on values in memory.

use crate::exec::kernels::gemm::AQuant;
use crate::exec::kernels::matmul::{BatchedMatMul, batched_matmul};
use crate::quantizer::cells::power;
use crate::quantizer::distribution::{Batch, Product};
use crate::quantizer::scheme::RangeSearch;

/// Values in memory that candidates are tried on.
pub(in crate::quantizer) struct Cost<'a> {
    batches: &'a [Batch<'a>],
    /// Exponent of the error; an error of products is always squared.
    p: f64,
}

impl<'a> Cost<'a> {
    pub(in crate::quantizer) fn new(batches: &'a [Batch<'a>], p: f64) -> Self {
        Self { batches, p }
    }

    /// The mean over the batches of [`batch_cost`] if anything is multiplied, else the mean over all values.
    pub(in crate::quantizer) fn of(&self, apply: impl Fn(f32) -> f32) -> f64 {
        if self.batches.iter().any(|batch| batch.product.is_some()) {
            let sum: f64 = self.batches.iter().map(|batch| batch_cost(batch, self.p, &apply)).sum();
            return sum / self.batches.len() as f64;
        }
        let sum: f64 = self.batches.iter().map(|batch| value_error(batch.values, self.p, &apply)).sum();
        let count: usize = self.batches.iter().map(|batch| batch.values.len()).sum();
        sum / count.max(1) as f64
    }
}

/// The exponent of the error that a range search asks for; 2 where it asks for none.
pub(in crate::quantizer) fn exponent(range: &RangeSearch) -> f64 {
    if let RangeSearch::Mse { p } = range { *p } else { 2.0 }
}

/// The mean of `(q(x)·w - x·w)²` over the outputs of the product, or of `|q(x) - x|^p` over the values where there is
/// none. Values that are not finite count as without error.
pub(in crate::quantizer) fn batch_cost(batch: &Batch<'_>, p: f64, apply: impl Fn(f32) -> f32) -> f64 {
    match &batch.product {
        Some(product) => {
            let errors: Vec<f32> = batch.values.iter().map(|&x| deviation(x, &apply)).collect();
            product_error(&errors, product)
        }
        None => value_error(batch.values, p, apply) / batch.values.len().max(1) as f64,
    }
}

/// The sum of `|q(x) - x|^p`; values that are not finite are left out.
pub(in crate::quantizer) fn value_error(values: &[f32], p: f64, apply: impl Fn(f32) -> f32) -> f64 {
    // A fixed number of partial sums: the result does not depend on the machine.
    let mut sums = [0.0_f64; 8];
    for chunk in values.chunks(8) {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += power(f64::from(deviation(x, &apply).abs()), p);
        }
    }
    sums.iter().sum()
}

#[inline(always)]
fn deviation(x: f32, apply: &impl Fn(f32) -> f32) -> f32 {
    if x.is_finite() { apply(x) - x } else { 0.0 }
}

/// The mean square of `errors` times the other operand.
fn product_error(errors: &[f32], product: &Product<'_>) -> f64 {
    let (batch, k, n) = (product.batches(), product.inner, product.columns);
    let m = errors.len() / (batch * k).max(1);
    let shape = BatchedMatMul { batch, m, k, n, transpose_rhs: product.transposed };
    let mut out = vec![0.0; batch * m * n];
    batched_matmul(shape, errors, product.other, AQuant::None, AQuant::None, 1.0, &mut out);
    let sum: f64 = out.iter().map(|&y| f64::from(y).powi(2)).sum();
    sum / (out.len() as f64).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::Layout;

    #[test]
    fn products_and_values_are_measured() {
        let values = [0.3, 1.2, -0.4, 0.5, f32::NAN, 2.0];
        let layout = Layout::tensor(6);
        let round = |x: f32| x.round_ties_even();
        let plain = [Batch::new(&values, layout)];
        let expected = (0.09 + 0.04 + 0.16 + 0.25) / 6.0;
        assert!((Cost::new(&plain, 2.0).of(round) - expected).abs() < 1e-7);
        // Rows (0.3, 1.2), (-0.4, 0.5), (NaN, 2) times a weight of one row (1, 2).
        let product = Product { other: &[1.0, 2.0], inner: 2, columns: 1, transposed: true };
        let batch = Batch { product: Some(product), ..plain[0] };
        let errors = [-0.3 - 0.4, 0.4 - 1.0, 0.0_f64];
        let expected = errors.iter().map(|e| e * e).sum::<f64>() / 3.0;
        assert!((Cost::new(&[batch], 2.0).of(round) - expected).abs() < 1e-6);
    }
}
