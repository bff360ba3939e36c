//! ViT under the names of Hugging Face and of timm.

use crate::activations::Gap;
use crate::fixture::Fixture;
use crate::{activations, pictures, published, roles};

/// Ten times the gap between f32 and f64 that the fixture's README names for the logits, and their size (timm's are the
/// same weights).
const TOLERANCE: f32 = 3.5e-5;
const GAP: Gap = Gap { tolerance: TOLERANCE, largest: 4.9 };
const INPUT: [(&str, &str); 1] = [("pixel_values", "pixel_values")];

#[test]
fn hugging_face() {
    let fixture = Fixture::open("vit_tiny_hf");
    let run = fixture.run(&INPUT);
    assert_eq!(run.model.architecture, "vit");
    fixture.compare_output(&run, "logits", "out.logits", TOLERANCE);
    activations::compare(&fixture, &run, GAP, 30);
    run.compare_reference(f64::from(TOLERANCE));
    for (sample, image) in ["image0.png", "image1.png"].into_iter().enumerate() {
        pictures::compare(&fixture, &run.model, image, "pixel_values", sample);
    }
}

#[test]
fn positions_are_interpolated_for_other_sizes() {
    let fixture = Fixture::open("vit_tiny_hf");
    let run = fixture.run(&[("pixel_values", "pixel_values_interp")]);
    fixture.compare_output(&run, "logits", "out.interp_logits", TOLERANCE);
}

#[test]
fn timm() {
    let fixture = Fixture::open("vit_tiny_timm");
    let run = fixture.run(&INPUT);
    assert_eq!(run.model.architecture, "vit");
    fixture.compare_output(&run, "logits", "out.logits", TOLERANCE);
    activations::compare(&fixture, &run, GAP, 25);
    run.compare_reference(f64::from(TOLERANCE));
    activations::compare_node(&fixture, &run, "act.norm.output", "out.features", GAP);
    for (sample, image) in ["image0.png", "image1.png"].into_iter().enumerate() {
        pictures::compare(&fixture, &run.model, image, "pixel_values", sample);
    }
    let run = fixture.run(&[("pixel_values", "hf_pixel_values")]);
    fixture.compare_output(&run, "logits", "out.logits_on_hf_pixels", TOLERANCE);
}

#[test]
fn roles_of_a_block() {
    let model = Fixture::open("vit_tiny_hf").run(&INPUT).model;
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
    roles::compare(&model, "vit.embeddings.patch_embeddings.projection", &[":input image"]);
    roles::compare(&model, "classifier", &[":input post-layernorm"]);
    let model = Fixture::open("vit_tiny_timm").run(&INPUT).model;
    roles::compare(
        &model,
        "blocks.0.",
        &[
            "attn.qkv:input post-layernorm",
            "attn.qk:lhs query",
            "attn.qk:rhs key",
            "attn.pv:lhs post-softmax",
            "attn.pv:rhs value",
            "attn.proj:input other",
            "mlp.fc1:input post-layernorm",
            "mlp.fc2:input post-gelu",
        ],
    );
}

/// Published as ViT, with the weights of DeiT.
#[test]
fn the_smallest_published_one_opens_and_runs() {
    published::open_whole("deit-tiny-patch16-224");
    let (model, _) = published::open("deit-tiny-patch16-224", &[("pixel_values", &[1, 3, 64, 48])]);
    assert_eq!(model.architecture, "vit");
    published::run_once(&model, &[]);
}

#[test]
#[ignore = "writes 346 MB a model"]
fn the_larger_published_ones_open() {
    for name in [
        "deit-small-patch16-224",
        "deit-base-patch16-224",
        "vit-base-patch16-224",
        "timm_vit_base_patch16_224",
    ] {
        published::open_whole(name);
    }
}
