//! Uniform affine quantization.
//!
//! `q(x) = (clamp(round(x / scale) + zero_point, 0, 2^b - 1) - zero_point) · scale`, rounding half to even, true
//! f32 division (Jacob et al. 2018; RepQ-ViT, spec of `UniformQuantizer`). Symmetric grids use the codes
//! `1..=2^b - 1` with zero point `2^(b-1)`. The zero point may be fractional (RepQ-ViT's reparameterization
//! averages them): then the codes are those of the nearest integer, which is what an integer kernel does.

use super::cells::Cells;
use super::distribution::{Batch, Distribution, group};
use super::error::QuantizerError;
use super::grid::Grid;
use super::params::Params;
use super::quantile::Sorted;
use super::scheme::{Family, Granularity, RangeSearch, Scheme};
use super::search::{self, Data, Side};
use super::survey::Survey;
use super::{Quantizer, check_family};
use crate::stats::Sketch;
use crate::terms::{Bits, Layout};
use rayon::prelude::*;

/// Equal steps.
#[derive(Debug)]
pub(super) struct Uniform;

/// The grid of channel `c`.
pub(super) fn grid(params: &Params, c: usize) -> Grid {
    Grid::new(params.scale_of(c), params.zero_point_of(c), params.bits, params.scheme.symmetric)
}

impl Quantizer for Uniform {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn fit(&self, data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
        check_family(scheme, Family::Uniform, bits)?;
        data.check()?;
        let scheme = &scheme.on_values();
        let grids: Vec<Grid> = match *data {
            Distribution::Sketch(sketch) => fit_survey(&Survey::new(sketch), scheme, bits),
            Distribution::Survey(survey) => fit_survey(survey, scheme, bits),
            Distribution::Raw { .. } | Distribution::Batches(_) => fit_values(data, scheme, bits)?,
        };
        Ok(Params {
            scheme: scheme.clone(),
            bits,
            scale: grids.iter().map(|grid| grid.step).collect(),
            zero_point: grids.iter().map(|grid| grid.zero).collect(),
            extra: std::collections::BTreeMap::new(),
        })
    }

    fn fake_quantize(&self, x: &mut [f32], layout: Layout, params: &Params) {
        if layout.inner == 1 && params.scale.len() > 1 {
            let grids: Vec<Grid> = (0..layout.channels).map(|c| grid(params, c)).collect();
            Grid::apply_rows(x, &grids);
        } else {
            super::by_channel(x, layout, params, |values, c| grid(params, c).apply_all(values));
        }
    }

    fn codes(&self, x: &[f32], layout: Layout, params: &Params) -> Vec<u32> {
        let grids: Vec<Grid> = (0..layout.channels.max(1)).map(|c| grid(params, c)).collect();
        x.iter().enumerate().map(|(at, &x)| grids[layout.channel_of(at)].code(x) as u32).collect()
    }

    fn dequantize(&self, codes: &[u32], layout: Layout, params: &Params) -> Vec<f32> {
        let grids: Vec<Grid> = (0..layout.channels.max(1)).map(|c| grid(params, c)).collect();
        let value = |(at, &code): (usize, &u32)| {
            let grid = grids[layout.channel_of(at)];
            (code as f32 - grid.zero.round_ties_even()) * grid.step
        };
        codes.iter().enumerate().map(value).collect()
    }

    fn levels(&self, params: &Params, c: usize) -> Vec<f32> {
        grid(params, c).levels()
    }

    fn cells(&self, params: &Params, c: usize) -> Cells {
        Cells::uniform(&grid(params, c))
    }
}

fn fit_survey(survey: &Survey<'_>, scheme: &Scheme, bits: Bits) -> Vec<Grid> {
    match scheme.granularity {
        Granularity::Tensor => vec![search::of_sketch(survey, scheme, bits)],
        Granularity::Channel | Granularity::Head => search::of_channels(survey, scheme, bits),
    }
}

