use super::super::testing::{Pickler, f32s, torch, zip, zip_with};
use super::*;

fn open(file: Vec<u8>) -> Result<Vec<(String, Stored)>, ModelError> {
    read("w.pth", &Arc::new(Bytes::Owned(file)))
}

fn problem(file: Vec<u8>) -> String {
    open(file).err().unwrap().to_string()
}

/// A checkpoint with one tensor `w`.
fn one(storage: (&str, &str, i32), offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    Pickler::new().raw(b"}").text("w").tensor(storage, offset, shape, strides).raw(b"s").stop()
}

fn values(file: Vec<u8>) -> Vec<f32> {
    let tensors = open(file).unwrap();
    assert_eq!(tensors.len(), 1);
    tensors[0].1.to_vec()
}

#[test]
fn views_of_all_formats_are_read() {
    let six = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
    let stored = f32s(&six);
    let file = |offset, shape: &[i32], strides: &[i32]| {
        torch(&one(("FloatStorage", "0", 6), offset, shape, strides), &[("0", &stored)])
    };
    assert_eq!(values(file(0, &[2, 3], &[3, 1])), six);
    assert_eq!(values(file(0, &[3, 2], &[1, 3])), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(values(file(2, &[2], &[2])), [2.0, 4.0]);
    assert_eq!(values(file(5, &[], &[])), [5.0]);
    assert_eq!(values(file(6, &[0, 4], &[4, 1])), [0.0; 0]);
    assert_eq!(values(file(1, &[1, 2], &[77, 1])), [1.0, 2.0]);
    let halves: Vec<u8> = six.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
    let pickle = one(("HalfStorage", "k", 6), 1, &[2], &[1]);
    assert_eq!(values(torch(&pickle, &[("k", &halves)])), [1.0, 2.0]);
    let doubles: Vec<u8> = six.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect();
    let pickle = one(("DoubleStorage", "0", 6), 0, &[2, 2], &[1, 2]);
    assert_eq!(values(torch(&pickle, &[("0", &doubles)])), [0.0, 2.0, 1.0, 3.0]);
}

#[test]
fn f32_values_are_read_in_place_and_integers_only_named() {
    let pickle = Pickler::new().raw(b"}(").text("w").tensor(("FloatStorage", "0", 2), 0, &[2], &[1]);
    let pickle = pickle.text("n").tensor(("LongStorage", "1", 1), 0, &[], &[]).raw(b"u").stop();
    let tensors = open(torch(&pickle, &[("0", &f32s(&[1.0, 2.0])), ("1", &[0; 8])])).unwrap();
    assert_eq!(tensors[0].1.part.start % 64, 0);
    assert_eq!((tensors[1].0.as_str(), &tensors[1].1.format), ("n", &Format::Other("Long".to_owned())));
    assert_eq!(tensors[1].1.shape, [0; 0]);
}

#[test]
fn parameters_and_shared_storages_are_tensors() {
    let rebuild = |p: Pickler| p.global("torch._utils", "_rebuild_parameter").raw(b"(");
    let p = rebuild(Pickler::new().raw(b"}(").text("a")).tensor(("FloatStorage", "0", 3), 0, &[3], &[1]);
    let p = p.raw(b"\x88ccollections\nOrderedDict\n)RtR");
    let p = p.text("b").tensor(("FloatStorage", "0", 3), 1, &[2], &[1]).raw(b"u").stop();
    let tensors = open(torch(&p, &[("0", &f32s(&[1.0, 2.0, 3.0]))])).unwrap();
    assert_eq!(tensors[0].1.to_vec(), [1.0, 2.0, 3.0]);
    assert_eq!(tensors[1].1.to_vec(), [2.0, 3.0]);
}

#[test]
fn compressed_files_are_unpacked_within_a_limit() {
    let pickle = one(("FloatStorage", "0", 3), 0, &[3], &[1]);
    let stored = f32s(&[1.0, 2.0, 3.0]);
    let entries = [("a/data.pkl", pickle.as_slice(), true), ("a/data/0", &stored, true)];
    assert_eq!(values(zip_with(&entries)), [1.0, 2.0, 3.0]);
    // 40 MB of zeros in 40 kB.
    let zeros = vec![0; 40_000_000];
    let pickle = one(("FloatStorage", "0", 10_000_000), 0, &[10_000_000], &[1]);
    let bomb = zip_with(&[("a/data.pkl", &pickle, false), ("a/data/0", &zeros, true)]);
    assert!(problem(bomb).contains("would unpack to 40000000 bytes"));
}

/// The pickle that an attacker would send: its call is not made, and the file is refused even if it holds weights.
#[test]
fn a_malicious_pickle_runs_nothing_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let ran = folder.path().join("ran");
    let command = format!("touch {}", ran.display());
    let weights = |p: Pickler| {
        p.text("model").raw(b"}").text("w").tensor(("FloatStorage", "0", 1), 0, &[1], &[1]).raw(b"s")
    };
    let args = || Pickler::new().raw(b"}(").text("args");
    let call = |p: Pickler| p.global("os", "system").raw(b"(").text(&command).raw(b"tR");
    let storages: [(&str, &[u8]); 1] = [("0", &f32s(&[7.0]))];
    for pickle in [weights(call(args())).raw(b"u").stop(), call(Pickler::new()).stop()] {
        let problem = problem(torch(&pickle, &storages));
        let said = ["w.pth", "`os.system`", "nothing of it was run", ".safetensors"];
        assert!(said.iter().all(|part| problem.contains(part)), "{problem}");
    }
    assert!(!ran.exists());
    // The objects of a configuration are no such thing, whatever their class.
    let config = args().global("lavt.config", "Config").raw(b")\x81}").text("lr").int(1).raw(b"sb");
    assert_eq!(values(torch(&weights(config).raw(b"u").stop(), &storages)), [7.0]);
}

