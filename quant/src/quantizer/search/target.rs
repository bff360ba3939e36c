//! What the error of a staircase is measured on.

use super::Squares;
use crate::quantizer::cells::power;
use crate::quantizer::distribution::{Batch, Product, group};
use crate::quantizer::quantile::Sorted;
use crate::quantizer::scheme::Granularity;
use crate::quantizer::staircase::Staircase;
use crate::quantizer::survey::Survey;
use crate::stats::Ranks;
use rayon::prelude::*;
use std::borrow::Cow;

/// Values whose error is summed by one task.
const CHUNK: usize = 16_384;

/// One calibration batch, all of it or one channel, or a sketch.
///
/// With the right operand `V` of the product, the error is the mean of `|Q(A)·V - A·V|^p` over the outputs. Without
/// it, it is as if `V` were white noise: then an output's error has the variance `Σ (Q(a) - a)²` of its row, whatever
/// `p`, so it is the mean of the squared errors.
pub(in crate::quantizer) enum Target<'a> {
    /// Finite values.
    Values(Cow<'a, [f32]>),
    /// A product.
    Output(Output<'a>),
    /// The sketch of a tensor.
    Sketch {
        /// Its buckets.
        squares: Squares<'a>,
        /// Its quantiles.
        ranks: &'a Ranks,
        /// Finite values.
        count: f64,
        /// Their range.
        range: (f32, f32),
    },
}

/// Left operands and what they are multiplied by.
pub(in crate::quantizer) struct Output<'a> {
    /// Whole rows, with the number of the right operand.
    runs: Vec<(&'a [f32], usize)>,
    /// All right operands, `[inner, columns]` each.
    other: Cow<'a, [f32]>,
    inner: usize,
    columns: usize,
}

impl<'a> Target<'a> {
    /// The calibration batches of channel `c`, or of the whole tensor.
    pub(in crate::quantizer) fn of_batches(
        batches: &[Batch<'a>],
        granularity: Granularity,
        c: usize,
    ) -> Vec<Self> {
        let one = |batch: &Batch<'a>| match Output::new(batch, granularity, c) {
            Some(output) => Self::Output(output),
            None => Self::Values(group(batch.values, batch.layout, granularity, c)),
        };
        batches.iter().map(one).collect()
    }

    /// The whole tensor of a sketch.
    pub(in crate::quantizer) fn of_sketch(survey: &'a Survey<'_>) -> Self {
        let (sketch, ranks) = (survey.sketch(), survey.ranks());
        Self::Sketch {
            squares: Squares::new(ranks.buckets()),
            ranks,
            count: sketch.finite() as f64,
            range: (sketch.min(), sketch.max()),
        }
    }

    /// The mean error. Values that are not finite have none.
    pub(in crate::quantizer) fn error(&self, stairs: &Staircase, p: f64) -> f64 {
        match self {
            Self::Values(values) => {
                let steps = stairs.steps(values.len());
                let sum = |chunk: &[f32]| -> f64 {
                    let mut quantized = chunk.to_vec();
                    steps.apply_serial(&mut quantized);
                    chunk.iter().zip(&quantized).map(|(&x, &q)| (f64::from(q) - f64::from(x)).powi(2)).sum()
                };
                // Collected first: the sum must not depend on the threads.
                let sums: Vec<f64> = values.par_chunks(CHUNK).map(sum).collect();
                sums.iter().sum::<f64>() / (values.len() as f64).max(1.0)
            }
            Self::Output(output) => output.error(stairs, p),
            Self::Sketch { squares, count, .. } => squares.error(&stairs.cells()) / count.max(1.0),
        }
    }

    /// Whether the error is that of a product.
    pub(in crate::quantizer) fn is_output(&self) -> bool {
        matches!(self, Self::Output(_))
    }

    /// The least and the largest finite value; zeros if there is none.
    pub(in crate::quantizer) fn range(&self) -> (f32, f32) {
        let of = |values: &[f32], range: (f32, f32)| {
            let finite = values.iter().copied().filter(|x| x.is_finite());
            finite.fold(range, |(lo, hi), x| (lo.min(x), hi.max(x)))
        };
        let none = (f32::INFINITY, f32::NEG_INFINITY);
        let (lo, hi) = match self {
            Self::Values(values) => of(values, none),
            Self::Output(output) => output.runs.iter().fold(none, |range, (run, _)| of(run, range)),
            Self::Sketch { range, .. } => *range,
        };
        if lo <= hi { (lo, hi) } else { (0.0, 0.0) }
    }

    /// The values that have rank `p`, of all targets together.
    pub(in crate::quantizer) fn percentiles(targets: &[Self], levels: &[f64]) -> Vec<f32> {
        let mut values = Vec::new();
        for target in targets {
            match target {
                Self::Sketch { ranks, .. } if ranks.is_empty() => return Vec::new(),
                Self::Sketch { ranks, .. } => {
                    return levels.iter().map(|&p| ranks.percentile(p) as f32).collect();
                }
                Self::Values(own) => values.extend_from_slice(own),
                Self::Output(output) => {
                    let all = output.runs.iter().flat_map(|(run, _)| *run).copied();
                    values.extend(all.filter(|x| x.is_finite()));
                }
            }
        }
        let sorted = Sorted::new(&values);
        levels.iter().map(|&p| sorted.quantile(p)).collect()
    }
}

impl<'a> Output<'a> {
    /// `None` without a right operand, or where a channel has no whole rows of the product.
    fn new(batch: &Batch<'a>, granularity: Granularity, c: usize) -> Option<Self> {
        let Product { other, inner, columns, transposed } = batch.product?;
        let (len, batches) = (batch.values.len(), batch.product?.batches());
        let per_batch = len / batches.max(1);
        let channels = if granularity == Granularity::Tensor { 1 } else { batch.layout.channels };
        let run = if channels == 1 { per_batch } else { batch.layout.inner };
        if run == 0 || !run.is_multiple_of(inner) || !per_batch.is_multiple_of(run) {
            return None;
        }
        let runs = batch.values.chunks_exact(run).enumerate();
        let own = runs.filter(|(number, _)| number % channels.max(1) == c);
        let runs = own.map(|(number, values)| (values, number * run / per_batch)).collect();
        let other = if !transposed && other.iter().all(|x| x.is_finite()) {
            Cow::Borrowed(other)
        } else {
            // What is not finite tells nothing about an error.
            let value = |at: usize| {
                let (block, at) = (at / (inner * columns), at % (inner * columns));
                let (row, column) = (at / columns, at % columns);
                let at = if transposed { column * inner + row } else { at };
                let x = other[block * inner * columns + at];
                if x.is_finite() { x } else { 0.0 }
            };
            Cow::Owned((0..other.len()).map(value).collect())
        };
        Some(Self { runs, other, inner, columns })
    }

    fn error(&self, stairs: &Staircase, p: f64) -> f64 {
        let steps = stairs.steps(self.runs.iter().map(|(run, _)| run.len()).sum());
        // A few rows are a task.
        let rows = (CHUNK / self.inner).max(1) * self.inner;
        let tasks: Vec<(&[f32], usize)> = self
            .runs
            .iter()
            .flat_map(|&(run, number)| run.chunks(rows).map(move |rows| (rows, number)))
            .collect();
        let size = self.inner * self.columns;
        let sum = |&(values, number): &(&[f32], usize)| -> f64 {
            let other = &self.other[number * size..(number + 1) * size];
            let mut quantized = values.to_vec();
            steps.apply_serial(&mut quantized);
            let mut out = vec![0.0_f64; self.columns];
            let mut sum = 0.0;
            for (x, q) in values.chunks_exact(self.inner).zip(quantized.chunks_exact(self.inner)) {
                out.fill(0.0);
                for ((&x, &q), row) in x.iter().zip(q).zip(other.chunks_exact(self.columns)) {
                    let error = f64::from(q) - f64::from(x);
                    if error != 0.0 && error.is_finite() {
                        out.iter_mut().zip(row).for_each(|(out, &v)| *out += error * f64::from(v));
                    }
                }
                sum += out.iter().map(|&error| power(error.abs(), p)).sum::<f64>();
            }
            sum
        };
        let sums: Vec<f64> = tasks.par_iter().map(sum).collect();
        let outputs = tasks.iter().map(|(rows, _)| rows.len() / self.inner * self.columns).sum::<usize>();
        sums.iter().sum::<f64>() / (outputs as f64).max(1.0)
    }
}
