//! What samples ask of a model beside their picture: points, boxes, a second picture.

use crate::data::{Entry, Geometry, Sample, SampleSet};
use crate::graph::Graph;
use crate::models::{InputShapes, Model};
use crate::session::SessionError;

/// A picture as prompt (CLIPSeg).
pub(super) const PROMPT_PICTURE: &str = "conditional_pixel_values";
/// What the labels of the authors' SAM say of a point.
const NO_POINT: f32 = -1.0;
const CORNERS: [f32; 2] = [2.0, 3.0];

/// Whether a graph has an input of this name.
pub(super) fn takes(graph: &Graph, name: &str) -> bool {
    graph.inputs().iter().any(|&id| graph.node(id).name == name)
}

/// Shapes of inputs by name.
type Shapes = Vec<(String, Vec<usize>)>;

/// The shapes that the samples of all sets ask of a model; none for the usual ones. Inputs that are given as tensors have
/// the shapes that the first sample gives them.
pub(in crate::session) fn asked_shapes(
    model: &Model,
    sets: &[&SampleSet],
) -> Result<Option<InputShapes>, SessionError> {
    let mut shapes = prompt_shapes(model, sets)?;
    let entries = sets.iter().flat_map(|set| set.entries().iter().map(move |entry| (set, entry)));
    if let Some((set, entry)) = entries.into_iter().find(|(_, entry)| entry.inputs.is_some()) {
        shapes.extend(set.given(entry)?.into_iter().map(|(name, tensor)| (name, tensor.shape)));
    }
    Ok((!shapes.is_empty()).then(|| shapes.into_iter().collect()))
}

/// The shapes of the prompts that the samples have, if a model takes prompts.
///
/// SAM's graph depends on the kinds of prompts. If all samples have the same kinds it is the one for these, with as many
/// points as come. If they differ it is the one that takes everything as points with labels.
fn prompt_shapes(model: &Model, sets: &[&SampleSet]) -> Result<Shapes, SessionError> {
    let entries = || sets.iter().flat_map(|set| set.entries());
    let graph = &*model.graph;
    if model.architecture == "clipseg" {
        return picture_prompts(graph, entries());
    }
    if !["input_points", "input_labels", "input_boxes"].into_iter().any(|name| takes(graph, name)) {
        return Ok(Vec::new());
    }
    let kinds = |entry: &Entry| (!entry.points.is_empty(), entry.bbox.is_some());
    let prompted = || entries().filter(|entry| kinds(entry) != (false, false));
    let Some(first) = prompted().next() else { return Ok(Vec::new()) };
    if prompted().any(|entry| kinds(entry) != kinds(first)) {
        let most =
            prompted().map(|entry| tokens(entry.points.len(), entry.bbox.is_some())).max().unwrap_or(1);
        return Ok(vec![
            ("point_coords".to_owned(), vec![1, 1, most, 2]),
            ("point_labels".to_owned(), vec![1, 1, most]),
        ]);
    }
    let mut shapes = Vec::new();
    if let Some(most) = prompted().map(|entry| entry.points.len()).max().filter(|&most| most > 0) {
        shapes.push(("input_points".to_owned(), vec![1, 1, most, 2]));
        shapes.push(("input_labels".to_owned(), vec![1, 1, most]));
    }
    if first.bbox.is_some() {
        shapes.push(("input_boxes".to_owned(), vec![1, 1, 4]));
    }
    Ok(shapes)
}

/// Points with labels that stand for these prompts.
fn tokens(points: usize, corners: bool) -> usize {
    points + if corners { 2 } else { 1 }
}

/// The shapes for pictures as prompts, if the samples have them: the model is built for sentences or for pictures.
fn picture_prompts<'e>(
    graph: &Graph,
    entries: impl Iterator<Item = &'e Entry> + Clone,
) -> Result<Shapes, SessionError> {
    let Some(shown) = entries.clone().find(|entry| entry.prompt.is_some()) else { return Ok(Vec::new()) };
    for entry in entries {
        if entry.prompt.is_none() || entry.text.is_some() {
            let place = entry.place.clone();
            let (has, other, others) = match (&entry.prompt, &entry.text) {
                (Some(_), _) => ("both a `prompt` picture and a `text`", place.clone(), "one of them"),
                (None, Some(_)) => ("a `text`", shown.place.clone(), "a `prompt` picture"),
                (None, None) => {
                    ("neither a `text` nor a `prompt`", shown.place.clone(), "a `prompt` picture")
                }
            };
            return Err(SessionError::MixedPrompts { place, has, other, others });
        }
    }
    let pixels = graph.inputs().iter().map(|&id| graph.node(id)).find(|node| node.name == "pixel_values");
    Ok(pixels.map(|node| (PROMPT_PICTURE.to_owned(), node.shape.clone())).into_iter().collect())
}

/// All prompts of a sample as points of the tensor and their labels, as the authors' ONNX export of SAM reads them: the
/// corners of a box follow its points with labels of their own, without a box a point follows that is none. None for a
/// sample without prompts.
pub(super) fn labelled(sample: &Sample, geometry: &Geometry) -> Option<(Vec<f32>, Vec<f32>)> {
    if sample.points.is_empty() && sample.bbox.is_none() {
        return None;
    }
    let mut places: Vec<(f32, f32)> = sample.points.iter().map(|p| geometry.point(p.x, p.y)).collect();
    let mut labels: Vec<f32> =
        sample.points.iter().map(|point| f32::from(u8::from(point.on_object))).collect();
    if let Some([x0, y0, x1, y1]) = sample.bbox {
        places.extend([geometry.point(x0, y0), geometry.point(x1, y1)]);
        labels.extend(CORNERS);
    } else {
        places.push((0.0, 0.0));
        labels.push(NO_POINT);
    }
    Some((places.into_iter().flat_map(<[f32; 2]>::from).collect(), labels))
}

/// The prompt of a sample that a graph has no input for: a picture, or points or a box where only one of both is taken. A
/// model that takes neither passes both over, as a label that it has no use for.
pub(super) fn dropped(graph: &Graph, sample: &Sample) -> Option<&'static str> {
    if sample.prompt.is_some() && !takes(graph, PROMPT_PICTURE) {
        return Some("prompt");
    }
    let all = takes(graph, "point_coords");
    let (points, boxes) = (takes(graph, "input_points"), takes(graph, "input_boxes"));
    if all || !(points || boxes) {
        return None;
    }
    let one = |there: bool, taken: bool, what| (there && !taken).then_some(what);
    one(!sample.points.is_empty(), points, "points").or(one(sample.bbox.is_some(), boxes, "box"))
}