#[test]
fn views_that_leave_their_storage_are_refused() {
    const HUGE: i32 = i32::MAX;
    let stored = f32s(&[0.0; 6]);
    let cases: [(i32, &[i32], &[i32]); 7] = [
        (0, &[7], &[1]),
        (1, &[2, 3], &[3, 1]),
        (7, &[], &[]),
        (0, &[2], &[6]),
        (0, &[HUGE, HUGE, HUGE, HUGE], &[1, 1, 1, 1]),
        (0, &[HUGE, HUGE, 0], &[HUGE, HUGE, HUGE]),
        // Values repeated by a step of 0 would make much of little.
        (0, &[HUGE], &[0]),
    ];
    for (offset, shape, strides) in cases {
        let file = torch(&one(("FloatStorage", "0", 6), offset, shape, strides), &[("0", &stored)]);
        let tensors = open(file);
        if shape.contains(&0) {
            assert_eq!(tensors.unwrap()[0].1.to_vec(), [0.0; 0]);
            continue;
        }
        let problem = tensors.err().unwrap().to_string();
        assert!(problem.contains("w.pth: tensor `w`") && problem.contains("shape"), "{problem}");
    }
    let short = torch(&one(("FloatStorage", "0", 7), 0, &[7], &[1]), &[("0", &stored)]);
    assert!(problem(short).contains("room for 6 values, it names 7"));
    let missing = torch(&one(("FloatStorage", "1", 6), 0, &[6], &[1]), &[("0", &stored)]);
    assert!(problem(missing).contains("`archive/data/1`, are not in the file"));
    let negative = torch(&one(("FloatStorage", "0", 6), -1, &[6], &[1]), &[("0", &stored)]);
    assert!(problem(negative).contains("_rebuild_tensor_v2"));
}

#[test]
fn one_storage_does_not_serve_endless_tensors() {
    let p = (0..2000).fold(Pickler::new().raw(b"}("), |p, i| {
        p.text(&i.to_string()).tensor(("FloatStorage", "0", 100_000), 0, &[100_000], &[1])
    });
    let file = torch(&p.raw(b"u").stop(), &[("0", &vec![0; 400_000])]);
    assert!(problem(file).contains("its tensors have 200000000 values"));
}

#[test]
fn other_zip_files_are_refused() {
    assert!(problem(zip(&[("word/document.xml", b"<x/>")])).contains("without data.pkl"));
    let pickle = Pickler::new().raw(b"}").stop();
    let script = zip(&[("m/data.pkl", &pickle), ("m/constants.pkl", &pickle)]);
    assert!(problem(script).contains("TorchScript"));
    let big = zip(&[("m/data.pkl", &pickle), ("m/byteorder", b"big")]);
    assert!(problem(big).contains("highest byte first"));
}

#[test]
fn no_prefix_of_a_checkpoint_is_read_as_one() {
    let file = torch(&one(("FloatStorage", "0", 2), 0, &[2], &[1]), &[("0", &f32s(&[1.0, 2.0]))]);
    for cut in 0..file.len() {
        assert!(open(file[..cut].to_vec()).is_err(), "{cut} bytes");
    }
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 0xff;
        for (_, stored) in open(damaged).unwrap_or_default() {
            assert!(stored.part.end <= file.len());
            assert_eq!(stored.to_vec().len(), stored.len());
        }
    }
}
