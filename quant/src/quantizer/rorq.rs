//! Reorder-based outlier-retained quantization: RORQ of PTQ4RIS (arXiv 2409.17020; spec A §3.2).
//!
//! Magnitudes are cut into groups by thresholds, each `mean + 3 · std` of the magnitudes (zeros left out) that the
//! groups before did not take; there are at most 10. Every group has an affine grid of `2^b` codes with a zero point
//! that may lie outside the codes; `scale`, `zero_point` and `thresholds` (the upper end of each group) have one entry
//! per group. Which group a value belongs to is found from its magnitude when the model runs, so a value takes more
//! than `b` bits: the codes carry the number of the group above the lowest `b` bits.
//!
//! The default is the sound form. A group's range is that of its own values. The last group has no upper end, so larger
//! values than were seen are clipped to its range. A group whose values are all equal, such as a single outlier, spans
//! from the threshold below to them. A group between −T and T of course has levels near zero, too; a value never gets
//! a level nearer to zero than any value of the groups inside, so that the order of values is kept.
//!
//! Known defects, reproduced by `paper`: magnitudes above the last threshold fall into group 0 and are crushed to its
//! range; so does a single last outlier, whose threshold is NaN in the original (here: the threshold before it, so that
//! its group is as empty); ranges of later groups include the zeros that stand for values of earlier groups.

mod groups;

use super::cells::Cells;
use super::distribution::{Distribution, group};
use super::error::QuantizerError;
use super::grid::Grid;
use super::params::Params;
use super::pieces::{Pieces, check_levels, levels_of, round_within};
use super::scheme::{Family, Granularity, RangeSearch, Scheme};
use super::survey::Survey;
use super::{Quantizer, check_family};
use crate::terms::{Bits, Layout};
use std::collections::BTreeMap;

const THRESHOLDS: &str = "thresholds";
/// More groups than any fit makes, so that parameters from a file cannot ask for much memory.
const MOST_GROUPS: usize = 64;
/// Values that are treated together.
const RUN: usize = 64;
/// Zero points beyond this are rounded one by one.
const LARGEST_ZERO: f32 = 1_048_576.0;

/// Groups of magnitudes.
#[derive(Debug)]
pub(super) struct Rorq;

/// The grid of one group of magnitudes.
#[derive(Debug, Clone, Copy)]
struct Group {
    grid: Grid,
    /// Magnitudes above this belong to the group, or to one further out.
    above: f32,
    /// Positive values get no lower level, negative ones no higher level.
    least: f32,
    most: f32,
    /// The codes of those.
    least_code: u32,
    most_code: u32,
}

/// All groups of a tensor.
struct Groups {
    inner_first: Vec<Group>,
    /// Larger magnitudes belong to group 0 (as released).
    last: f32,
    bits: Bits,
}

impl Groups {
    fn new(params: &Params) -> Self {
        let thresholds = params.numbers(THRESHOLDS);
        let paper = params.scheme.paper;
        let none = (f32::NEG_INFINITY, f32::INFINITY);
        let mut groups: Vec<Group> = Vec::with_capacity(params.scale.len());
        for (i, &step) in params.scale.iter().enumerate() {
            let zero = params.zero_point.get(i).copied().unwrap_or(0.0);
            let grid = Grid::new(step, zero, params.bits, false);
            let above = if i == 0 { -1.0 } else { thresholds.get(i - 1).copied().unwrap_or(f32::MAX) };
            let mut group =
                Group { grid, above, least: none.0, most: none.1, least_code: 0, most_code: u32::MAX };
            if let (Some(inner), false) = (groups.last(), paper) {
                // The outermost levels of the groups inside.
                group.least = inner.apply(above);
                group.most = inner.apply(-above);
                group.least_code = inner.code(above, i as u32 - 1, params.bits);
                group.most_code = inner.code(-above, i as u32 - 1, params.bits);
            }
            groups.push(group);
        }
        let last = thresholds.last().copied().filter(|_| paper).unwrap_or(f32::INFINITY);
        Self { inner_first: groups, last, bits: params.bits }
    }

