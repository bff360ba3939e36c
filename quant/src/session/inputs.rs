//! From a sample to the inputs of the graph, and from outputs to an answer.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Session, SessionError};
use crate::data::{Encoded, Geometry, Pixels, PreprocessorConfig, RgbImage, Sample, SampleSet, TextWarning};
use crate::eval::answer::{Answer, Ranked};
use crate::eval::reading::Outputs;
use crate::exec::{Cancel, Engine, NoTap, Quantization, Value};
use crate::graph::Graph;
use crate::models::{InputShapes, OwnSizes, Task};

/// Inputs of one sample, in the graph's order, and what is needed to read the result.
#[derive(Debug)]
pub(super) struct SampleInputs {
    pub(super) values: Vec<Value>,
    pub(super) geometry: Option<Geometry>,
    pub(super) warnings: Vec<TextWarning>,
    pub(super) image: Option<Arc<RgbImage>>,
    pub(super) truth: Option<Answer>,
    pub(super) text: String,
}

/// Whether a graph reads sentences.
pub(super) fn reads_text(graph: &Graph) -> bool {
    graph.inputs().iter().any(|&id| graph.node(id).name == "input_ids")
}

/// The shapes of the prompts that a set has, if a graph takes prompts: all samples of a set have the same form.
pub(super) fn prompt_shapes(graph: &Graph, set: &SampleSet) -> Option<InputShapes> {
    let prompted = |name: &str| matches!(name, "input_points" | "input_labels" | "input_boxes");
    graph.inputs().iter().find(|&&id| prompted(&graph.node(id).name))?;
    let first = set.entries().first()?;
    let mut shapes = Vec::new();
    if !first.points.is_empty() {
        shapes.push(("input_points", vec![1, 1, first.points.len(), 2]));
        shapes.push(("input_labels", vec![1, 1, first.points.len()]));
    }
    if first.bbox.is_some() {
        shapes.push(("input_boxes", vec![1, 1, 4]));
    }
    (!shapes.is_empty()).then(|| shapes.into_iter().collect())
}

impl Session {
    /// The model's inputs for sample `index` of a set, for [`Engine::run`](crate::exec::Engine::run).
    pub fn inputs(&self, set: &SampleSet, index: usize) -> Result<Vec<Value>, SessionError> {
        Ok(self.sample_inputs(set, index, None)?.values)
    }

    /// Loads a sample and makes the model's inputs of it; `text` replaces its own sentence.
    pub(super) fn sample_inputs(
        &self,
        set: &SampleSet,
        index: usize,
        text: Option<&str>,
    ) -> Result<SampleInputs, SessionError> {
        let sample = set.load(index)?;
        let place = set.place(index);
        let encoded = self.encode(&sample, text, &place)?;
        let pixels = self.pixels(&sample, &place)?;
        let graph = &*self.model.graph;
        let mut given = HashMap::new();
        for &id in graph.inputs() {
            let node = graph.node(id);
            let value = input(&node.name, &node.shape, &sample, encoded.as_ref(), pixels.as_ref(), &place)?;
            given.insert(node.name.clone(), value);
        }
        let values = self.base.engine.inputs(given)?;
        // A picture whose size the model cannot be built for is told here, with its name.
        self.base.engine.at_size_of(&values).map_err(at(&place))?;
        let own = sample.text.as_deref();
        let truth = if text.is_none_or(|text| Some(text) == own) { self.truth(&sample) } else { None };
        Ok(SampleInputs {
            values,
            geometry: pixels.map(|pixels| pixels.geometry),
            warnings: encoded.map(|encoded| encoded.warnings).unwrap_or_default(),
            truth,
            text: text.or(own).unwrap_or_default().to_owned(),
            image: sample.image,
        })
    }

