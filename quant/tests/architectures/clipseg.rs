//! CLIPSeg: both heads, text and image prompts, pictures of another size than the position table.

use bitloupe_quant::models::{InputShapes, MaskRule, Task, open_for};

use crate::fixture::{Fixture, Run};
use crate::{pictures, published, roles};

/// Ten times the gap between f32 and f64 that the README names for `logits` of the refined head.
const TOLERANCE: f32 = 7.6e-4;
/// The same for the simple head.
const SIMPLE: f32 = 2.7e-4;
/// The same for `conditional_embeddings`.
const EMBEDDINGS: f32 = 3.3e-5;
const TEXT: [(&str, &str); 3] =
    [("pixel_values", "pixel_values"), ("input_ids", "input_ids"), ("attention_mask", "attention_mask")];
const IMAGE: [(&str, &str); 2] =
    [("pixel_values", "pixel_values"), ("conditional_pixel_values", "conditional_pixel_values")];

/// Everything that both fixtures record of a run with texts.
fn compare(fixture: &Fixture, run: &Run, tolerance: f32) {
    fixture.compare_output(run, "logits", "out.logits", tolerance);
    fixture.compare_output(run, "conditional_embeddings", "out.conditional_embeddings", EMBEDDINGS);
    fixture.compare_output(run, "pooled_output", "out.pooled_output", tolerance);
    for level in 0..4 {
        let node = run.before(&format!("clip.vision_model.encoder.layers.{level}.layer_norm1"));
        fixture.compare_node(run, node, &format!("out.vision_hidden.{level}"), tolerance);
    }
    let last = run.node("clip.vision_model.encoder.layers.3.add_2");
    fixture.compare_node(run, last, "out.vision_hidden.4", tolerance);
    for level in 0..3 {
        let node = run.node(&format!("decoder.layers.{level}.layer_norm2"));
        fixture.compare_node(run, node, &format!("out.decoder_hidden.{level}"), tolerance);
    }
}

#[test]
fn everything_recorded_is_reproduced() {
    let fixture = Fixture::open("clipseg_tiny");
    let run = fixture.run(&TEXT);
    compare(&fixture, &run, TOLERANCE);
    fixture.compare_activations(&run, TOLERANCE, 160, |_| None);
    let expected = Task::Mask { logits: "logits".to_owned(), rule: MaskRule::Above(0.0) };
    assert_eq!(run.model.task, expected);
}

#[test]
fn the_simple_head_is_reproduced() {
    let fixture = Fixture::open("clipseg_simple_tiny");
    let run = fixture.run(&TEXT);
    compare(&fixture, &run, SIMPLE);
    fixture.compare_activations(&run, SIMPLE, 50, |_| None);
}

/// A picture as prompt goes through the same vision tower a second time; the text tower is not built.
#[test]
fn pictures_as_prompts_are_reproduced() {
    for (name, tolerance) in [("clipseg_tiny", TOLERANCE), ("clipseg_simple_tiny", SIMPLE)] {
        let fixture = Fixture::open(name);
        let run = fixture.run(&IMAGE);
        fixture.compare_output(&run, "logits", "out.image_cond_logits", tolerance);
        fixture.compare_output(&run, "conditional_embeddings", "out.image_cond_embeddings", EMBEDDINGS);
        assert!(run.model.text.is_none());
        assert!(run.model.graph.find("clip.text_projection").is_none());
        let second = run.node("clip.vision_model.encoder.layers.0.self_attn.q_proj#1");
        assert_eq!(run.model.graph.node(second).shape, [1, 10, 32]);
    }
}

/// Where both prompts are named the text counts, as in the published code.
#[test]
fn a_text_wins_over_a_picture() {
    let fixture = Fixture::open("clipseg_simple_tiny");
    let run = fixture.run(&[TEXT[0], TEXT[1], TEXT[2], IMAGE[1]]);
    fixture.compare_output(&run, "logits", "out.logits", SIMPLE);
}

/// The size of the position table: nothing is resized.
#[test]
fn the_size_of_the_configuration_is_reproduced() {
    for (name, tolerance) in [("clipseg_tiny", TOLERANCE), ("clipseg_simple_tiny", SIMPLE)] {
        let mut fixture = Fixture::open(name);
        let (shape, pixels) = &fixture.inputs["pixel_values"];
        let [samples, channels, rows, columns] = shape[..] else { panic!("{shape:?}") };
        let mut corner = Vec::new();
        for plane in pixels.chunks_exact(rows * columns) {
            for row in plane.chunks_exact(columns).take(48) {
                corner.extend(&row[..48]);
            }
        }
        fixture.inputs.insert("corner".to_owned(), (vec![samples, channels, 48, 48], corner));
        let run = fixture.run(&[("pixel_values", "corner"), TEXT[1], TEXT[2]]);
        fixture.compare_output(&run, "logits", "out.native48_logits", tolerance);
    }
}

#[test]
fn fused_kernels_agree_with_the_reference() {
    let fixture = Fixture::open("clipseg_tiny");
    fixture.run(&TEXT).compare_reference(f64::from(TOLERANCE));
    fixture.run(&IMAGE).compare_reference(f64::from(TOLERANCE));
}

#[test]
fn pictures_become_the_published_tensors() {
    let fixture = Fixture::open("clipseg_tiny");
    let model = open_for(&fixture.files(), None, &InputShapes::default()).unwrap();
    for (sample, image) in ["image0.png", "image1.png"].into_iter().enumerate() {
        pictures::compare(&fixture, &model, image, "pixel_values", sample);
    }
    // The preprocessor's size counts, not that of the position table.
    let pixels = model.graph.find("pixel_values").unwrap();
    assert_eq!(model.graph.node(pixels).shape, [1, 3, 80, 80]);
}

#[test]
fn sites_hold_what_their_roles_say() {
    let fixture = Fixture::open("clipseg_tiny");
    let run = fixture.run(&TEXT);
    roles::compare(
        &run.model,
        "decoder.layers.1.",
        &[
            "self_attn.q_proj:input residual",
            "self_attn.k_proj:input residual",
            "self_attn.v_proj:input residual",
            "self_attn.qk:lhs query",
            "self_attn.qk:rhs key",
            "self_attn.pv:lhs post-softmax",
            "self_attn.pv:rhs value",
            "self_attn.out_proj:input other",
            "mlp.fc1:input post-layernorm",
            "mlp.fc2:input post-relu",
        ],
    );
    roles::compare(&run.model, "decoder.reduces.1", &[":input residual"]);
    roles::compare(&run.model, "decoder.film_mul", &[":input other"]);
    roles::compare(
        &run.model,
        "decoder.transposed_convolution.",
        &["0:input post-layernorm", "2:input post-relu", "4:input post-relu"],
    );
}

#[test]
#[ignore = "writes checkpoints of 600 MB"]
fn published_checkpoints_open() {
    for name in ["clipseg-rd16", "clipseg-rd64", "clipseg-rd64-refined"] {
        // CLIPSeg has no use for CLIP's scale.
        let (model, manifest) = published::open(name, &[]);
        assert_eq!(model.graph.parameters() + 1, manifest["float_params"].as_u64().unwrap(), "{name}");
    }
    let (model, _) = published::open("clipseg-rd64-refined", &[("pixel_values", &[1, 3, 176, 176])]);
    published::run_once(&model, &["input_ids", "attention_mask"]);
}
