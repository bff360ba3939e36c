//! What samples ask beside their picture: points and boxes in any mixture, a second picture, tensors as they are.

use std::path::{Path, PathBuf};

use bitloupe_quant::eval::answer::{Answer, Metric};
use bitloupe_quant::exec::{Cancel, NoTap, Quantization, Value};
use bitloupe_quant::method::MethodBits;
use bitloupe_quant::models::ModelFiles;
use bitloupe_quant::session::{Options, Session, SessionError};
use bitloupe_quant::terms::Bits;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// A manifest in a folder of its own, beside copies of files.
fn manifest(dir: &Path, name: &str, files: &[PathBuf], lines: &[&str]) -> PathBuf {
    let folder = dir.join(name);
    std::fs::create_dir(&folder).unwrap();
    for file in files {
        std::fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
    }
    std::fs::write(folder.join("samples.jsonl"), lines.join("\n")).unwrap();
    folder
}

fn open(model: &Path, set: &Path) -> Result<Session, Box<SessionError>> {
    let (calibration, samples) = (Some(set.to_owned()), Some(set.to_owned()));
    let files = ModelFiles::Path(model.to_owned());
    Session::open(&Options { calibration, samples, threads: Some(2), ..Options::new(files) })
        .map_err(Box::new)
}

fn run(session: &Session, sample: usize) -> Vec<Value> {
    let inputs = session.inputs(session.samples().unwrap(), sample).unwrap();
    let none = Quantization::none(&session.model().graph);
    session.engine().run(&inputs, &none, None, &mut NoTap, &Cancel::default()).unwrap().outputs
}

/// Calibrates, evaluates at few bits and shows the last sample; what full precision answers there.
#[track_caller]
fn check(session: &Session, metric: Metric, samples: usize) -> Answer {
    let none = Cancel::default();
    assert_eq!(session.metric(), metric);
    session.calibrate(&none, |_, _| {}).unwrap();
    let plan = session.method_plan("minmax", &MethodBits::new(Bits::new(3).unwrap(), Bits::EIGHT)).unwrap();
    let fitted = session.fit_plan(&plan).unwrap();
    let evaluation = session.evaluate(&fitted, &none, |_, _, _| {}).unwrap();
    assert_eq!(evaluation.samples, samples);
    let agreement = evaluation.agreement.expect("agreement with full precision").standing();
    assert!((-1.0..1.0).contains(&agreement), "three bits change something: {agreement}");
    let view = session.show(1, samples - 1, None, &fitted, &none).unwrap();
    assert!(view.quantized.compare(&view.full_precision).is_some());
    view.full_precision
}

#[test]
fn points_and_boxes_in_any_mixture() {
    let dir = tempfile::tempdir().unwrap();
    let picture = [fixture("sam_tiny").join("image0.png")];
    let lines = [
        "{\"image\": \"image0.png\", \"points\": [[20, 12]]}",
        "{\"image\": \"image0.png\", \"points\": [[20, 12], [5, 5, 0]], \"box\": [4, 4, 40, 30]}",
        "{\"image\": \"image0.png\", \"box\": [4, 4, 40, 30]}",
        "{\"image\": \"image0.png\", \"points\": [[8, 30], [30, 9], [5, 5, 0]]}",
    ];
    let model = fixture("sam_tiny");
    let mixed = open(&model, &manifest(dir.path(), "mixed", &picture, &lines)).unwrap();
    let mut different = Vec::new();
    for (sample, line) in lines.iter().enumerate() {
        // Each as it is alone, on the graph for its own kinds of prompts.
        let alone = open(&model, &manifest(dir.path(), &sample.to_string(), &picture, &[line])).unwrap();
        let (ours, theirs) = (run(&mixed, sample), run(&alone, 0));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!((ours.shape(), ours.as_slice()), (theirs.shape(), theirs.as_slice()), "{line}");
        }
        // Plans and statistics are for all of them.
        assert_eq!(mixed.model().fingerprint, alone.model().fingerprint, "{line}");
        assert_eq!(mixed.site_ids(), alone.site_ids(), "{line}");
        different.push(ours[0].as_slice().to_vec());
    }
    different.dedup();
    assert_eq!(different.len(), 4, "every prompt has an answer of its own");
    assert!(matches!(check(&mixed, Metric::Miou, 4), Answer::Mask(_)));
    // Points alone, as many as there are.
    let points = open(&model, &manifest(dir.path(), "points", &picture, &[lines[3], lines[0]])).unwrap();
    for (sample, ours) in [(0, &different[3]), (1, &different[0])] {
        assert_eq!(run(&points, sample)[0].as_slice(), ours.as_slice());
    }
    assert!(points.model().graph.find("input_points").is_some(), "the usual graph");
}

