//! Sessions on models of every task: samples become inputs, outputs answers, and answers figures.

use std::path::{Path, PathBuf};

use bitloupe_quant::eval::answer::{Answer, Metric};
use bitloupe_quant::exec::Cancel;
use bitloupe_quant::method::MethodBits;
use bitloupe_quant::models::{ModelFiles, Weights};
use bitloupe_quant::session::{Options, Parts, Session};
use bitloupe_quant::terms::Bits;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// A set of samples; pictures are those of a fixture.
fn samples(dir: &Path, pictures: &str, lines: &str) -> PathBuf {
    for picture in ["image0.png", "image1.png"] {
        if let Ok(bytes) = std::fs::read(fixture(pictures).join(picture)) {
            std::fs::write(dir.join(picture), bytes).unwrap();
        }
    }
    let manifest = dir.join("samples.jsonl");
    std::fs::write(&manifest, lines).unwrap();
    manifest
}

fn session(model: &Path, set: &Path) -> Session {
    let options = Options {
        calibration: Some(set.to_owned()),
        samples: Some(set.to_owned()),
        threads: Some(2),
        ..Options::new(ModelFiles::Path(model.to_owned()))
    };
    Session::open(&options).unwrap_or_else(|e| panic!("{}: {e}", model.display()))
}

/// Evaluates full precision and a plan of few bits, and returns what the first sample is answered.
#[track_caller]
fn check(folder: &Path, set: &Path, metric: Metric) -> Answer {
    let (session, model) = (session(folder, set), folder.display());
    assert_eq!(session.metric(), metric);
    let none = Cancel::default();
    let float = session.fit_plan(&session.float_plan()).unwrap();
    let evaluation = session.evaluate(&float, &none, |_, _, _| {}).unwrap();
    let agreement = evaluation.agreement.expect("an agreement");
    assert_eq!((evaluation.samples, agreement.standing()), (2, 1.0), "{model}");
    session.calibrate(&none, |_, _| {}).unwrap();
    let bits = Bits::new(3).unwrap();
    let plan = session.method_plan("minmax", &MethodBits::new(bits, bits)).unwrap();
    let fitted = session.fit_plan(&plan).unwrap();
    let evaluation = session.evaluate(&fitted, &none, |_, _, _| {}).unwrap();
    let share = evaluation.agreement.unwrap().standing();
    assert!((-1.0..=1.0).contains(&share), "{model}: {share}");
    let view = session.show(1, 0, None, &fitted, &none).unwrap();
    assert!(view.quantized.compare(&view.full_precision).is_some(), "{model}");
    assert!(
        view.quantized != view.full_precision || metric == Metric::BoxF1,
        "{model}: three bits change nothing"
    );
    assert_eq!(view.full_precision.metric(), metric);
    view.full_precision
}

const PICTURES: &str = "{\"image\": \"image0.png\"}\n{\"image\": \"image1.png\"}\n";

#[test]
fn classes_with_their_labels() {
    let dir = tempfile::tempdir().unwrap();
    let set = samples(dir.path(), "vit_tiny_hf", PICTURES);
    for model in ["vit_tiny_hf", "deit_dist_tiny_hf"] {
        let Answer::Classes(classes) = check(&fixture(model), &set, Metric::TopOne) else {
            panic!("{model}")
        };
        assert_eq!(classes.len(), 10);
        assert!(classes.windows(2).all(|pair| pair[0].probability >= pair[1].probability));
    }
    // What the model says itself is right, what it does not say is wrong.
    let Answer::Classes(classes) = check(&fixture("vit_tiny_hf"), &set, Metric::TopOne) else { panic!() };
    for (label, right) in [(&classes[0].label, 1.0), (&classes[9].label, 0.0)] {
        let lines = format!("{{\"image\": \"image0.png\", \"label\": \"{label}\"}}\n");
        let set = samples(dir.path(), "vit_tiny_hf", &lines);
        let session = session(&fixture("vit_tiny_hf"), &set);
        let float = session.fit_plan(&session.float_plan()).unwrap();
        let evaluation = session.evaluate(&float, &Cancel::default(), |_, _, _| {}).unwrap();
        assert_eq!(evaluation.full_precision.unwrap().get("top1"), Some(right));
    }
}

