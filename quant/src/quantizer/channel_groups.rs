//! Groups of channels that share a grid: channel-aware grouping (CAG) of AHCPTQ (ICCV 2025; spec C §1.3, §1.5).
//!
//! Every channel gets a range, the mean over the calibration batches of its smallest and largest values, and a uniform
//! grid over it. The pairs (scale, zero point) are grouped by k-means, and all channels of a group use one grid: an
//! integer kernel needs the number of the group per channel and the grids of a few groups (4 by default). `scale` and
//! `zero_point` are written out for every channel, `group` is the number of its group, `groups` how many there are.
//!
//! The default is the sound form: scales and zero points are divided by their standard deviations before grouping, since
//! zero points span all codes while scales are small, and a group's grid spans the ranges of all its channels. `paper`
//! reproduces the release: groups are found on plain scales and zero points, and a group has the mean scale and the
//! rounded mean zero point of its channels, which clips the wide ones. The release groups in stages (32, 16, 8, 4) with
//! training in between; without the training that is not better, and here the groups are made at once.

use super::cells::Cells;
use super::distribution::Distribution;
use super::error::QuantizerError;
use super::grid::Grid;
use super::k_means::{Clusters, cluster};
use super::params::Params;
use super::pieces::check_levels;
use super::scheme::{Family, Granularity, RangeSearch, Scheme};
use super::uniform::Uniform;
use super::{Quantizer, check_family};
use crate::stats::Sketch;
use crate::terms::{Bits, Layout};
use std::collections::BTreeMap;

/// Groups unless another number is asked for.
const GROUPS: usize = 4;
const COUNT: &str = "groups";
const LABEL: &str = "group";

/// Groups of channels with one grid each.
#[derive(Debug)]
pub(super) struct ChannelGroups;

/// The family `channel-groups` with at most this many groups, at least 1; with as many as channels, every channel has
/// its own grid.
pub fn fit_channel_groups(
    data: &Distribution<'_>,
    scheme: &Scheme,
    bits: Bits,
    groups: usize,
) -> Result<Params, QuantizerError> {
    check_family(scheme, Family::ChannelGroups, bits)?;
    data.check()?;
    if scheme.range == RangeSearch::Kl {
        let (family, range) = (ChannelGroups.name(), scheme.range.to_string());
        return Err(QuantizerError::Unsupported { family, range });
    }
    let ranges = match data {
        Distribution::Sketch(sketch) => of_sketch(sketch),
        Distribution::Survey(survey) => of_sketch(survey.sketch()),
        Distribution::Raw { .. } | Distribution::Batches(_) => of_batches(data)?,
    };
    let ranges = if scheme.granularity == Granularity::Tensor { vec![together(&ranges)] } else { ranges };
    let grid = |&(lo, hi): &(f32, f32)| Grid::containing_zero(lo, hi, bits, scheme.symmetric);
    let own: Vec<Grid> = ranges.iter().map(grid).collect();
    let (labels, grids) = if groups >= own.len() {
        ((0..own.len()).collect(), own)
    } else {
        let found = grouped(&own, groups, scheme.paper);
        let of_group = |label: usize| {
            if scheme.paper {
                return mean(&own, &found, label);
            }
            let members = found.labels.iter().zip(&ranges).filter(|(own, _)| **own == label);
            grid(&together(members.map(|(_, range)| range)))
        };
        let grids: Vec<Grid> = (0..found.centroids.len()).map(of_group).collect();
        (found.labels, grids)
    };
    let of = |label: &usize| &grids[*label];
    let extra = BTreeMap::from([
        (COUNT.to_owned(), vec![grids.len() as f32]),
        (LABEL.to_owned(), labels.iter().map(|&label| label as f32).collect()),
    ]);
    Ok(Params {
        scheme: scheme.clone(),
        bits,
        scale: labels.iter().map(|label| of(label).step).collect(),
        zero_point: labels.iter().map(|label| of(label).zero).collect(),
        extra,
    })
}

/// Groups of grids that are alike.
fn grouped(grids: &[Grid], groups: usize, paper: bool) -> Clusters {
    let mut points: Vec<[f64; 2]> =
        grids.iter().map(|grid| [f64::from(grid.step), f64::from(grid.zero)]).collect();
    if !paper {
        for axis in 0..2 {
            let n = points.len().max(1) as f64;
            let mean = points.iter().map(|point| point[axis]).sum::<f64>() / n;
            let variance = points.iter().map(|point| (point[axis] - mean).powi(2)).sum::<f64>() / n;
            let factor = if variance > 0.0 { variance.sqrt().recip() } else { 1.0 };
            // Steps near the largest or smallest numbers have no finite square.
            let factor = if factor.is_finite() { factor } else { 1.0 };
            for point in &mut points {
                point[axis] *= factor;
            }
        }
    }
    cluster(&points, groups)
}

