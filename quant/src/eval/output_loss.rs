//! How far a result under a plan is from that of full precision, in the terms of the task.

mod bits;

use crate::exec::Value;
use crate::models::{MaskRule, Task};

/// The distance of a run's outputs from those of full precision, both by name, in the terms of the task: per pixel or per
/// class the divergence of the probabilities; for boxes the divergence of their classes plus the mean distance of their
/// coordinates (shares of the picture); for everything else the mean squared difference of the output that counts (DetPTQ,
/// Liu et al. 2023, names these losses; its code is not public). Where several outputs count, each goes by its share of
/// the output's own mean square, so that none hides behind the numbers of another, and these are averaged. Infinite if an
/// output is missing or not finite.
pub fn between_outputs(task: &Task, reference: &[(String, Value)], other: &[(String, Value)]) -> f64 {
    let find = |outputs: &[(String, Value)], name: &str| {
        outputs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let by = |loss: OutputLoss, name: &str| match (find(reference, name), find(other, name)) {
        (Some(a), Some(b)) => loss.between(&a, &b),
        _ => f64::INFINITY,
    };
    match task {
        Task::Mask { logits, rule: MaskRule::Second } => by(OutputLoss::PixelDivergence, logits),
        Task::Mask { logits, .. } => by(OutputLoss::BitDivergence, logits),
        Task::Classes { logits, .. } => by(OutputLoss::ClassDivergence, logits),
        Task::Boxes { logits, boxes, .. } => {
            by(OutputLoss::ClassDivergence, logits) + by(OutputLoss::Distances, boxes)
        }
        Task::Letters { scores, .. } => by(OutputLoss::ClassDivergence, scores),
        Task::Embeddings { .. } | Task::Tensors => {
            let names = all_outputs(task, reference);
            let share = |name: &str| {
                let size = find(reference, name).map_or(1.0, |value| mean_square(value.as_slice()));
                by(OutputLoss::Squares, name) / size
            };
            match names.as_slice() {
                [] => f64::INFINITY,
                [one] => by(OutputLoss::Squares, one),
                several => several.iter().map(|name| share(name)).sum::<f64>() / several.len() as f64,
            }
        }
    }
}

/// The outputs that count where a task names no loss of its own: those it lists, else all.
pub(super) fn all_outputs<'n, V>(task: &'n Task, outputs: &'n [(String, V)]) -> Vec<&'n str> {
    match task {
        Task::Embeddings { outputs: listed } if !listed.is_empty() => {
            listed.iter().map(String::as_str).collect()
        }
        _ => outputs.iter().map(|(name, _)| name.as_str()).collect(),
    }
}

/// Mean of the squares; 1 where it is 0 or not finite, so that one can divide by it.
pub(super) fn mean_square(values: &[f32]) -> f64 {
    let mean = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / values.len().max(1) as f64;
    if mean > 0.0 && mean.is_finite() { mean } else { 1.0 }
}

/// Which distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputLoss {
    /// `[1, classes, height, width]`: mean over the pixels of the Kullback–Leibler divergence of the class probabilities.
    PixelDivergence,
    /// `[…, classes]`: mean over the rows of the divergence of the class probabilities.
    ClassDivergence,
    /// One logit per pixel: mean over the pixels of the divergence of the probabilities of being set.
    BitDivergence,
    /// Mean magnitude of the differences.
    Distances,
    /// Anything else: mean squared difference.
    Squares,
}

impl OutputLoss {
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
            Self::BitDivergence => bits::sum(a, b) / a.len() as f64,
            Self::Distances => {
                a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).sum::<f64>()
                    / a.len() as f64
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
    if classes == 2 {
        // By the logarithm of the odds, which takes a third of the exponentials.
        let (a, b) = (reference.split_at(positions), other.split_at(positions));
        return bits::sum_of_two(a, b) / positions as f64;
    }
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
    let mean = (0..positions).map(of_position).sum::<f64>() / positions as f64;
    // Rounding may leave it just below zero. What is no number stays none.
    if mean < 0.0 { 0.0 } else { mean }
}

#[cfg(test)]
mod tests {
    use super::{OutputLoss, between_outputs};
    use crate::exec::Value;
    use crate::models::Task;

    fn named(name: &str, shape: &[usize], data: &[f32]) -> (String, Value) {
        (name.to_owned(), Value::new(shape.to_vec(), data.to_vec()))
    }

