//! YOLOS, with and without position embeddings between its layers.

use crate::activations::Gap;
use crate::fixture::Fixture;
use crate::{activations, pictures, published, roles};

/// Ten times the gap between f32 and f64 that the fixtures' READMEs name for the logits, and their size.
const GAP: Gap = Gap { tolerance: 1.8e-5, largest: 1.25 };
const MID_GAP: Gap = Gap { tolerance: 2.9e-5, largest: 1.54 };
const INPUT: [(&str, &str); 1] = [("pixel_values", "pixel_values")];

fn everything(name: &str, gap: Gap, activations: usize) {
    let tolerance = gap.tolerance;
    let fixture = Fixture::open(name);
    let run = fixture.run(&INPUT);
    assert_eq!(run.model.architecture, "yolos");
    fixture.compare_output(&run, "logits", "out.logits", tolerance);
    fixture.compare_output(&run, "pred_boxes", "out.pred_boxes", tolerance);
    activations::compare_node(&fixture, &run, "act.vit.layernorm.output", "out.last_hidden_state", gap);
    activations::compare(&fixture, &run, gap, activations);
    run.compare_reference(f64::from(tolerance));
    pictures::compare(&fixture, &run.model, "image0.png", "pixel_values", 0);
    pictures::compare(&fixture, &run.model, "image1.png", "pixel_values_image1", 0);

    // The size that the position tables were made for.
    let run = fixture.run(&[("pixel_values", "pixel_values_native")]);
    fixture.compare_output(&run, "logits", "out.native_logits", tolerance);
    fixture.compare_output(&run, "pred_boxes", "out.native_pred_boxes", tolerance);
}

#[test]
fn without_mid_positions() {
    everything("yolos_tiny", GAP, 40);
}

#[test]
fn with_mid_positions() {
    everything("yolos_mid_tiny", MID_GAP, 20);
}

#[test]
fn roles_of_a_layer_and_the_heads() {
    let model = Fixture::open("yolos_mid_tiny").run(&INPUT).model;
    roles::compare(
        &model,
        "vit.encoder.layer.1.",
        &[
            "attention.attention.query:input post-layernorm",
            "attention.attention.key:input post-layernorm",
            "attention.attention.value:input post-layernorm",
            "attention.attention.qk:lhs query",
            "attention.attention.qk:rhs key",
            "attention.attention.pv:lhs post-softmax",
            "attention.attention.pv:rhs value",
            "attention.output.dense:input other",
            "intermediate.dense:input post-layernorm",
            "output.dense:input post-gelu",
        ],
    );
    for head in ["class_labels_classifier.layers.", "bbox_predictor.layers."] {
        roles::compare(&model, head, &["0:input post-layernorm", "1:input post-relu", "2:input post-relu"]);
    }
}

#[test]
fn the_smallest_published_one_opens_and_runs() {
    published::open_whole("yolos-tiny");
    let (model, _) = published::open("yolos-tiny", &[("pixel_values", &[1, 3, 64, 96])]);
    published::run_once(&model, &[]);
}

#[test]
#[ignore = "writes up to 511 MB a model"]
fn the_larger_published_ones_open() {
    for name in ["yolos-small", "yolos-base"] {
        published::open_whole(name);
    }
}
