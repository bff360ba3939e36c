use std::fs;
use std::path::PathBuf;

use super::testing::{f32s, zip};
use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// A file in a folder of its own.
fn file(name: &str, bytes: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn problem(name: &str, bytes: impl AsRef<[u8]>) -> String {
    let (_folder, path) = file(name, bytes);
    let problem = Weights::open(&path).err().unwrap().to_string();
    assert!(problem.contains(name), "{problem}");
    problem
}

fn header(json: &str, data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data].concat()
}

/// Both have the same tensors, bit for bit; integers by name and shape.
fn same(a: &Weights, b: &Weights) {
    assert_eq!(a.names().collect::<Vec<_>>(), b.names().collect::<Vec<_>>());
    for name in a.names() {
        assert_eq!(a.shape(name), b.shape(name), "{name}");
        match (a.get(name), b.get(name)) {
            (Ok(a), Ok(b)) => {
                let bits = |t: &Tensor| t.data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&a), bits(&b), "{name}");
            }
            (Err(ModelError::TensorType { .. }), Err(ModelError::TensorType { .. })) => {}
            _ => panic!("{name}"),
        }
    }
}

/// A checkpoint as torch wrote it.
#[test]
fn a_torch_checkpoint_holds_what_its_safetensors_form_holds() {
    let folder = fixture("swin_tiny_original");
    let torch = Weights::open(&folder.join("checkpoint.pth")).unwrap();
    same(&torch, &Weights::open(&folder.join("model.safetensors")).unwrap());
}

/// The pickle of LAVT's training script (optimizer state, argparse Namespace and all), with the storages that its
/// weights are in.
#[test]
fn the_checkpoint_of_a_training_script_opens() {
    let folder = fixture("lavt_one_tiny");
    let expected = Weights::open(&folder.join("model.safetensors")).unwrap();
    let pickled = fs::read(folder.join("data.pkl")).unwrap();
    let pickle = pickle::read(&pickled).unwrap();
    let mut entries = vec![("archive/data.pkl".to_owned(), pickled.clone())];
    for (name, tensor) in state_dict::tensors(&pickle).unwrap() {
        let storage = pickle.storage(tensor).unwrap();
        let (_, stored) = &expected.tensors.0[&name];
        let bytes = &stored.bytes.as_slice()[stored.part.clone()];
        entries.push((format!("archive/data/{}", storage.key), bytes.to_vec()));
    }
    let entries: Vec<(&str, &[u8])> = entries.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    let (_folder, path) = file("checkpoint.pth", zip(&entries));
    same(&Weights::open(&path).unwrap(), &expected);
}

/// The released `lavt` checkpoints keep BERT in a dict of its own.
#[test]
fn a_second_dict_of_weights_is_read_under_its_key() {
    let one = Weights::open(&fixture("lavt_one_tiny/model.safetensors")).unwrap();
    let pickled = fs::read(fixture("lavt_one_tiny/two_dicts.pkl")).unwrap();
    let pickle = pickle::read(&pickled).unwrap();
    let mut found: Vec<(String, Vec<u64>)> = state_dict::tensors(&pickle)
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| (name, tensor.shape.clone()))
        .collect();
    found.sort();
    let bert = |name: &str| name.strip_prefix("text_encoder.").map(|rest| format!("bert_model.{rest}"));
    let shape = |name: &str| one.shape(name).unwrap().iter().map(|&n| n as u64).collect();
    let mut expected: Vec<(String, Vec<u64>)> =
        one.names().map(|name| (bert(name).unwrap_or(name.to_owned()), shape(name))).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn names_of_the_first_bert_are_found() {
    let json = r#"{"a.LayerNorm.gamma":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "a.LayerNorm.beta":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},
        "b.LayerNorm.weight":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},
        "b.LayerNorm.gamma":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}"#;
    let mut weights = Weights::from_bytes("w", header(json, &f32s(&[1.0, 2.0, 3.0, 4.0]))).unwrap();
    let value = |weights: &Weights, name: &str| weights.get(name).unwrap().data[0];
    assert_eq!(value(&weights, "a.LayerNorm.weight"), 1.0);
    assert_eq!(value(&weights, "a.LayerNorm.bias"), 2.0);
    assert_eq!(value(&weights, "b.LayerNorm.weight"), 3.0);
    assert_eq!(weights.stored_name("a.LayerNorm.weight"), Some("a.LayerNorm.gamma"));
    assert_eq!(weights.shape("a.LayerNorm.bias"), Some(vec![1]));
    assert_eq!(weights.stored_name("b.LayerNorm.bias"), None);
    weights.replace("a.LayerNorm.gamma", vec![5.0]);
    assert_eq!(value(&weights, "a.LayerNorm.weight"), 5.0);
}