#[test]
fn a_sample_without_a_prompt_or_with_one_too_many_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let picture = [fixture("sam_tiny").join("image0.png")];
    let lines = ["{\"image\": \"image0.png\", \"points\": [[20, 12]]}", "{\"image\": \"image0.png\"}"];
    let session = open(&fixture("sam_tiny"), &manifest(dir.path(), "set", &picture, &lines)).unwrap();
    let error = session.calibrate(&Cancel::default(), |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("samples.jsonl:2") && error.contains("points"), "{error}");
    // What a model has no input for is not left out in silence.
    let lines = ["{\"image\": \"image0.png\", \"prompt\": \"image0.png\"}"];
    let session = open(&fixture("vit_tiny_hf"), &manifest(dir.path(), "unused", &picture, &lines)).unwrap();
    let error = session.calibrate(&Cancel::default(), |_, _| {}).unwrap_err();
    assert!(matches!(error, SessionError::UnusedPrompt { what: "prompt", .. }), "{error}");
    assert!(error.to_string().contains("samples.jsonl:1"), "{error}");
}

/// CLIPSeg with the words of its sister.
fn clipseg(dir: &Path) -> PathBuf {
    let model = dir.join("clipseg");
    std::fs::create_dir(&model).unwrap();
    for (from, name) in [
        ("clipseg_tiny", "config.json"),
        ("clipseg_tiny", "model.safetensors"),
        ("clipseg_tiny", "preprocessor_config.json"),
        ("clip_tiny", "tokenizer.json"),
    ] {
        std::fs::copy(fixture(from).join(name), model.join(name)).unwrap();
    }
    model
}

#[test]
fn a_picture_shows_what_is_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let model = clipseg(dir.path());
    let pictures = ["image0.png", "image1.png"].map(|name| fixture("clipseg_tiny").join(name));
    let lines = [
        "{\"image\": \"image0.png\", \"prompt\": \"image1.png\"}",
        "{\"image\": \"image0.png\", \"prompt\": \"image0.png\"}",
    ];
    let session = open(&model, &manifest(dir.path(), "set", &pictures, &lines)).unwrap();
    let graph = &session.model().graph;
    let names: Vec<_> = graph.inputs().iter().map(|&id| graph.node(id).name.as_str()).collect();
    assert_eq!(names, ["pixel_values", "conditional_pixel_values"]);
    let of = |sample: usize| session.inputs(session.samples().unwrap(), sample).unwrap();
    let (first, second) = (of(0), of(1));
    assert_eq!(second[0].as_slice(), second[1].as_slice());
    assert_eq!(first[0].as_slice(), second[0].as_slice());
    assert_ne!(first[1].as_slice(), second[1].as_slice());
    assert_ne!(run(&session, 0)[0].as_slice(), run(&session, 1)[0].as_slice());
    assert!(matches!(check(&session, Metric::Miou, 2), Answer::Mask(_)));
    // The picture counts as content, and a sentence cannot take its place.
    let keys = session.samples().unwrap().keys().unwrap();
    assert_ne!(keys[0].split_once('@').unwrap().1, keys[1].split_once('@').unwrap().1);
    let float = session.fit_plan(&session.float_plan()).unwrap();
    let error = session.show(1, 0, Some("a cat"), &float, &Cancel::default()).unwrap_err();
    assert!(matches!(error, SessionError::NoSentence { .. }), "{error}");
}

#[test]
fn sentences_and_pictures_in_one_set_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let model = clipseg(dir.path());
    let pictures = ["image0.png", "image1.png"].map(|name| fixture("clipseg_tiny").join(name));
    let shown = "{\"image\": \"image0.png\", \"prompt\": \"image1.png\"}";
    for (name, second, words) in [
        (
            "text",
            "{\"image\": \"image0.png\", \"text\": \"a cat\"}",
            ["has a `text`", "jsonl:1 has a `prompt`"],
        ),
        ("none", "{\"image\": \"image0.png\"}", ["neither a `text`", "jsonl:1 has a `prompt`"]),
        (
            "both",
            "{\"image\": \"image0.png\", \"text\": \"a cat\", \"prompt\": \"image1.png\"}",
            ["both a `prompt`", "one of them"],
        ),
    ] {
        let set = manifest(dir.path(), name, &pictures, &[shown, second]);
        let error = open(&model, &set).unwrap_err();
        assert!(matches!(*error, SessionError::MixedPrompts { .. }), "{error}");
        let error = error.to_string();
        assert!(
            error.contains("samples.jsonl:2") && words.iter().all(|word| error.contains(word)),
            "{error}"
        );
    }
    let broken = manifest(dir.path(), "broken", &pictures, &[&shown.replace("image1", "none")]);
    let error = open(&model, &broken).unwrap().calibrate(&Cancel::default(), |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("none.png"), "{error}");
}

