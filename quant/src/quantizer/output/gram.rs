//! Weights by the error of the output, from the second moments of the input.

use super::check_shape;
use crate::quantizer::error::QuantizerError;
use crate::quantizer::grid::Grid;
use crate::quantizer::params::Params;
use crate::quantizer::scheme::{Family, Granularity, Scheme};
use crate::terms::Bits;
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// Shares of a row's range that are tried, in hundredths.
const SHARES: std::ops::RangeInclusive<u32> = 1..=100;

/// `XᵀX` of the rows of a layer's input, accumulated in one pass.
///
/// The squared error of the output is `‖X (w - q)‖² = (w - q)ᵀ XᵀX (w - q)` for every row `w` of the weight and its
/// quantized form `q`: once `XᵀX` is known, trying a candidate costs the same for one sample as for a thousand.
#[derive(Debug, Clone, PartialEq)]
pub struct Gram {
    inner: usize,
    rows: u64,
    /// The upper triangle of `[inner, inner]`, the rest zero.
    sums: Vec<f64>,
}

impl Gram {
    /// Of no row yet.
    pub fn new(inner: usize) -> Self {
        Self { inner, rows: 0, sums: vec![0.0; inner * inner] }
    }

    /// The summed dimension.
    pub fn inner(&self) -> usize {
        self.inner
    }

    /// How many rows were seen.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds rows `[…, inner]`; rows with a value that is not finite are left out.
    pub fn observe(&mut self, values: &[f32]) -> Result<(), QuantizerError> {
        let inner = self.inner.max(1);
        check_shape(values.len(), values.len() / inner, inner)?;
        let finite = |row: &&[f32]| row.iter().all(|x| x.is_finite());
        let rows: Vec<&[f32]> = values.chunks_exact(inner).filter(finite).collect();
        self.rows += rows.len() as u64;
        self.sums.par_chunks_mut(inner).enumerate().for_each(|(i, sums)| {
            for row in &rows {
                let x = f64::from(row[i]);
                if x != 0.0 {
                    sums[i..].iter_mut().zip(&row[i..]).for_each(|(sum, y)| *sum += x * f64::from(*y));
                }
            }
        });
        Ok(())
    }

