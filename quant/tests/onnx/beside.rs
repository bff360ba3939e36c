//! What the files beside an ONNX file say of it: sizes, classes, tokens, and what its outputs are called.

use std::path::Path;

use bitloupe_quant::exec::Cancel;
use bitloupe_quant::models::{Model, ModelFiles, Task, open};
use bitloupe_quant::session::{Options, Session, SessionError};

use super::writer::{Message, Value, floats, graph, model, node};

const CONFIG: &str = r#"{"id2label": {"0": "dog", "1": "cat"}, "max_position_embeddings": 40}"#;
const CROPPED: &str = r#"{"do_resize": true, "size": {"shortest_edge": 20}, "do_center_crop": true,
    "crop_size": {"height": 12, "width": 16}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#;

/// Opens `path` under a new folder that holds the given files.
fn opened(files: &[(&str, &str)], graph: &Message, file: &str, path: &str) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let to = folder.path().join(name);
        std::fs::create_dir_all(to.parent().unwrap_or(Path::new("."))).unwrap();
        std::fs::write(to, bytes).unwrap();
    };
    for (name, text) in files {
        write(name, text.as_bytes());
    }
    write(file, &model(17, graph));
    open(&ModelFiles::Path(folder.path().join(path)), None).unwrap_or_else(|e| panic!("{e}"))
}

/// A function of the mean colour of a picture of open size.
fn picture() -> Message {
    graph(
        &[
            node(
                "ReduceMean",
                &["x"],
                &["m"],
                &[("axes", Value::Ints(&[2, 3])), ("keepdims", Value::Int(0))],
            ),
            node("Neg", &["m"], &["image_embeds"], &[]),
        ],
        &[],
        &[("x", 1, &[0, 3, 0, 0])],
        &["image_embeds"],
    )
}

fn input_shape(model: &Model) -> Vec<usize> {
    model.graph.node(model.graph.inputs()[0]).shape.clone()
}

#[test]
fn an_open_picture_has_the_size_that_the_preprocessor_makes() {
    let graph = picture();
    let alone = opened(&[], &graph, "m.onnx", "m.onnx");
    assert_eq!(input_shape(&alone), [1, 3, 224, 224]);
    assert!(
        alone.warnings.iter().any(|w| w.contains("`x`") && w.contains("224 by 224")),
        "{:?}",
        alone.warnings
    );
    assert!(alone.warnings.iter().any(|w| w.contains("stretched")), "{:?}", alone.warnings);
    let told = opened(&[("preprocessor_config.json", CROPPED)], &graph, "m.onnx", "m.onnx");
    assert_eq!(input_shape(&told), [1, 3, 12, 16]);
    assert!(told.warnings.is_empty(), "{:?}", told.warnings);
}

#[test]
fn folders_as_the_hub_lays_them_out_open() {
    let graph = picture();
    let config = [("preprocessor_config.json", CROPPED)];
    for (file, path) in
        [("model.onnx", ""), ("onnx/model.onnx", ""), ("onnx/model.onnx", "onnx/model.onnx"), ("a.onnx", "")]
    {
        assert_eq!(input_shape(&opened(&config, &graph, file, path)), [1, 3, 12, 16], "{file}");
    }
}

#[test]
fn outputs_mean_what_they_are_called() {
    let config = [("config.json", CONFIG)];
    let task = |graph: &Message| opened(&config, graph, "m.onnx", "m.onnx").task;
    let Task::Embeddings { outputs } = task(&picture()) else { panic!() };
    assert_eq!(outputs, ["image_embeds"]);
    // One value for each pixel, beside other outputs.
    let clipseg = graph(
        &[
            node(
                "ReduceMean",
                &["x"],
                &["logits"],
                &[("axes", Value::Ints(&[1])), ("keepdims", Value::Int(0))],
            ),
            node("Neg", &["x"], &["state"], &[]),
        ],
        &[],
        &[("x", 1, &[1, 3, 8, 6])],
        &["logits", "state"],
    );
    assert!(matches!(task(&clipseg), Task::Mask { logits, .. } if logits == "logits"));
    let classes = graph(
        &[node("MatMul", &["v", "w"], &["logits"], &[]), node("Neg", &["v"], &["state"], &[])],
        &[floats("w", &[1, 2], &[1.0, 2.0])],
        &[("v", 1, &[1, 1])],
        &["logits", "state"],
    );
    assert!(matches!(task(&classes), Task::Classes { labels, .. } if labels == ["dog", "cat"]));
}