#[test]
fn boxes_on_pictures_of_any_shape() {
    let dir = tempfile::tempdir().unwrap();
    for model in ["detr_tiny_hf", "yolos_tiny"] {
        let set = samples(dir.path(), model, PICTURES);
        let answer = check(&fixture(model), &set, Metric::BoxF1);
        assert!(matches!(answer, Answer::Boxes { .. }), "{model}");
    }
}

#[test]
fn masks_by_words_points_and_boxes() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "{\"image\": \"image0.png\", \"text\": \"a cat\"}\n{\"image\": \"image1.png\", \"text\": \"a dog\"}\n";
    let set = samples(dir.path(), "clipseg_tiny", lines);
    // The words are those of its sister.
    let model = dir.path().join("clipseg");
    std::fs::create_dir(&model).unwrap();
    for (from, name) in [
        ("clipseg_tiny", "config.json"),
        ("clipseg_tiny", "model.safetensors"),
        ("clipseg_tiny", "preprocessor_config.json"),
        ("clip_tiny", "tokenizer.json"),
    ] {
        std::fs::copy(fixture(from).join(name), model.join(name)).unwrap();
    }
    let Answer::Mask(mask) = check(&model, &set, Metric::Miou) else { panic!() };
    assert!(mask.pixels() > 0);
    let point = "{\"image\": \"image0.png\", \"points\": [[20, 12], [5, 5, 0]]}\n";
    let corners = "{\"image\": \"image0.png\", \"box\": [4, 4, 40, 30]}\n";
    for line in [point, corners] {
        for model in ["sam_tiny", "mobile_sam_tiny"] {
            let set = samples(dir.path(), model, &line.repeat(2));
            assert!(matches!(check(&fixture(model), &set, Metric::Miou), Answer::Mask(_)), "{line}");
        }
    }
}

#[test]
fn vectors_with_and_without_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "{\"image\": \"image0.png\", \"text\": \"a cat\"}\n{\"image\": \"image1.png\", \"text\": \"a dog\"}\n";
    let set = samples(dir.path(), "clip_tiny", lines);
    assert!(matches!(check(&fixture("clip_tiny"), &set, Metric::Cosine), Answer::Vectors(_)));
    let lines = "{\"text\": \"the smaller dog\"}\n{\"text\": \"a red cat\"}\n";
    let set = samples(dir.path(), "none", lines);
    assert!(matches!(check(&fixture("bert_tiny_hf"), &set, Metric::Cosine), Answer::Vectors(_)));
    // A picture model does without a sentence, but not without a picture.
    let session = session(&fixture("vit_tiny_hf"), &set);
    let error = session.calibrate(&Cancel::default(), |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("samples.jsonl:1") && error.contains("picture"), "{error}");
}

#[test]
fn onnx_files_answer_as_their_folders_do() {
    let dir = tempfile::tempdir().unwrap();
    let set = samples(dir.path(), "vit_tiny_hf", PICTURES);
    // The preprocessing lies beside the file.
    let model = dir.path().join("model");
    std::fs::create_dir(&model).unwrap();
    let copy = |from: PathBuf, to: &str| std::fs::copy(from, model.join(to)).map(drop).unwrap();
    copy(fixture("onnx").join("vit_tiny_hf.dynamo.onnx"), "vit.onnx");
    copy(fixture("vit_tiny_hf").join("preprocessor_config.json"), "preprocessor_config.json");
    let answer = |model: &Path| {
        let session = session(model, &set);
        let float = session.fit_plan(&session.float_plan()).unwrap();
        session.show(1, 0, None, &float, &Cancel::default()).unwrap().full_precision
    };
    let (ours, theirs) = (answer(&model.join("vit.onnx")), answer(&fixture("vit_tiny_hf")));
    let (Answer::Classes(ours), Answer::Classes(theirs)) = (ours, theirs) else { panic!() };
    for (a, b) in ours.iter().zip(&theirs) {
        assert!(a.class == b.class && (a.probability - b.probability).abs() < 1e-5, "{a:?} {b:?}");
    }
}

