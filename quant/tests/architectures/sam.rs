//! SAM in both namings, with every kind of prompt.

use bitloupe_quant::data::decode_image;
use bitloupe_quant::eval::answer::Answer;
use bitloupe_quant::eval::reading::Outputs;
use bitloupe_quant::exec::Value;
use bitloupe_quant::models::{InputShapes, MaskRule, ModelFiles, Task, open, open_for};

use crate::fixture::{Fixture, Run, node_of};
use crate::renamed::Renamed;
use crate::{pictures, published, roles};

/// Ten times the gap between f32 and f64 that the fixture's README names for the masks, and for their scores.
const TOLERANCE: f32 = 8.1e-5;
const SCORES: f32 = 1.3e-5;
const IMAGE: (&str, &str) = ("pixel_values", "pixel_values");
const POINTS: (&str, &str) = ("input_points", "input_points");
const LABELS: (&str, &str) = ("input_labels", "input_labels");
const BOXES: (&str, &str) = ("input_boxes", "input_boxes");
const ALL: [(&str, &str); 4] = [IMAGE, POINTS, LABELS, BOXES];

fn compare(fixture: &Fixture, run: &Run, masks: &str, scores: &str, suffix: &str) {
    fixture.compare_output(run, &format!("pred_masks{suffix}"), masks, TOLERANCE);
    fixture.compare_output(run, &format!("iou_scores{suffix}"), scores, SCORES);
}

/// Normalisations over channels are three nodes; the recorded input is that of the first.
fn turned(run: &Run, recorded: &str) -> Option<String> {
    let module = recorded.strip_prefix("act.")?.strip_suffix(".input")?;
    let first = run.model.graph.find(&format!("{module}.channels_last"))?;
    Some(run.model.graph.node(run.model.graph.node(first).inputs[0]).name.clone())
}

#[test]
fn everything_recorded_is_reproduced() {
    let fixture = Fixture::open("sam_tiny");
    let run = fixture.run(&ALL);
    assert_eq!(run.model.architecture, "sam");
    compare(&fixture, &run, "out.pred_masks", "out.iou_scores", "");
    fixture.compare_activations(&run, TOLERANCE, 174, |recorded| turned(&run, recorded));
    run.compare_reference(f64::from(TOLERANCE));
    fixture.compare_node(
        &run,
        run.node("vision_encoder.neck.layer_norm2"),
        "out.image_embeddings",
        TOLERANCE,
    );
    fixture.compare_node(&run, run.node("prompt_encoder.no_mask_embed"), "out.dense_no_mask", TOLERANCE);
    // Positions lie place by place here, channel by channel there.
    let ours = run.values(run.model.graph.find("mask_decoder.image_positions").unwrap());
    let theirs = &fixture.recorded["out.image_positional_embeddings"].1;
    for (i, x) in ours.iter().enumerate() {
        assert!((x - theirs[i % 16 * 64 + i / 16]).abs() <= TOLERANCE, "place {}", i / 16);
    }
}

/// The encoded points and boxes: what the decoder joins to its own tokens.
fn tokens(run: &Run) -> String {
    let graph = &run.model.graph;
    let joined = graph.node(graph.find("mask_decoder.concat").unwrap());
    graph.node(joined.inputs[1]).name.clone()
}

#[test]
fn every_kind_of_prompt() {
    let mut fixture = Fixture::open("sam_tiny");
    let run = fixture.run(&[IMAGE, POINTS, LABELS]);
    compare(&fixture, &run, "out.points_only_masks", "out.points_only_iou", "");
    fixture.compare_node(&run, run.node(&tokens(&run)), "out.sparse_points_only", TOLERANCE);
    let run = fixture.run(&[IMAGE, BOXES]);
    compare(&fixture, &run, "out.box_single_masks", "out.box_single_iou", ".single");
    fixture.compare_node(&run, run.node(&tokens(&run)), "out.sparse_boxes_only", TOLERANCE);
    // Labels of no point and of padding.
    let run = fixture.run(&[IMAGE, POINTS, ("input_labels", "neg_labels")]);
    compare(&fixture, &run, "out.neg_labels_masks", "out.neg_labels_iou", "");
    // A mask with the first prompt's points.
    let first = |tensor: &(Vec<usize>, Vec<f32>)| {
        let (mut shape, data) = tensor.clone();
        shape[1] = 1;
        let len = shape.iter().product();
        (shape, data[..len].to_vec())
    };
    let (points, labels) = (first(&fixture.inputs["input_points"]), first(&fixture.inputs["input_labels"]));
    fixture.inputs.insert("first_points".to_owned(), points);
    fixture.inputs.insert("first_labels".to_owned(), labels);
    let masks = ("input_masks", "input_masks");
    let run =
        fixture.run(&[IMAGE, ("input_points", "first_points"), ("input_labels", "first_labels"), masks]);
    compare(&fixture, &run, "out.mask_prompt_masks", "out.mask_prompt_iou", "");
    fixture.compare_node(&run, run.node("prompt_encoder.mask_embed.conv3"), "out.dense_mask", TOLERANCE);
    run.compare_reference(f64::from(TOLERANCE));
    // A mask alone: there is nothing to compare with, but it must run.
    let run = fixture.run(&[IMAGE, masks]);
    assert_eq!(run.model.graph.inputs().len(), 2);
}