/// A graph that asks for the new names has used the tensors with the old ones.
#[test]
fn an_old_name_counts_as_used() {
    let json = r#"{"n.LayerNorm.gamma":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
        "n.LayerNorm.beta":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#;
    let weights = Weights::from_bytes("w", header(json, &f32s(&[1.0; 4]))).unwrap();
    let mut builder = crate::graph::Builder::new(&weights);
    let mut g = builder.root();
    let x = g.input("x", &[1, 2]).unwrap();
    let y = g.layer_norm("n.LayerNorm", x, 1e-5).unwrap();
    builder.output("y", y);
    assert_eq!(builder.finish(|_| false).unwrap().params().len(), 2);
}

#[test]
fn values_of_a_mapped_file_are_not_copied() {
    let values: Vec<f32> = (0..SMALL + 2).map(|i| i as f32).collect();
    let end = values.len() * 4;
    let mut json = format!(
        r#"{{"w":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{}]}},
        "s":{{"dtype":"F32","shape":[1],"data_offsets":[{},{end}]}}}}"#,
        SMALL + 1,
        end - 4,
        end - 4
    );
    json += &" ".repeat(json.len().next_multiple_of(8) - json.len());
    let (_folder, path) = file("m.safetensors", header(&json, &f32s(&values)));
    let weights = Weights::open(&path).unwrap();
    let map = weights.tensors.0["w"].1.bytes.as_slice().as_ptr_range();
    let (large, small) = (weights.get("w").unwrap().data, weights.get("s").unwrap().data);
    assert!(map.contains(&large.as_slice().as_ptr().cast()));
    assert!(!map.contains(&small.as_slice().as_ptr().cast()));
    assert_eq!(*large, values[..=SMALL]);
    assert_eq!(*small, values[SMALL + 1..]);
    // Data at an odd place, as old writers left them, are converted.
    let (_folder, path) = file("m.safetensors", header(&format!("{json} "), &f32s(&values)));
    assert_eq!(*Weights::open(&path).unwrap().get("w").unwrap().data, values[..=SMALL]);
}

#[test]
fn broken_safetensors_files_are_refused() {
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        header(&format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), &[0; 8])
    };
    let two = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#;
    let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    let good = entry("F32", "[2]", "[0,8]");
    let cases: [(&str, Vec<u8>); 11] = [
        ("cut in the data", good[..good.len() - 1].to_vec()),
        ("cut in the header", good[..20].to_vec()),
        ("cut in the length", good[..5].to_vec()),
        ("a header longer than the file", header("{}", &[]).into_iter().chain([0]).skip(1).collect()),
        ("a header of 2^60 bytes", [&(1_u64 << 60).to_le_bytes()[..], b"{}"].concat()),
        ("overlapping", header(two, &[0; 6])),
        ("one name twice", header(twice, &[0; 8])),
        ("behind the end", entry("F32", "[2]", "[1000000,1000008]")),
        ("backwards", entry("F32", "[2]", "[8,0]")),
        ("too many values", entry("F32", "[2147483648,2147483648,2147483648]", "[0,8]")),
        ("an unknown type", entry("F31", "[2]", "[0,8]")),
    ];
    for (what, bytes) in cases {
        assert!(problem("m.safetensors", bytes).contains("not a readable safetensors file"), "{what}");
    }
}

#[test]
fn what_is_no_checkpoint_says_what_it_is() {
    assert!(problem("m.safetensors", b"").contains("empty"));
    assert!(problem("m.pth", b"").contains("empty"));
    assert!(
        problem("m.bin", b"version https://git-lfs.github.com/spec/v1\noid 1\n").contains("git lfs pull")
    );
    let old = problem("m.pth", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.");
    assert!(old.contains("before 1.6") && old.contains("torch.save(torch.load("), "{old}");
    assert!(problem("m.pth", b"<!DOCTYPE html>").contains("no zip file"));
    let folder = tempfile::tempdir().unwrap();
    let directory = Weights::open(folder.path()).err().unwrap().to_string();
    assert!(directory.contains("not a regular file"), "{directory}");
}

#[test]
fn values_that_are_no_weights_are_refused_by_tensor() {
    let json = |dtype: &str| format!(r#"{{"w":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,8]}}}}"#);
    let open = |dtype: &str, data: &[u8]| Weights::from_bytes("m", header(&json(dtype), data)).unwrap();
    let problem = |weights: Weights| weights.get("w").unwrap_err().to_string();
    assert!(problem(open("I32", &[0; 8])).contains("tensor `w` is stored as I32"));
    assert!(problem(open("F32", &f32s(&[0.0, f32::NAN]))).contains("NaN at index 1"));
    let near = open("F32", &[0; 8]).get("v").unwrap_err().to_string();
    assert!(near.contains("`v` is missing (nearest: w)"), "{near}");
}
