//! What a model says of a sample in the terms of its task, and how far two answers agree.

use std::sync::Arc;

use super::metrics::{BinaryMask, Overlap, Scores, Tally};

/// Overlap from which two boxes are taken for the same (PASCAL VOC).
const SAME_BOX: f64 = 0.5;

/// A class with its probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Number of the class.
    pub class: usize,
    /// Its name.
    pub label: String,
    /// Its probability.
    pub probability: f64,
}

/// A found object.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundBox {
    /// Its class.
    pub class: Ranked,
    /// `[x0, y0, x1, y1]` as shares of the picture's sides.
    pub corners: [f64; 4],
}

/// An output as a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector {
    /// Its name.
    pub name: String,
    /// Its values.
    pub values: Arc<Vec<f32>>,
}

/// What a model says of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Where an object is; a mask of the picture's size.
    Mask(Arc<BinaryMask>),
    /// What is seen: classes from the most probable on, at least the first five.
    Classes(Vec<Ranked>),
    /// Which objects are where.
    Boxes {
        /// The objects, most probable first.
        boxes: Vec<FoundBox>,
        /// Their outlines, of the picture's size.
        outlines: Arc<BinaryMask>,
    },
    /// Vectors, most important first.
    Vectors(Vec<Vector>),
    /// A line of text.
    Letters(String),
}

/// The figure that stands for a task; it is 1 for equal answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metric {
    /// Mean intersection over union of masks.
    #[default]
    Miou,
    /// Share of samples with the right class.
    TopOne,
    /// Mean of precision and recall of boxes (their harmonic mean per sample).
    BoxF1,
    /// Cosine of the angle between vectors, the mean over a model's outputs.
    Cosine,
    /// One minus the edit distance over the length of the longer text.
    Similarity,
}

impl Metric {
    /// For people, over a set.
    pub fn name(self) -> &'static str {
        match self {
            Self::Miou => "mIoU",
            Self::TopOne => "top-1",
            Self::BoxF1 => "box F1",
            Self::Cosine => "cosine",
            Self::Similarity => "letters",
        }
    }

    /// For people, of one sample.
    pub fn of_one(self) -> &'static str {
        match self {
            Self::Miou => "IoU",
            other => other.name(),
        }
    }

    /// The name of the standing figure in files.
    pub fn figure(self) -> &'static str {
        self.figures().first().copied().unwrap_or("miou")
    }

    /// Names of all figures, the standing one first.
    fn figures(self) -> &'static [&'static str] {
        match self {
            Self::Miou => &[],
            Self::TopOne => &["top1", "top5"],
            Self::BoxF1 => &["box_f1", "box_precision", "box_recall", "box_iou"],
            Self::Cosine => &["cosine", "relative_error"],
            Self::Similarity => &["similarity", "exact"],
        }
    }
}

/// How far two answers to one sample agree.
#[derive(Debug, Clone, PartialEq)]
pub enum Match {
    /// Of masks.
    Overlap(Overlap),
    /// The figures of [`Metric`], in its order.
    Figures(Metric, Vec<f64>),
}

impl Match {
    /// The standing figure.
    pub fn standing(&self) -> f64 {
        match self {
            Self::Overlap(overlap) => overlap.iou(),
            Self::Figures(_, figures) => figures.first().copied().unwrap_or(0.0),
        }
    }
}

impl Answer {
    /// The figure that stands for answers of this kind.
    pub fn metric(&self) -> Metric {
        match self {
            Self::Mask(_) => Metric::Miou,
            Self::Classes(_) => Metric::TopOne,
            Self::Boxes { .. } => Metric::BoxF1,
            Self::Vectors(_) => Metric::Cosine,
            Self::Letters(_) => Metric::Similarity,
        }
    }

    /// What can be drawn over the picture.
    pub fn mask(&self) -> Option<&Arc<BinaryMask>> {
        match self {
            Self::Mask(mask) | Self::Boxes { outlines: mask, .. } => Some(mask),
            _ => None,
        }
    }

    /// How far this answer agrees with another (the truth, or full precision); none for answers of different kinds or
    /// sizes. Of several vectors (the towers of CLIP) all count: the figures are the mean of their cosines and the largest
    /// of their relative errors.
    pub fn compare(&self, other: &Self) -> Option<Match> {
        let figures = match (self, other) {
            (Self::Mask(a), Self::Mask(b)) => return a.overlap(b).map(Match::Overlap),
            (Self::Classes(a), Self::Classes(b)) => {
                let best = b.first()?.class;
                let place = a.iter().position(|ranked| ranked.class == best);
                let within = |places: usize| f64::from(u8::from(place.is_some_and(|at| at < places)));
                vec![within(1), within(5)]
            }
            (Self::Boxes { boxes: a, .. }, Self::Boxes { boxes: b, .. }) => match_boxes(a, b),
            (Self::Vectors(a), Self::Vectors(b)) => {
                let alike = |(a, b): (&Vector, &Vector)| a.values.len() == b.values.len();
                if a.is_empty() || a.len() != b.len() || !a.iter().zip(b).all(alike) {
                    return None;
                }
                compare_all(a, b)
            }
            (Self::Letters(a), Self::Letters(b)) => {
                vec![similarity(a, b), f64::from(u8::from(a == b))]
            }
            _ => return None,
        };
        Some(Match::Figures(self.metric(), figures))
    }
}