    /// The number of the group of a value.
    fn number(&self, x: f32) -> usize {
        let size = x.abs();
        let beyond = self.inner_first.iter().filter(|group| size > group.above).count();
        if size > self.last { 0 } else { beyond.saturating_sub(1) }
    }

    fn apply(&self, x: f32) -> f32 {
        self.inner_first.get(self.number(x)).map_or(x, |group| group.apply(x))
    }

    fn code(&self, x: f32) -> u32 {
        let x = if x.is_nan() { 0.0 } else { x };
        let number = self.number(x);
        self.inner_first.get(number).map_or(0, |group| group.code(x, number as u32, self.bits))
    }

    fn value(&self, code: u32) -> f32 {
        let width = u32::from(self.bits.get().unwrap_or(16));
        let (number, code) = ((code >> width) as usize, code & ((1 << width) - 1));
        self.inner_first
            .get(number)
            .map_or(0.0, |group| (code as f32 - group.grid.zero.round_ties_even()) * group.grid.step)
    }

    /// [`Groups::apply`] on a slice, bit for bit. Values choose their group's numbers by comparisons, not by look-ups,
    /// which vectorises.
    fn apply_all(&self, values: &mut [f32]) {
        let Some((first, outer)) = self.inner_first.split_first() else { return };
        let plain = |group: &Group| group.grid.zero.abs() + group.grid.high <= LARGEST_ZERO;
        if !self.inner_first.iter().all(plain) {
            for x in values {
                *x = self.apply(*x);
            }
            return;
        }
        let (low, high) = (first.grid.low, first.grid.high);
        for run in values.chunks_mut(RUN) {
            let mut step = [first.grid.step; RUN];
            let mut zero = [first.grid.zero; RUN];
            let mut least = [first.least; RUN];
            let mut most = [first.most; RUN];
            for group in outer {
                for (i, x) in run.iter().enumerate() {
                    let (size, above) = (x.abs(), group.above);
                    let inside = size > above && size <= self.last;
                    step[i] = if inside { group.grid.step } else { step[i] };
                    zero[i] = if inside { group.grid.zero } else { zero[i] };
                    least[i] = if inside { group.least } else { least[i] };
                    most[i] = if inside { group.most } else { most[i] };
                }
            }
            for (i, x) in run.iter_mut().enumerate() {
                let scaled = *x / step[i];
                // Cut outside of the codes first; what is cut gets the same code anyway.
                let ends = ((low - zero[i]).floor() - 2.0, (high - zero[i]).ceil() + 2.0);
                let code = round_within(scaled, ends.0, ends.1) + zero[i];
                let code = if code < low { low } else { code };
                let code = if code > high { high } else { code };
                let level = (code - zero[i]) * step[i];
                let bounded = if *x < 0.0 { level.min(most[i]) } else { level.max(least[i]) };
                // Minimum and maximum drop NaN.
                *x = if level.is_nan() { level } else { bounded };
            }
        }
    }

    fn cells(&self) -> Cells {
        let mut pieces = Pieces::default();
        let infinite = f64::INFINITY;
        let edge =
            |i: usize| self.inner_first.get(i).map_or(f64::from(self.last), |group| f64::from(group.above));
        let both = (f32::NEG_INFINITY, f32::INFINITY);
        if self.last < f32::INFINITY
            && let Some(first) = self.inner_first.first()
        {
            pieces.grid(-infinite, -f64::from(self.last), &first.grid, both);
        }
        for (i, group) in self.inner_first.iter().enumerate().skip(1).rev() {
            pieces.grid(-edge(i + 1), -edge(i), &group.grid, (both.0, group.most));
        }
        if let Some(first) = self.inner_first.first() {
            pieces.grid(-edge(1), edge(1), &first.grid, both);
        }
        for (i, group) in self.inner_first.iter().enumerate().skip(1) {
            pieces.grid(edge(i), edge(i + 1), &group.grid, (group.least, both.1));
        }
        if self.last < f32::INFINITY
            && let Some(first) = self.inner_first.first()
        {
            pieces.grid(f64::from(self.last), infinite, &first.grid, both);
        }
        pieces.into_cells()
    }
}

