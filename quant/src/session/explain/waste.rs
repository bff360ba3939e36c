//! What a grid spends its levels on.

use crate::quantizer::{Params, quantizer};
use crate::stats::{Evidence, Sketch};

/// Grids with more levels than this are not looked at level by level.
const MOST_LEVELS: i64 = 4096;
/// The share of the values that a grid is mostly for.
const BULK: f64 = 0.9;
/// A level between two peaks is spent on next to nothing if it holds less than this share of an average level.
const EMPTY: f64 = 0.25;

/// How the values spread over the levels of one grid for all channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waste {
    /// The fewest levels that hold nine of ten values.
    pub(super) crowded: u32,
    /// Levels between the two peaks that hold next to nothing; 0 without two peaks.
    pub(super) empty_middle: u32,
}

impl Waste {
    /// Of a sketch; `None` for grids per channel and for very fine ones.
    pub(super) fn of(sketch: &Sketch, params: &Params, evidence: &Evidence) -> Option<Self> {
        if params.per_channel() || sketch.finite() == 0 {
            return None;
        }
        let cells = quantizer(params.scheme.family).cells(params, 0);
        let (first, last) = cells.cell_range(f64::from(sketch.min()), f64::from(sketch.max()));
        if last - first >= MOST_LEVELS {
            return None;
        }
        let mut held = vec![0.0; (last - first + 1).max(1) as usize];
        for bucket in sketch.buckets() {
            let (low, high) = cells.cell_range(bucket.lo, bucket.hi);
            let share = bucket.count as f64 / (high - low + 1).max(1) as f64;
            for cell in low..=high {
                if let Some(held) = usize::try_from(cell - first).ok().and_then(|at| held.get_mut(at)) {
                    *held += share;
                }
            }
        }
        let total: f64 = held.iter().sum();
        let empty_middle = match evidence.peaks.at[..] {
            [a, b] => {
                let (low, high) = cells.cell_range(a.min(b), a.max(b));
                let average = total / held.len() as f64;
                let between = |cell: &i64| {
                    usize::try_from(cell - first)
                        .ok()
                        .and_then(|at| held.get(at))
                        .is_some_and(|&h| h < EMPTY * average)
                };
                (low + 1..high).filter(between).count() as u32
            }
            _ => 0,
        };
        held.sort_unstable_by(|a, b| b.total_cmp(a));
        let mut sum = 0.0;
        let crowded = held
            .iter()
            .take_while(|&&h| {
                let more = sum < BULK * total;
                sum += h;
                more
            })
            .count();
        Some(Self { crowded: crowded as u32, empty_middle })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizer::{Distribution, Family, RangeSearch, Scheme};
    use crate::stats::diagnose;
    use crate::terms::{Bits, Layout, Role};

    fn waste(values: &[f32]) -> Waste {
        let mut sketch = Sketch::new(1);
        sketch.observe(values, Layout::tensor(values.len())).unwrap();
        let scheme = Scheme::new(Family::Uniform, RangeSearch::MinMax);
        let data = Distribution::Sketch(&sketch);
        let params = quantizer(Family::Uniform).fit(&data, &scheme, Bits::new(4).unwrap()).unwrap();
        Waste::of(&sketch, &params, &diagnose(&sketch, Role::Other).evidence).unwrap()
    }

    #[test]
    fn levels_between_two_peaks_are_empty() {
        // Two triangles of width 2 about -7.5 and 7.5: 16 levels from -8.5 to 8.5.
        let peak = |centre: f32| (0..400).map(move |i| centre + ((i % 20) + (i / 20)) as f32 / 19.0 - 1.0);
        let found = waste(&peak(-7.5).chain(peak(7.5)).collect::<Vec<f32>>());
        assert!((10..=13).contains(&found.empty_middle), "{found:?}");
        assert!(found.crowded <= 5, "{found:?}");
    }

    #[test]
    fn evenly_spread_values_fill_the_levels() {
        let found = waste(&(0..1600).map(|i| i as f32 / 1600.0).collect::<Vec<f32>>());
        assert_eq!(found.empty_middle, 0);
        assert!((14..=15).contains(&found.crowded), "{found:?}");
        // One far value takes them away from all others.
        let mut values: Vec<f32> = (0..1600).map(|i| i as f32 / 1600.0).collect();
        values.push(100.0);
        assert_eq!(waste(&values).crowded, 1);
    }
}
