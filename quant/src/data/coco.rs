//! COCO `annotations.json`, as far as it names a picture, a phrase and a mask.
//!
//! An annotation becomes one sample for each of its phrases (`caption`, or `sentences` as texts or as RefCOCO's
//! `{"raw" | "sent"}`), or one without text. Unlike our own manifest, other fields are passed over: COCO files
//! carry many.

use std::collections::HashMap;

use serde::Deserialize;

use super::manifest::{Entry, explain};
use super::{DataError, MaskSpec};

#[derive(Deserialize)]
struct File {
    images: Vec<Picture>,
    annotations: Vec<Annotation>,
    #[serde(default)]
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Picture {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    segmentation: Option<MaskSpec>,
    bbox: Option<[f32; 4]>,
    caption: Option<String>,
    #[serde(default)]
    sentences: Vec<Sentence>,
    category_id: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or {\"sent\": text}")]
enum Sentence {
    Text(String),
    Sent { sent: String },
    Raw { raw: String },
}

/// Reads the file; `path` is for messages.
pub(super) fn read_coco(path: &str, bytes: &[u8]) -> Result<Vec<Entry>, DataError> {
    let file: File = serde_json::from_slice(bytes).map_err(|e| DataError::Manifest {
        path: path.to_owned(),
        line: e.line(),
        column: e.column(),
        reason: format!("{}; expected COCO's images and annotations", explain(&e, &[])),
    })?;
    let pictures: HashMap<u64, &str> = file.images.iter().map(|p| (p.id, p.file_name.as_str())).collect();
    let categories: HashMap<u64, &str> = file.categories.iter().map(|c| (c.id, c.name.as_str())).collect();
    let mut entries = Vec::new();
    for (i, annotation) in file.annotations.into_iter().enumerate() {
        let place = format!("{path}: annotations[{i}]");
        let image = pictures.get(&annotation.image_id).ok_or_else(|| DataError::Config {
            path: place.clone(),
            reason: format!("image_id {} is none of the images", annotation.image_id),
        })?;
        let mut texts: Vec<Option<String>> = annotation.caption.into_iter().map(Some).collect();
        texts.extend(annotation.sentences.into_iter().map(|sentence| match sentence {
            Sentence::Text(text) | Sentence::Sent { sent: text } | Sentence::Raw { raw: text } => Some(text),
        }));
        if texts.is_empty() {
            texts.push(None);
        }
        // An empty list is how COCO writes that there is none.
        let mask = annotation.segmentation.filter(|m| *m != MaskSpec::Polygons(Vec::new()));
        let bbox = annotation.bbox.filter(|b| b.iter().all(|v| v.is_finite()) && b[2] > 0.0 && b[3] > 0.0);
        let label = annotation.category_id.and_then(|id| categories.get(&id));
        entries.extend(texts.into_iter().map(|text| Entry {
            image: Some((*image).to_owned()),
            text,
            mask: mask.clone(),
            points: Vec::new(),
            bbox: bbox.map(|[x, y, w, h]| [x, y, x + w, y + h]),
            label: label.map(|&name| name.to_owned()),
            prompt: None,
            inputs: None,
            place: place.clone(),
        }));
    }
    if entries.is_empty() {
        return Err(DataError::Empty { path: path.to_owned(), expected: "at least one annotation" });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_for_each_phrase() {
        let json = r#"{"info": {"year": 2014}, "images": [{"id": 5, "file_name": "a.png", "width": 4}],
            "annotations": [{"id": 1, "image_id": 5, "segmentation": [[0, 0, 2, 0, 2, 2]], "iscrowd": 0,
              "bbox": [1, 1, 2, 2], "category_id": 3, "sentences": ["left dog", {"sent": "dog", "raw": "Dog"}]},
              {"image_id": 5, "segmentation": []}],
            "categories": [{"id": 3, "name": "dog"}]}"#;
        let entries = read_coco("c.json", json.as_bytes()).unwrap();
        let texts: Vec<_> = entries.iter().map(|e| e.text.as_deref()).collect();
        assert_eq!(texts, [Some("left dog"), Some("dog"), None]);
        assert_eq!(entries[0].bbox, Some([1.0, 1.0, 3.0, 3.0]));
        assert_eq!(entries[0].label.as_deref(), Some("dog"));
        assert!(entries[1].mask.is_some() && entries[2].mask.is_none());
    }

    #[test]
    fn bad_files_are_errors() {
        let cases = [
            ("", "c.json:1:0"),
            ("{\"images\": []}", "annotations"),
            ("{\"images\": [], \"annotations\": []}", "no samples"),
            ("{\"images\": [], \"annotations\": [{\"image_id\": 1}]}", "annotations[0]"),
            ("{\"images\": 3,\n", "c.json:1:12"),
        ];
        for (json, part) in cases {
            let error = read_coco("c.json", json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
