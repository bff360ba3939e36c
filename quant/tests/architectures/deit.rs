//! DeiT with a distillation token, under the names of Hugging Face and of timm.

use crate::activations::Gap;
use crate::fixture::Fixture;
use crate::{activations, pictures, published, roles};

/// Ten times the gap between f32 and f64 that the fixture's README names for the logits, and their size (timm's are the
/// same weights).
const TOLERANCE: f32 = 1.5e-5;
const GAP: Gap = Gap { tolerance: TOLERANCE, largest: 2.11 };
const INPUT: [(&str, &str); 1] = [("pixel_values", "pixel_values")];

#[test]
fn hugging_face() {
    let fixture = Fixture::open("deit_dist_tiny_hf");
    let run = fixture.run(&INPUT);
    assert_eq!(run.model.architecture, "deit");
    fixture.compare_output(&run, "logits", "out.logits", TOLERANCE);
    fixture.compare_output(&run, "cls_logits", "out.cls_logits", TOLERANCE);
    fixture.compare_output(&run, "distillation_logits", "out.distillation_logits", TOLERANCE);
    activations::compare(&fixture, &run, GAP, 30);
    run.compare_reference(f64::from(TOLERANCE));
    for (sample, image) in ["image0.png", "image1.png"].into_iter().enumerate() {
        pictures::compare(&fixture, &run.model, image, "pixel_values", sample);
    }
}

#[test]
fn timm() {
    let fixture = Fixture::open("deit_dist_tiny_timm");
    let run = fixture.run(&INPUT);
    assert_eq!(run.model.architecture, "deit");
    fixture.compare_output(&run, "logits", "out.logits", TOLERANCE);
    activations::compare(&fixture, &run, GAP, 25);
    run.compare_reference(f64::from(TOLERANCE));
}

#[test]
fn roles_of_the_heads() {
    let model = Fixture::open("deit_dist_tiny_hf").run(&INPUT).model;
    roles::compare(&model, "cls_classifier", &[":input post-layernorm"]);
    roles::compare(&model, "distillation_classifier", &[":input post-layernorm"]);
    let model = Fixture::open("deit_dist_tiny_timm").run(&INPUT).model;
    roles::compare(&model, "head", &[":input post-layernorm", "_dist:input post-layernorm"]);
}

#[test]
fn the_smallest_published_ones_open_and_run() {
    for name in [
        "deit-tiny-distilled-patch16-224",
        "timm_deit_tiny_distilled_patch16_224",
        "timm_deit_tiny_patch16_224",
    ] {
        published::open_whole(name);
    }
    let name = "timm_deit_tiny_distilled_patch16_224";
    let (model, _) = published::open(name, &[("pixel_values", &[1, 3, 32, 48])]);
    assert_eq!(model.architecture, "deit");
    published::run_once(&model, &[]);
}

#[test]
#[ignore = "writes up to 349 MB a model"]
fn the_larger_published_ones_open() {
    for name in [
        "deit-small-distilled-patch16-224",
        "deit-base-distilled-patch16-224",
        "timm_deit_small_distilled_patch16_224",
        "timm_deit_small_patch16_224",
        "timm_deit_base_distilled_patch16_224",
        "timm_deit_base_patch16_224",
    ] {
        published::open_whole(name);
    }
}