    /// The ids of the sentence, if the model reads one.
    fn encode(
        &self,
        sample: &Sample,
        text: Option<&str>,
        place: &str,
    ) -> Result<Option<Encoded>, SessionError> {
        if !reads_text(&self.model.graph) {
            return Ok(None);
        }
        let place = || place.to_owned();
        let Some(sentence) = text.or(sample.text.as_deref()) else {
            return Err(SessionError::NoText { place: place() });
        };
        let encoder = self.model.text.as_ref().ok_or(SessionError::NoTokenizer)?;
        let encoded = encoder.encode(sentence).map_err(|source| match text {
            Some(_) => source.into(),
            None => SessionError::Text { place: place(), source },
        })?;
        Ok(Some(encoded))
    }

    /// The picture as the model sees it, if it sees one.
    fn pixels(&self, sample: &Sample, place: &str) -> Result<Option<Pixels>, SessionError> {
        let graph = &self.model.graph;
        let picture = graph.inputs().iter().map(|&id| &graph.node(id).shape).find(|shape| is_picture(shape));
        let Some(&[_, _, height, width]) = picture.map(Vec::as_slice) else { return Ok(None) };
        let image =
            sample.image.as_ref().ok_or_else(|| SessionError::NoPicture { place: place.to_owned() })?;
        let preprocessor = self.model.preprocessor.as_ref().ok_or(SessionError::NoPreprocessor)?;
        let prepare = |preprocessor: &PreprocessorConfig| preprocessor.apply(image).map_err(at(place));
        let pixels = prepare(preprocessor)?;
        let own = self.model.own_sizes == OwnSizes::Pictures;
        if own || pixels.geometry.output == (width as u32, height as u32) {
            return Ok(Some(pixels));
        }
        // Every picture would have another size than the model reads: nobody meant that.
        if let Some(prepared) = preprocessor.fixed_size() {
            return Err(SessionError::PictureSize { prepared, read: (height, width) });
        }
        // Published preprocessing gives every picture a size of its own; the graph has one for all.
        Ok(Some(prepare(&preprocessor.on_canvas(height as u32, width as u32))?))
    }

    /// What the sample says is true, in the terms of the model's task.
    fn truth(&self, sample: &Sample) -> Option<Answer> {
        match &self.model.task {
            Task::Mask { .. } => sample.mask.clone().map(Answer::Mask),
            Task::Classes { labels, .. } => {
                let label = sample.label.as_deref()?;
                let class = class_of(label, labels)?;
                Some(Answer::Classes(vec![Ranked { class, label: label.to_owned(), probability: 1.0 }]))
            }
            Task::Letters { .. } => sample.label.clone().map(Answer::Letters),
            Task::Boxes { .. } | Task::Embeddings { .. } | Task::Tensors => None,
        }
    }

    /// Runs inputs and reads the answer off the outputs.
    pub(super) fn answer(
        &self,
        engine: &Engine,
        inputs: &SampleInputs,
        quantization: &Quantization,
        cancel: &Cancel,
    ) -> Result<Answer, SessionError> {
        let run = engine.run(&inputs.values, quantization, None, &mut NoTap, cancel)?;
        self.read(&self.named(run.outputs), inputs.geometry.as_ref())
    }

    /// Outputs with their names.
    pub(super) fn named(&self, outputs: Vec<Value>) -> Vec<(String, Value)> {
        self.model.graph.outputs().iter().map(|(name, _)| name.clone()).zip(outputs).collect()
    }

    /// The answer that outputs give to a sample whose picture was prepared with `geometry`.
    pub(super) fn read(
        &self,
        outputs: &[(String, Value)],
        geometry: Option<&Geometry>,
    ) -> Result<Answer, SessionError> {
        let graph = &*self.model.graph;
        let outputs = Outputs {
            values: outputs,
            geometry,
            // A model that is told where the picture ends places boxes in it.
            boxes_of_picture: graph.inputs().iter().any(|&id| graph.node(id).name == "pixel_mask"),
        };
        Ok(outputs.read(&self.model.task)?)
    }
}

/// Says which sample an error is about.
fn at<E: Into<SessionError>>(place: &str) -> impl FnOnce(E) -> SessionError {
    let place = place.to_owned();
    move |source| SessionError::Sample { place, source: Box::new(source.into()) }
}

