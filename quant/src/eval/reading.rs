//! From a model's outputs to its answer, as the publications of its task read them.

use std::sync::Arc;

use super::answer::{Answer, FoundBox, Ranked, Vector};
use super::metrics::BinaryMask;
use crate::data::Geometry;
use crate::exec::Value;
use crate::exec::kernels::resize::bilinear;
use crate::models::{MaskRule, Task};

/// Objects below this probability are not shown (the published post-processing of DETR and YOLOS).
const LIKELY: f64 = 0.5;
/// Objects and classes that are kept at most.
const MOST: usize = 100;

/// Outputs that cannot be read as the task says.
#[derive(Debug, thiserror::Error)]
#[error("output `{output}` cannot be read: {reason}")]
pub struct ReadingError {
    /// Which output.
    pub output: String,
    /// What is wrong.
    pub reason: String,
}

/// Outputs of one run by name, and where its picture lay.
#[derive(Debug, Clone, Copy)]
pub struct Outputs<'r> {
    /// Names and values.
    pub values: &'r [(String, Value)],
    /// The picture, if the model saw one.
    pub geometry: Option<&'r Geometry>,
    /// Whether boxes are shares of the picture; else of the tensor, padding included.
    pub boxes_of_picture: bool,
}

impl Outputs<'_> {
    fn get(&self, name: &str) -> Result<&Value, ReadingError> {
        let found = self.values.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value).ok_or_else(|| fail(name, "the model has no such output"))
    }

    fn picture(&self, output: &str) -> Result<&Geometry, ReadingError> {
        self.geometry.ok_or_else(|| fail(output, "it is about a picture, and the model saw none"))
    }

    /// The answer of a task.
    pub fn read(&self, task: &Task) -> Result<Answer, ReadingError> {
        match task {
            Task::Mask { logits, rule } => self.mask(logits, rule).map(|mask| Answer::Mask(Arc::new(mask))),
            Task::Classes { logits, labels } => {
                let value = self.get(logits)?;
                Ok(Answer::Classes(ranking(value.as_slice(), labels)))
            }
            Task::Boxes { logits, boxes, labels } => self.boxes(logits, boxes, labels),
            Task::Embeddings { outputs } => outputs
                .iter()
                .map(|name| Ok(vector(name, self.get(name)?)))
                .collect::<Result<_, _>>()
                .map(Answer::Vectors),
            Task::Letters { scores, alphabet } => letters(self.get(scores)?, scores, alphabet),
            Task::Tensors => {
                Ok(Answer::Vectors(self.values.iter().map(|(name, value)| vector(name, value)).collect()))
            }
        }
    }

    fn mask(&self, name: &str, rule: &MaskRule) -> Result<BinaryMask, ReadingError> {
        let value = self.get(name)?;
        let geometry = self.picture(name)?;
        let shape = value.shape();
        let [.., h, w] = *shape else { return Err(fail(name, "expected rows and columns")) };
        let planes = value.len() / (h * w).max(1);
        let plane = |at: usize| &value.as_slice()[at * h * w..][..h * w];
        let (width, height) = (w as u32, h as u32);
        let impossible = || fail(name, "it is no mask of a possible size");
        let mask = match rule {
            // The first wins a tie, as in PyTorch's argmax.
            MaskRule::Second if planes == 2 => {
                let planes = (plane(1), plane(0));
                BinaryMask::from_planes(width, height, planes, |object, background| object > background)
                    .ok_or_else(impossible)?
            }
            MaskRule::Above(threshold) if planes == 1 => {
                BinaryMask::from_threshold(width, height, plane(0), *threshold).ok_or_else(impossible)?
            }
            MaskRule::Best { scores, threshold } if planes > 0 => {
                let scores = self.get(scores)?;
                let best = if scores.len() == planes { first_largest(scores.as_slice()) } else { 0 };
                return upscaled(plane(best), (w, h), geometry, *threshold).ok_or_else(impossible);
            }
            _ => return Err(fail(name, &format!("its shape {shape:?} does not fit {rule:?}"))),
        };
        geometry.to_original(&mask).map_err(|e| fail(name, &e.to_string()))
    }

    fn boxes(&self, logits: &str, boxes: &str, labels: &[String]) -> Result<Answer, ReadingError> {
        let (scores, corners) = (self.get(logits)?, self.get(boxes)?);
        let geometry = self.picture(boxes)?;
        let (Some(&classes), Some(4)) = (scores.shape().last(), corners.shape().last().copied()) else {
            return Err(fail(boxes, "expected four numbers a box"));
        };
        if classes < 2 || scores.len() / classes * 4 != corners.len() {
            return Err(fail(boxes, "expected a row of classes for each box"));
        }
        let mut found: Vec<FoundBox> = scores
            .as_slice()
            .chunks_exact(classes)
            .zip(corners.as_slice().as_chunks::<4>().0)
            .filter_map(|(row, corners)| {
                // The last class is "no object".
                let probabilities = softmax(row);
                let class = first_largest(&row[..classes - 1]);
                let probability = probabilities[class];
                (probability > LIKELY).then(|| FoundBox {
                    class: ranked(class, probability, labels),
                    corners: self.on_picture(geometry, corners.map(f64::from)),
                })
            })
            .collect();
        found.sort_by(|a, b| b.class.probability.total_cmp(&a.class.probability));
        found.truncate(MOST);
        let outlines = outlines(&found, geometry.original)
            .ok_or_else(|| fail(boxes, "the picture has no possible size"))?;
        Ok(Answer::Boxes { boxes: found, outlines: Arc::new(outlines) })
    }

    /// Centre and size as shares of what the model saw to corners as shares of the picture.
    fn on_picture(&self, geometry: &Geometry, [x, y, w, h]: [f64; 4]) -> [f64; 4] {
        let corners = [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0];
        let (width, height) = if self.boxes_of_picture {
            (1.0, 1.0)
        } else {
            let share = |of: u32, whole: u32| f64::from(whole) / f64::from(of.max(1));
            (share(geometry.resized.0, geometry.output.0), share(geometry.resized.1, geometry.output.1))
        };
        [corners[0] * width, corners[1] * height, corners[2] * width, corners[3] * height]
            .map(|share| if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 })
    }
}

