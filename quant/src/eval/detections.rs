//! Boxes that a detector found, as its published post-processing reads them off logits and boxes.

/// One box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Probability of the class.
    pub score: f32,
    /// Number of the class.
    pub label: usize,
    /// Left, top, right, bottom, in pixels of the picture.
    pub bbox: [f32; 4],
}

/// A box for each query, with the most probable class but the last, which is "no object". `logits` are `[queries, classes + 1]`, `boxes` `[queries, 4]` (centre x, centre y, width, height as
/// shares of the picture); `size` is the picture's `(width, height)`. None if the two do not belong together.
pub fn detections(logits: &[f32], boxes: &[f32], size: (u32, u32)) -> Option<Vec<Detection>> {
    let (boxes, []) = boxes.as_chunks::<4>() else { return None };
    let classes = logits.len().checked_div(boxes.len())?;
    if classes < 2 || classes * boxes.len() != logits.len() {
        return None;
    }
    let (width, height) = (size.0 as f32, size.1 as f32);
    let found = |(logits, [x, y, w, h]): (&[f32], &[f32; 4])| {
        let (label, score) = best(logits);
        let bbox =
            [(x - 0.5 * w) * width, (y - 0.5 * h) * height, (x + 0.5 * w) * width, (y + 0.5 * h) * height];
        Detection { score, label, bbox }
    };
    Some(logits.chunks_exact(classes).zip(boxes).map(found).collect())
}

/// The most probable class but the last, and its share of a softmax over all.
fn best(logits: &[f32]) -> (usize, f32) {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let sum: f64 = logits.iter().map(|&x| f64::from(x - largest).exp()).sum();
    let mut best = (0, f32::NEG_INFINITY);
    for (label, &logit) in logits[..logits.len() - 1].iter().enumerate() {
        if logit > best.1 {
            best = (label, logit);
        }
    }
    (best.0, (f64::from(best.1 - largest).exp() / sum) as f32)
}

#[cfg(test)]
mod tests {
    use super::{Detection, detections};

    #[test]
    fn the_last_class_is_no_object() {
        let found =
            detections(&[0.0, 0.0, 2.0, 1.0, 3.0, 0.0], &[0.5, 0.5, 1.0, 0.5, 0.25, 0.5, 0.5, 1.0], (40, 20));
        let found = found.unwrap();
        let score = |a: f64, b: f64, c: f64| (a.exp() / (a.exp() + b.exp() + c.exp())) as f32;
        let expected = [
            Detection { score: score(0.0, 0.0, 2.0), label: 0, bbox: [0.0, 5.0, 40.0, 15.0] },
            Detection { score: score(3.0, 1.0, 0.0), label: 1, bbox: [0.0, 0.0, 20.0, 20.0] },
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_does_not_belong_together_gives_none() {
        for (logits, boxes) in [(0, 0), (3, 0), (3, 3), (5, 8), (2, 8)] {
            assert!(detections(&vec![0.0; logits], &vec![0.0; boxes], (1, 1)).is_none(), "{logits} {boxes}");
        }
    }
}