    #[test]
    fn divergences_are_those_of_the_probabilities() {
        // Probabilities (0.5, 0.5) against (0.8, 0.2), and equal ones.
        let reference = Value::new(vec![1, 2, 1, 2], vec![0.0, 1.0, 0.0, 3.0]);
        let other = Value::new(vec![1, 2, 1, 2], vec![(4.0_f32).ln(), 1.0, 0.0, 3.0]);
        let one = 0.5 * (0.5_f64 / 0.8).ln() + 0.5 * (0.5_f64 / 0.2).ln();
        let loss = OutputLoss::PixelDivergence;
        assert!((loss.between(&reference, &other) - 0.5 * one).abs() < 1e-7);
        assert_eq!(loss.between(&reference, &reference), 0.0);
        let rows = |x: &[f32]| Value::new(vec![2, 2], x.to_vec());
        let found = OutputLoss::ClassDivergence
            .between(&rows(&[0.0, 0.0, 1.0, 3.0]), &rows(&[(4.0_f32).ln(), 0.0, 1.0, 3.0]));
        assert!((found - 0.5 * one).abs() < 1e-7, "{found} {one}");
        // One logit of ln 4 is a probability of 0.8.
        let bit = |x: f32| Value::new(vec![1, 1, 1], vec![x]);
        let found = OutputLoss::BitDivergence.between(&bit(0.0), &bit(4.0_f32.ln()));
        assert!((found - one).abs() < 1e-7, "{found} {one}");
        assert!(OutputLoss::BitDivergence.between(&bit(900.0), &bit(-900.0)) > 899.0);
        assert_eq!(OutputLoss::BitDivergence.between(&bit(900.0), &bit(900.0)), 0.0);
    }

    #[test]
    fn boxes_count_by_class_and_place() {
        let outputs = |logit: f32, x: f32| {
            [named("logits", &[1, 1, 2], &[logit, 0.0]), named("boxes", &[1, 1, 4], &[x, 0.5, 0.5, 0.5])]
        };
        let task = Task::Boxes {
            logits: "logits".to_owned(),
            boxes: "boxes".to_owned(),
            labels: vec!["cat".to_owned()],
        };
        let reference = outputs(0.0, 0.25);
        assert_eq!(between_outputs(&task, &reference, &reference), 0.0);
        assert_eq!(between_outputs(&task, &reference, &outputs(0.0, 0.75)), 0.125);
        let class = 0.5 * (0.5_f64 / 0.8).ln() + 0.5 * (0.5_f64 / 0.2).ln();
        let both = between_outputs(&task, &reference, &outputs(4.0_f32.ln(), 0.75));
        assert!((both - 0.125 - class).abs() < 1e-7, "{both}");
        assert_eq!(between_outputs(&task, &reference, &reference[..1]), f64::INFINITY);
        assert_eq!(between_outputs(&Task::Tensors, &[], &[]), f64::INFINITY);
    }

    #[test]
    fn every_listed_output_counts_by_its_own_size() {
        let outputs =
            |a: f32, b: f32| [named("a", &[2], &[a, a]), named("b", &[1], &[b]), named("c", &[1], &[b])];
        let listed = |names: &[&str]| Task::Embeddings {
            outputs: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let (reference, other) = (outputs(2.0, 100.0), outputs(3.0, 100.0));
        assert_eq!(between_outputs(&listed(&["a"]), &reference, &other), 1.0);
        assert_eq!(between_outputs(&listed(&["b", "a"]), &reference, &other), 0.125);
        assert_eq!(between_outputs(&listed(&["b", "c"]), &reference, &other), 0.0);
        assert_eq!(between_outputs(&Task::Tensors, &reference, &outputs(2.0, 50.0)), 0.5 / 3.0);
        assert_eq!(between_outputs(&listed(&["a", "d"]), &reference, &other), f64::INFINITY);
        // What is nothing in full precision counts as it is.
        assert_eq!(between_outputs(&listed(&["a", "b"]), &outputs(0.0, 1.0), &outputs(2.0, 1.0)), 2.0);
    }

    #[test]
    fn what_is_not_finite_is_as_far_as_can_be() {
        let value = |x: f32| Value::new(vec![1, 3, 4], vec![x; 12]);
        let loss = OutputLoss::Squares;
        assert_eq!(loss.between(&value(1.0), &value(3.0)), 4.0);
        assert_eq!(loss.between(&value(1.0), &value(f32::NAN)), f64::INFINITY);
        let pixels = |x: f32| Value::new(vec![1, 2, 1, 3], vec![0.5, 0.5, 0.5, 1.0, x, 2.0]);
        for odd in [f32::NAN, f32::INFINITY] {
            let both = [(&pixels(1.0), &pixels(odd)), (&pixels(odd), &pixels(1.0))];
            for loss in [OutputLoss::PixelDivergence, OutputLoss::BitDivergence, OutputLoss::ClassDivergence]
            {
                assert!(both.iter().all(|(a, b)| loss.between(a, b) == f64::INFINITY), "{loss:?} {odd}");
            }
        }
        assert_eq!(loss.between(&value(1.0), &Value::new(vec![1], vec![1.0])), f64::INFINITY);
    }
}