#[test]
fn sentences_are_as_long_as_the_tokenizer_says_and_keep_their_end() {
    let words = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nred\n";
    let graph = graph(
        &[
            node("Cast", &["input_ids"], &["f"], &[("to", Value::Int(1))]),
            node("ReduceMean", &["f"], &["sentence_embedding"], &[("axes", Value::Ints(&[1]))]),
        ],
        &[],
        &[("input_ids", 7, &[0, 0])],
        &["sentence_embedding"],
    );
    let tokenizer = r#"{"model_max_length": 6, "do_lower_case": true}"#;
    let files = [("vocab.txt", words), ("tokenizer_config.json", tokenizer), ("config.json", CONFIG)];
    let model = opened(&files, &graph, "m.onnx", "m.onnx");
    assert_eq!(input_shape(&model), [1, 6]);
    let ids = model.text.unwrap().encode("red red red red red red red").unwrap().input_ids;
    assert_eq!(ids, [2, 4, 4, 4, 4, 3]);
    // Without a limit of the tokenizer the table of positions is the limit; without both, 32 and a note.
    let endless = r#"{"model_max_length": 1000000000000000019884624838656}"#;
    let files = [("vocab.txt", words), ("tokenizer_config.json", endless), ("config.json", CONFIG)];
    assert_eq!(input_shape(&opened(&files, &graph, "m.onnx", "m.onnx")), [1, 40]);
    let model = opened(&[], &graph, "m.onnx", "m.onnx");
    assert_eq!(input_shape(&model), [1, 32]);
    assert!(model.warnings.iter().any(|w| w.contains("model_max_length")), "{:?}", model.warnings);
}

#[test]
fn byte_pairs_beside_a_file_are_those_of_its_tokenizer() {
    let graph = graph(
        &[
            node("Cast", &["input_ids"], &["f"], &[("to", Value::Int(1))]),
            node("ReduceMean", &["f"], &["sentence_embedding"], &[("axes", Value::Ints(&[1]))]),
        ],
        &[],
        &[("input_ids", 7, &[0, 0])],
        &["sentence_embedding"],
    );
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/clip_tiny");
    let read = |name: &str| std::fs::read_to_string(clip.join(name)).unwrap();
    let (vocab, merges, whole) = (read("vocab.json"), read("merges.txt"), read("tokenizer.json"));
    let limit = ("tokenizer_config.json", r#"{"model_max_length": 16}"#);
    let pairs = [("vocab.json", vocab.as_str()), ("merges.txt", merges.as_str()), limit];
    let ids = |files: &[(&str, &str)], file: &str| {
        let model = opened(files, &graph, file, file);
        assert_eq!(input_shape(&model), [1, 16]);
        let text = model.text.expect("a tokenizer");
        ["a photo of the smaller dog", "CATS, and 12 dogs!"].map(|said| text.encode(said).unwrap().input_ids)
    };
    let ours = ids(&pairs, "m.onnx");
    assert_eq!(ours, ids(&[("tokenizer.json", whole.as_str()), limit], "m.onnx"));
    assert_ne!(ours[0], ours[1]);
    // On the hub the file lies one folder below.
    assert_eq!(ours, ids(&pairs, "onnx/model.onnx"));
}

#[test]
fn a_preprocessor_of_another_size_than_a_fixed_input_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let fixed = graph(
        &[node("ReduceMean", &["x"], &["image_embeds"], &[("axes", Value::Ints(&[2, 3]))])],
        &[],
        &[("x", 1, &[1, 3, 8, 6])],
        &["image_embeds"],
    );
    std::fs::write(folder.path().join("m.onnx"), model(17, &fixed)).unwrap();
    std::fs::write(folder.path().join("preprocessor_config.json"), CROPPED).unwrap();
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/clip_tiny/image0.png");
    let set = folder.path().join("set");
    std::fs::create_dir(&set).unwrap();
    std::fs::copy(picture, set.join("a.png")).unwrap();
    let files = ModelFiles::Path(folder.path().join("m.onnx"));
    let session = Session::open(&Options { calibration: Some(set), ..Options::new(files) }).unwrap();
    let error = session.calibrate(&Cancel::default(), |_, _| {}).unwrap_err();
    assert!(matches!(error, SessionError::PictureSize { prepared: (12, 16), read: (8, 6) }), "{error}");
}
