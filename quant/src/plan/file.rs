//! Plans in files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::{Plan, PlanError};
use crate::export::write_atomic;

/// The version of the format that is read and written.
pub const FORMAT: &str = "bitloupe-plan/1";

/// JSON Schema (draft 2020-12) of the format.
pub const SCHEMA: &str = include_str!("bitloupe-plan-1.schema.json");

/// Largest plan, in bytes: per-channel parameters of every site of the largest models stay far below.
pub(super) const MAX_BYTES: u64 = 256 << 20;

impl Plan {
    /// The file's content. It is read back before it is given out: a plan that could not be opened again (a
    /// parameter that is not finite has no JSON) is an error now instead of a lost plan later.
    pub fn to_json(&self) -> Result<String, PlanError> {
        let failed = |reason: String| PlanError::Value { path: format!("plan {}", self.method), reason };
        let mut json = serde_json::to_string_pretty(self).map_err(|e| failed(e.to_string()))?;
        json.push('\n');
        match Self::from_json("the written plan", json.as_bytes()) {
            Ok(_) => Ok(json),
            Err(error) => Err(failed(format!(
                "it cannot be saved, probably as a parameter is not finite; fit that site again ({error})"
            ))),
        }
    }

    /// Reads a file's content strictly; `path` is for messages.
    pub fn from_json(path: &str, json: &[u8]) -> Result<Self, PlanError> {
        let broken = |error: serde_json::Error| PlanError::Json {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
            reason: explain(&error),
        };
        // The version first: fields of a later one must not be reported as errors.
        let value: Value = serde_json::from_slice(json).map_err(broken)?;
        match value.get("format").and_then(Value::as_str) {
            Some(FORMAT) => {}
            Some(found) => {
                return Err(PlanError::Format {
                    path: path.to_owned(),
                    found: found.chars().take(40).collect(),
                    expected: FORMAT,
                });
            }
            None => {
                return Err(PlanError::Value {
                    path: path.to_owned(),
                    reason: format!("no field `format`; expected a plan with \"format\": \"{FORMAT}\""),
                });
            }
        }
        if let Some(number) = too_large(&value) {
            return Err(PlanError::Value {
                path: path.to_owned(),
                reason: format!("the number {number} is too large; expected finite 32-bit values"),
            });
        }
        drop(value);
        serde_json::from_slice(json).map_err(broken)
    }

    /// Reads a file strictly.
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        let shown = path.display().to_string();
        Self::from_json(&shown, &read_bounded(path)?)
    }

    /// Writes the file: a temporary one beside it, then renamed, so a reader never sees half a plan.
    pub fn write(&self, path: &Path) -> Result<(), PlanError> {
        let json = self.to_json()?;
        write_atomic(path, |file| std::io::Write::write_all(file, json.as_bytes()))
            .map_err(|source| PlanError::Io { path: path.display().to_string(), source })
    }
}