/// F1, precision, recall, and mean IoU of the pairs; objects of one class whose boxes overlap by half are the same.
fn match_boxes(ours: &[FoundBox], theirs: &[FoundBox]) -> Vec<f64> {
    let mut free: Vec<&FoundBox> = theirs.iter().collect();
    let (mut pairs, mut overlaps) = (0, 0.0);
    for found in ours {
        let best = free
            .iter()
            .enumerate()
            .filter(|(_, other)| other.class.class == found.class.class)
            .map(|(at, other)| (at, box_iou(found.corners, other.corners)))
            .filter(|&(_, iou)| iou >= SAME_BOX)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((at, iou)) = best {
            free.swap_remove(at);
            pairs += 1;
            overlaps += iou;
        }
    }
    // Nothing found where nothing is: agreement.
    let share = |of: usize| {
        if of == 0 {
            f64::from(u8::from(pairs == 0 && theirs.is_empty() && ours.is_empty()))
        } else {
            f64::from(pairs) / of as f64
        }
    };
    let (precision, recall) = (share(ours.len()), share(theirs.len()));
    let f1 = if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
    let iou = if pairs > 0 { overlaps / f64::from(pairs) } else { f1 };
    vec![f1, precision, recall, iou]
}

fn box_iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let side = |low: f64, high: f64| (high - low).max(0.0);
    let area = |c: [f64; 4]| side(c[0], c[2]) * side(c[1], c[3]);
    let both = side(a[0].max(b[0]), a[2].min(b[2])) * side(a[1].max(b[1]), a[3].min(b[3]));
    let union = area(a) + area(b) - both;
    if union > 0.0 { both / union } else { 0.0 }
}

/// The mean of the cosines and the largest relative error of as many vectors on both sides.
fn compare_all(a: &[Vector], b: &[Vector]) -> Vec<f64> {
    let (mut cosines, mut worst) = (0.0, 0.0_f64);
    for (a, b) in a.iter().zip(b) {
        let (cosine, error) = compare_vectors(&a.values, &b.values);
        cosines += cosine;
        worst = worst.max(error);
    }
    vec![cosines / a.len() as f64, worst]
}

/// Cosine, and the length of the difference over the length of the second vector.
fn compare_vectors(a: &[f32], b: &[f32]) -> (f64, f64) {
    let (mut aa, mut bb, mut ab, mut difference) = (0.0_f64, 0.0_f64, 0.0_f64, 0.0_f64);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x), f64::from(y));
        aa += x * x;
        bb += y * y;
        ab += x * y;
        difference += (x - y) * (x - y);
    }
    let cosine = match (aa * bb).sqrt() {
        0.0 if aa == bb => 1.0,
        0.0 => 0.0,
        lengths => (ab / lengths).clamp(-1.0, 1.0),
    };
    let error = if bb > 0.0 { (difference / bb).sqrt() } else { difference.sqrt() };
    // What is not a number agrees with nothing.
    (if cosine.is_nan() { 0.0 } else { cosine }, if error.is_nan() { f64::MAX } else { error })
}

/// One minus the edit distance (insertions, deletions, exchanges) over the length of the longer text.
fn similarity(a: &str, b: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let longer = a.len().max(b.len());
    if longer == 0 {
        return 1.0;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(diagonal + 1).min(row[j] + 1);
        }
    }
    1.0 - row[b.len()] as f64 / longer as f64
}

/// Adds up agreements over a set, in the order of its samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sheet {
    masks: Tally,
    metric: Metric,
    sums: Vec<f64>,
    samples: usize,
}

impl Sheet {
    /// Adds one sample.
    pub fn add(&mut self, one: &Match) {
        match one {
            Match::Overlap(overlap) => self.masks.add(*overlap),
            Match::Figures(metric, figures) => {
                self.metric = *metric;
                self.sums.resize(figures.len(), 0.0);
                self.sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
                self.samples += 1;
            }
        }
    }

