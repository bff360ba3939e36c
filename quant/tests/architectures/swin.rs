//! Swin under the names of Hugging Face, timm and the original code.

use bitloupe_quant::models::{ModelFiles, open};

use crate::activations::Gap;
use crate::fixture::Fixture;
use crate::{activations, pictures, published, roles};

/// Ten times the gap between f32 and f64 that the fixture's README names for the logits, and their size (all three have
/// the same weights).
const TOLERANCE: f32 = 2.2e-5;
const GAP: Gap = Gap { tolerance: TOLERANCE, largest: 2.67 };
const INPUT: [(&str, &str); 1] = [("pixel_values", "pixel_values")];

#[test]
fn hugging_face() {
    let fixture = Fixture::open("swin_tiny_hf");
    let run = fixture.run(&INPUT);
    assert_eq!(run.model.architecture, "swin");
    fixture.compare_output(&run, "logits", "out.logits", TOLERANCE);
    activations::compare(&fixture, &run, GAP, 60);
    run.compare_reference(f64::from(TOLERANCE));
    pictures::compare(&fixture, &run.model, "image0.png", "pixel_values", 0);
}

/// Padded patches, padded windows, odd sides in the merging.
#[test]
fn odd_sizes_are_padded() {
    let fixture = Fixture::open("swin_tiny_hf");
    let run = fixture.run(&[("pixel_values", "pixel_values_pad")]);
    fixture.compare_output(&run, "logits", "out.pad_logits", TOLERANCE);
    activations::compare_node(&fixture, &run, "act.swin.layernorm.input", "out.pad_last_hidden", GAP);
}

#[test]
fn timm() {
    let fixture = Fixture::open("swin_tiny_timm");
    let run = fixture.run(&INPUT);
    fixture.compare_output(&run, "logits", "out.logits", TOLERANCE);
    activations::compare(&fixture, &run, GAP, 45);
    run.compare_reference(f64::from(TOLERANCE));
    activations::compare_node(&fixture, &run, "act.norm.output", "out.features", GAP);
}

#[test]
fn original() {
    let fixture = Fixture::open("swin_tiny_original");
    let run = fixture.run(&INPUT);
    fixture.compare_output(&run, "logits", "out.logits", TOLERANCE);
    assert!(run.model.graph.find("layers.0.downsample.reduction").is_some());
}

/// The names and shapes of the tensors say everything, the size of the image too: its last grid is one window.
#[test]
fn without_a_configuration() {
    let fixture = Fixture::open("swin_tiny_original");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("swin.safetensors");
    std::fs::copy(fixture.path("model.safetensors"), &file).unwrap();
    let model = open(&ModelFiles::Path(file), None).unwrap();
    assert_eq!(model.architecture, "swin");
    assert_eq!(model.graph.node(model.graph.inputs()[0]).shape, [1, 3, 64, 64]);
    assert_eq!(model.preprocessor.unwrap().crop, Some((64, 64)));
}

#[test]
fn roles_of_a_block() {
    let attention = |scope: &str, out: &str| {
        [
            format!("{scope}.qk:lhs query"),
            format!("{scope}.qk:rhs key"),
            format!("{scope}.pv:lhs post-softmax"),
            format!("{scope}.pv:rhs value"),
            format!("{out}:input other"),
        ]
    };
    let model = Fixture::open("swin_tiny_hf").run(&INPUT).model;
    let mut expected =
        ["query", "key", "value"].map(|p| format!("attention.self.{p}:input post-layernorm")).to_vec();
    expected.extend(attention("attention.self", "attention.output.dense"));
    expected.push("intermediate.dense:input post-layernorm".to_owned());
    expected.push("output.dense:input post-gelu".to_owned());
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    // The second block is shifted.
    roles::compare(&model, "swin.encoder.layers.1.blocks.0.", &expected);
    roles::compare(&model, "swin.encoder.layers.1.blocks.1.", &expected);
    roles::compare(&model, "swin.encoder.layers.0.downsample.", &["reduction:input post-layernorm"]);
    roles::compare(&model, "swin.embeddings.", &["patch_embeddings.projection:input image"]);

    let model = Fixture::open("swin_tiny_timm").run(&INPUT).model;
    let mut expected = vec!["attn.qkv:input post-layernorm".to_owned()];
    expected.extend(attention("attn", "attn.proj"));
    expected.push("mlp.fc1:input post-layernorm".to_owned());
    expected.push("mlp.fc2:input post-gelu".to_owned());
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    roles::compare(&model, "layers.0.blocks.1.", &expected);
    roles::compare(&model, "layers.1.downsample.", &["reduction:input post-layernorm"]);
}

#[test]
#[ignore = "writes up to 356 MB a model"]
fn the_published_ones_open_and_the_smallest_run() {
    for name in [
        "swin-tiny-patch4-window7-224",
        "swin-small-patch4-window7-224",
        "swin-base-patch4-window7-224",
        "swin-base-patch4-window12-384",
        "timm_swin_tiny_patch4_window7_224",
        "timm_swin_small_patch4_window7_224",
        "timm_swin_base_patch4_window7_224",
        "timm_swin_base_patch4_window12_384",
    ] {
        published::open_whole(name);
    }
    for name in ["swin-tiny-patch4-window7-224", "timm_swin_tiny_patch4_window7_224"] {
        let (model, _) = published::open(name, &[("pixel_values", &[1, 3, 64, 64])]);
        published::run_once(&model, &[]);
    }
}