fn fail(output: &str, reason: &str) -> ReadingError {
    ReadingError { output: output.to_owned(), reason: reason.to_owned() }
}

/// Logits on the grid of the padded tensor, brought to the picture and cut off there (SAM's post-processing: bilinear to
/// the tensor, without padding, bilinear to the picture).
fn upscaled(
    logits: &[f32],
    (w, h): (usize, usize),
    geometry: &Geometry,
    threshold: f32,
) -> Option<BinaryMask> {
    let side = |(width, height): (u32, u32)| [height as usize, width as usize];
    let (tensor, inside, picture) = (side(geometry.output), side(geometry.cropped), side(geometry.original));
    // Sizes are those of pictures that were read; they have limits.
    let mut wide = vec![0.0; tensor[0] * tensor[1]];
    bilinear(logits, 1, [h, w], tensor, false, &mut wide);
    let cut: Vec<f32> = wide
        .chunks_exact(tensor[1].max(1))
        .take(inside[0])
        .flat_map(|row| row[..inside[1].min(row.len())].iter().copied())
        .collect();
    let mut full = vec![0.0; picture[0] * picture[1]];
    bilinear(&cut, 1, inside, picture, false, &mut full);
    BinaryMask::from_threshold(geometry.original.0, geometry.original.1, &full, threshold)
}

/// The outlines of boxes in a picture.
fn outlines(boxes: &[FoundBox], (width, height): (u32, u32)) -> Option<BinaryMask> {
    let mut mask = BinaryMask::new(width, height)?;
    let thick = (width.min(height) / 120).max(1);
    for found in boxes {
        let at = |share: f64, side: u32| ((share * f64::from(side)) as u32).min(side - 1);
        let [x0, y0, x1, y1] = found.corners;
        let (x0, y0, x1, y1) = (at(x0, width), at(y0, height), at(x1, width), at(y1, height));
        for d in 0..thick {
            for x in x0..=x1 {
                mask.set(x, y0 + d);
                mask.set(x, y1.saturating_sub(d));
            }
            for y in y0..=y1 {
                mask.set(x0 + d, y);
                mask.set(x1.saturating_sub(d), y);
            }
        }
    }
    Some(mask)
}

/// The first of the largest values; 0 without values.
fn first_largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if *value > values[best] || (values[best].is_nan() && !value.is_nan()) {
            best = at;
        }
    }
    best
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().map(f64::from).fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|&x| (f64::from(x) - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|x| x / sum).collect()
}

fn ranked(class: usize, probability: f64, labels: &[String]) -> Ranked {
    let label = labels.get(class).cloned().unwrap_or_else(|| class.to_string());
    Ranked { class, label, probability }
}

/// Classes by probability; equal ones in their own order.
fn ranking(logits: &[f32], labels: &[String]) -> Vec<Ranked> {
    let mut all: Vec<(usize, f64)> = softmax(logits).into_iter().enumerate().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(MOST);
    all.into_iter().map(|(class, probability)| ranked(class, probability, labels)).collect()
}

fn vector(name: &str, value: &Value) -> Vector {
    Vector { name: name.to_owned(), values: Arc::new(value.as_slice().to_vec()) }
}

