//! What the end-to-end tests share: the recorded fixture, sample sets on disk, running the program.
#![allow(dead_code, missing_docs, reason = "every test binary uses a part of it")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_bitloupe");
/// Nothing that the tests ask for takes nearly as long; what takes longer hangs.
const LONGEST: Duration = Duration::from_secs(90);

/// The miniature LAVT recorded from the authors' code.
pub fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lavt_one_tiny")
}

/// Pictures of the bundled calibration set: 128×128, all different.
pub fn picture(number: usize) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("samples/data/lavt-mini/calibration/{number:02}.png"))
}

/// How a run of the program ended.
#[derive(Debug)]
pub struct Done {
    /// Exit status; -1 after a signal.
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs the program without a terminal and waits for it.
pub fn bitloupe<S: AsRef<OsStr>>(args: &[S]) -> Done {
    finish(Command::new(PROGRAM).args(args))
}

/// Waits for a command; one that does not end is killed and fails the test.
pub fn finish(command: &mut Command) -> Done {
    let mut child = command
        .env("RUST_BACKTRACE", "0")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |pipe: &mut dyn Read| {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    std::thread::scope(|scope| {
        let out = scope.spawn(|| read(&mut out));
        let err = scope.spawn(|| read(&mut err));
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > LONGEST {
                child.kill().unwrap();
                panic!("{command:?} does not end");
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        Done { code: status.code().unwrap_or(-1), out: out.join().unwrap(), err: err.join().unwrap() }
    })
}

/// Runs the program, which must succeed; gives what it printed.
#[track_caller]
pub fn ok<S: AsRef<OsStr> + std::fmt::Debug>(args: &[S]) -> String {
    let done = bitloupe(args);
    assert_eq!(done.code, 0, "{args:?}\n{}{}", done.out, done.err);
    done.out
}

/// The same with `--json`, read.
#[track_caller]
pub fn json<S: AsRef<OsStr>>(args: &[S]) -> Value {
    let mut args: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
    args.push(OsStr::new("--json"));
    serde_json::from_str(&ok(&args)).unwrap()
}

/// Runs the program, which must fail with exit status 1 and a message on one line with all of `parts`.
#[track_caller]
pub fn fails<S: AsRef<OsStr> + std::fmt::Debug>(args: &[S], parts: &[&str]) {
    let done = bitloupe(args);
    check_failure(&format!("{args:?}"), &done, parts);
}

#[track_caller]
pub fn check_failure(what: &str, done: &Done, parts: &[&str]) {
    let Done { code, out, err } = done;
    assert_eq!(*code, 1, "{what}\n{out}{err}");
    assert!(!err.contains("panicked") && err.starts_with("bitloupe: "), "{what}\n{err}");
    for part in parts {
        assert!(err.contains(part), "{what}: no `{part}` in\n{err}");
    }
    // Nothing is said twice.
    let last = err.trim_end().rsplit(": ").next().unwrap_or_default();
    assert!(last.len() < 12 || err.matches(last).count() == 1, "{what}\n{err}");
}

/// A folder that is removed at the end of the test.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Copies the fixture's files, to be broken.
pub fn copy_of_fixture(to: &Path) -> PathBuf {
    let to = to.join("model");
    std::fs::create_dir_all(&to).unwrap();
    for name in
        ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "vocab.txt"]
    {
        std::fs::copy(fixture().join(name), to.join(name)).unwrap();
    }
    to
}

/// A sample set of the pictures with these numbers: sentences that all models here know, and a truth for each.
pub fn sample_set(parent: &Path, name: &str, pictures: &[usize]) -> PathBuf {
    const SENTENCES: [&str; 4] =
        ["the dog on the left", "the blue car", "the red umbrella", "the pizza on the right"];
    let folder = parent.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let mut manifest = String::new();
    for &number in pictures {
        let file = format!("{number:02}.png");
        std::fs::copy(picture(number), folder.join(&file)).unwrap();
        let (text, x) = (SENTENCES[number % 4], 8 * (number % 5));
        let y = x + 70;
        let mask = format!("[[{x},10,{y},10,{y},100,{x},100]]");
        manifest.extend([format!("{{\"image\":\"{file}\",\"text\":\"{text}\",\"mask\":{mask}}}\n")]);
    }
    std::fs::write(folder.join("samples.jsonl"), manifest).unwrap();
    folder
}

/// The path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Shape and values of a tensor.
pub type Tensor = (Vec<usize>, Vec<f32>);

/// The tensors of a file; integers of 64 bits are converted, others than those and floats left out.
pub fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .filter_map(|(name, view)| {
            let data = match view.dtype() {
                Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                Dtype::I64 => {
                    view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect()
                }
                _ => return None,
            };
            Some((name.to_owned(), (view.shape().to_vec(), data)))
        })
        .collect()
}

/// Writes tensors as F32.
pub fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, data))| (name, shape, data.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views = bytes.iter().map(|(name, shape, data)| {
        (name.as_str(), TensorView::new(Dtype::F32, (*shape).clone(), data).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Largest difference of two tensors.
#[track_caller]
pub fn gap(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.1.len(), b.1.len());
    a.1.iter()
        .zip(&b.1)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, x| if x.is_nan() { x } else { worst.max(x) })
}
