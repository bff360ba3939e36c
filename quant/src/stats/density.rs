//! A smooth density of a sketch and its peaks.

use super::sketch::Sketch;
use rayon::prelude::*;
use std::f64::consts::TAU;

/// Points at which the density is evaluated (PTQ4SAM, BIG: `global_num`).
const POINTS: usize = 128;
/// Least height of a peak, as a share of the sum over all points (`peak_height`).
const HEIGHT: f64 = 0.01;
/// Least distance of two peaks in points (`peak_distance`).
const DISTANCE: usize = 32;
/// Bins of the histogram that stands for the values: 16 per point, so binning moves no peak.
const BINS: usize = POINTS * 16;
/// Beyond this many bandwidths a Gaussian is below 10⁻⁸ of its height.
const REACH: f64 = 6.0;
/// Beyond this many it is below the smallest number.
const EXACT_REACH: f64 = 38.7;

/// A Gaussian kernel density at 128 equally spaced points from the smallest value to the largest, bandwidth by
/// Scott's rule `h = n^(-1/5) · std` (sample deviation). The values are taken from the sketch's buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct Density {
    /// Smallest value, the first point.
    pub lo: f64,
    /// Largest value, the last point.
    pub hi: f64,
    /// Density at the points, up to a common factor.
    pub heights: Vec<f64>,
}

/// Peaks of a density by the rule of PTQ4SAM's bimodal detector.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct Peaks {
    /// Where the peaks are, highest first.
    pub at: Vec<f64>,
    /// Density of the deepest point between the two highest peaks relative to the lower one; 1 without a pair.
    pub valley: f64,
}

impl Peaks {
    /// Whether there are exactly two, which is what PTQ4SAM calls bimodal.
    pub fn bimodal(&self) -> bool {
        self.at.len() == 2
    }
}

impl Density {
    /// The density of the finite values; flat for fewer than two distinct ones.
    pub fn new(sketch: &Sketch) -> Self {
        let (lo, hi) = (f64::from(sketch.min()), f64::from(sketch.max()));
        let n = sketch.finite() as f64;
        // NaN-safe: an empty or constant sketch has no width.
        if lo >= hi || n < 2.0 {
            return Self { lo, hi, heights: vec![1.0; POINTS] };
        }
        let bandwidth = n.powf(-0.2) * sketch.std() * (n / (n - 1.0)).sqrt();
        let bins = sketch.histogram(BINS, Some((lo, hi)), false).counts;
        // In units of bins; a bandwidth below one bin would let points fall between the bins.
        let width = (hi - lo) / BINS as f64;
        let h = (bandwidth / width).max(1.0);
        let kernel: Vec<f64> = (0..=2 * (REACH * h).ceil() as usize)
            .map(|half| (-0.5 * (half as f64 / (2.0 * h)).powi(2)).exp())
            .collect();
        let heights = (0..POINTS)
            .map(|point| {
                let x = point as f64 * BINS as f64 / (POINTS - 1) as f64;
                let first = (x - REACH * h).max(0.0) as usize;
                let last = ((x + REACH * h).ceil() as usize).min(BINS);
                (first..last)
                    .map(|bin| {
                        // The kernel is tabulated in half bins.
                        let away = (2.0 * (bin as f64 + 0.5 - x).abs()).round() as usize;
                        bins[bin] * kernel.get(away).copied().unwrap_or(0.0)
                    })
                    .sum()
            })
            .collect();
        Self { lo, hi, heights }
    }

    /// The density of the finite values among `values` themselves, as SciPy's `gaussian_kde` gives it; flat for fewer
    /// than two distinct ones.
    pub fn of_values(values: &[f32]) -> Self {
        let mut sorted: Vec<f64> = values.iter().filter(|x| x.is_finite()).map(|x| f64::from(*x)).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (lo, hi) = (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0));
        if lo >= hi {
            return Self { lo, hi, heights: vec![1.0; POINTS] };
        }
        let n = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / n;
        let variance = sorted.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let h = n.powf(-0.2) * variance.sqrt();
        let height = |point: usize| {
            let x = lo + (hi - lo) * point as f64 / (POINTS - 1) as f64;
            let first = sorted.partition_point(|value| *value < x - EXACT_REACH * h);
            let near = sorted[first..].iter().take_while(|value| **value <= x + EXACT_REACH * h);
            let sum: f64 = near.map(|value| (-0.5 * ((x - value) / h).powi(2)).exp()).sum();
            sum / (n * h * TAU.sqrt())
        };
        Self { lo, hi, heights: (0..POINTS).into_par_iter().map(height).collect() }
    }

    /// Strict local maxima (a plateau counts at its middle, the ends never) of at least 1 % of the summed
    /// density, from the highest down, dropping any closer than 32 points to one already kept.
    pub fn peaks(&self) -> Peaks {
        let floor = HEIGHT * self.heights.iter().sum::<f64>();
        let mut candidates: Vec<usize> =
            self.local_maxima().into_iter().filter(|&at| self.heights[at] >= floor).collect();
        candidates.sort_by(|&a, &b| self.heights[b].total_cmp(&self.heights[a]).then(a.cmp(&b)));
        let mut kept: Vec<usize> = Vec::new();
        for at in candidates {
            if kept.iter().all(|other| other.abs_diff(at) >= DISTANCE) {
                kept.push(at);
            }
        }
        let valley = match kept[..] {
            [a, b, ..] => {
                let between = &self.heights[a.min(b)..=a.max(b)];
                between.iter().copied().fold(f64::INFINITY, f64::min) / self.heights[b]
            }
            _ => 1.0,
        };
        let step = (self.hi - self.lo) / (POINTS - 1) as f64;
        Peaks { at: kept.into_iter().map(|at| self.lo + step * at as f64).collect(), valley }
    }

    fn local_maxima(&self) -> Vec<usize> {
        let y = &self.heights;
        let mut maxima = Vec::new();
        let mut at = 1;
        while at + 1 < y.len() {
            if y[at - 1] < y[at] {
                let end = (at + 1..y.len()).find(|&next| y[next] != y[at]).unwrap_or(y.len());
                if end < y.len() && y[end] < y[at] {
                    maxima.push((at + end - 1) / 2);
                }
                at = end;
            } else {
                at += 1;
            }
        }
        maxima
    }
}
