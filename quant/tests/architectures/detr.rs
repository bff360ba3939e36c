//! DETR with the backbone's names of timm and of Hugging Face.

use bitloupe_quant::data::decode_image;
use bitloupe_quant::eval::answer::Answer;
use bitloupe_quant::eval::reading::Outputs;
use bitloupe_quant::exec::Value;
use bitloupe_quant::models::{InputShapes, OwnSizes, Task, open, open_for};

use crate::fixture::Fixture;
use crate::renamed::Renamed;
use crate::{pictures, published, roles};

/// Ten times the gap between f32 and f64 that the fixtures' READMEs name for logits, and for boxes.
const TIMM: [f32; 2] = [1.7e-4, 1.2e-5];
const HF: [f32; 2] = [3.1e-5, 3.7e-6];
const INPUTS: [(&str, &str); 2] = [("pixel_values", "pixel_values"), ("pixel_mask", "pixel_mask")];

fn everything(name: &str, [tolerance, boxes]: [f32; 2], activations: usize) {
    let fixture = Fixture::open(name);
    let run = fixture.run(&INPUTS);
    assert_eq!(run.model.architecture, "detr");
    fixture.compare_output(&run, "logits", "out.logits", tolerance);
    fixture.compare_output(&run, "pred_boxes", "out.pred_boxes", boxes);
    fixture.compare_node(&run, run.node("model.decoder.layernorm"), "out.last_hidden_state", tolerance);
    let encoded = "model.encoder.layers.1.final_layer_norm";
    fixture.compare_node(&run, run.node(encoded), "out.encoder_last_hidden_state", tolerance);
    fixture.compare_activations(&run, tolerance, activations, |_| None);
    run.compare_reference(f64::from(tolerance));
    // Both pictures' boxes as the published post-processing gives them, those that are likely.
    let of = |name: &str| &fixture.recorded[name].1;
    let mut likely = 0;
    for (i, (width, height)) in [(60, 50), (40, 70)].into_iter().enumerate() {
        let values = [("logits", 6), ("pred_boxes", 4)].map(|(name, width)| {
            let data = of(&format!("out.{name}"))[i * 8 * width..][..8 * width].to_vec();
            (name.to_owned(), Value::new(vec![1, 8, width], data))
        });
        let geometry = run.model.preprocessor.as_ref().unwrap().geometry(width, height);
        let outputs = Outputs { values: &values, geometry: Some(&geometry), boxes_of_picture: true };
        let Answer::Boxes { boxes, .. } = outputs.read(&run.model.task).unwrap() else { panic!("no boxes") };
        let scores = &of("out.post_scores")[i * 8..][..8];
        let mut order: Vec<usize> = (0..8).filter(|&j| scores[j] > 0.5).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        assert_eq!(boxes.len(), order.len());
        likely += order.len();
        for (found, j) in boxes.iter().zip(order) {
            assert_eq!(found.class.class as f32, of("out.post_labels")[i * 8 + j]);
            assert!((found.class.probability - f64::from(scores[j])).abs() < 1e-6);
            let sides = [width, height, width, height].map(f64::from);
            let theirs = &of("out.post_boxes")[(i * 8 + j) * 4..][..4];
            for ((share, side), theirs) in found.corners.iter().zip(sides).zip(theirs) {
                // A box may reach beyond the picture; ours ends there.
                let theirs = f64::from(*theirs).clamp(0.0, side);
                assert!((share * side - theirs).abs() < 1e-4, "{share} of {side}, {theirs}");
            }
        }
    }
    assert!(likely > 0, "nothing is likely");
}

#[test]
fn names_of_timm() {
    everything("detr_tiny_timm", TIMM, 196);
}

#[test]
fn names_of_hugging_face() {
    everything("detr_tiny_hf", HF, 150);
}

#[test]
fn pictures_are_resized_and_padded() {
    let fixture = Fixture::open("detr_tiny_hf");
    let run = fixture.run(&INPUTS);
    for (i, image) in ["image0.png", "image1.png"].into_iter().enumerate() {
        pictures::compare(&fixture, &run.model, image, "pixel_values", i);
        let picture = decode_image(image, &std::fs::read(fixture.path(image)).unwrap()).unwrap();
        let geometry = run.model.preprocessor.as_ref().unwrap().geometry(picture.width(), picture.height());
        let mask = &fixture.inputs["pixel_mask"].1[i * 96 * 76..][..96 * 76];
        let (width, height) = (geometry.cropped.0 as usize, geometry.cropped.1 as usize);
        for (at, inside) in mask.iter().enumerate() {
            assert_eq!(*inside == 1.0, at / 76 < height && at % 76 < width, "{image} {at}");
        }
    }
}

#[test]
fn without_a_shape_every_picture_has_its_own() {
    let fixture = Fixture::open("detr_tiny_hf");
    let model = open(&fixture.files(), None).unwrap();
    let shape = |i: usize| model.graph.node(model.graph.inputs()[i]).shape.clone();
    // The graph is that for the largest.
    assert_eq!((shape(0), shape(1)), (vec![1, 3, 64, 96], vec![1, 64, 96]));
    assert_eq!(model.own_sizes, OwnSizes::Pictures);
    for (picture, size) in [((60, 50), (76, 64)), ((40, 70), (55, 96)), ((100, 100), (64, 64))] {
        let geometry = model.preprocessor.as_ref().unwrap().geometry(picture.0, picture.1);
        assert_eq!((geometry.output, geometry.resized), (size, size), "{picture:?}");
    }
    let Task::Boxes { labels, .. } = &model.task else { panic!("{:?}", model.task) };
    assert_eq!((labels.len(), labels[4].as_str()), (5, "LABEL_4"));
}

