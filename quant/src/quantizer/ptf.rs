//! Uniform grids whose steps differ between channels by powers of two: the power-of-two factor of FQ-ViT
//! (Lin et al., IJCAI 2022, eq. 5–8; spec B §6).
//!
//! One step `s` and one zero point span the whole tensor; channel `c` uses `s / 8 · factor_c` with a factor of 1, 2, 4 or
//! 8, so that an integer LayerNorm can bring its values to one step with shifts. `factor` holds the factors; `scale` and
//! `zero_point` are written out for every channel. Each channel takes the first factor of least squared error. A tensor
//! seen as one channel gets one factor.
//!
//! Known defects, reproduced by `paper`: a range that does not contain zero is taken as it is and the zero point clamped,
//! so all values on the far side of the range are clipped; and of several calibration batches only the last chooses the
//! factors.

use super::cells::Cells;
use super::distribution::{Distribution, group};
use super::error::QuantizerError;
use super::grid::Grid;
use super::params::Params;
use super::pieces::check_levels;
use super::predict::ends;
use super::scheme::{Family, Granularity, Scheme};
use super::search::{least, raw_error};
use super::survey::Survey;
use super::uniform::Uniform;
use super::{Quantizer, check_family};
use crate::terms::{Bits, Layout};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Factors of an eighth of the step of the whole range.
const FACTORS: [f32; 4] = [1.0, 2.0, 4.0, 8.0];
const FACTOR: &str = "factor";

/// Steps that differ by powers of two.
#[derive(Debug)]
pub(super) struct Ptf;

/// The grid of the whole range.
fn base(lo: f32, hi: f32, scheme: &Scheme, bits: Bits) -> Grid {
    let sound = Grid::containing_zero(lo, hi, bits, scheme.symmetric);
    if !scheme.paper || scheme.symmetric || lo >= hi || !(hi - lo).is_finite() {
        return sound;
    }
    let step = ((hi - lo) / sound.high).max(f32::MIN_POSITIVE);
    let zero = (0.0 - (lo / step).round_ties_even()).clamp(0.0, sound.high);
    Grid { step, zero, ..sound }
}

fn scaled(base: &Grid, factor: f32) -> Grid {
    Grid { step: (base.step / 8.0 * factor).max(f32::MIN_POSITIVE), ..*base }
}

fn of_values(values: &[f32], base: &Grid) -> f32 {
    least(FACTORS, |&factor| raw_error(values, &scaled(base, factor), 2.0)).unwrap_or(FACTORS[3])
}

/// The factors of the channels from a sketch: those of least error on the values that it sampled.
///
/// Without a sample they are chosen by a model of the channel. A larger factor than one that holds all values only rounds more; of the
/// smaller ones, the next is tried as long as clipping may pay: not where clipping the outermost values alone costs
/// more than any rounding.
fn of_channels(survey: &Survey<'_>, base: &Grid) -> Vec<f32> {
    let models = survey.models();
    let cells = FACTORS.map(|factor| Cells::uniform(&scaled(base, factor)));
    let grids = FACTORS.map(|factor| scaled(base, factor));
    let of_channel = |c: usize| {
        let sampled = grids.map(|grid| models.sampled_error(c, &grid));
        if let [Some(a), Some(b), Some(d), Some(e)] = sampled {
            let errors = FACTORS.into_iter().zip([a, b, d, e]);
            return least(errors, |(_, error)| *error).map_or(FACTORS[3], |(factor, _)| factor);
        }
        let stats = &models.channels[c].stats;
        let (min, max) = (f64::from(stats.min), f64::from(stats.max));
        let holds = |cells: &Cells| {
            let (lo, hi) = ends(cells);
            lo <= min && max <= hi
        };
        let mut best = cells.iter().position(holds).unwrap_or(FACTORS.len() - 1);
        let mut lowest = None;
        while best > 0 {
            let (lo, hi) = cells[best - 1].range();
            let clipped = (lo - min).max(0.0).powi(2) + (max - hi).max(0.0).powi(2);
            let step = f64::from(scaled(base, FACTORS[best]).step);
            if clipped > stats.count as f64 * step * step / 4.0 {
                break;
            }
            let error = models.error(c, &cells[best - 1]);
            if error > lowest.unwrap_or_else(|| models.error(c, &cells[best])) {
                break;
            }
            (best, lowest) = (best - 1, Some(error));
        }
        FACTORS[best]
    };
    (0..models.channels.len()).into_par_iter().map(of_channel).collect()
}