#[test]
fn tensors_are_given_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let onnx = fixture("onnx");
    for form in ["dynamo", "legacy"] {
        let given = onnx.join("sam_tiny_prompt_decoder.inputs.safetensors");
        let name = given.file_name().unwrap().to_str().unwrap();
        let line = format!("{{\"inputs\": \"{name}\"}}");
        let set = manifest(dir.path(), form, std::slice::from_ref(&given), &[&line, &line]);
        let session = open(&onnx.join(format!("sam_tiny_prompt_decoder.{form}.onnx")), &set).unwrap();
        assert!(matches!(check(&session, Metric::Cosine, 2), Answer::Vectors(_)), "{form}");
        let recorded =
            std::fs::read(onnx.join(format!("sam_tiny_prompt_decoder.{form}.ort_outputs.safetensors")));
        let recorded = recorded.unwrap();
        let recorded = safetensors::SafeTensors::deserialize(&recorded).unwrap();
        for ((output, _), value) in session.model().graph.outputs().iter().zip(run(&session, 1)) {
            let theirs = recorded.tensor(output).unwrap();
            let theirs = theirs.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
            for (a, b) in value.as_slice().iter().zip(theirs) {
                assert!((a - b).abs() < 1e-4, "{form} {output}: {a} {b}");
            }
        }
    }
}

#[test]
fn a_picture_given_as_a_tensor_is_answered_on_its_own_grid() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<u8> = (0..3 * 64 * 64).flat_map(|i| ((i as f32 * 0.37).sin()).to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1, 3, 64, 64], &values);
    let bytes = safetensors::serialize([("pixel_values", view.unwrap())], None).unwrap();
    let line = "{\"inputs\": \"p.safetensors\"}";
    let set = manifest(dir.path(), "set", &[], &[line]);
    std::fs::write(set.join("p.safetensors"), &bytes).unwrap();
    let session = open(&fixture("yolos_tiny"), &set).unwrap();
    let float = session.fit_plan(&session.float_plan()).unwrap();
    let view = session.show(1, 0, None, &float, &Cancel::default()).unwrap();
    assert!(matches!(view.full_precision, Answer::Boxes { .. }) && view.picture.is_none());
    // What is wrong with a file is said with its name.
    for (name, bytes, words) in [
        (
            "missing",
            safetensors::serialize(
                [(
                    "pixels",
                    safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap(),
                )],
                None,
            )
            .unwrap(),
            "no picture",
        ),
        ("broken", bytes[..bytes.len() - 1].to_vec(), "p.safetensors"),
        ("no-tensors", b"nothing".to_vec(), "p.safetensors"),
    ] {
        let set = manifest(dir.path(), name, &[], &[line]);
        std::fs::write(set.join("p.safetensors"), &bytes).unwrap();
        let error = open(&fixture("yolos_tiny"), &set)
            .and_then(|session| Ok(session.calibrate(&Cancel::default(), |_, _| {})?))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(words) && (error.contains("samples.jsonl:1") || words != "no picture"),
            "{error}"
        );
    }
}

#[test]
fn a_picture_that_cannot_be_resized_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("vit");
    std::fs::create_dir(&model).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture("vit_tiny_hf").join(name), model.join(name)).unwrap();
    }
    // The shorter side becomes 500, the longer one then 2 million.
    let config = r#"{"size": {"shortest_edge": 500}, "do_center_crop": true, "crop_size": 32,
        "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}"#;
    std::fs::write(model.join("preprocessor_config.json"), config).unwrap();
    let set = dir.path().join("set");
    std::fs::create_dir(&set).unwrap();
    image::RgbImage::new(2, 8000).save(set.join("tall.png")).unwrap();
    for line in [None, Some("{\"image\": \"tall.png\"}")] {
        if let Some(line) = line {
            std::fs::write(set.join("samples.jsonl"), line).unwrap();
        }
        let session = open(&model, &set).unwrap();
        let error = session.calibrate(&Cancel::default(), |_, _| {}).unwrap_err();
        assert!(matches!(error, SessionError::Sample { .. }), "{error}");
        assert!(error.to_string().contains("tall.png"), "{error}");
    }
}
