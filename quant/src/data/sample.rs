//! Samples, loaded when they are needed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use super::coco::read_coco;
use super::coco_mask::{draw_polygons, draw_rle};
use super::tensors::read_tensors;
use super::{
    DataError, DirFiles, Entry, Files, GivenTensor, MaskSpec, Point, RgbImage, decode_image, decode_mask,
    read_jsonl,
};
use crate::eval::metrics::BinaryMask;

/// What a manifest is called when a folder is opened, best first.
const MANIFESTS: [&str; 2] = ["samples.jsonl", "annotations.json"];
const PICTURES: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// An image with what is asked about it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Short name, unique in its set.
    pub id: String,
    /// The picture, if there is one.
    pub image: Option<Arc<RgbImage>>,
    /// The sentence.
    pub text: Option<String>,
    /// The truth, of the picture's size.
    pub mask: Option<Arc<BinaryMask>>,
    /// Clicks, in pixels of the picture.
    pub points: Vec<Point>,
    /// `[x0, y0, x1, y1]`, in pixels of the picture.
    pub bbox: Option<[f32; 4]>,
    /// Class.
    pub label: Option<String>,
    /// The picture that shows what is looked for.
    pub prompt: Option<Arc<RgbImage>>,
    /// Inputs of the model, given as they are.
    pub inputs: BTreeMap<String, GivenTensor>,
}

/// An ordered set of samples behind [`Files`].
#[derive(Clone)]
pub struct SampleSet {
    files: Arc<dyn Files>,
    name: String,
    entries: Vec<Entry>,
    ids: Vec<String>,
    contents: Arc<OnceLock<Vec<Content>>>,
    fingerprint: Arc<OnceLock<String>>,
}

/// SHA-256 of what a sample is made of.
#[derive(Clone, Copy)]
struct Content {
    image: Option<[u8; 32]>,
    /// Text, mask, points, box, label, the picture that prompts and the inputs that are given.
    prompt: [u8; 32],
}

impl std::fmt::Debug for SampleSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SampleSet({}, {} samples)", self.name, self.entries.len())
    }
}