/// A fit on values in memory.
fn fit_values(data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Vec<Grid>, QuantizerError> {
    let groups = if scheme.granularity == Granularity::Tensor { 1 } else { data.channels() };
    let per_batch = matches!(
        scheme.range,
        RangeSearch::AverageMinMax | RangeSearch::Ema { .. } | RangeSearch::Bounded { .. }
    );
    if per_batch {
        let batches = data.batches().ok_or(QuantizerError::NoData)?;
        // As released the first batch decides for all.
        let seen = if scheme.paper { &batches[..batches.len().min(1)] } else { &batches[..] };
        let side = side(seen.iter().flat_map(|batch| batch.values));
        let fit = |c| {
            let range = |batch: &Batch<'_>| {
                let values = group(batch.values, batch.layout, scheme.granularity, c);
                search::batch_range(&values, side, scheme, bits)
            };
            // In their order: the average is one of rounded numbers.
            let ranges: Vec<Option<(f32, f32)>> = batches.par_iter().map(range).collect();
            let (lo, hi) =
                search::joint_range(ranges.into_iter().flatten(), &scheme.range).unwrap_or((0.0, 0.0));
            Grid::containing_zero(lo, hi, bits, scheme.symmetric)
        };
        return Ok((0..groups).into_par_iter().map(fit).collect());
    }
    let (values, layout) = data.joined().ok_or(QuantizerError::NoData)?;
    let side = side(values.iter());
    let fit = |c| fit_group(&group(&values, layout, scheme.granularity, c), side, scheme, bits);
    Ok((0..groups).into_par_iter().map(fit).collect())
}

/// On which side of zero the finite values lie.
fn side<'v>(values: impl Iterator<Item = &'v f32>) -> Side {
    let finite = values.copied().filter(|x| x.is_finite());
    let (lo, hi) = finite.fold((0.0_f32, 0.0_f32), |(lo, hi), x| (lo.min(x), hi.max(x)));
    Side::of(lo, hi)
}

/// A fit on finite values that share a scale.
fn fit_group(values: &[f32], side: Side, scheme: &Scheme, bits: Bits) -> Grid {
    let lo = values.iter().copied().reduce(f32::min).unwrap_or(0.0);
    let hi = values.iter().copied().reduce(f32::max).unwrap_or(0.0);
    match &scheme.range {
        RangeSearch::MinMax => Grid::containing_zero(lo, hi, bits, scheme.symmetric),
        RangeSearch::Percentile(levels) => {
            let sorted = Sorted::new(values);
            let candidates = levels.iter().map(|&p| {
                let (lo, hi) = (sorted.quantile(1.0 - p), sorted.quantile(p));
                if scheme.symmetric {
                    Grid::containing_zero(lo, hi, bits, true)
                } else {
                    Grid::over(lo, hi, bits)
                }
            });
            search::least(candidates, |grid| search::raw_error(values, grid, 2.0))
                .unwrap_or_else(|| Grid::constant(0.0, bits))
        }
        RangeSearch::Mse { p } if scheme.symmetric => {
            search::least_error(Data::Values(values), lo, hi, *p, bits, true)
        }
        RangeSearch::Mse { p } => {
            let (lo, hi) = search::least_range(values, side, *p, bits);
            Grid::containing_zero(lo, hi, bits, false)
        }
        RangeSearch::Kl => {
            // A matter of histograms anyway: of the same buckets as from a sketch, so that both give one range.
            let mut sketch = Sketch::new(1);
            let seen = sketch.observe(values, Layout::tensor(values.len()));
            let survey = Survey::new(&sketch);
            let buckets = if seen.is_ok() { survey.buckets() } else { &[] };
            let (lo, hi) = search::kl_range(buckets, lo, hi, bits);
            Grid::containing_zero(lo, hi, bits, scheme.symmetric)
        }
        RangeSearch::Shrink | RangeSearch::Omse => {
            search::shrunk_least(lo, hi, scheme, bits, |grid, p| search::raw_error(values, grid, p))
        }
        RangeSearch::Hessian | RangeSearch::Output | RangeSearch::Overlap => {
            fit_group(values, side, &scheme.on_values(), bits)
        }
        // Ranges of batches: the values are one.
        RangeSearch::AverageMinMax | RangeSearch::Ema { .. } | RangeSearch::Bounded { .. } => {
            let (lo, hi) = search::batch_range(values, side, scheme, bits).unwrap_or((lo, hi));
            Grid::containing_zero(lo, hi, bits, scheme.symmetric)
        }
    }
}