/// The value of one input.
fn input(
    name: &str,
    shape: &[usize],
    sample: &Sample,
    encoded: Option<&Encoded>,
    pixels: Option<&Pixels>,
    place: &str,
) -> Result<Value, SessionError> {
    let numbers =
        |ids: &[i64]| Value::new(vec![1, ids.len()], ids.iter().map(|&id| id as f32).collect::<Vec<_>>());
    let unknown = || SessionError::UnknownInput { name: name.to_owned(), shape: shape.to_vec() };
    let no_prompt = |what: &'static str| SessionError::NoPrompt { place: place.to_owned(), what };
    match (name, encoded, pixels) {
        ("input_ids", Some(encoded), _) => Ok(numbers(&encoded.input_ids)),
        ("attention_mask", Some(encoded), _) => Ok(numbers(&encoded.attention_mask)),
        ("token_type_ids", Some(encoded), _) => Ok(numbers(&vec![0; encoded.input_ids.len()])),
        ("pixel_mask", _, Some(pixels)) => {
            let ((width, height), inside) = (pixels.geometry.output, pixels.geometry.cropped);
            let one = |y: u32, x: u32| f32::from(u8::from(y < inside.1 && x < inside.0));
            let values = (0..height).flat_map(|y| (0..width).map(move |x| one(y, x))).collect();
            Ok(Value::new(vec![1, height as usize, width as usize], values))
        }
        ("input_points", _, Some(pixels)) => {
            let points: Vec<f32> = sample
                .points
                .iter()
                .flat_map(|point| <[f32; 2]>::from(pixels.geometry.point(point.x, point.y)))
                .collect();
            let fits = points.len() == shape.iter().product::<usize>();
            fits.then(|| Value::new(shape.to_vec(), points)).ok_or_else(|| no_prompt("points"))
        }
        ("input_labels", _, Some(_)) => {
            let labels: Vec<f32> =
                sample.points.iter().map(|point| f32::from(u8::from(point.on_object))).collect();
            let fits = labels.len() == shape.iter().product::<usize>();
            fits.then(|| Value::new(shape.to_vec(), labels)).ok_or_else(|| no_prompt("points"))
        }
        ("input_boxes", _, Some(pixels)) if shape.iter().product::<usize>() == 4 => {
            let [x0, y0, x1, y1] = sample.bbox.ok_or_else(|| no_prompt("box"))?;
            let (first, last) = (pixels.geometry.point(x0, y0), pixels.geometry.point(x1, y1));
            Ok(Value::new(shape.to_vec(), vec![first.0, first.1, last.0, last.1]))
        }
        (_, _, Some(pixels)) if is_picture(shape) && name != "conditional_pixel_values" => {
            let (width, height) = pixels.geometry.output;
            Ok(Value::new(vec![1, 3, height as usize, width as usize], pixels.values.clone()))
        }
        _ => Err(unknown()),
    }
}

/// Whether an input of this shape is a picture.
fn is_picture(shape: &[usize]) -> bool {
    matches!(shape, [1, 3, _, _])
}

/// The class that a label of a manifest means: a name (names of a list, "tabby, tabby cat", count each) or a number.
fn class_of(label: &str, labels: &[String]) -> Option<usize> {
    let same = |a: &str| a.trim().eq_ignore_ascii_case(label.trim());
    labels
        .iter()
        .position(|known| same(known))
        .or_else(|| labels.iter().position(|known| known.split(',').any(same)))
        .or_else(|| label.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::class_of;

    #[test]
    fn labels_are_names_or_numbers() {
        let labels = ["tench, Tinca tinca".to_owned(), "goldfish".to_owned(), "7".to_owned()];
        assert_eq!(class_of("Goldfish", &labels), Some(1));
        assert_eq!(class_of("tinca tinca", &labels), Some(0));
        assert_eq!(class_of("7", &labels), Some(2));
        assert_eq!(class_of("5", &labels), Some(5));
        assert_eq!(class_of("whale", &labels), None);
    }
}
