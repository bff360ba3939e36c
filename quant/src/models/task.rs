//! What a model's outputs mean, so that two runs can be compared in the terms of its task.

/// What is read off the outputs.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// A mask of one object.
    Mask {
        /// Output with the logits, `[1, …, H, W]`.
        logits: String,
        /// How they become a mask.
        rule: MaskRule,
    },
    /// One of several classes.
    Classes {
        /// Output with the logits, `[1, classes]`.
        logits: String,
        /// Name of each class.
        labels: Vec<String>,
    },
    /// Boxes with classes.
    Boxes {
        /// Output with the class logits, `[1, boxes, classes + 1]`; the last class is "no object".
        logits: String,
        /// Output with the boxes, `[1, boxes, 4]`: centre x, centre y, width, height as shares of the image.
        boxes: String,
        /// Name of each class.
        labels: Vec<String>,
    },
    /// Vectors that are compared by their direction.
    Embeddings {
        /// The outputs, most important first.
        outputs: Vec<String>,
    },
    /// Letters by connectionist temporal classification; class 0 is the blank.
    Letters {
        /// Output with scores or probabilities, `[1, steps, classes]`.
        scores: String,
        /// The letter of each class from 1 on; empty if not known.
        alphabet: Vec<String>,
    },
    /// Nothing is known: all outputs are compared as vectors.
    Tensors,
}

/// How logits become a mask.
#[derive(Debug, Clone, PartialEq)]
pub enum MaskRule {
    /// Two channels; the object is where the second is larger.
    Second,
    /// One channel (or none); the object is where it exceeds the threshold.
    Above(f32),
    /// Several masks `[1, 1, masks, H, W]`; the one with the largest score, where it exceeds the threshold.
    Best {
        /// Output with a score per mask.
        scores: String,
        /// The threshold.
        threshold: f32,
    },
}
