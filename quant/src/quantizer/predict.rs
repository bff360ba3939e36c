//! The error of a quantizer on a site, without running the model.

use super::cells::Cells;
use super::params::Params;
use super::quantizer;
use super::search::ChannelModel;
use super::survey::Survey;
use crate::stats::{Bucket, Sketch};
use rayon::prelude::*;
use serde::Serialize;

/// A ratio this high stands for no error at all: JSON knows no infinity.
const NO_ERROR_DB: f64 = 200.0;

/// What a quantizer does to the values of a site.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Prediction {
    /// Mean squared error, in squared units of the values.
    pub mse: f64,
    /// Mean square of the values.
    pub signal: f64,
    /// `10 log10(signal / mse)`; 200 where there is no error, 0 where there is no signal.
    pub sqnr_db: f64,
    /// Share of the values that are clipped: outside the levels by more than half a step.
    pub clipped_fraction: f64,
    /// Levels of the grid that at least one value is rounded to; for a scale per channel, the largest number of
    /// levels within the range of a channel.
    pub levels_used: u32,
}

/// Predicts from a sketch the error of fitted parameters.
///
/// For one scale per tensor the squared error is integrated over every bucket in closed form, the density inside
/// a bucket taken as uniform: within 0.1 dB of the actual error for smooth distributions of some
/// thousand values, 0.5 dB for 500. For a scale per channel the shape of a channel is guessed from its moments,
/// its extremes and the shape of the tensor: within 1 dB from 64 values per channel on, 1.5 dB for fewer. Non-finite values are left out.
pub fn predict(sketch: &Sketch, params: &Params) -> Prediction {
    predict_surveyed(&Survey::new(sketch), params)
}

/// [`predict`] for many parameters of one sketch.
pub fn predict_surveyed(survey: &Survey<'_>, params: &Params) -> Prediction {
    let sketch = survey.sketch();
    let family = quantizer(params.scheme.family);
    let signal = sketch.mean_square();
    if sketch.finite() == 0 || params.bits.is_float() {
        return prediction(0.0, signal, 0.0, 0);
    }
    let n = sketch.finite() as f64;
    if !params.per_channel() {
        let (cells, buckets) = (family.cells(params, 0), survey.buckets());
        let mse = super::search::bucket_error(buckets, &cells, 2.0) / n;
        return prediction(mse, signal, clipped(buckets, &cells) / n, levels_used(buckets, &cells));
    }
    let models = survey.models();
    let of_channel = |(c, model): (usize, &ChannelModel)| {
        let cells = family.cells(params, c);
        let (first, last) = cells.cell_range(f64::from(model.stats.min), f64::from(model.stats.max));
        let used = (last - first + 1).min(model.stats.count as i64);
        (model.stats.count as f64 * models.error(c, &cells), model.clipped_count(&cells), used)
    };
    // Collected in order first: the sums must not depend on the threads.
    let parts: Vec<(f64, f64, i64)> = models.channels.par_iter().enumerate().map(of_channel).collect();
    let error: f64 = parts.iter().map(|part| part.0).sum();
    let out: f64 = parts.iter().map(|part| part.1).sum();
    let used = parts.iter().map(|part| part.2).max().unwrap_or(0);
    prediction(error / n, signal, out / n, used.max(0) as u32)
}

/// [`predict_surveyed`] in other units: the mean squared error of channel `c` counts `factors[c]` times, and `signal` is
/// the mean square in those units. For values that a rewrite divided per channel, the squares of the divisors and the
/// mean square before the rewrite give the error as the layer behind it sees it.
pub fn predict_scaled(survey: &Survey<'_>, params: &Params, factors: &[f64], signal: f64) -> Prediction {
    let plain = predict_surveyed(survey, params);
    let n = survey.sketch().finite() as f64;
    if n == 0.0 || params.bits.is_float() {
        return prediction(0.0, signal, plain.clipped_fraction, plain.levels_used);
    }
    let family = quantizer(params.scheme.family);
    let models = survey.models();
    let shared = (!params.per_channel()).then(|| family.cells(params, 0));
    let of_channel = |(c, (model, factor)): (usize, (&ChannelModel, &f64))| {
        let own = shared.is_none().then(|| family.cells(params, c));
        let error = own.as_ref().or(shared.as_ref()).map_or(0.0, |cells| models.error(c, cells));
        model.stats.count as f64 * error * factor
    };
    let parts: Vec<f64> = models.channels.par_iter().zip(factors).enumerate().map(of_channel).collect();
    prediction(parts.iter().sum::<f64>() / n, signal, plain.clipped_fraction, plain.levels_used)
}

fn prediction(mse: f64, signal: f64, clipped_fraction: f64, levels_used: u32) -> Prediction {
    let sqnr_db = if signal <= 0.0 {
        0.0
    } else if mse <= 0.0 {
        NO_ERROR_DB
    } else {
        (10.0 * (signal / mse).log10()).min(NO_ERROR_DB)
    };
    Prediction { mse, signal, sqnr_db, clipped_fraction, levels_used }
}

/// The ends beyond which a value counts as clipped.
pub(super) fn ends(cells: &Cells) -> (f64, f64) {
    let (lo, hi) = cells.range();
    match cells {
        Cells::Uniform { step, .. } => (lo - 0.5 * step, hi + 0.5 * step),
        Cells::Steps { levels, .. } => {
            let gap = |pair: Option<&[f64]>| pair.map_or(0.0, |pair| 0.5 * (pair[1] - pair[0]));
            (lo - gap(levels.windows(2).next()), hi + gap(levels.windows(2).last()))
        }
    }
}

fn clipped(buckets: &[Bucket], cells: &Cells) -> f64 {
    let (lo, hi) = ends(cells);
    let outside = |bucket: &Bucket| {
        let width = bucket.hi - bucket.lo;
        if width <= 0.0 {
            return f64::from(u8::from(bucket.lo < lo || bucket.lo > hi));
        }
        ((lo - bucket.lo).clamp(0.0, width) + (bucket.hi - hi).clamp(0.0, width)) / width
    };
    buckets.iter().map(|bucket| bucket.count as f64 * outside(bucket)).sum()
}

fn levels_used(buckets: &[Bucket], cells: &Cells) -> u32 {
    u32::try_from(cells.used(buckets)).unwrap_or(u32::MAX)
}
