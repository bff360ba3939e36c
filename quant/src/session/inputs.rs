//! From a sample to the inputs of the graph, and from outputs to an answer.

mod prompts;

use std::collections::HashMap;
use std::sync::Arc;

use prompts::PROMPT_PICTURE;
pub(super) use prompts::asked_shapes;

use super::{Session, SessionError};
use crate::data::{
    Encoded, Geometry, Pixels, Point, PreprocessorConfig, RgbImage, Sample, SampleSet, TextWarning,
};
use crate::eval::answer::{Answer, Ranked};
use crate::eval::reading::Outputs;
use crate::exec::{Cancel, Engine, NoTap, Quantization, Value};
use crate::graph::{Graph, NodeId};
use crate::models::{OwnSizes, Task};

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
        let graph = &*self.model.graph;
        if let Some(what) = prompts::dropped(graph, &sample) {
            return Err(SessionError::UnusedPrompt { place, what });
        }
        let asked: Vec<&str> = graph.inputs().iter().map(|&id| graph.node(id).name.as_str()).collect();
        let open = |name: &str| asked.contains(&name) && !sample.inputs.contains_key(name);
        let encoded = if open("input_ids") { Some(self.encode(&sample, text, &place)?) } else { None };
        if text.is_some() && encoded.is_none() {
            return Err(SessionError::NoSentence { model: self.model.name.clone() });
        }
        let wanted = |id: &&NodeId| is_picture(&graph.node(**id).shape) && open(&graph.node(**id).name);
        let mut pixels = None;
        let mut shown = None;
        for id in graph.inputs().iter().filter(wanted) {
            let node = graph.node(*id);
            if node.name == PROMPT_PICTURE {
                let no_prompt = || SessionError::NoPrompt { place: place.clone(), what: "prompt" };
                let image = sample.prompt.as_ref().ok_or_else(no_prompt)?;
                shown = Some(self.pixels(image, &node.shape, &place)?);
            } else if pixels.is_none() {
                let no_picture = || SessionError::NoPicture { place: place.clone() };
                let image = sample.image.as_ref().ok_or_else(no_picture)?;
                pixels = Some(self.pixels(image, &node.shape, &place)?);
            }
        }
        let free = self.model.own_sizes == OwnSizes::Prompts;
        let made = Made { sample: &sample, encoded: encoded.as_ref(), pixels: pixels.as_ref(), shown, free };
        let mut given = HashMap::new();
        for &id in graph.inputs() {
            let node = graph.node(id);
            given.insert(node.name.clone(), made.input(&node.name, &node.shape, &place)?);
        }
        let values = self.base.engine.inputs(given).map_err(at(&place))?;
        // A size that the model cannot be built for is told here, with the sample's name.
        self.base.engine.at_size_of(&values).map_err(at(&place))?;
        let geometry = pixels.map(|pixels| pixels.geometry).or_else(|| self.as_given(&values));
        let own = sample.text.as_deref();
        let truth = if text.is_none_or(|text| Some(text) == own) { self.truth(&sample) } else { None };
        Ok(SampleInputs {
            values,
            geometry,
            warnings: encoded.map(|encoded| encoded.warnings).unwrap_or_default(),
            truth,
            text: text.or(own).unwrap_or_default().to_owned(),
            image: sample.image,
        })
    }

    /// The ids of the sentence.
    fn encode(&self, sample: &Sample, text: Option<&str>, place: &str) -> Result<Encoded, SessionError> {
        let place = || place.to_owned();
        let Some(sentence) = text.or(sample.text.as_deref()) else {
            return Err(SessionError::NoText { place: place() });
        };
        let encoder = self.model.text.as_ref().ok_or(SessionError::NoTokenizer)?;
        encoder.encode(sentence).map_err(|source| match text {
            Some(_) => source.into(),
            None => SessionError::Text { place: place(), source },
        })
    }

    /// A picture as the model sees it, for an input of shape `[1, 3, H, W]`.
    fn pixels(&self, image: &RgbImage, shape: &[usize], place: &str) -> Result<Pixels, SessionError> {
        let (height, width) = (shape[2], shape[3]);
        let preprocessor = self.model.preprocessor.as_ref().ok_or(SessionError::NoPreprocessor)?;
        let prepare = |preprocessor: &PreprocessorConfig| preprocessor.apply(image).map_err(at(place));
        let pixels = prepare(preprocessor)?;
        let own = self.model.own_sizes == OwnSizes::Pictures;
        if own || pixels.geometry.output == (width as u32, height as u32) {
            return Ok(pixels);
        }
        // Every picture would have another size than the model reads: nobody meant that.
        if let Some(prepared) = preprocessor.fixed_size() {
            return Err(SessionError::PictureSize { prepared, read: (height, width) });
        }
        // Published preprocessing gives every picture a size of its own; the graph has one for all.
        prepare(&preprocessor.on_canvas(height as u32, width as u32))
    }

    /// Where the answer lies if the picture was given as a tensor or there is none: it is read as it is, a mask on its own
    /// grid.
    fn as_given(&self, inputs: &[Value]) -> Option<Geometry> {
        let graph = &*self.model.graph;
        let seen = inputs.iter().map(Value::shape).find(|shape| is_picture(shape));
        let answered = || match &self.model.task {
            Task::Mask { logits, .. } => {
                let (_, id) = graph.outputs().iter().find(|(name, _)| name == logits)?;
                Some(graph.node(*id).shape.as_slice())
            }
            _ => None,
        };
        let [.., height, width] = *seen.or_else(answered)? else { return None };
        Some(Geometry::whole(u32::try_from(width).ok()?, u32::try_from(height).ok()?))
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

/// What was made of a sample.
struct Made<'s> {
    sample: &'s Sample,
    encoded: Option<&'s Encoded>,
    pixels: Option<&'s Pixels>,
    /// The picture that prompts.
    shown: Option<Pixels>,
    /// Whether there may be as many points as there are.
    free: bool,
}