/// All of a regular file that is not too large.
pub(super) fn read_bounded(path: &Path) -> Result<Vec<u8>, PlanError> {
    let failed = |source| PlanError::Io { path: path.display().to_string(), source };
    let too_large = |bytes| PlanError::TooLarge { path: path.display().to_string(), bytes, limit: MAX_BYTES };
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        return Err(PlanError::Value {
            path: path.display().to_string(),
            reason: "not a regular file; expected a saved plan".to_owned(),
        });
    }
    if about.len() > MAX_BYTES {
        return Err(too_large(about.len()));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// A number that would become infinite as `f32`. (NaN and infinities themselves are no JSON.)
pub(super) fn too_large(value: &Value) -> Option<&Value> {
    match value {
        Value::Number(n) => n.as_f64().is_none_or(|n| !(n as f32).is_finite()).then_some(value),
        Value::Array(items) => items.iter().find_map(too_large),
        Value::Object(fields) => fields.values().find_map(too_large),
        _ => None,
    }
}

/// The JSON library's words without the position, which the error carries itself.
pub(super) fn explain(error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "the file ends in the middle; take another copy of it, or make it anew".to_owned();
    }
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(before, _)| before).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::example::plan;
    use super::*;

    #[test]
    fn a_plan_is_written_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        plan().write(&path).unwrap();
        assert_eq!(Plan::read(&path).unwrap(), plan());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_float_survives_to_the_bit() {
        let mut plan = plan();
        let mut bits = 1u32;
        let values: Vec<f32> = (0..100_000)
            .map(|_| {
                bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f32::from_bits(bits)
            })
            .filter(|v| v.is_finite())
            .chain([0.0, -0.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, f32::MIN])
            .collect();
        plan.rewrites[0].vectors.insert("scale".to_owned(), values.clone());
        let again = Plan::from_json("p", plan.to_json().unwrap().as_bytes()).unwrap();
        let read = &again.rewrites[0].vectors["scale"];
        assert!(values.iter().zip(read).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    #[test]
    fn values_that_are_not_finite_are_never_written() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut plan = plan();
            plan.rewrites[0].vectors.insert("scale".to_owned(), vec![bad]);
            assert!(plan.to_json().unwrap_err().to_string().contains("not finite"));
        }
    }

    #[test]
    fn bad_files_are_errors_that_say_where() {
        let good = plan().to_json().unwrap();
        let swap = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replacen(from, to, 1)
        };
        let cases = [
            (String::new(), "p.json:1:0"),
            ("{".to_owned(), "p.json:1:1"),
            ("[]".to_owned(), "no field `format`"),
            ("[".repeat(100_000), "p.json:1:"),
            (swap("bitloupe-plan/1", "bitloupe-plan/2"), "`bitloupe-plan/2`"),
            (swap("\"method\"", "\"methd\""), "unknown field `methd`"),
            (swap("\"seed\": 7", "\"seed\": -7"), "invalid value"),
            (swap("\"bits\": 4", "\"bits\": 9"), "no bit width"),
            (swap("\"input\": \"float\"", "\"inptu\": \"float\""), "unknown slot `inptu`"),
            (swap("\"input\": \"float\"", "\"input\": \"flat\""), "flat"),
            (swap("\"input\": \"float\"", "\"weight\": \"float\""), "`weight` comes twice"),
            (swap("\"miou\": 0.75", "\"miou\": 1e39"), "too large"),
            (swap("\"miou\": 0.75", "\"miou\": 1e999"), "out of range"),
            (swap("\"miou\": 0.75", "\"miou\": 1, \"miou\": 1"), "`miou` comes twice"),
            (swap("\"miou\": 0.75", "\"miou\": null"), "invalid type"),
        ];
        for (text, part) in cases {
            let error = Plan::from_json("p.json", text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("p.json") && error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn places_that_cannot_be_read_or_written_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Plan::read(&dir.path().join("none.json")).is_err());
        assert!(Plan::read(dir.path()).unwrap_err().to_string().contains("not a regular file"));
        assert!(plan().write(dir.path()).is_err());
        assert!(plan().write(&dir.path().join("none/p.json")).is_err());
        #[cfg(target_os = "linux")]
        for device in ["/dev/full", "/proc/p.json"] {
            let error = plan().write(Path::new(device)).unwrap_err().to_string();
            assert!(error.starts_with(device), "{error}");
        }
    }

    /// As much of JSON Schema as ours uses.
    fn validate(value: &Value, schema: &Value, root: &Value, at: &str) -> Result<(), String> {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let target = root.pointer(name.trim_start_matches('#')).ok_or(format!("no {name}"))?;
            return validate(value, target, root, at);
        }
        if let Some(options) = schema.get("oneOf").and_then(Value::as_array) {
            let fitting = options.iter().filter(|o| validate(value, o, root, at).is_ok()).count();
            return if fitting == 1 { Ok(()) } else { Err(format!("{at}: {fitting} options fit {value}")) };
        }
        if let Some(expected) = schema.get("const") {
            return if value == expected { Ok(()) } else { Err(format!("{at}: {value}")) };
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            return if words.contains(value) { Ok(()) } else { Err(format!("{at}: {value}")) };
        }
        let kinds = match &schema["type"] {
            Value::String(kind) => vec![kind.as_str()],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => return Err(format!("{at}: the schema says nothing")),
        };
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(n) if n.is_u64() || n.is_i64() => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let fits = kinds.contains(&kind) || (kind == "integer" && kinds.contains(&"number"));
        if !fits {
            return Err(format!("{at}: {kind} instead of {kinds:?}"));
        }
        for (i, item) in value.as_array().into_iter().flatten().enumerate() {
            validate(item, &schema["items"], root, &format!("{at}/{i}"))?;
        }
        for (name, field) in value.as_object().into_iter().flatten() {
            let place = format!("{at}/{name}");
            let rule = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
            if !rule.is_object() {
                return Err(format!("{place}: not in the schema"));
            }
            validate(field, rule, root, &place)?;
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            value.get(name).ok_or(format!("{at}: no {name}"))?;
        }
        Ok(())
    }

    #[test]
    fn written_plans_follow_the_schema() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let mut value: Value = serde_json::from_str(&plan().to_json().unwrap()).unwrap();
        validate(&value, &schema, &schema, "").unwrap();
        value["extra"] = Value::Null;
        assert!(validate(&value, &schema, &schema, "").is_err());
    }
}