#[test]
fn pictures_and_prompts_go_in_and_masks_come_back() {
    let fixture = Fixture::open("sam_tiny");
    let run = fixture.run(&ALL);
    pictures::compare(&fixture, &run.model, "image0.png", "pixel_values", 0);
    let picture = decode_image("image0.png", &std::fs::read(fixture.path("image0.png")).unwrap()).unwrap();
    let preprocessor = run.model.preprocessor.as_ref().unwrap();
    let geometry = preprocessor.geometry(picture.width(), picture.height());
    for (raw, scaled) in [("raw_points", "input_points"), ("raw_boxes", "input_boxes")] {
        let (raw, scaled) = (&fixture.inputs[raw].1, &fixture.inputs[scaled].1);
        for (raw, scaled) in raw.chunks_exact(2).zip(scaled.chunks_exact(2)) {
            let (x, y) = geometry.point(raw[0], raw[1]);
            assert!((x - scaled[0]).abs() < 1e-5 && (y - scaled[1]).abs() < 1e-5, "{raw:?}");
        }
    }
    let rule = MaskRule::Best { scores: "iou_scores".to_owned(), threshold: 0.0 };
    assert_eq!(run.model.task, Task::Mask { logits: "pred_masks".to_owned(), rule });
    // The best mask of each prompt, as the published post-processing brings it back.
    let of = |name: &str| &fixture.recorded[name].1;
    for prompt in 0..2 {
        let scores = &of("out.iou_scores")[prompt * 3..][..3];
        let masks = &of("out.pred_masks")[prompt * 3 * 1024..][..3 * 1024];
        let values = [
            ("pred_masks".to_owned(), Value::new(vec![1, 1, 3, 32, 32], masks.to_vec())),
            ("iou_scores".to_owned(), Value::new(vec![1, 1, 3], scores.to_vec())),
        ];
        let outputs = Outputs { values: &values, geometry: Some(&geometry), boxes_of_picture: false };
        let Answer::Mask(mask) = outputs.read(&run.model.task).unwrap() else { panic!("no mask") };
        let best = (0..3).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        let expected = &of("out.postprocessed_masks")[(prompt * 3 + best) * 37 * 53..][..37 * 53];
        assert_eq!((mask.width(), mask.height()), (53, 37));
        for (at, logit) in expected.iter().enumerate().filter(|(_, logit)| logit.abs() > TOLERANCE) {
            let (x, y) = (at as u32 % 53, at as u32 / 53);
            assert_eq!(mask.get(x, y), *logit > 0.0, "prompt {prompt} at {x}, {y}");
        }
    }
}

