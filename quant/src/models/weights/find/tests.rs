use std::fs;

use super::super::testing::{Pickler, f32s, torch};
use super::*;

/// A safetensors file with these tensors of one value each.
fn safetensors(names: &[&str]) -> Vec<u8> {
    let one = f32s(&[1.0]);
    let view =
        |_: &&str| safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &one).unwrap();
    safetensors::serialize(names.iter().map(|name| (*name, view(name))), None).unwrap()
}

/// A torch file with one tensor of this name.
fn pth(name: &str) -> Vec<u8> {
    let p = Pickler::new().raw(b"}").text(name).tensor(("FloatStorage", "0", 1), 0, &[1], &[1]);
    torch(&p.raw(b"s").stop(), &[("0", &f32s(&[1.0]))])
}

fn index(pairs: &[(&str, &str)]) -> Vec<u8> {
    let map: BTreeMap<_, _> = pairs.iter().copied().collect();
    serde_json::to_vec(&serde_json::json!({"metadata": {"total_size": 8}, "weight_map": map})).unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        fs::write(self.0.path().join(name), bytes).unwrap();
        self
    }

    fn names(&self) -> Vec<String> {
        find(self.0.path()).unwrap().names().map(ToOwned::to_owned).collect()
    }

    fn problem(&self) -> String {
        find(self.0.path()).err().unwrap().to_string()
    }
}

#[test]
fn the_files_of_a_folder_are_looked_for_in_order() {
    let mut folder = Folder::new().with("b.pth", pth("pth")).with("optimizer.pt", b"?");
    assert_eq!(folder.names(), ["pth"]);
    folder = folder.with("pytorch_model-1.bin", pth("indexed bin"));
    folder = folder.with("pytorch_model.bin.index.json", index(&[("indexed bin", "pytorch_model-1.bin")]));
    assert_eq!(folder.names(), ["indexed bin"]);
    folder = folder.with("pytorch_model.bin", pth("bin"));
    assert_eq!(folder.names(), ["bin"]);
    folder = folder.with("other.safetensors", safetensors(&["single"]));
    assert_eq!(folder.names(), ["single"]);
    folder = folder.with("model.safetensors.index.json", index(&[("single", "other.safetensors")]));
    folder = folder.with("second.safetensors", safetensors(&["second"]));
    assert_eq!(folder.names(), ["single"]);
    folder = folder.with("model.safetensors", safetensors(&["model"]));
    assert_eq!(folder.names(), ["model"]);
    let direct = |name: &str| find(&folder.0.path().join(name)).unwrap().names().next().unwrap().to_owned();
    assert_eq!(direct("b.pth"), "pth");
    assert_eq!(direct("pytorch_model.bin.index.json"), "indexed bin");
}

#[test]
fn several_files_are_one_checkpoint() {
    let map = index(&[("a", "1.safetensors"), ("b", "2.safetensors"), ("c", "3.bin")]);
    let folder = Folder::new()
        .with("1.safetensors", safetensors(&["a"]))
        .with("2.safetensors", safetensors(&["b", "b2"]))
        .with("3.bin", pth("c"))
        .with("model.safetensors.index.json", map);
    assert_eq!(folder.names(), ["a", "b", "b2", "c"]);
    let weights = find(folder.0.path()).unwrap();
    assert!(weights.file().ends_with("model.safetensors.index.json"));
    assert_eq!(weights.get("b2").unwrap().data.to_vec(), [1.0]);
}

#[test]
fn an_index_that_does_not_go_with_its_files_is_refused() {
    let with = |pairs: &[(&str, &str)]| {
        Folder::new()
            .with("1.safetensors", safetensors(&["a", "b"]))
            .with("2.safetensors", safetensors(&["b"]))
            .with("model.safetensors.index.json", index(pairs))
            .problem()
    };
    let shown = "model.safetensors.index.json";
    for outside in ["../1.safetensors", "/etc/passwd", "a/../../b", "", "a\0b"] {
        let problem = with(&[("a", outside)]);
        assert!(problem.contains(shown) && problem.contains("outside its folder"), "{problem}");
    }
    let problem = with(&[("a", "3.safetensors")]);
    assert!(problem.contains(shown) && problem.contains("`3.safetensors`, which is not there"), "{problem}");
    let problem = with(&[("a", "1.safetensors"), ("b", "2.safetensors")]);
    assert!(problem.contains("tensor `b` is in") && problem.contains("2.safetensors"), "{problem}");
    let problem = with(&[("c", "2.safetensors")]);
    assert!(problem.contains("`c` is not in `2.safetensors`"), "{problem}");
    for broken in ["", "[]", "{}", "{\"weight_map\": 1}", "{\"weight_map\": {\"a\": 1}}"] {
        let folder = Folder::new().with(shown, broken);
        assert!(folder.problem().contains(shown), "{broken}");
    }
}

/// As model hubs lay out their caches.
#[cfg(unix)]
#[test]
fn files_may_be_links() {
    let blobs = Folder::new().with("x", safetensors(&["a"])).with("y", safetensors(&["b"]));
    let folder = Folder::new()
        .with("model.safetensors.index.json", index(&[("a", "1.safetensors"), ("b", "2.safetensors")]));
    for (blob, name) in [("x", "1.safetensors"), ("y", "2.safetensors")] {
        std::os::unix::fs::symlink(blobs.0.path().join(blob), folder.0.path().join(name)).unwrap();
    }
    assert_eq!(folder.names(), ["a", "b"]);
}

#[test]
fn a_folder_without_weights_says_what_was_looked_for() {
    let problem = Folder::new().with("training_args.bin", b"?").problem();
    assert!(problem.contains("no model.safetensors") && !problem.contains("training_args"), "{problem}");
    let two = Folder::new().with("a.pth", pth("a")).with("b.pth", pth("b")).problem();
    assert!(two.contains("`a.pth`, `b.pth`"), "{two}");
    let none = find(Path::new("no/such/place")).err().unwrap().to_string();
    assert!(none.contains("no/such/place"), "{none}");
}