impl SampleSet {
    /// Opens a folder (its `samples.jsonl`, else `annotations.json`, else all its pictures) or a manifest
    /// (`.jsonl`, `.json`), whose paths are then relative to its folder.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        if path.is_dir() {
            return Self::from_files(Arc::new(DirFiles::open(path)?));
        }
        if let Err(source) = path.metadata() {
            return Err(DataError::Io { path: path.display().to_string(), source });
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let files = Arc::new(DirFiles::open(folder)?);
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        Self::from_manifest(files, name)
    }

    /// The samples of a folder or table.
    pub fn from_files(files: Arc<dyn Files>) -> Result<Self, DataError> {
        if let Some(name) = MANIFESTS.iter().find(|name| files.contains(name)) {
            return Self::from_manifest(files, name);
        }
        let entries: Vec<Entry> = files
            .list()?
            .into_iter()
            .filter(|name| extension(name).is_some_and(|e| PICTURES.contains(&e.as_str())))
            .map(|image| Entry {
                place: files.display(&image),
                image: Some(image),
                text: None,
                mask: None,
                points: Vec::new(),
                bbox: None,
                label: None,
                prompt: None,
                inputs: None,
            })
            .collect();
        Self::new(files, String::new(), entries)
    }

    /// The samples of one manifest; `.json` is COCO, everything else one sample a line.
    pub fn from_manifest(files: Arc<dyn Files>, name: &str) -> Result<Self, DataError> {
        let bytes = files.read(name)?;
        let shown = files.display(name);
        let mut entries = if extension(name).as_deref() == Some("json") {
            read_coco(&shown, &bytes)?
        } else {
            read_jsonl(&shown, &bytes)?
        };
        drop(bytes);
        if let Some((folder, _)) = name.rsplit_once('/') {
            for entry in &mut entries {
                for file in [&mut entry.image, &mut entry.prompt, &mut entry.inputs].into_iter().flatten() {
                    *file = format!("{folder}/{file}");
                }
                if let Some(MaskSpec::File(file)) = &mut entry.mask {
                    *file = format!("{folder}/{file}");
                }
            }
        }
        Self::new(files, name.to_owned(), entries)
    }

    fn new(files: Arc<dyn Files>, name: String, entries: Vec<Entry>) -> Result<Self, DataError> {
        if entries.is_empty() {
            return Err(DataError::Empty {
                path: files.display(&name),
                expected: "a samples.jsonl, a COCO annotations.json, or PNG, JPEG or WebP pictures",
            });
        }
        let mut seen: HashMap<String, usize> = HashMap::new();
        let ids = entries
            .iter()
            .map(|entry| {
                let image = entry.image.as_deref().or(entry.inputs.as_deref()).unwrap_or("text");
                let stem = image.rsplit_once('.').map_or(image, |(stem, _)| stem);
                let count = seen.entry(stem.to_owned()).or_insert(0);
                *count += 1;
                if *count == 1 { stem.to_owned() } else { format!("{stem}#{count}") }
            })
            .collect();
        Ok(Self { files, name, entries, ids, contents: Arc::default(), fingerprint: Arc::default() })
    }

    /// The first `count` samples (all, when there are fewer).
    #[must_use]
    pub fn take(&self, count: usize) -> Self {
        let count = count.min(self.entries.len());
        Self {
            files: Arc::clone(&self.files),
            name: self.name.clone(),
            entries: self.entries.iter().take(count).cloned().collect(),
            ids: self.ids.iter().take(count).cloned().collect(),
            contents: Arc::default(),
            fingerprint: Arc::default(),
        }
    }

    /// Number of samples; never 0.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Always false: an empty set cannot be made.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the manifest says, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The short name of a sample.
    pub fn id(&self, index: usize) -> Option<&str> {
        self.ids.get(index).map(String::as_str)
    }

    /// Where a sample comes from, for messages: its picture's file, and the line that names it.
    pub fn place(&self, index: usize) -> String {
        let Some(entry) = self.entries.get(index) else { return format!("sample {index}") };
        match entry.image.as_ref().or(entry.inputs.as_ref()).map(|name| self.files.display(name)) {
            Some(file) if file != entry.place => format!("{} ({file})", entry.place),
            _ => entry.place.clone(),
        }
    }

    /// Decodes one sample: picture and mask.
    pub fn load(&self, index: usize) -> Result<Sample, DataError> {
        let (Some(entry), Some(id)) = (self.entries.get(index), self.ids.get(index)) else {
            return Err(DataError::Config {
                path: self.files.display(&self.name),
                reason: format!("sample {index} of {}", self.entries.len()),
            });
        };
        let decode = |name: &String| decode_image(&self.files.display(name), &self.files.read(name)?);
        let (image, prompt) =
            (entry.image.as_ref().map(decode).transpose()?, entry.prompt.as_ref().map(decode).transpose()?);
        let inputs = self.given(entry)?;
        let (width, height) = image.as_ref().map_or((0, 0), |image| (image.width(), image.height()));
        let failed = |reason| DataError::Mask { place: entry.place.clone(), reason };
        let mask = match &entry.mask {
            None => None,
            Some(MaskSpec::File(file)) => {
                Some(decode_mask(&self.files.display(file), &self.files.read(file)?)?)
            }
            Some(MaskSpec::Polygons(polygons)) => {
                Some(draw_polygons(polygons, width, height).map_err(failed)?)
            }
            Some(MaskSpec::Rle(rle)) => Some(draw_rle(rle).map_err(failed)?),
        };
        if let Some(mask) = &mask
            && (mask.width(), mask.height()) != (width, height)
        {
            return Err(failed(format!(
                "it is {}x{} and the image {} is {width}x{height}; they must be of one size",
                mask.width(),
                mask.height(),
                entry.image.as_deref().unwrap_or_default()
            )));
        }
        Ok(Sample {
            id: id.clone(),
            image: image.map(Arc::new),
            text: entry.text.clone(),
            mask: mask.map(Arc::new),
            points: entry.points.clone(),
            bbox: entry.bbox,
            label: entry.label.clone(),
            prompt: prompt.map(Arc::new),
            inputs,
        })
    }

    /// The inputs that an entry gives as tensors.
    pub fn given(&self, entry: &Entry) -> Result<BTreeMap<String, GivenTensor>, DataError> {
        match &entry.inputs {
            Some(name) => read_tensors(&self.files.display(name), &self.files.read(name)?),
            None => Ok(BTreeMap::new()),
        }
    }

    /// SHA-256 (hexadecimal) over the contents in order: picture files, texts, masks and prompts, without
    /// names. Reads every file once; the result is kept.
    pub fn fingerprint(&self) -> Result<&str, DataError> {
        if self.fingerprint.get().is_none() {
            let mut all = Sha256::new();
            all.update(b"bitloupe-samples/1\0");
            for content in self.contents()? {
                content.image.iter().for_each(|image| all.update(image));
                all.update(content.prompt);
            }
            let _ = self.fingerprint.set(hexadecimal(&all.finalize()));
        }
        Ok(self.fingerprint.get().map_or("", String::as_str))
    }

    /// What tells every sample from all others, in order: its name, `@` and 16 hexadecimal digits of what is in it. Names
    /// alone do not: many folders hold a `0001.png`.
    pub fn keys(&self) -> Result<Vec<String>, DataError> {
        let key = |(id, content): (&String, &Content)| {
            let mut all = Sha256::new();
            all.update(content.image.unwrap_or_default());
            all.update(content.prompt);
            format!("{id}@{}", hexadecimal(&all.finalize()[..8]))
        };
        Ok(self.ids.iter().zip(self.contents()?).map(key).collect())
    }

    /// Reads every file once; the result is kept.
    fn contents(&self) -> Result<&[Content], DataError> {
        if self.contents.get().is_none() {
            let content = |entry: &Entry| {
                let hash = |image| Ok::<_, DataError>(Sha256::digest(&*self.files.read(image)?).into());
                let image = entry.image.as_deref().map(hash).transpose()?;
                Ok(Content { image, prompt: self.prompt_hash(entry)? })
            };
            let all = self.entries.iter().map(content).collect::<Result<_, DataError>>()?;
            let _ = self.contents.set(all);
        }
        Ok(self.contents.get().map_or(&[], Vec::as_slice))
    }

    fn prompt_hash(&self, entry: &Entry) -> Result<[u8; 32], DataError> {
        let mut hash = Sha256::new();
        // Lengths in front keep "ab" + "c" apart from "a" + "bc".
        let mut part = |name: &str, bytes: &[u8]| {
            hash.update(name.as_bytes());
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part("text", entry.text.as_deref().unwrap_or("\0").as_bytes());
        match &entry.mask {
            Some(MaskSpec::File(file)) => part("mask", &self.files.read(file)?),
            Some(drawn) => part("mask", format!("{drawn:?}").as_bytes()),
            None => part("no mask", b""),
        }
        for p in &entry.points {
            part("point", &[p.x.to_le_bytes(), p.y.to_le_bytes(), [u8::from(p.on_object); 4]].concat());
        }
        for v in entry.bbox.iter().flatten() {
            part("box", &v.to_le_bytes());
        }
        part("label", entry.label.as_deref().unwrap_or("\0").as_bytes());
        for (name, file) in [("prompt", &entry.prompt), ("inputs", &entry.inputs)] {
            if let Some(file) = file {
                part(name, &self.files.read(file)?);
            }
        }
        Ok(hash.finalize().into())
    }

    fn picture_hashes(&self) -> Result<Vec<([u8; 32], &str)>, DataError> {
        let mut known: HashSet<&str> = HashSet::new();
        let mut hashes = Vec::new();
        for entry in &self.entries {
            if let Some(image) = &entry.image
                && known.insert(image)
            {
                hashes.push((Sha256::digest(&*self.files.read(image)?).into(), image.as_str()));
            }
        }
        Ok(hashes)
    }
}