impl Group {
    fn apply(&self, x: f32) -> f32 {
        let level = self.grid.apply(x);
        if level.is_nan() {
            level
        } else if x < 0.0 {
            level.min(self.most)
        } else {
            level.max(self.least)
        }
    }

    fn code(&self, x: f32, number: u32, bits: Bits) -> u32 {
        let level = self.grid.apply(x);
        if x < 0.0 && level > self.most {
            self.most_code
        } else if x >= 0.0 && level < self.least {
            self.least_code
        } else {
            number << bits.get().unwrap_or(16) | self.grid.code(x) as u32
        }
    }
}

impl Quantizer for Rorq {
    fn name(&self) -> &'static str {
        "rorq"
    }

    /// The groups are the family's own search; a range search that is no error, or KL, is not looked at. There are no
    /// groups per channel or head. From a sketch, a group's range may be wider than its values by a bucket's width (0.4 %).
    fn fit(&self, data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
        check_family(scheme, Family::Rorq, bits)?;
        data.check()?;
        let range = if scheme.granularity == Granularity::Tensor {
            (scheme.range == RangeSearch::Kl).then(|| scheme.range.to_string())
        } else {
            Some(format!("{} per {}", scheme.range, scheme.granularity))
        };
        if let Some(range) = range {
            return Err(QuantizerError::Unsupported { family: self.name(), range });
        }
        let found = match data {
            Distribution::Sketch(sketch) => groups::of_buckets(Survey::new(sketch).buckets(), scheme.paper),
            Distribution::Survey(survey) => groups::of_buckets(survey.buckets(), scheme.paper),
            Distribution::Raw { .. } | Distribution::Batches(_) => {
                // The original looks at the first batch only; more of the data is no worse.
                let data = match data {
                    Distribution::Batches([first, ..]) if scheme.paper => {
                        Distribution::Raw { values: first.values, layout: first.layout }
                    }
                    other => *other,
                };
                let (values, layout) = data.joined().ok_or(QuantizerError::NoData)?;
                groups::of_values(&group(&values, layout, Granularity::Tensor, 0), scheme.paper)
            }
        };
        let grids: Vec<Grid> = found.iter().map(|range| range.grid(bits, scheme.paper)).collect();
        let thresholds = found.iter().map(|range| range.upto).collect();
        Ok(Params {
            scheme: scheme.clone(),
            bits,
            scale: grids.iter().map(|grid| grid.step).collect(),
            zero_point: grids.iter().map(|grid| grid.zero).collect(),
            extra: BTreeMap::from([(THRESHOLDS.to_owned(), thresholds)]),
        })
    }

    fn check(&self, params: &Params, _: Layout) -> Result<(), QuantizerError> {
        params.check_numbers()?;
        let (groups, thresholds) = (params.scale.len(), params.numbers(THRESHOLDS));
        if groups == 0 || groups > MOST_GROUPS {
            return Err(params.problem("there must be 1 to 64 groups, each with its scale"));
        }
        if params.zero_point.len() != groups || thresholds.len() != groups {
            return Err(params.problem("every group needs a scale, a zero point and a threshold"));
        }
        let ascending = thresholds.windows(2).all(|pair| pair[0] <= pair[1]);
        if !ascending || thresholds.iter().any(|threshold| *threshold < 0.0) {
            return Err(params.problem("`thresholds` must ascend and not be negative"));
        }
        check_levels(params)
    }

    fn fake_quantize(&self, x: &mut [f32], _: Layout, params: &Params) {
        Groups::new(params).apply_all(x);
    }

    fn codes(&self, x: &[f32], _: Layout, params: &Params) -> Vec<u32> {
        let groups = Groups::new(params);
        x.iter().map(|&x| groups.code(x)).collect()
    }

    fn dequantize(&self, codes: &[u32], _: Layout, params: &Params) -> Vec<f32> {
        let groups = Groups::new(params);
        codes.iter().map(|&code| groups.value(code)).collect()
    }

    fn levels(&self, params: &Params, c: usize) -> Vec<f32> {
        levels_of(&self.cells(params, c))
    }

    fn cells(&self, params: &Params, _: usize) -> Cells {
        Groups::new(params).cells()
    }
}