    /// Adds the rows of another.
    pub fn merge(&mut self, other: &Self) -> Result<(), QuantizerError> {
        if self.inner != other.inner {
            return Err(QuantizerError::Channels { expected: self.inner, found: other.inner });
        }
        self.rows += other.rows;
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, other)| *sum += other);
        Ok(())
    }

    /// `dᵀ XᵀX d`: the squared error of an output whose weights are off by `d`; 0 for another length.
    pub fn error(&self, difference: &[f32]) -> f64 {
        if difference.len() != self.inner {
            return 0.0;
        }
        let rows = self.sums.chunks_exact(self.inner.max(1)).enumerate().zip(difference);
        let sum: f64 = rows
            .filter(|(_, d)| **d != 0.0)
            .map(|((i, sums), d)| {
                let d = f64::from(*d);
                let right = sums[i + 1..].iter().zip(&difference[i + 1..]);
                let right: f64 = right.map(|(sum, other)| sum * f64::from(*other)).sum();
                d * (d * sums[i] + 2.0 * right)
            })
            .sum();
        sum.max(0.0)
    }

    /// Both triangles, `[inner, inner]`.
    fn whole(&self) -> Result<Tensor, QuantizerError> {
        let inner = self.inner;
        let mut all = self.sums.clone();
        for i in 0..inner {
            for j in 0..i {
                all[i * inner + j] = self.sums[j * inner + i];
            }
        }
        Tensor::from_vec(all, (inner, inner), &Device::Cpu).map_err(|_| self.failed(inner))
    }

    /// [`Gram::error`] of many differences `[n, inner]` in one product.
    fn errors(&self, moments: &Tensor, differences: Vec<f64>) -> Result<Vec<f64>, QuantizerError> {
        let (inner, len) = (self.inner, differences.len());
        let product = || {
            let differences = Tensor::from_vec(differences, (len / inner.max(1), inner), &Device::Cpu)?;
            differences.matmul(moments)?.mul(&differences)?.sum(1)?.to_vec1::<f64>()
        };
        product().map_err(|_| self.failed(len))
    }

    fn failed(&self, len: usize) -> QuantizerError {
        QuantizerError::Product { len, other: self.sums.len(), inner: self.inner }
    }

    /// The uniform grid of every row of a weight `[out, inner]` whose output has the least squared error, among
    /// 100 shares of the row's range (both ends together, zero included; the wider of equals). `scheme` is
    /// uniform per channel; its range search is recorded, not used.
    pub fn fit(&self, weight: &[f32], scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
        crate::quantizer::check_family(scheme, Family::Uniform, bits)?;
        let inner = self.inner.max(1);
        check_shape(weight.len(), weight.len() / inner, inner)?;
        if scheme.granularity != Granularity::Channel {
            let problem = "the output error of every row asks for a scale per channel".to_owned();
            return Err(QuantizerError::Params { bits, problem });
        }
        let fit = |row: &[f32], moments: &Tensor| -> Result<Grid, QuantizerError> {
            let finite = || row.iter().copied().filter(|x| x.is_finite());
            let (lo, hi) = (finite().fold(0.0, f32::min), finite().fold(0.0, f32::max));
            let candidates = SHARES.rev().map(|percent| {
                let share = percent as f32 / 100.0;
                Grid::containing_zero(lo * share, hi * share, bits, scheme.symmetric)
            });
            let candidates: Vec<Grid> = candidates.collect();
            let difference = |grid: &Grid, x: f32| if x.is_finite() { x - grid.apply(x) } else { 0.0 };
            let differences: Vec<f64> = candidates
                .iter()
                .flat_map(|grid| row.iter().map(|x| f64::from(difference(grid, *x))))
                .collect();
            let mut errors = self.errors(moments, differences)?.into_iter();
            let score = |_: &Grid| errors.next().unwrap_or(f64::INFINITY);
            let best = crate::quantizer::search::least(candidates, score);
            Ok(best.unwrap_or_else(|| Grid::constant(0.0, bits)))
        };
        let moments = self.whole()?;
        let grids: Vec<Grid> =
            weight.par_chunks_exact(inner).map(|row| fit(row, &moments)).collect::<Result<_, _>>()?;
        Ok(Params {
            scheme: scheme.clone(),
            bits,
            scale: grids.iter().map(|grid| grid.step).collect(),
            zero_point: grids.iter().map(|grid| grid.zero).collect(),
            extra: std::collections::BTreeMap::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Gram;
    use crate::quantizer::{Distribution, Family, Params, RangeSearch, Scheme, quantizer};
    use crate::stats::tests::shapes::Random;
    use crate::terms::{Bits, Layout};

    /// Rows of inputs that depend on each other, and a weight.
    fn layer(seed: u64, rows: usize, inner: usize, out: usize) -> (Vec<f32>, Vec<f32>) {
        let mut random = Random::new(seed);
        let mut inputs = Vec::new();
        for _ in 0..rows {
            let common = random.normal() * 3.0;
            inputs.extend((0..inner).map(|i| (random.normal() + common * (i % 3) as f64) as f32));
        }
        (inputs, (0..out * inner).map(|_| random.student(4) as f32).collect())
    }

    fn direct(inputs: &[f32], difference: &[f32]) -> f64 {
        let dot =
            |row: &[f32]| row.iter().zip(difference).map(|(x, d)| f64::from(*x) * f64::from(*d)).sum::<f64>();
        inputs.chunks_exact(difference.len()).map(|row| dot(row).powi(2)).sum()
    }

    #[test]
    fn errors_are_those_of_the_output() {
        let (inputs, weight) = layer(1, 200, 24, 5);
        let mut whole = Gram::new(24);
        whole.observe(&inputs).unwrap();
        let (mut first, mut second) = (Gram::new(24), Gram::new(24));
        first.observe(&inputs[..24 * 70]).unwrap();
        second.observe(&inputs[24 * 70..]).unwrap();
        first.merge(&second).unwrap();
        assert_eq!((first.rows(), whole.rows(), whole.inner()), (200, 200, 24));
        for row in weight.chunks_exact(24) {
            let expected = direct(&inputs, row);
            for gram in [&whole, &first] {
                assert!((gram.error(row) - expected).abs() <= 1e-10 * expected);
            }
        }
        assert!(whole.observe(&inputs[1..]).is_err());
        assert!(whole.merge(&Gram::new(23)).is_err());
        assert_eq!(whole.error(&[1.0]), 0.0);
        let before = whole.clone();
        let mut bad = vec![f32::NAN; 24];
        bad[0] = 1.0;
        whole.observe(&bad).unwrap();
        assert_eq!(whole, before);
    }

    #[test]
    fn the_search_finds_less_output_error_than_any_search_on_the_weights() {
        let (inputs, weight) = layer(2, 300, 24, 6);
        let mut gram = Gram::new(24);
        gram.observe(&inputs).unwrap();
        let layout = Layout { outer: 1, channels: 6, inner: 24 };
        for (bits, symmetric) in [(3, false), (4, false), (4, true), (8, true)] {
            let bits = Bits::new(bits).unwrap();
            let scheme = |range| Scheme { symmetric, ..Scheme::new(Family::Uniform, range).per_channel() };
            let uniform = quantizer(Family::Uniform);
            let error = |params: &Params| {
                let mut quantized = weight.clone();
                uniform.fake_quantize(&mut quantized, layout, params);
                let difference: Vec<f32> = weight.iter().zip(&quantized).map(|(w, q)| w - q).collect();
                difference.chunks_exact(24).map(|row| direct(&inputs, row)).sum::<f64>()
            };
            let found = error(&gram.fit(&weight, &scheme(RangeSearch::MinMax), bits).unwrap());
            let data = Distribution::Raw { values: &weight, layout };
            let plain = error(&uniform.fit(&data, &scheme(RangeSearch::MinMax), bits).unwrap());
            assert!(found <= plain, "{bits} {found} {plain}");
        }
        assert!(
            gram.fit(&weight, &Scheme::new(Family::Uniform, RangeSearch::MinMax), Bits::new(4).unwrap())
                .is_err()
        );
    }
}
