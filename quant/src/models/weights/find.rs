//! Which files of a folder hold the weights.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Tensors, Weights, read_file};
use crate::data::{DirFiles, Files};
use crate::models::ModelError;

/// What hubs call the weights, in the order they are looked for; the last ends those of several files.
const SAFETENSORS: &str = "model.safetensors";
const TORCH: &str = "pytorch_model.bin";
const INDEX: &str = ".index.json";
/// What training leaves beside the weights.
const NOT_WEIGHTS: [&str; 6] =
    ["training_args", "optimizer", "scheduler", "rng_state", "scaler", "random_states"];
/// Most files that one index may name.
const MAX_SHARDS: usize = 4096;

/// An index file: which tensor is in which file.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Opens the weights that a path means: a file, an index, or the folder they lie in.
pub(super) fn find(path: &Path) -> Result<Weights, ModelError> {
    let failed = |source| ModelError::Read { file: path.display().to_string(), source };
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        let named = path.file_name().and_then(|name| name.to_str());
        return match named.filter(|name| name.ends_with(INDEX)) {
            Some(index) => sharded(folder_of(path), index),
            None => Weights::open(path),
        };
    }
    let there = |name: &str| path.join(name).exists();
    let only = |endings: &[&str]| match candidates(path, endings).as_slice() {
        [one] => Some(path.join(one)),
        _ => None,
    };
    let index = |name: &str| there(&format!("{name}{INDEX}")).then(|| format!("{name}{INDEX}"));
    if there(SAFETENSORS) {
        return Weights::open(&path.join(SAFETENSORS));
    }
    if let Some(index) = index(SAFETENSORS) {
        return sharded(path, &index);
    }
    if let Some(file) = only(&["safetensors"]) {
        return Weights::open(&file);
    }
    if there(TORCH) {
        return Weights::open(&path.join(TORCH));
    }
    if let Some(index) = index(TORCH) {
        return sharded(path, &index);
    }
    if let Some(file) = only(&["pth"]).or_else(|| only(&["pth", "pt", "bin"])) {
        return Weights::open(&file);
    }
    let found = candidates(path, &["safetensors", "pth", "pt", "bin"]);
    Err(ModelError::NoWeights { folder: path.display().to_string(), found })
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Files in a folder that may hold weights, by their endings, sorted.
fn candidates(folder: &Path, endings: &[&str]) -> Vec<String> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().take(10_000);
    let mut names: Vec<String> = files
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.') && !NOT_WEIGHTS.iter().any(|start| name.starts_with(start)))
        .filter(|name| Path::new(name).extension().is_some_and(|e| endings.iter().any(|end| e == *end)))
        .collect();
    names.sort();
    names
}

/// The tensors of all files that an index names. The files are those of its folder; where they are links, as in the
/// caches of hubs, these may lead out of it.
fn sharded(folder: &Path, index: &str) -> Result<Weights, ModelError> {
    let files = DirFiles::open(folder)?.following_links();
    let shown = files.display(index);
    let fail = |message: String| ModelError::Shards { file: shown.clone(), message };
    let read: Index = serde_json::from_slice(&files.read(index)?).map_err(|e| fail(e.to_string()))?;
    let mut names: Vec<&str> = read.weight_map.values().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > MAX_SHARDS {
        return Err(fail(format!("it names {} files, more than {MAX_SHARDS}", names.len())));
    }
    let mut all = Tensors::default();
    for name in names {
        let path = shard(folder, name)
            .ok_or_else(|| fail(format!("it names the file `{name}`, which would lie outside its folder")))?;
        let tensors = read_file(&path).map_err(|error| match error {
            ModelError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                fail(format!("it names the file `{name}`, which is not there; download it too"))
            }
            other => other,
        })?;
        all.add(&path.display().to_string(), tensors)?;
    }
    for (tensor, file) in &read.weight_map {
        if !all.contains(tensor) {
            return Err(fail(format!("tensor `{tensor}` is not in `{file}`; download both again")));
        }
    }
    Ok(Weights::new(shown, all.without_parallel()))
}

/// A file in the folder, by a name that an index gives.
fn shard(folder: &Path, name: &str) -> Option<PathBuf> {
    let relative = Path::new(name);
    let stays = relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    (stays && !name.is_empty() && !name.contains('\0')).then(|| folder.join(relative))
}

#[cfg(test)]
mod tests;
