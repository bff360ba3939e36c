//! Mean, spread and shape of a whole tensor.

use super::buckets::Bucket;
use super::sketch::Sketch;

impl Sketch {
    /// Mean of the finite values, from the exact sums; 0 if there are none.
    pub fn mean(&self) -> f64 {
        let mut sum = super::exact::Exact::default();
        self.channels.sum.iter().for_each(|channel| sum.merge(&channel));
        sum.value() / (self.finite() as f64).max(1.0)
    }

    /// Mean of the squares of the finite values.
    pub fn mean_square(&self) -> f64 {
        let mut sum = super::exact::Exact::default();
        self.channels.squares.iter().for_each(|channel| sum.merge(&channel));
        sum.value() / (self.finite() as f64).max(1.0)
    }

    /// Population standard deviation of the finite values.
    pub fn std(&self) -> f64 {
        if self.min() == self.max() { 0.0 } else { self.std_of(&self.buckets()) }
    }

    /// [`std`](Self::std), given the sketch's own buckets.
    pub(crate) fn std_of(&self, buckets: &[Bucket]) -> f64 {
        if self.min() == self.max() { 0.0 } else { self.central_moment(2, buckets).sqrt() }
    }

    /// Third standardised moment; 0 for a constant. Positive with a long tail to the right.
    pub fn skewness(&self) -> f64 {
        self.standardised_moment(3)
    }

    /// Fourth standardised moment, 3 for a normal distribution; 0 for a constant.
    pub fn kurtosis(&self) -> f64 {
        self.standardised_moment(4)
    }

    fn standardised_moment(&self, order: i32) -> f64 {
        let buckets = self.buckets();
        let std = self.std_of(&buckets);
        if std > 0.0 { self.central_moment(order, &buckets) / std.powi(order) } else { 0.0 }
    }

    /// `mean (x - mean)^order` with every value at the middle of its bucket (relative error below 10⁻⁴: the
    /// buckets are 1/256 of their value wide, and the errors inside cancel).
    fn central_moment(&self, order: i32, buckets: &[Bucket]) -> f64 {
        let mean = self.mean();
        let sum: f64 =
            buckets.iter().map(|bucket| bucket.count as f64 * (bucket.middle() - mean).powi(order)).sum();
        sum / (self.finite() as f64).max(1.0)
    }
}