fn fit_survey(survey: &Survey<'_>, scheme: &Scheme, bits: Bits) -> (Grid, Vec<f32>) {
    let sketch = survey.sketch();
    let base = base(sketch.min(), sketch.max(), scheme, bits);
    if scheme.granularity != Granularity::Tensor {
        return (base, of_channels(survey, &base));
    }
    let squares = super::search::Squares::new(survey.buckets());
    let factor = least(FACTORS, |&factor| squares.error(&Cells::uniform(&scaled(&base, factor))));
    (base, vec![factor.unwrap_or(FACTORS[3])])
}

fn fit_values(
    data: &Distribution<'_>,
    scheme: &Scheme,
    bits: Bits,
) -> Result<(Grid, Vec<f32>), QuantizerError> {
    let batches = data.batches().ok_or(QuantizerError::NoData)?;
    let finite = || batches.iter().flat_map(|batch| batch.values).copied().filter(|x| x.is_finite());
    let (lo, hi) = (finite().reduce(f32::min).unwrap_or(0.0), finite().reduce(f32::max).unwrap_or(0.0));
    let base = base(lo, hi, scheme, bits);
    let chosen_on = match *data {
        Distribution::Batches([.., last]) if scheme.paper => {
            Distribution::Raw { values: last.values, layout: last.layout }
        }
        other => other,
    };
    let (values, layout) = chosen_on.joined().ok_or(QuantizerError::NoData)?;
    let groups = if scheme.granularity == Granularity::Tensor { 1 } else { layout.channels };
    let factor = |c| of_values(&group(&values, layout, scheme.granularity, c), &base);
    Ok((base, (0..groups).into_par_iter().map(factor).collect()))
}

impl Quantizer for Ptf {
    fn name(&self) -> &'static str {
        "ptf"
    }

    /// The range is the smallest to the largest value whatever the scheme's search, as in the original. From a sketch that
    /// samples rows a channel may get the neighbour of its best factor where both are nearly as good; from one that does not,
    /// up to 1.4 times the error was measured.
    fn fit(&self, data: &Distribution<'_>, scheme: &Scheme, bits: Bits) -> Result<Params, QuantizerError> {
        check_family(scheme, Family::Ptf, bits)?;
        data.check()?;
        let (base, factors) = match *data {
            Distribution::Sketch(sketch) => fit_survey(&Survey::new(sketch), scheme, bits),
            Distribution::Survey(survey) => fit_survey(survey, scheme, bits),
            Distribution::Raw { .. } | Distribution::Batches(_) => fit_values(data, scheme, bits)?,
        };
        Ok(Params {
            scheme: scheme.clone(),
            bits,
            scale: factors.iter().map(|&factor| scaled(&base, factor).step).collect(),
            zero_point: vec![base.zero; factors.len()],
            extra: BTreeMap::from([(FACTOR.to_owned(), factors)]),
        })
    }

    fn check(&self, params: &Params, layout: Layout) -> Result<(), QuantizerError> {
        params.check_scales(layout)?;
        check_levels(params)?;
        let factors = params.numbers(FACTOR);
        if !(factors.is_empty() || factors.len() == params.scale.len()) {
            return Err(params.problem("`factor` must be one number per scale"));
        }
        if !factors.iter().all(|factor| FACTORS.contains(factor)) {
            return Err(params.problem("every `factor` must be 1, 2, 4 or 8"));
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
