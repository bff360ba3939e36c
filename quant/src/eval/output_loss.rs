//! How far a result under a plan is from that of full precision, in the terms of the task.

use crate::exec::Value;

/// Which distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputLoss {
    /// `[1, classes, height, width]`: mean over the pixels of the Kullback–Leibler divergence of the class probabilities.
    PixelDivergence,
    /// `[…, classes]`: mean over the rows of the divergence of the class probabilities.
    ClassDivergence,
    /// Anything else: mean squared difference.
    Squares,
}

impl OutputLoss {
    /// The distance that fits results of this shape: rank 4 with classes is a segmentation, rank 2 a classification.
    pub fn of_shape(shape: &[usize]) -> Self {
        match shape {
            [1, classes, _, _] if *classes > 1 => Self::PixelDivergence,
            [_, classes] if *classes > 1 => Self::ClassDivergence,
            _ => Self::Squares,
        }
    }

    /// The distance of `other` from `reference`, which have one shape; infinite if anything is not finite.
    pub fn between(self, reference: &Value, other: &Value) -> f64 {
        let (a, b, shape) = (reference.as_slice(), other.as_slice(), reference.shape());
        if a.len() != b.len() || a.is_empty() {
            return f64::INFINITY;
        }
        let loss = match self {
            Self::PixelDivergence => divergence(a, b, shape[1], a.len() / shape[1].max(1)),
            Self::ClassDivergence => {
                let classes = shape.last().copied().unwrap_or(1).max(1);
                let rows = a.len() / classes;
                let of_row = |row: usize| {
                    let range = row * classes..(row + 1) * classes;
                    divergence(&a[range.clone()], &b[range], classes, 1)
                };
                (0..rows).map(of_row).sum::<f64>() / rows as f64
            }
            Self::Squares => {
                let squares = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
                squares.sum::<f64>() / a.len() as f64
            }
        };
        if loss.is_finite() { loss } else { f64::INFINITY }
    }
}

/// The mean over positions of `Σ p (ln p - ln q)` with the softmax over classes of logits `[classes, positions]`.
fn divergence(reference: &[f32], other: &[f32], classes: usize, positions: usize) -> f64 {
    let log_sum = |logits: &[f32], at: usize| {
        let values = || (0..classes).map(|c| f64::from(logits[c * positions + at]));
        let most = values().fold(f64::NEG_INFINITY, f64::max);
        most + values().map(|x| (x - most).exp()).sum::<f64>().ln()
    };
    let of_position = |at: usize| {
        let (a, b) = (log_sum(reference, at), log_sum(other, at));
        (0..classes)
            .map(|c| {
                let log_p = f64::from(reference[c * positions + at]) - a;
                let log_q = f64::from(other[c * positions + at]) - b;
                log_p.exp() * (log_p - log_q)
            })
            .sum::<f64>()
    };
    // Rounding may leave a sum just below zero.
    ((0..positions).map(of_position).sum::<f64>() / positions as f64).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::OutputLoss;
    use crate::exec::Value;

    #[test]
    fn divergences_are_those_of_the_probabilities() {
        // Probabilities (0.5, 0.5) against (0.8, 0.2), and equal ones.
        let reference = Value::new(vec![1, 2, 1, 2], vec![0.0, 1.0, 0.0, 3.0]);
        let other = Value::new(vec![1, 2, 1, 2], vec![(4.0_f32).ln(), 1.0, 0.0, 3.0]);
        let expected = 0.5 * (0.5 * (0.5_f64 / 0.8).ln() + 0.5 * (0.5_f64 / 0.2).ln());
        let loss = OutputLoss::of_shape(reference.shape());
        assert_eq!(loss, OutputLoss::PixelDivergence);
        assert!((loss.between(&reference, &other) - expected).abs() < 1e-7);
        assert_eq!(loss.between(&reference, &reference), 0.0);
        let rows = |x: &[f32]| Value::new(vec![2, 2], x.to_vec());
        let loss = OutputLoss::of_shape(&[2, 2]);
        let found = loss.between(&rows(&[0.0, 0.0, 1.0, 3.0]), &rows(&[(4.0_f32).ln(), 0.0, 1.0, 3.0]));
        assert!((found - expected).abs() < 1e-7, "{found} {expected}");
    }

    #[test]
    fn what_is_not_finite_is_as_far_as_can_be() {
        let value = |x: f32| Value::new(vec![1, 3, 4], vec![x; 12]);
        let loss = OutputLoss::of_shape(&[1, 3, 4]);
        assert_eq!(loss, OutputLoss::Squares);
        assert_eq!(loss.between(&value(1.0), &value(3.0)), 4.0);
        assert_eq!(loss.between(&value(1.0), &value(f32::NAN)), f64::INFINITY);
        assert_eq!(loss.between(&value(1.0), &Value::new(vec![1], vec![1.0])), f64::INFINITY);
    }
}