#[test]
fn without_a_mask_all_is_picture() {
    let mut fixture = Fixture::open("detr_tiny_hf");
    let run = fixture.run(&INPUTS[..1]);
    assert_eq!(run.model.graph.inputs().len(), 1);
    let ones = (vec![2, 96, 76], vec![1.0; 2 * 96 * 76]);
    fixture.inputs.insert("ones".to_owned(), ones);
    let masked = fixture.run(&[INPUTS[0], ("pixel_mask", "ones")]);
    let logits = |run: &crate::fixture::Run| run.values(run.model.graph.outputs()[0].1);
    assert_eq!(logits(&run), logits(&masked));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let fixture = Fixture::open("detr_tiny_hf");
    let config = std::fs::read_to_string(fixture.path("config.json")).unwrap();
    for (from, to, words) in [
        ("\"encoder_attention_heads\": 4", "\"encoder_attention_heads\": 0", "encoder_attention_heads"),
        ("\"decoder_attention_heads\": 4", "\"decoder_attention_heads\": 5", "self_attn"),
        ("\"activation_function\": \"relu\"", "\"activation_function\": \"gelu\"", "activation_function"),
        ("\"position_embedding_type\": \"sine\"", "\"position_embedding_type\": \"learned\"", "learned"),
        ("\"downsample_in_first_stage\": false", "\"downsample_in_first_stage\": 3", "config.json"),
    ] {
        let folder = Renamed::new(&fixture, str::to_owned, &["preprocessor_config.json"]);
        assert!(config.contains(from), "{from}");
        std::fs::write(folder.path().join("config.json"), config.replace(from, to)).unwrap();
        let message = open(&folder.files(), None).unwrap_err().to_string();
        assert!(message.contains(words), "{to}: {message}");
    }
    for shape in [[1, 3, 0, 64], [1, 3, 1 << 40, 64], [1, 3, usize::MAX, usize::MAX]] {
        let shapes: InputShapes = [("pixel_values", shape.to_vec())].into_iter().collect();
        assert!(open_for(&fixture.files(), None, &shapes).is_err(), "{shape:?}");
    }
    let folder = Renamed::new(
        &fixture,
        |name| name.replace("model.input_projection", "model.projection"),
        &["config.json"],
    );
    let message = open(&folder.files(), None).unwrap_err().to_string();
    assert!(message.contains("model.input_projection.weight"), "{message}");
}

#[test]
fn without_a_configuration_it_is_recognised_by_its_tensors() {
    let fixture = Fixture::open("detr_tiny_timm");
    let folder = Renamed::new(&fixture, str::to_owned, &[]);
    let shapes: InputShapes = [("pixel_values", vec![1, 3, 64, 64])].into_iter().collect();
    let model = open_for(&folder.files(), None, &shapes).unwrap();
    assert_eq!(model.architecture, "detr");
}

#[test]
fn roles_of_a_layer_of_each_kind() {
    let fixture = Fixture::open("detr_tiny_timm");
    let model = fixture.run(&INPUTS).model;
    let attention = |name: &str, inputs: [&str; 3]| {
        let [q, k, v] = inputs;
        let mut lines = vec![format!("{name}.q_proj:input {q}"), format!("{name}.k_proj:input {k}")];
        lines.push(format!("{name}.v_proj:input {v}"));
        for rest in
            ["qk:lhs query", "qk:rhs key", "pv:lhs post-softmax", "pv:rhs value", "out_proj:input other"]
        {
            lines.push(format!("{name}.{rest}"));
        }
        lines
    };
    let mlp = ["fc1:input post-layernorm".to_owned(), "fc2:input post-relu".to_owned()];
    let check = |within: &str, lines: Vec<String>| {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        roles::compare(&model, within, &lines);
    };
    let normed = ["residual", "residual", "post-layernorm"];
    check("model.encoder.layers.1.", [attention("self_attn", normed), mlp.to_vec()].concat());
    check(
        "model.decoder.layers.1.",
        [attention("self_attn", normed), attention("encoder_attn", normed), mlp.to_vec()].concat(),
    );
    let backbone = "model.backbone.conv_encoder.model.";
    check(&format!("{backbone}conv1"), vec![":input image".to_owned()]);
    let bottleneck =
        ["conv1", "conv2", "conv3", "downsample.0"].map(|conv| format!("{conv}:input post-relu"));
    check(&format!("{backbone}layer2.0."), bottleneck.to_vec());
    check("model.input_projection", vec![":input post-relu".to_owned()]);
    check("class_labels_classifier", vec![":input post-layernorm".to_owned()]);
    check(
        "bbox_predictor.layers.",
        ["0:input post-layernorm", "1:input post-relu", "2:input post-relu"].map(ToOwned::to_owned).to_vec(),
    );
}

#[test]
#[ignore = "writes 167 MB a model"]
fn the_published_ones_open() {
    for name in ["detr-resnet-50", "detr-resnet-50-no_timm"] {
        published::open_whole(name);
    }
    let shapes: &[(&str, &[usize])] = &[("pixel_values", &[1, 3, 96, 64]), ("pixel_mask", &[1, 96, 64])];
    let (model, _) = published::open("detr-resnet-50", shapes);
    published::run_once(&model, &["pixel_mask"]);
}