/// The mean grid of a group, as released.
fn mean(grids: &[Grid], found: &Clusters, label: usize) -> Grid {
    let (mut step, mut zero, mut count) = (0.0, 0.0, 0.0_f64);
    for grid in found.labels.iter().zip(grids).filter(|(own, _)| **own == label).map(|(_, grid)| grid) {
        step += f64::from(grid.step);
        zero += f64::from(grid.zero);
        count += 1.0;
    }
    let any = grids.first().copied().unwrap_or(Grid { step: 1.0, zero: 0.0, low: 0.0, high: 1.0 });
    if count == 0.0 {
        return any;
    }
    Grid { step: (step / count) as f32, zero: (zero / count).round_ties_even() as f32, ..any }
}

fn together<'r>(ranges: impl IntoIterator<Item = &'r (f32, f32)>) -> (f32, f32) {
    let union = |a: (f32, f32), b: (f32, f32)| (a.0.min(b.0), a.1.max(b.1));
    ranges.into_iter().copied().reduce(union).unwrap_or((0.0, 0.0))
}

fn of_sketch(sketch: &Sketch) -> Vec<(f32, f32)> {
    sketch.channel_stats().iter().map(|channel| (channel.min, channel.max)).collect()
}

/// The mean of the ranges of the batches, per channel.
fn of_batches(data: &Distribution<'_>) -> Result<Vec<(f32, f32)>, QuantizerError> {
    let batches = data.batches().ok_or(QuantizerError::NoData)?;
    let mut means = vec![(0.0_f64, 0.0_f64, 0_u32); data.channels()];
    for batch in &*batches {
        let layout = batch.layout;
        let mut ranges = vec![(f32::INFINITY, f32::NEG_INFINITY); layout.channels];
        for (run, values) in batch.values.chunks(layout.inner.max(1)).enumerate() {
            let range = &mut ranges[run % layout.channels.max(1)];
            for &x in values.iter().filter(|x| x.is_finite()) {
                *range = (range.0.min(x), range.1.max(x));
            }
        }
        for (mean, (lo, hi)) in means.iter_mut().zip(ranges) {
            // A channel without a finite value in this batch has no range here.
            if lo <= hi {
                *mean = (mean.0 + f64::from(lo), mean.1 + f64::from(hi), mean.2 + 1);
            }
        }
    }
    let range = |&(lo, hi, count): &(f64, f64, u32)| {
        let n = f64::from(count.max(1));
        ((lo / n) as f32, (hi / n) as f32)
    };
    Ok(means.iter().map(range).collect())
}

impl Quantizer for ChannelGroups {
    fn name(&self) -> &'static str {
        "channel-groups"
    }

    /// Four groups. Ranges are from the smallest to the largest value whatever the scheme's search; from a sketch those
    /// of all samples together.
    fn fit(&self, data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
        fit_channel_groups(data, scheme, bits, GROUPS)
    }

    fn check(&self, params: &Params, layout: Layout) -> Result<(), QuantizerError> {
        params.check_scales(layout)?;
        check_levels(params)?;
        let (labels, groups) = (params.numbers(LABEL), params.number(COUNT, f32::MAX));
        if !(labels.is_empty() || labels.len() == params.scale.len()) {
            return Err(params.problem("`group` must be one number per scale"));
        }
        if !labels.iter().all(|label| label.fract() == 0.0 && *label >= 0.0 && *label < groups) {
            return Err(params.problem("every `group` must be a whole number below `groups`"));
        }
        Ok(())
    }

    fn fake_quantize(&self, x: &mut [f32], layout: Layout, params: &Params) {
        Uniform.fake_quantize(x, layout, params);
    }

    fn codes(&self, x: &[f32], layout: Layout, params: &Params) -> Vec<u32> {
        Uniform.codes(x, layout, params)
    }

    fn dequantize(&self, codes: &[u32], layout: Layout, params: &Params) -> Vec<f32> {
        Uniform.dequantize(codes, layout, params)
    }

    fn levels(&self, params: &Params, c: usize) -> Vec<f32> {
        Uniform.levels(params, c)
    }

    fn cells(&self, params: &Params, c: usize) -> Cells {
        Uniform.cells(params, c)
    }
}