/// The best class of every step, repetitions taken once and blanks left out (greedy CTC).
fn letters(value: &Value, name: &str, alphabet: &[String]) -> Result<Answer, ReadingError> {
    let classes = value.shape().last().copied().unwrap_or(0);
    if classes < 2 {
        return Err(fail(name, "expected a row of classes for each step"));
    }
    let mut text = String::new();
    let mut before = 0;
    for row in value.as_slice().chunks_exact(classes) {
        let class = first_largest(row);
        if class != before && class != 0 {
            match alphabet.get(class - 1) {
                Some(letter) => text.push_str(letter),
                None => text.push_str(&format!("‹{class}›")),
            }
        }
        before = class;
    }
    Ok(Answer::Letters(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 8 × 4, brought to 4 × 2, padded to 4 × 4.
    const PADDED: Geometry =
        Geometry { original: (8, 4), resized: (4, 2), offset: (0, 0), cropped: (4, 2), output: (4, 4) };

    fn outputs(values: &[(String, Value)]) -> Outputs<'_> {
        Outputs { values, geometry: Some(&PADDED), boxes_of_picture: false }
    }

    fn value(name: &str, shape: &[usize], data: &[f32]) -> (String, Value) {
        (name.to_owned(), Value::new(shape.to_vec(), data.to_vec()))
    }

    #[test]
    fn masks_are_read_by_their_rule() {
        let two = [value("logits", &[1, 2, 2, 2], &[0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0])];
        let task = |rule| Task::Mask { logits: "logits".to_owned(), rule };
        let Answer::Mask(mask) = outputs(&two).read(&task(MaskRule::Second)).unwrap() else { panic!() };
        assert_eq!((mask.width(), mask.height(), mask.count()), (8, 4, 16));
        assert!(mask.get(0, 3) && !mask.get(7, 0));
        assert!(outputs(&two).read(&task(MaskRule::Above(0.0))).is_err());
        assert!(outputs(&[]).read(&task(MaskRule::Second)).is_err());
        let best = MaskRule::Best { scores: "scores".to_owned(), threshold: 0.0 };
        let several = [
            value("logits", &[1, 1, 2, 2, 2], &[-1.0, -1.0, -1.0, -1.0, 5.0, -5.0, 5.0, -5.0]),
            value("scores", &[1, 1, 2], &[0.1, 0.2]),
        ];
        let Answer::Mask(mask) = outputs(&several).read(&task(best)).unwrap() else { panic!() };
        assert_eq!((mask.width(), mask.height(), mask.count()), (8, 4, 16));
        assert!(mask.get(0, 0) && mask.get(3, 3) && !mask.get(4, 0));
        let blind = Outputs { geometry: None, ..outputs(&two) };
        assert!(blind.read(&task(MaskRule::Second)).unwrap_err().to_string().contains("saw none"));
    }

    #[test]
    fn boxes_lie_on_the_picture() {
        let found = [
            // Sure of class 1; sure of nothing; unsure.
            value("logits", &[1, 3, 3], &[0.0, 9.0, 0.0, 0.0, 0.0, 9.0, 1.0, 0.9, 1.0]),
            value("boxes", &[1, 3, 4], &[0.5, 0.25, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 0.5, 0.5, 0.1, 0.1]),
        ];
        let labels = vec!["cat".to_owned(), "dog".to_owned()];
        let task = Task::Boxes { logits: "logits".to_owned(), boxes: "boxes".to_owned(), labels };
        let Answer::Boxes { boxes, outlines } = outputs(&found).read(&task).unwrap() else { panic!() };
        assert_eq!(boxes.len(), 1);
        assert_eq!((boxes[0].class.label.as_str(), boxes[0].corners), ("dog", [0.25, 0.0, 0.75, 1.0]));
        assert!(outlines.get(2, 0) && outlines.get(6, 3) && !outlines.get(4, 1));
        let of_picture = Outputs { boxes_of_picture: true, ..outputs(&found) };
        let Answer::Boxes { boxes, .. } = of_picture.read(&task).unwrap() else { panic!() };
        assert_eq!(boxes[0].corners, [0.25, 0.0, 0.75, 0.5]);
        let odd = [value("logits", &[1, 3, 3], &[0.0; 9]), value("boxes", &[1, 2, 4], &[0.0; 8])];
        assert!(outputs(&odd).read(&task).is_err());
    }

    #[test]
    fn classes_letters_and_vectors() {
        let logits = [value("logits", &[1, 3], &[1.0, 3.0, 1.0])];
        let task = Task::Classes { logits: "logits".to_owned(), labels: vec!["a".to_owned()] };
        let Answer::Classes(ranked) = outputs(&logits).read(&task).unwrap() else { panic!() };
        assert_eq!(ranked.iter().map(|r| r.class).collect::<Vec<_>>(), [1, 0, 2]);
        assert_eq!((ranked[0].label.as_str(), ranked[1].label.as_str()), ("1", "a"));
        assert!((ranked.iter().map(|r| r.probability).sum::<f64>() - 1.0).abs() < 1e-12);
        let steps =
            [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let scores = [value("scores", &[1, 6, 3], &steps)];
        let task = Task::Letters { scores: "scores".to_owned(), alphabet: vec!["a".to_owned()] };
        assert_eq!(outputs(&scores).read(&task).unwrap(), Answer::Letters("aa‹2›".to_owned()));
        let Answer::Vectors(all) = outputs(&scores).read(&Task::Tensors).unwrap() else { panic!() };
        assert_eq!((all[0].name.as_str(), all[0].values.len()), ("scores", 18));
    }
}