    /// The figures so far; none without samples.
    pub fn scores(&self) -> Option<Scores> {
        if self.samples == 0 {
            return self.masks.scores();
        }
        let mean = |sum: &f64| sum / self.samples as f64;
        let figures = self.metric.figures().iter().zip(&self.sums);
        Some(Scores::new(self.samples, figures.map(|(name, sum)| ((*name).to_owned(), mean(sum))).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranked(class: usize) -> Ranked {
        Ranked { class, label: class.to_string(), probability: 0.5 }
    }

    fn found(class: usize, corners: [f64; 4]) -> FoundBox {
        FoundBox { class: ranked(class), corners }
    }

    fn boxes(boxes: Vec<FoundBox>) -> Answer {
        Answer::Boxes { boxes, outlines: Arc::new(BinaryMask::new(1, 1).unwrap()) }
    }

    fn vector(values: &[f32]) -> Answer {
        Answer::Vectors(vec![Vector { name: "x".to_owned(), values: Arc::new(values.to_vec()) }])
    }

    fn figures(a: &Answer, b: &Answer) -> Vec<f64> {
        match a.compare(b) {
            Some(Match::Figures(_, figures)) => figures,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn classes_agree_by_the_first() {
        let of = |classes: &[usize]| Answer::Classes(classes.iter().map(|&c| ranked(c)).collect());
        assert_eq!(figures(&of(&[3, 1, 2, 4, 5, 6]), &of(&[3])), [1.0, 1.0]);
        assert_eq!(figures(&of(&[1, 3, 2]), &of(&[3, 9])), [0.0, 1.0]);
        assert_eq!(figures(&of(&[1, 2, 4, 5, 6, 3]), &of(&[3])), [0.0, 0.0]);
        assert!(of(&[1]).compare(&Answer::Letters(String::new())).is_none());
    }

    #[test]
    fn boxes_are_paired_once() {
        let (left, right) = ([0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]);
        let two = boxes(vec![found(1, left), found(1, right)]);
        assert_eq!(figures(&two, &two), [1.0; 4]);
        // The second of two equal boxes has no partner left; another class has none at all.
        let twice = boxes(vec![found(1, left), found(1, left)]);
        assert_eq!(figures(&twice, &two)[1..3], [0.5, 0.5]);
        let other = boxes(vec![found(2, left)]);
        assert_eq!(figures(&other, &two), [0.0; 4]);
        let none = boxes(vec![]);
        assert_eq!(figures(&none, &none), [1.0; 4]);
        assert_eq!(figures(&none, &two)[0], 0.0);
        assert_eq!(figures(&two, &none)[0], 0.0);
        assert_eq!(box_iou([0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.5]), 0.5);
    }

    #[test]
    fn vectors_by_angle_and_length() {
        assert_eq!(figures(&vector(&[1.0, 0.0]), &vector(&[2.0, 0.0])), [1.0, 0.5]);
        assert_eq!(figures(&vector(&[0.0, 1.0]), &vector(&[2.0, 0.0]))[0], 0.0);
        assert_eq!(figures(&vector(&[0.0]), &vector(&[0.0])), [1.0, 0.0]);
        assert_eq!(figures(&vector(&[f32::NAN]), &vector(&[1.0]))[0], 0.0);
        assert!(vector(&[1.0]).compare(&vector(&[1.0, 2.0])).is_none());
    }

    #[test]
    fn every_vector_counts() {
        let of = |all: &[&[f32]]| {
            let one = |values: &&[f32]| Vector { name: "x".to_owned(), values: Arc::new(values.to_vec()) };
            Answer::Vectors(all.iter().map(one).collect())
        };
        let (reference, turned) = (of(&[&[1.0, 0.0], &[0.0, 2.0]]), of(&[&[1.0, 0.0], &[2.0, 2.0]]));
        let found = figures(&turned, &reference);
        assert!((found[0] - f64::midpoint(1.0, 0.5_f64.sqrt())).abs() < 1e-12, "{found:?}");
        assert_eq!(found[1], 1.0);
        assert_eq!(figures(&reference, &reference), [1.0, 0.0]);
        for other in [of(&[]), of(&[&[1.0, 0.0]]), of(&[&[1.0, 0.0], &[0.0]])] {
            assert!(other.compare(&reference).is_none() && reference.compare(&other).is_none());
        }
        assert!(of(&[]).compare(&of(&[])).is_none());
    }

    #[test]
    fn letters_by_their_edits() {
        let of = |text: &str| Answer::Letters(text.to_owned());
        assert_eq!(figures(&of("kitten"), &of("sitting"))[0], 1.0 - 3.0 / 7.0);
        assert_eq!(figures(&of(""), &of("")), [1.0, 1.0]);
        assert_eq!(figures(&of("äb"), &of("ab")), [0.5, 0.0]);
    }

    #[test]
    fn sheets_hold_means() {
        let mut sheet = Sheet::default();
        assert!(sheet.scores().is_none());
        for (a, b) in [("abcd", "abcd"), ("abcd", "abxy")] {
            sheet.add(&Answer::Letters(a.to_owned()).compare(&Answer::Letters(b.to_owned())).unwrap());
        }
        let scores = sheet.scores().unwrap();
        assert_eq!((scores.samples, scores.standing()), (2, 0.75));
        assert_eq!(scores.named(), [("similarity".to_owned(), 0.75), ("exact".to_owned(), 0.5)]);
    }

    proptest! {
        #[test]
        fn similarity_is_symmetric_and_bounded(a in "[ab]{0,8}", b in "[ab]{0,8}") {
            let share = similarity(&a, &b);
            prop_assert!((0.0..=1.0).contains(&share));
            prop_assert_eq!(share, similarity(&b, &a));
            prop_assert_eq!(share == 1.0, a == b);
        }
    }
}
