//! LAVT in both forms of its checkpoints.

use bitloupe_quant::eval::sensitivity::{By, units};
use bitloupe_quant::models::{InputShapes, open, open_for};

use crate::fixture::Fixture;
use crate::renamed::Renamed;
use crate::{pictures, published, roles};

/// Ten times the gap between f32 and f64 that the fixture's README names for the logits.
const TOLERANCE: f32 = 1e-3;
const INPUTS: [(&str, &str); 3] =
    [("pixel_values", "pixel_values"), ("input_ids", "input_ids"), ("attention_mask", "attention_mask")];

#[test]
fn everything_recorded_is_reproduced() {
    let fixture = Fixture::open("lavt_one_tiny");
    let run = fixture.run(&INPUTS);
    fixture.compare_output(&run, "logits", "out.logits", TOLERANCE);
    fixture.compare_activations(&run, TOLERANCE, 190, |_| None);
    for (i, image) in ["image0.png", "image1.png"].into_iter().enumerate() {
        pictures::compare(&fixture, &run.model, image, "pixel_values", i);
    }
}

/// The f64 reference shows how far f32 kernels may be off; fused kernels stay within ten times the f32 gap.
#[test]
fn fused_kernels_agree_with_the_reference() {
    Fixture::open("lavt_one_tiny").run(&INPUTS).compare_reference(f64::from(TOLERANCE));
}

/// `{'model', 'bert_model'}`, both under their keys.
fn two_dicts(name: &str) -> String {
    match name.strip_prefix("text_encoder.") {
        Some(rest) => format!("bert_model.{rest}"),
        None => format!("model.{name}"),
    }
}

/// The same as it comes out of a pickle.
fn first_dict_bare(name: &str) -> String {
    two_dicts(name).trim_start_matches("model.").to_owned()
}

/// `{'model'}` with BERT in it.
fn under_a_key(name: &str) -> String {
    format!("model.{name}")
}

#[test]
fn two_dicts_are_the_same_model() {
    let fixture = Fixture::open("lavt_one_tiny");
    let config = std::fs::read_to_string(fixture.path("config.json")).unwrap();
    let others = ["preprocessor_config.json", "tokenizer.json"];
    let words = "encoder.layer.1.output.LayerNorm";
    for (name, norm, words) in [
        (two_dicts as fn(&str) -> String, "model.backbone.norm3", format!("bert_model.{words}")),
        (first_dict_bare, "backbone.norm3", format!("bert_model.{words}")),
        (under_a_key, "model.backbone.norm3", format!("model.text_encoder.{words}")),
    ] {
        let folder = Renamed::new(&fixture, name, &others);
        let config = config.replace("\"lavt_model\": \"lavt_one\"", "\"lavt_model\": \"lavt\"");
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let run = fixture.run_file(folder.files(), &INPUTS);
        fixture.compare_output(&run, "logits", "out.logits", TOLERANCE);
        assert!(run.model.graph.find(norm).is_some() && run.model.graph.find(&words).is_some(), "{norm}");
    }
}

#[test]
fn roles_of_a_stage_and_the_decoder() {
    let model = open(&Fixture::open("lavt_one_tiny").files(), None).unwrap();
    roles::compare(
        &model,
        "backbone.layers.1.",
        &[
            "blocks.0.attn.qkv:input post-layernorm",
            "blocks.0.attn.qk:lhs query",
            "blocks.0.attn.qk:rhs key",
            "blocks.0.attn.pv:lhs post-softmax",
            "blocks.0.attn.pv:rhs value",
            "blocks.0.attn.proj:input other",
            "blocks.0.mlp.fc1:input post-layernorm",
            "blocks.0.mlp.fc2:input post-gelu",
            "blocks.1.attn.qkv:input post-layernorm",
            "blocks.1.attn.qk:lhs query",
            "blocks.1.attn.qk:rhs key",
            "blocks.1.attn.pv:lhs post-softmax",
            "blocks.1.attn.pv:rhs value",
            "blocks.1.attn.proj:input other",
            "blocks.1.mlp.fc1:input post-layernorm",
            "blocks.1.mlp.fc2:input post-gelu",
            "fusion.vis_project.0:input residual",
            "fusion.image_lang_att.f_query.0:input residual",
            "fusion.image_lang_att.f_key.0:input post-layernorm",
            "fusion.image_lang_att.f_value.0:input post-layernorm",
            "fusion.image_lang_att.qk:lhs query",
            "fusion.image_lang_att.qk:rhs key",
            "fusion.image_lang_att.pv:lhs post-softmax",
            "fusion.image_lang_att.pv:rhs value",
            "fusion.image_lang_att.W.0:input other",
            "fusion.project_mm.0:input other",
            "res_gate.0:input post-gelu",
            "res_gate.2:input post-relu",
            "downsample.reduction:input post-layernorm",
        ],
    );
    roles::compare(
        &model,
        "classifier.",
        &[
            "conv1_4:input post-layernorm",
            "conv2_4:input post-relu",
            "conv1_3:input other",
            "conv2_3:input post-relu",
            "conv1_2:input other",
            "conv2_2:input post-relu",
            "conv1_1:input post-relu",
        ],
    );
}

#[test]
#[ignore = "writes up to 911 MB a model"]
fn the_published_ones_open_without_a_configuration() {
    for name in ["lavt_one_swin_tiny_window7", "lavt_one_swin_base_window12", "lavt_swin_base_window12"] {
        published::open_whole(name);
    }
    let small: &[(&str, &[usize])] =
        &[("pixel_values", &[1, 3, 64, 96]), ("input_ids", &[1, 4]), ("attention_mask", &[1, 4])];
    let (model, _) = published::open("lavt_one_swin_tiny_window7", small);
    published::run_once(&model, &["input_ids", "attention_mask"]);
}

#[test]
fn a_checkpoint_without_a_configuration_says_what_is_missing() {
    // The miniature's BERT has heads that no published one has.
    let fixture = Fixture::open("lavt_one_tiny");
    let folder = Renamed::new(&fixture, str::to_owned, &[]);
    let shapes: InputShapes = [("pixel_values", vec![1, 3, 48, 40])].into_iter().collect();
    let message = open_for(&folder.files(), None, &shapes).unwrap_err().to_string();
    assert!(message.contains("bert.num_attention_heads"), "{message}");
}

#[test]
fn the_gate_behind_the_last_stage_feeds_no_result() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lavt_one_tiny");
    let model = open(&bitloupe_quant::models::ModelFiles::Path(folder), None).unwrap();
    let graph = &model.graph;
    let unused: Vec<&str> =
        graph.layers().iter().filter(|l| !graph.is_used(l.node)).map(|l| l.name.as_str()).collect();
    // As in the authors' code: what the gate gives goes into the next stage, and there is none.
    assert_eq!(unused, ["backbone.layers.3.res_gate.0", "backbone.layers.3.res_gate.2"]);
    for by in [By::Site, By::Layer, By::Role] {
        let parts = units(graph, by, |_| true);
        let inside = |site: &usize| !graph.is_used(graph.sites()[*site].node);
        assert!(!parts.is_empty() && !parts.iter().any(|part| part.sites.iter().any(inside)), "{by}");
    }
}