/// The authors' name of a tensor.
fn original(name: &str) -> String {
    let mut name = name.to_owned();
    for (theirs, ours) in [
        ("vision_encoder.", "image_encoder."),
        ("patch_embed.projection", "patch_embed.proj"),
        ("image_encoder.layers.", "image_encoder.blocks."),
        ("neck.conv1", "neck.0"),
        ("neck.layer_norm1", "neck.1"),
        ("neck.conv2", "neck.2"),
        ("neck.layer_norm2", "neck.3"),
        (
            "shared_image_embedding.positional_embedding",
            "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        ),
        ("prompt_encoder.point_embed.", "prompt_encoder.point_embeddings."),
        ("mask_embed.conv1", "mask_downscaling.0"),
        ("mask_embed.layer_norm1", "mask_downscaling.1"),
        ("mask_embed.conv2", "mask_downscaling.3"),
        ("mask_embed.layer_norm2", "mask_downscaling.4"),
        ("mask_embed.conv3", "mask_downscaling.6"),
        ("upscale_conv1", "output_upscaling.0"),
        ("upscale_layer_norm", "output_upscaling.1"),
        ("upscale_conv2", "output_upscaling.3"),
        ("layer_norm_final_attn", "norm_final_attn"),
        ("layer_norm", "norm"),
        ("layers.0.bias", "layers.1.bias"),
        ("layers.0.weight", "layers.1.weight"),
        ("proj_in", "layers.0"),
        ("proj_out", "layers.2"),
    ] {
        name = name.replace(theirs, ours);
    }
    name
}

#[test]
fn the_authors_names_open() {
    let fixture = Fixture::open("sam_tiny");
    let folder = Renamed::new(&fixture, original, &["config.json"]);
    let run = fixture.run_file(folder.files(), &ALL);
    compare(&fixture, &run, "out.pred_masks", "out.iou_scores", "");
    for name in [
        "image_encoder.blocks.1.attn.qkv",
        "mask_decoder.transformer.layers.1.norm3",
        "mask_decoder.output_upscaling.3",
        "mask_decoder.iou_prediction_head.layers.2",
    ] {
        assert!(run.model.graph.find(name).is_some(), "{name}");
    }
    // Without a configuration the image encoder's sizes are those of its tensors; the decoder of the miniature has other
    // heads than the published ones.
    let folder = Renamed::new(&fixture, original, &[]);
    let run = fixture.run_file(folder.files(), &ALL);
    assert_eq!(run.model.architecture, "sam");
    fixture.compare_node(&run, run.node("image_encoder.neck.3"), "out.image_embeddings", TOLERANCE);
    let preprocessor = run.model.preprocessor.as_ref().unwrap();
    assert_eq!(preprocessor.pad, Some((64, 64)));
    pictures::compare(&fixture, &run.model, "image0.png", "pixel_values", 0);
}

#[test]
fn either_name_of_the_positional_table_or_both() {
    let fixture = Fixture::open("sam_tiny");
    let other = |name: &str| {
        name.replace(
            "shared_image_embedding.positional_embedding",
            "prompt_encoder.shared_embedding.positional_embedding",
        )
    };
    let folder = Renamed::new(&fixture, other, &["config.json"]);
    let run = fixture.run_file(folder.files(), &ALL);
    compare(&fixture, &run, "out.pred_masks", "out.iou_scores", "");
}

#[test]
fn prompts_are_there_when_they_are_asked_for() {
    let fixture = Fixture::open("sam_tiny");
    let inputs = |shapes: &[(&str, &[usize])]| {
        let shapes: InputShapes = shapes.iter().map(|(name, shape)| (*name, shape.to_vec())).collect();
        let model = open_for(&fixture.files(), None, &shapes).map_err(|e| e.to_string())?;
        let graph = &model.graph;
        let input = |id: &_| (graph.node(*id).name.clone(), graph.node(*id).shape.clone());
        Ok::<_, String>(graph.inputs().iter().map(input).collect::<Vec<_>>())
    };
    let named = |name: &str, shape: &[usize]| (name.to_owned(), shape.to_vec());
    let image = named("pixel_values", &[1, 3, 64, 64]);
    let usual = [image.clone(), named("input_points", &[1, 1, 1, 2]), named("input_labels", &[1, 1, 1])];
    assert_eq!(inputs(&[]).unwrap(), usual);
    let boxes = inputs(&[("input_boxes", &[1, 3, 4])]).unwrap();
    assert_eq!(boxes, [image, named("input_boxes", &[1, 3, 4])]);
    for (shapes, words) in [
        (&[("pixel_values", &[1, 3, 32, 64][..])][..], "64x64"),
        (&[("input_points", &[1, 2, 2][..])], "[1, prompts, points, 2]"),
        (&[("input_boxes", &[1, 2][..])], "[1, prompts, 4]"),
        (&[("input_points", &[1, 2, 1, 2][..]), ("input_boxes", &[1, 3, 4])], "2 with points"),
        (&[("input_points", &[1, usize::MAX, 2, 2][..])], "input_points"),
        (&[("input_boxes", &[1, 1 << 40, 4][..])], "input_boxes"),
        (&[("input_boxes", &[1, 0, 4][..])], "input_boxes"),
    ] {
        let message = inputs(shapes).unwrap_err();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn configurations_that_do_not_fit_are_errors() {
    let fixture = Fixture::open("sam_tiny");
    let config = std::fs::read_to_string(fixture.path("config.json")).unwrap();
    for (from, to, words) in [
        ("\"num_attention_heads\": 3", "\"num_attention_heads\": 5", "do not divide"),
        ("\"num_attention_heads\": 3", "\"num_attention_heads\": 0", "heads"),
        ("\"num_attention_heads\": 4", "\"num_attention_heads\": 0", "mask_decoder_config"),
        ("\"num_attention_heads\": 4", "\"num_attention_heads\": 3", "reshape"),
        ("\"window_size\": 3", "\"window_size\": 99999999999", "window_size"),
        ("\"hidden_act\": \"relu\"", "\"hidden_act\": \"silu\"", "hidden_act"),
        ("\"layer_norm_eps\": 1e-06", "\"layer_norm_eps\": -1", "layer_norm_eps"),
        (
            "\"image_size\": 64,\n    \"patch_size\": 8,\n    \"hidden_act\"",
            "\"image_size\": 128,\n    \"hidden_act\"",
            "pos_embed",
        ),
        (
            "\"image_size\": 64,\n    \"patch_size\": 8,\n    \"hidden_act\"",
            "\"image_size\": 60,\n    \"hidden_act\"",
            "patches of 8",
        ),
        (
            "\"image_size\": 64,\n    \"patch_size\": 8,\n    \"hidden_act\"",
            "\"image_size\": 0,\n    \"hidden_act\"",
            "image_size",
        ),
    ] {
        let folder = Renamed::new(&fixture, str::to_owned, &[]);
        assert!(config.contains(from), "{from}");
        std::fs::write(folder.path().join("config.json"), config.replace(from, to)).unwrap();
        let message = open(&folder.files(), None).unwrap_err().to_string();
        assert!(message.contains(words), "{to}: {message}");
    }
    // A tensor too few, a tensor too many.
    let folder = Renamed::new(&fixture, |name| name.replace("neck.conv2", "neck.conv9"), &["config.json"]);
    let message = open(&ModelFiles::Path(folder.path().to_owned()), None).unwrap_err().to_string();
    assert!(message.contains("vision_encoder.neck.conv2.weight"), "{message}");
}

#[test]
fn roles_of_a_block_of_each_kind() {
    let mut fixture = Fixture::open("sam_tiny");
    let mask = fixture.inputs["input_masks"].clone();
    fixture.inputs.insert("mask".to_owned(), mask);
    let model = fixture.run(&ALL).model;
    for layer in ["vision_encoder.layers.0.", "vision_encoder.layers.1."] {
        roles::compare(
            &model,
            layer,
            &[
                "attn.qkv:input post-layernorm",
                "attn.qk:lhs query",
                "attn.qk:rhs key",
                "attn.rel_h:lhs query",
                "attn.rel_h:rhs embedding",
                "attn.rel_w:lhs query",
                "attn.rel_w:rhs embedding",
                "attn.pv:lhs post-softmax",
                "attn.pv:rhs value",
                "attn.proj:input other",
                "mlp.lin1:input post-layernorm",
                "mlp.lin2:input post-gelu",
            ],
        );
    }
    roles::compare(&model, "vision_encoder.neck.", &["conv1:input residual", "conv2:input post-layernorm"]);
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
    let mut block = attention("self_attn", ["residual", "residual", "post-layernorm"]);
    block.extend(attention("cross_attn_token_to_image", ["residual", "residual", "post-layernorm"]));
    block.extend(["mlp.lin1:input post-layernorm".to_owned(), "mlp.lin2:input post-relu".to_owned()]);
    block.extend(attention("cross_attn_image_to_token", ["residual", "residual", "post-layernorm"]));
    let block: Vec<&str> = block.iter().map(String::as_str).collect();
    roles::compare(&model, "mask_decoder.transformer.layers.1.", &block);
    roles::compare(&model, "mask_decoder.upscale_", &["conv1:input post-layernorm", "conv2:input post-gelu"]);
    roles::compare(
        &model,
        "mask_decoder.output_hypernetworks_mlps.2.",
        &["proj_in:input post-layernorm", "layers.0:input post-relu", "proj_out:input post-relu"],
    );
    roles::compare(&model, "mask_decoder.masks", &[":lhs other", ":rhs post-gelu"]);
    assert_eq!(
        model.graph.node(node_of(&model.graph, "act.mask_decoder.masks.output")).shape,
        [1, 2, 4, 1024]
    );
}

#[test]
#[ignore = "writes 375 MB"]
fn the_published_one_opens() {
    published::open_whole("sam-vit-base");
}

#[test]
#[ignore = "runs 370 billion multiply-accumulates"]
fn the_published_one_runs() {
    let (model, _) = published::open("sam-vit-base", &[]);
    published::run_once(&model, &["input_labels"]);
}
