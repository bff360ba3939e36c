//! What an architecture is built from: configuration, weights, files beside them, and the shapes asked for.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ModelError, Weights};
use crate::data::Files;

/// Name of the configuration in a model's folder.
pub(super) const CONFIG: &str = "config.json";

/// Shapes of the inputs that a graph is to be built for. An input that is not named gets its usual shape; optional
/// inputs (a box, a mask prompt) are there only when they are named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputShapes(BTreeMap<String, Vec<usize>>);

impl InputShapes {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an input is named.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The shape of an input, leading batch axis included.
    pub fn get(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Height and width of an image input `[N, C, H, W]`, or the usual ones.
    pub fn image(&self, name: &str, usual: (usize, usize)) -> (usize, usize) {
        match self.get(name) {
            Some([_, _, height, width]) => (*height, *width),
            _ => usual,
        }
    }

    /// Length of a text input `[N, T]`, or the usual one.
    pub fn length(&self, name: &str, usual: usize) -> usize {
        match self.get(name) {
            Some([_, length]) => *length,
            _ => usual,
        }
    }
}

impl<S: Into<String>> FromIterator<(S, Vec<usize>)> for InputShapes {
    fn from_iter<I: IntoIterator<Item = (S, Vec<usize>)>>(shapes: I) -> Self {
        Self(shapes.into_iter().map(|(name, shape)| (name.into(), shape)).collect())
    }
}

/// What an architecture is built from.
pub(crate) struct Source<'s> {
    /// The model's folder.
    pub(crate) files: &'s dyn Files,
    /// `config.json`, if there is one.
    pub(crate) config: Option<Value>,
    /// The same as it was read, for errors with their line.
    text: Cow<'s, [u8]>,
    /// The checkpoint.
    pub(crate) weights: &'s Weights,
    /// Shapes asked for.
    pub(crate) shapes: &'s InputShapes,
    /// What was taken as published because no file says it.
    assumed: RefCell<Vec<String>>,
}

impl Source<'_> {
    /// Reads the configuration, if there is one.
    pub(super) fn read<'s>(
        files: &'s dyn Files,
        weights: &'s Weights,
        shapes: &'s InputShapes,
    ) -> Result<Source<'s>, ModelError> {
        if !files.contains(CONFIG) {
            let text = Cow::Borrowed(&[][..]);
            return Ok(Source { files, config: None, text, weights, shapes, assumed: RefCell::default() });
        }
        let (file, text) = (files.display(CONFIG), files.read(CONFIG)?);
        let config = serde_json::from_slice(&text).map_err(|e| ModelError::Config {
            file,
            message: format!("not readable JSON ({e}); copy it again"),
        })?;
        Ok(Source { files, config: Some(config), text, weights, shapes, assumed: RefCell::default() })
    }

    /// The configuration as an architecture reads it.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, ModelError> {
        if self.config.is_none() {
            return Err(self.wrong("it is missing; copy it beside the weights".to_owned()));
        }
        serde_json::from_slice(&self.text).map_err(|e| {
            let field = self.config.as_ref().and_then(|config| culprit::<T>(config));
            self.wrong(field.map_or_else(|| e.to_string(), |field| format!("`{field}`: {e}")))
        })
    }

    /// Notes what is taken as published because no file says it; a warning for people.
    pub(crate) fn assume(&self, what: String) {
        self.assumed.borrow_mut().push(what);
    }

    /// What was noted.
    pub(super) fn assumed(self) -> Vec<String> {
        self.assumed.into_inner()
    }

    /// The configuration's `model_type`, or an empty word.
    pub(crate) fn model_type(&self) -> &str {
        self.field("model_type")
    }

    /// A text of the configuration, or an empty one.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.config.as_ref().and_then(|c| c.get(name)).and_then(Value::as_str).unwrap_or_default()
    }

    /// An error in the configuration.
    pub(crate) fn wrong(&self, message: String) -> ModelError {
        ModelError::Config { file: self.files.display(CONFIG), message }
    }

    /// The names of classes: `id2label` of the configuration, else numbers.
    pub(crate) fn labels(&self, count: usize) -> Vec<String> {
        labels(self.config.as_ref(), count)
    }
}

/// The names of classes: `id2label` of a configuration, else numbers.
pub(super) fn labels(config: Option<&Value>, count: usize) -> Vec<String> {
    let names = config.and_then(|c| c.get("id2label")).and_then(Value::as_object);
    (0..count)
        .map(|class| {
            let name = names.and_then(|names| names.get(&class.to_string())).and_then(Value::as_str);
            name.map_or_else(|| class.to_string(), ToOwned::to_owned)
        })
        .collect()
}

/// The field that a type cannot be read from, as the path to it: it fails alone, too. None where that does not tell.
fn culprit<T: DeserializeOwned>(config: &Value) -> Option<String> {
    let fails = |path: &[&str], value: &Value| {
        let alone = path.iter().rev().fold(value.clone(), |inner, name| {
            Value::Object([((*name).to_owned(), inner)].into_iter().collect())
        });
        // A field that is absent is the fault of no other.
        serde_json::from_value::<T>(alone).is_err_and(|e| !e.to_string().starts_with("missing field"))
    };
    let (name, value) = config.as_object()?.iter().find(|(name, value)| fails(&[name], value))?;
    let inner = value
        .as_object()
        .and_then(|fields| fields.iter().find(|(inner, value)| fails(&[name, inner], value)));
    Some(inner.map_or_else(|| name.clone(), |(inner, _)| format!("{name}.{inner}")))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::culprit;

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Config {
        width: usize,
        inner: Inner,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Inner {
        depths: Vec<usize>,
    }

    #[test]
    fn the_field_that_is_wrong_is_named() {
        let of = |config| culprit::<Config>(&config);
        assert_eq!(of(json!({"other": 1, "width": "a"})).as_deref(), Some("width"));
        assert_eq!(
            of(json!({"width": 1, "inner": {"a": 1, "depths": [1, "b"]}})).as_deref(),
            Some("inner.depths")
        );
        assert_eq!(of(json!({"width": 1, "inner": 3})).as_deref(), Some("inner"));
        assert_eq!(of(json!({"width": 1})), None);
        assert_eq!(of(json!(3)), None);
    }
}
