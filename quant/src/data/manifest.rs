//! `samples.jsonl`: one sample a line.
//!
//! `{"image": "a.png", "text": "the smaller dog on the left", "mask": "a-mask.png"}`; also `points`
//! (`[x, y]` or `[x, y, 1 | 0]` in pixels of the image), `box` (`[x0, y0, x1, y1]`), `label`, `prompt` (a second
//! picture that shows what is looked for) and `inputs` (a safetensors file with the model's inputs by name, which need no
//! picture then). Empty lines are passed over. Paths are relative to the manifest and stay inside its folder.

use serde::Deserialize;

use super::{DataError, MaskSpec};
use crate::plan::nearest;

/// Most samples of a manifest.
const MAX_SAMPLES: usize = 2_000_000;
/// Most points of a sample.
const MAX_POINTS: usize = 10_000;

const FIELDS: [&str; 8] = ["image", "text", "mask", "points", "box", "label", "prompt", "inputs"];

/// A click on the image.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "Vec<f32>")]
pub struct Point {
    /// Pixels from the left.
    pub x: f32,
    /// Pixels from the top.
    pub y: f32,
    /// Whether the point is on the object (1) or on the background (0).
    pub on_object: bool,
}

impl TryFrom<Vec<f32>> for Point {
    type Error = &'static str;

    fn try_from(values: Vec<f32>) -> Result<Self, Self::Error> {
        let (x, y, label) = match *values.as_slice() {
            [x, y] => (x, y, 1.0),
            [x, y, label] => (x, y, label),
            _ => return Err("a point is [x, y] or [x, y, 1 or 0]"),
        };
        if !(x.is_finite() && y.is_finite() && (label == 0.0 || label == 1.0)) {
            return Err("a point is [x, y] or [x, y, 1 or 0]");
        }
        Ok(Self { x, y, on_object: label == 1.0 })
    }
}

/// What a manifest says about one sample; nothing is loaded yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Picture file; none for a sample that is only text.
    pub image: Option<String>,
    /// Sentence.
    pub text: Option<String>,
    /// Truth.
    pub mask: Option<MaskSpec>,
    /// Clicks.
    pub points: Vec<Point>,
    /// `[x0, y0, x1, y1]` in pixels.
    pub bbox: Option<[f32; 4]>,
    /// Class.
    pub label: Option<String>,
    /// Picture file that shows what is looked for.
    pub prompt: Option<String>,
    /// Safetensors file with inputs of the model by name.
    pub inputs: Option<String>,
    /// Where this was written, for messages: `samples.jsonl:3`.
    pub place: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    image: Option<String>,
    text: Option<String>,
    mask: Option<MaskSpec>,
    #[serde(default)]
    points: Vec<Point>,
    #[serde(rename = "box")]
    bbox: Option<[f32; 4]>,
    label: Option<Label>,
    prompt: Option<String>,
    inputs: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a class name or number")]
enum Label {
    Name(String),
    Number(u64),
}

/// Reads the lines of a manifest; `path` is for messages.
pub fn read_jsonl(path: &str, bytes: &[u8]) -> Result<Vec<Entry>, DataError> {
    let mut entries = Vec::new();
    for (i, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let failed =
            |column, reason| DataError::Manifest { path: path.to_owned(), line: i + 1, column, reason };
        // Windows editors put a byte order mark in front.
        let line = if i == 0 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        let text = std::str::from_utf8(line)
            .map_err(|e| failed(e.valid_up_to() + 1, "not UTF-8 text; save it as UTF-8".to_owned()))?;
        if text.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(text).map_err(|e| failed(e.column(), explain(&e, &FIELDS)))?;
        for (field, name, kind) in [
            ("image", &line.image, "picture"),
            ("prompt", &line.prompt, "picture"),
            ("inputs", &line.inputs, "safetensors"),
        ] {
            if name.as_deref() == Some("") {
                return Err(failed(1, format!("`{field}` is empty; name a {kind} file")));
            }
        }
        let alone = line.inputs.is_some() || line.text.is_some();
        let about = line.mask.is_some() || line.prompt.is_some();
        if line.image.is_none() && (about || !alone) {
            return Err(failed(1, "missing field `image`".to_owned()));
        }
        if line.points.len() > MAX_POINTS {
            return Err(failed(1, format!("more than {MAX_POINTS} points")));
        }
        if let Some([x0, y0, x1, y1]) = line.bbox
            && !(x0.is_finite() && y0.is_finite() && x1.is_finite() && y1.is_finite() && x0 < x1 && y0 < y1)
        {
            return Err(failed(1, "`box` must be [x0, y0, x1, y1] with x0 < x1 and y0 < y1".to_owned()));
        }
        if entries.len() == MAX_SAMPLES {
            return Err(failed(1, format!("more than {MAX_SAMPLES} samples; split the manifest")));
        }
        entries.push(Entry {
            image: line.image,
            text: line.text,
            mask: line.mask,
            points: line.points,
            bbox: line.bbox,
            label: line.label.map(|label| match label {
                Label::Name(name) => name,
                Label::Number(n) => n.to_string(),
            }),
            prompt: line.prompt,
            inputs: line.inputs,
            place: format!("{path}:{}", i + 1),
        });
    }
    if entries.is_empty() {
        return Err(DataError::Empty {
            path: path.to_owned(),
            expected: "a line such as {\"image\": \"a.png\", \"text\": \"the dog\"}",
        });
    }
    Ok(entries)
}

