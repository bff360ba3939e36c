//! One sample: its inputs, its masks, and what an interface shows of it.

use std::sync::Arc;
use std::time::Instant;

use super::messages::{Generation, Picture, SampleView};
use super::{FittedPlan, Session, SessionError, lock};
use crate::data::{Geometry, RgbImage, SampleSet, TextWarning};
use crate::eval::metrics::BinaryMask;
use crate::exec::{ActivationCache, Cancel, Engine, NoTap, Quantization, Value};

/// Inputs of one sample, in the graph's order, and what is needed to read the result.
#[derive(Debug)]
pub(super) struct SampleInputs {
    pub(super) values: Vec<Value>,
    pub(super) geometry: Geometry,
    pub(super) warnings: Vec<TextWarning>,
    pub(super) image: Arc<RgbImage>,
    pub(super) truth: Option<Arc<BinaryMask>>,
    pub(super) text: String,
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
        let own = sample.text.as_deref();
        let place =
            || set.entries().get(index).map_or_else(|| sample.id.clone(), |entry| entry.place.clone());
        let Some(sentence) = text.or(own) else { return Err(SessionError::NoText { place: place() }) };
        let encoder = self.model.text.as_ref().ok_or(SessionError::NoTokenizer)?;
        let preprocessor = self.model.preprocessor.as_ref().ok_or(SessionError::NoPreprocessor)?;
        let encoded = encoder.encode(sentence).map_err(|source| match text {
            Some(_) => source.into(),
            None => SessionError::Text { place: place(), source },
        })?;
        let pixels = preprocessor.apply(&sample.image)?;
        let graph = &*self.model.graph;
        let numbers = |ids: &[i64]| ids.iter().map(|&id| id as f32).collect::<Vec<_>>();
        let (width, height) = pixels.geometry.output;
        let mut given = std::collections::HashMap::new();
        for &id in graph.inputs() {
            let node = graph.node(id);
            let value = match node.name.as_str() {
                "pixel_values" => {
                    Value::new(vec![1, 3, height as usize, width as usize], pixels.values.clone())
                }
                "input_ids" => Value::new(vec![1, encoded.input_ids.len()], numbers(&encoded.input_ids)),
                _ => Value::new(vec![1, encoded.attention_mask.len()], numbers(&encoded.attention_mask)),
            };
            given.insert(node.name.clone(), value);
        }
        Ok(SampleInputs {
            values: self.base.engine.inputs(given)?,
            geometry: pixels.geometry,
            warnings: encoded.warnings,
            truth: sample.mask.filter(|_| text.is_none_or(|t| Some(t) == own)),
            text: sentence.to_owned(),
            image: sample.image,
        })
    }

    /// Runs inputs and reads the mask off the logits, in the picture's size. Also how many nodes ran.
    #[allow(clippy::unused_self, reason = "a session makes what belongs to it")]
    pub(super) fn mask(
        &self,
        engine: &Engine,
        inputs: &SampleInputs,
        quantization: &Quantization,
        cache: Option<&ActivationCache>,
        cancel: &Cancel,
    ) -> Result<(BinaryMask, usize), SessionError> {
        let run = engine.run(&inputs.values, quantization, cache, &mut NoTap, cancel)?;
        let logits = &run.outputs[0];
        let (h, w) = (logits.shape()[2] as u32, logits.shape()[3] as u32);
        let (background, object) = logits.as_slice().split_at(logits.len() / 2);
        // Argmax over two channels; the first wins a tie, as in PyTorch.
        let bits = object.iter().zip(background).map(|(o, b)| o > b);
        let mask = BinaryMask::from_bits(w, h, bits).ok_or(SessionError::NoSample { index: 0, count: 0 })?;
        let mask = inputs.geometry.to_original(&mask)?;
        Ok((mask, run.nodes_run))
    }

    /// Runs one sample in full precision and under a fitted plan. Values that the cache holds are not computed again.
    pub fn show(
        &self,
        generation: Generation,
        index: usize,
        text: Option<&str>,
        fitted: &FittedPlan,
        cancel: &Cancel,
    ) -> Result<SampleView, SessionError> {
        let start = Instant::now();
        let set = self.samples.as_ref().ok_or(SessionError::NoSamples)?;
        if index >= set.len() {
            return Err(SessionError::NoSample { index, count: set.len() });
        }
        let inputs = self.sample_inputs(set, index, text)?;
        let quantization = self.quantization(fitted)?;
        let none = Quantization::none(&self.model.graph);
        let cache = Some(&self.cache);
        let (full, _) = self.pool.install(|| self.mask(&self.base.engine, &inputs, &none, cache, cancel))?;
        let (quantized, nodes_run) =
            self.pool.install(|| self.mask(&fitted.variant.engine, &inputs, &quantization, cache, cancel))?;
        let full = Arc::new(full);
        if text.is_none() {
            lock(&self.reference).insert(index, Arc::clone(&full));
        }
        let with_truth = |mask: &BinaryMask| inputs.truth.as_ref().and_then(|t| mask.iou(t));
        let unknown_words = inputs
            .warnings
            .iter()
            .filter_map(|w| match w {
                TextWarning::UnknownWords(words) => Some(words.clone()),
                TextWarning::Truncated { .. } => None,
            })
            .flatten()
            .collect();
        Ok(SampleView {
            generation,
            sample: index,
            own_text: text.is_none(),
            unknown_words,
            picture: Arc::new(Picture {
                width: inputs.image.width() as usize,
                height: inputs.image.height() as usize,
                rgb: inputs.image.pixels().to_vec(),
            }),
            full_precision_iou: with_truth(&full),
            quantized_iou: with_truth(&quantized),
            agreement: quantized.iou(&full).unwrap_or(0.0),
            truth: inputs.truth.clone(),
            full_precision: full,
            quantized: Arc::new(quantized),
            nodes_run,
            nodes: self.model.graph.nodes().len(),
            milliseconds: start.elapsed().as_secs_f64() * 1e3,
            text: inputs.text,
        })
    }
}