/// The weights of SAM's transposed convolutions have their output channels along the second axis; depthwise ones have one
/// input channel.
#[test]
fn convolutions_of_every_kind_are_exported() {
    let dir = tempfile::tempdir().unwrap();
    let none = Cancel::default();
    for (name, transposed) in [
        ("sam_tiny", "mask_decoder.upscale_conv1.weight"),
        ("mobile_sam_tiny", "mask_decoder.output_upscaling.0.weight"),
    ] {
        let line = "{\"image\": \"image0.png\", \"points\": [[20, 12]]}\n";
        let set = samples(dir.path(), name, line);
        let model = fixture(name);
        let opened = session(&model, &set);
        opened.calibrate(&none, |_, _| {}).unwrap();
        let bits = Bits::new(4).unwrap();
        let plan = opened.method_plan("minmax", &MethodBits::new(bits, Bits::FLOAT)).unwrap();
        let fitted = opened.fit_plan(&plan).unwrap();
        let parts = Parts { plan: false, weights: true, report: false };
        opened.export(&fitted, None, dir.path(), parts).unwrap();
        let file = dir.path().join("weights.safetensors");
        let exported = Weights::from_export(&file).unwrap();
        let levels = |weight: &[f32]| {
            let mut levels = weight.to_vec();
            levels.sort_by(f32::total_cmp);
            levels.dedup();
            levels.len()
        };
        // A grid of 16 levels for each of four channels.
        let count = levels(&exported.get(transposed).unwrap().data);
        assert!((17..=64).contains(&count), "{name}: {count}");
        let again = Session::open(&Options {
            exported_weights: Some(file),
            samples: Some(set.clone()),
            ..Options::new(ModelFiles::Path(model))
        })
        .unwrap();
        let float = again.fit_plan(&again.float_plan()).unwrap();
        let ours = opened.show(1, 0, None, &fitted, &none).unwrap().quantized;
        let theirs = again.show(1, 0, None, &float, &none).unwrap().full_precision;
        assert_eq!(ours, theirs, "{name}");
    }
}

/// The word predictions of BERT share the table of words. A plan for that layer must not quantize the words.
#[test]
fn a_table_stays_when_a_layer_tied_to_it_is_exported() {
    const TABLE: &str = "bert.embeddings.word_embeddings.weight";
    let dir = tempfile::tempdir().unwrap();
    let lines = "{\"text\": \"the smaller dog\"}\n{\"text\": \"a red cat\"}\n";
    let set = samples(dir.path(), "none", lines);
    let model = fixture("bert_tiny_hf");
    let opened = session(&model, &set);
    let none = Cancel::default();
    opened.calibrate(&none, |_, _| {}).unwrap();
    let bits = Bits::new(4).unwrap();
    let plan = opened.method_plan("minmax", &MethodBits::new(bits, Bits::FLOAT)).unwrap();
    let fitted = opened.fit_plan(&plan).unwrap();
    opened.export(&fitted, None, dir.path(), Parts { plan: false, weights: true, report: false }).unwrap();
    let file = dir.path().join("weights.safetensors");
    let exported = Weights::from_export(&file).unwrap();
    let original = Weights::find(&model.join("model.safetensors")).unwrap();
    let values = |weights: &Weights, name: &str| weights.get(name).unwrap().data.to_vec();
    assert_eq!(values(&exported, TABLE), values(&original, TABLE));
    assert_ne!(values(&exported, "cls.predictions.decoder.weight"), values(&original, TABLE));
    // Opened again, the weights of the file give what the plan gave.
    let again = Session::open(&Options {
        exported_weights: Some(file),
        samples: Some(set.clone()),
        ..Options::new(ModelFiles::Path(model))
    })
    .unwrap();
    let float = again.fit_plan(&again.float_plan()).unwrap();
    let ours = opened.show(1, 0, None, &fitted, &none).unwrap().quantized;
    let theirs = again.show(1, 0, None, &float, &none).unwrap().full_precision;
    assert_eq!(ours, theirs);
}