/// One picture in both sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Its file in the calibration set.
    pub calibration: String,
    /// Its file in the evaluation set.
    pub evaluation: String,
}

impl std::fmt::Display for Duplicate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} is evaluated and, as {}, calibrated on: the figures will be too good",
            self.evaluation, self.calibration
        )
    }
}

/// Pictures (equal file contents) that are both calibrated on and evaluated, a warning to be shown.
pub fn duplicates(calibration: &SampleSet, evaluation: &SampleSet) -> Result<Vec<Duplicate>, DataError> {
    let known: HashMap<[u8; 32], &str> = calibration.picture_hashes()?.into_iter().collect();
    Ok(evaluation
        .picture_hashes()?
        .into_iter()
        .filter_map(|(hash, name)| {
            known
                .get(&hash)
                .map(|same| Duplicate { calibration: (*same).to_owned(), evaluation: name.to_owned() })
        })
        .collect())
}

fn extension(name: &str) -> Option<String> {
    Path::new(name).extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{b:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::EmbeddedFiles;

    const A: &[u8] = include_bytes!("../../../tests/fixtures/lavt_one_tiny/image0.png");
    const B: &[u8] = include_bytes!("../../../tests/fixtures/lavt_one_tiny/image1.png");

    fn open(table: &'static [(&'static str, &'static [u8])]) -> Result<SampleSet, DataError> {
        SampleSet::from_files(Arc::new(EmbeddedFiles(table)))
    }

    #[test]
    fn pictures_of_a_folder_are_samples() {
        let set = open(&[("b.png", B), ("notes.txt", b"x"), ("a.png", A)]).unwrap();
        assert_eq!(set.len(), 2);
        let sample = set.load(0).unwrap();
        assert_eq!((sample.id.as_str(), sample.image.as_ref().unwrap().width()), ("a", 71));
        assert!(sample.text.is_none() && sample.mask.is_none());
        assert!(set.load(2).is_err());
    }

    #[test]
    fn keys_tell_contents_and_names_apart() {
        let set = open(&[("a.png", A), ("b.png", B), ("c.png", A)]).unwrap();
        let other = open(&[("a.png", B), ("b.png", B)]).unwrap();
        let (keys, others) = (set.keys().unwrap(), other.keys().unwrap());
        let parts: Vec<_> = keys.iter().map(|key| key.split_once('@').unwrap()).collect();
        assert!(parts[0].1 == parts[2].1 && parts[0].1 != parts[1].1 && parts[0].1.len() == 16);
        assert_eq!((parts[0].0, parts[2].0), ("a", "c"));
        assert!(keys[0] != others[0] && keys[1] == others[1]);
        assert_eq!(set.take(2).keys().unwrap(), keys[..2]);
    }

    #[test]
    fn a_manifest_is_loaded_with_its_masks() {
        let set = open(&[
            ("a.png", A),
            ("samples.jsonl", b"{\"image\":\"a.png\",\"text\":\"x\",\"mask\":[[0,0,9,0,9,9,0,9]]}\n{\"image\":\"a.png\",\"mask\":\"a.png\"}\n{\"image\":\"a.png\",\"mask\":{\"size\":[2,2],\"counts\":[4]}}"),
        ])
        .unwrap();
        let first = set.load(0).unwrap();
        assert_eq!(first.mask.unwrap().count(), 81);
        let second = set.load(1).unwrap();
        assert_eq!((second.id.as_str(), second.mask.unwrap().width()), ("a#2", 71));
        let error = set.load(2).unwrap_err().to_string();
        assert!(
            error.contains("samples.jsonl:3") && error.contains("2x2") && error.contains("71x53"),
            "{error}"
        );
    }

    #[test]
    fn fingerprints_follow_contents_not_names() {
        let of = |table| open(table).unwrap().fingerprint().unwrap().to_owned();
        let base = of(&[("a.png", A), ("b.png", B)]);
        assert_eq!(base.len(), 64);
        assert_eq!(base, of(&[("c.png", A), ("d.png", B)]));
        assert_ne!(base, of(&[("a.png", B), ("b.png", A)]));
        let line = of(&[("a.png", A), ("samples.jsonl", b"{\"image\":\"a.png\",\"text\":\"x\"}")]);
        assert_ne!(line, of(&[("a.png", A), ("samples.jsonl", b"{\"image\":\"a.png\",\"text\":\"y\"}")]));
    }

    #[test]
    fn a_picture_in_both_sets_is_reported() {
        let calibration = open(&[("a.png", A)]).unwrap();
        let evaluation = open(&[("x.png", A), ("y.png", B)]).unwrap();
        let found = duplicates(&calibration, &evaluation).unwrap();
        assert_eq!(found, [Duplicate { calibration: "a.png".to_owned(), evaluation: "x.png".to_owned() }]);
        assert!(found[0].to_string().starts_with("x.png is evaluated"));
    }

    #[test]
    fn bad_sets_are_errors() {
        assert!(matches!(open(&[]), Err(DataError::Empty { .. })));
        assert!(matches!(open(&[("samples.jsonl", b"")]), Err(DataError::Empty { .. })));
        let set = open(&[("samples.jsonl", b"{\"image\":\"../a.png\"}")]).unwrap();
        assert!(set.load(0).is_err());
        let set = open(&[("a.png", b"no picture")]).unwrap();
        assert!(matches!(set.load(0), Err(DataError::Image { .. })));
    }

    #[test]
    fn folders_and_manifests_on_disk_open() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.png"), A).unwrap();
        let manifest = dir.path().join("mine.jsonl");
        std::fs::write(&manifest, b"{\"image\":\"a.png\",\"text\":\"x\"}").unwrap();
        assert!(SampleSet::open(dir.path()).unwrap().load(0).unwrap().text.is_none());
        assert_eq!(SampleSet::open(&manifest).unwrap().load(0).unwrap().text.as_deref(), Some("x"));
        std::fs::write(&manifest, b"{\"image\":\"../a.png\"}").unwrap();
        assert!(matches!(SampleSet::open(&manifest).unwrap().load(0), Err(DataError::Escapes { .. })));
        assert!(SampleSet::open(&dir.path().join("none")).is_err());
    }
}