impl Made<'_> {
    /// The value of one input.
    fn input(&self, name: &str, shape: &[usize], place: &str) -> Result<Value, SessionError> {
        let numbers =
            |ids: &[i64]| Value::new(vec![1, ids.len()], ids.iter().map(|&id| id as f32).collect::<Vec<_>>());
        let sample = self.sample;
        let unknown = || SessionError::UnknownInput { name: name.to_owned(), shape: shape.to_vec() };
        let no_prompt = |what: &'static str| SessionError::NoPrompt { place: place.to_owned(), what };
        let per_point = |values: Vec<f32>, what: &'static str| {
            let fits = values.len() == shape.iter().product::<usize>();
            let own = match shape {
                [1, 1, _, 2] => vec![1, 1, values.len() / 2, 2],
                _ => vec![1, 1, values.len()],
            };
            match (fits, self.free && !values.is_empty()) {
                (true, _) => Ok(Value::new(shape.to_vec(), values)),
                (false, true) => Ok(Value::new(own, values)),
                (false, false) => Err(no_prompt(what)),
            }
        };
        if let Some(given) = sample.inputs.get(name) {
            return Ok(Value::shared(given.shape.clone(), Arc::clone(&given.values)));
        }
        match (name, self.encoded, self.pixels) {
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
                let place = |point: &Point| <[f32; 2]>::from(pixels.geometry.point(point.x, point.y));
                per_point(sample.points.iter().flat_map(place).collect(), "points")
            }
            ("input_labels", _, Some(_)) => {
                let label = |point: &Point| f32::from(u8::from(point.on_object));
                per_point(sample.points.iter().map(label).collect(), "points")
            }
            ("point_coords" | "point_labels", _, Some(pixels)) => {
                let prompts = prompts::labelled(sample, &pixels.geometry);
                let (places, labels) = prompts.ok_or_else(|| no_prompt("points"))?;
                per_point(if name == "point_coords" { places } else { labels }, "points")
            }
            ("input_boxes", _, Some(pixels)) if shape.iter().product::<usize>() == 4 => {
                let [x0, y0, x1, y1] = sample.bbox.ok_or_else(|| no_prompt("box"))?;
                let (first, last) = (pixels.geometry.point(x0, y0), pixels.geometry.point(x1, y1));
                Ok(Value::new(shape.to_vec(), vec![first.0, first.1, last.0, last.1]))
            }
            (PROMPT_PICTURE, ..) => self.shown.as_ref().map(picture).ok_or_else(unknown),
            (_, _, Some(pixels)) if is_picture(shape) => Ok(picture(pixels)),
            _ => Err(unknown()),
        }
    }
}

/// A picture as a tensor.
fn picture(pixels: &Pixels) -> Value {
    let (width, height) = pixels.geometry.output;
    Value::new(vec![1, 3, height as usize, width as usize], pixels.values.clone())
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