/// The JSON library's words without its own position (it counts lines within the line), and the field that
/// may have been meant.
pub(super) fn explain(error: &serde_json::Error, fields: &[&str]) -> String {
    if error.is_eof() {
        return "it ends in the middle; close its quotes and braces, or take another copy".to_owned();
    }
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(before, _)| before);
    if let Some(unknown) = text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
        let meant = nearest(unknown, fields.iter().copied(), 1);
        return match meant.first() {
            Some(field) => format!("unknown field `{unknown}`; did you mean `{field}`?"),
            None => format!("unknown field `{unknown}`; known are {}", fields.join(", ")),
        };
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fields_are_read() {
        let text = "\u{feff}{\"image\": \"a.png\"}\n\n{\"image\": \"b.png\", \"text\": \"the dog\", \"mask\": \"m.png\", \
            \"points\": [[1, 2], [3, 4, 0]], \"box\": [0, 1, 2, 3], \"label\": 7, \"prompt\": \"p.png\"}\r\n{\"inputs\": \"i.safetensors\"}\n";
        let entries = read_jsonl("s.jsonl", text.as_bytes()).unwrap();
        assert_eq!(entries.len(), 3);
        assert_eq!((&entries[2].image, entries[2].inputs.as_deref()), (&None, Some("i.safetensors")));
        assert_eq!(entries[1].prompt.as_deref(), Some("p.png"));
        assert_eq!(entries[0].place, "s.jsonl:1");
        let second = &entries[1];
        assert_eq!(second.place, "s.jsonl:3");
        assert_eq!(second.mask, Some(MaskSpec::File("m.png".to_owned())));
        assert_eq!(second.points[1], Point { x: 3.0, y: 4.0, on_object: false });
        assert_eq!((second.bbox, second.label.as_deref()), (Some([0.0, 1.0, 2.0, 3.0]), Some("7")));
    }

    #[test]
    fn masks_are_read_in_every_writing() {
        let read = |mask: &str| {
            let line = format!("{{\"image\": \"a.png\", \"mask\": {mask}}}");
            read_jsonl("s", line.as_bytes()).map(|mut e| e.remove(0).mask)
        };
        assert!(matches!(read("[[0, 0, 1, 0, 1, 1]]"), Ok(Some(MaskSpec::Polygons(_)))));
        assert!(matches!(read("{\"size\": [2, 2], \"counts\": [1, 3]}"), Ok(Some(MaskSpec::Rle(_)))));
        assert!(matches!(read("{\"size\": [2, 2], \"counts\": \"13\"}"), Ok(Some(MaskSpec::Rle(_)))));
        assert!(matches!(read("null"), Ok(None)));
        for bad in ["3", "{\"size\": [2]}", "{\"size\": [2, 2], \"counts\": [-1]}", "[\"a\"]"] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("s:1:") && error.contains("polygons"), "{error}");
        }
    }

    #[test]
    fn a_broken_line_is_named() {
        let cases: [(&[u8], &str); 12] = [
            (b"", "no samples"),
            (b"\n \n", "no samples"),
            (b"{\"image\": \"a\"}\n{\"image\": \"b\"", "s.jsonl:2:"),
            (b"{\"image\": \"a\", \"imge\": 1}", "did you mean `image`?"),
            (b"{\"image\": \"a\", \"zebra\": 1}", "known are image"),
            (b"{\"image\": \"a\", \"image\": \"b\"}", "duplicate field `image`"),
            (b"{\"image\": \"a\", \"box\": [3, 0, 1, 1]}", "x0 < x1"),
            (b"{\"image\": \"a\", \"points\": [[1]]}", "a point is"),
            (b"{\"image\": \"a\", \"prompt\": \"\"}", "`prompt` is empty"),
            (b"{\"text\": \"a\", \"prompt\": \"p.png\"}", "missing field `image`"),
            (b"{\"inputs\": \"\"}", "`inputs` is empty; name a safetensors file"),
            (b"{\"image\": \"\xff\"}", "s.jsonl:1:12: not UTF-8"),
        ];
        for (bytes, part) in cases {
            let error = read_jsonl("s.jsonl", bytes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
