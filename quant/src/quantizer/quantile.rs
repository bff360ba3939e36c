//! Quantiles of values in memory, exactly as `torch.quantile` computes them.

/// The sorted finite values.
pub(super) struct Sorted(Vec<f32>);

impl Sorted {
    pub(super) fn new(values: &[f32]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        Self(sorted)
    }

    /// `torch.quantile(x, p)` with linear interpolation: the level is rounded to f32 first, the rank is
    /// `p * (n - 1)` in f64, and the interpolation starts from the nearer neighbour, as `lerp` does. 0 if empty.
    pub(super) fn quantile(&self, p: f64) -> f32 {
        let Some(last) = self.0.len().checked_sub(1) else { return 0.0 };
        let rank = (f64::from(p as f32) * last as f64).clamp(0.0, last as f64);
        let (below, above) = (rank.floor() as usize, rank.ceil() as usize);
        let weight = (rank - below as f64) as f32;
        let (a, b) = (self.0[below], self.0[above.min(last)]);
        if weight < 0.5 { a + weight * (b - a) } else { b - (b - a) * (1.0 - weight) }
    }
}

#[cfg(test)]
mod tests {
    use super::Sorted;

    #[test]
    fn ranks_interpolate_linearly() {
        let sorted = Sorted::new(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!(sorted.quantile(0.0), 1.0);
        assert_eq!(sorted.quantile(1.0), 4.0);
        assert_eq!(sorted.quantile(0.5), 2.5);
        assert_eq!(Sorted::new(&[]).quantile(0.5), 0.0);
        assert_eq!(Sorted::new(&[7.0]).quantile(0.999), 7.0);
    }
}
