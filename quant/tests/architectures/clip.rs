//! CLIP: both towers, the end token as the first configurations have it, tokenizers from either form of files.

use bitloupe_quant::models::{InputShapes, ModelFiles, Task, open_for};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value as Json, json};

use crate::bert::folder_with;
use crate::fixture::Fixture;
use crate::{pictures, published, roles, texts};

/// Ten times the gap between f32 and f64 that the README names for `logits_per_image`, the largest values.
const TOLERANCE: f32 = 2e-4;
const INPUTS: [(&str, &str); 3] =
    [("pixel_values", "pixel_values"), ("input_ids", "input_ids"), ("attention_mask", "attention_mask")];

#[test]
fn everything_recorded_is_reproduced() {
    let fixture = Fixture::open("clip_tiny");
    let run = fixture.run(&INPUTS);
    fixture.compare_output(&run, "image_embeds", "out.image_embeds", 1.3e-6);
    fixture.compare_output(&run, "text_embeds", "out.text_embeds", 6e-6);
    for (node, recorded) in [
        (run.node("text_model.final_layer_norm"), "out.text_last_hidden"),
        (run.before("text_projection"), "out.text_pooled"),
        (run.node("vision_model.post_layernorm"), "out.vision_pooled"),
        (run.node("vision_model.encoder.layers.1.add_2"), "out.vision_last_hidden"),
    ] {
        fixture.compare_node(&run, node, recorded, TOLERANCE);
    }
    fixture.compare_activations(&run, TOLERANCE, 83, |_| None);
    // A sample is one picture and one text: the diagonal of the recorded matrices.
    for name in ["logits_per_image", "logits_per_text"] {
        let (_, node) = run.model.graph.outputs().iter().find(|(output, _)| output == name).unwrap();
        let (ours, theirs) = (run.values(*node), &fixture.recorded[&format!("out.{name}")].1);
        assert_eq!((ours.len(), theirs.len()), (2, 4));
        for (sample, ours) in ours.iter().enumerate() {
            let gap = (ours - theirs[3 * sample]).abs();
            assert!(gap <= TOLERANCE, "{name}: {gap:e}");
        }
    }
    let Task::Embeddings { outputs } = &run.model.task else { panic!("{:?}", run.model.task) };
    assert_eq!(outputs, &["image_embeds", "text_embeds"]);
}

#[test]
fn fused_kernels_agree_with_the_reference() {
    Fixture::open("clip_tiny").run(&INPUTS).compare_reference(f64::from(TOLERANCE));
}

#[test]
fn pictures_become_the_published_tensors() {
    let fixture = Fixture::open("clip_tiny");
    let model = open_for(&fixture.files(), None, &InputShapes::default()).unwrap();
    for (sample, image) in ["image0.png", "image1.png"].into_iter().enumerate() {
        pictures::compare(&fixture, &model, image, "pixel_values", sample);
    }
    // The usual shapes are those of the preprocessor and the position tables.
    let shape = |name: &str| model.graph.node(model.graph.find(name).unwrap()).shape.clone();
    assert_eq!(shape("pixel_values"), [1, 3, 32, 32]);
    assert_eq!(shape("input_ids"), [1, 24]);
}

#[test]
fn texts_become_the_published_ids() {
    let fixture = Fixture::open("clip_tiny");
    for length in [24, 9] {
        let shapes: InputShapes = [("input_ids", vec![1, length])].into_iter().collect();
        texts::compare(&fixture, &open_for(&fixture.files(), None, &shapes).unwrap(), 573);
    }
    // The same from vocab.json and merges.txt.
    let folder = folder_with(&fixture, &["config.json", "model.safetensors", "vocab.json", "merges.txt"]);
    let model = open_for(&ModelFiles::Path(folder.path().to_owned()), None, &InputShapes::default()).unwrap();
    texts::compare(&fixture, &model, 573);
}

/// A newer configuration names the end token; in texts with one end, both ways find it.
#[test]
fn the_end_token_is_found_by_its_number() {
    let fixture = Fixture::open("clip_tiny");
    let folder = folder_with(&fixture, &["model.safetensors"]);
    let config = std::fs::read(fixture.path("config.json")).unwrap();
    let mut config: Json = serde_json::from_slice(&config).unwrap();
    config["text_config"]["eos_token_id"] = json!(573);
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let run = fixture.run_file(ModelFiles::Path(folder.path().to_owned()), &INPUTS);
    fixture.compare_output(&run, "text_embeds", "out.text_embeds", 6e-6);
}

/// Another size has its position table resized; a table of another grid than the configuration's is an error.
#[test]
fn positions_fit_the_picture() {
    let fixture = Fixture::open("clip_tiny");
    let open = |height: usize, width: usize| {
        let shapes: InputShapes = [("pixel_values", vec![1, 3, height, width])].into_iter().collect();
        open_for(&fixture.files(), None, &shapes)
    };
    let model = open(48, 40).unwrap();
    let node = model.graph.find("vision_model.embeddings.position_embedding").unwrap();
    assert_eq!(model.graph.node(node).shape, [1, 1 + 6 * 5, 32]);
    for (height, width) in [(0, 32), (7, 32), (1 << 40, 1 << 40), (1 << 15, 1 << 15)] {
        assert!(open(height, width).is_err(), "{height}x{width}");
    }
}

#[test]
fn sites_hold_what_their_roles_say() {
    let fixture = Fixture::open("clip_tiny");
    let run = fixture.run(&INPUTS);
    for tower in ["text_model", "vision_model"] {
        roles::compare(
            &run.model,
            &format!("{tower}.encoder.layers.1."),
            &[
                "self_attn.q_proj:input post-layernorm",
                "self_attn.k_proj:input post-layernorm",
                "self_attn.v_proj:input post-layernorm",
                "self_attn.qk:lhs query",
                "self_attn.qk:rhs key",
                "self_attn.pv:lhs post-softmax",
                "self_attn.pv:rhs value",
                "self_attn.out_proj:input other",
                "mlp.fc1:input post-layernorm",
                "mlp.fc2:input post-gelu",
            ],
        );
    }
    roles::compare(&run.model, "vision_model.embeddings.", &["patch_embedding:input image"]);
    roles::compare(&run.model, "visual_projection", &[":input post-layernorm"]);
    roles::compare(&run.model, "text_projection", &[":input post-layernorm"]);
    roles::compare(&run.model, "similarity", &[":lhs other", ":rhs other"]);
}

/// Without `config.json` the tensors tell all but the heads, and OpenAI's towers have 64 channels in each.
#[test]
fn a_file_alone_is_recognised() {
    let width = 512;
    let mut shapes = vec![
        ("logit_scale".to_owned(), vec![]),
        ("text_model.embeddings.token_embedding.weight".to_owned(), vec![50, width]),
        ("text_model.embeddings.position_embedding.weight".to_owned(), vec![9, width]),
        ("vision_model.embeddings.class_embedding".to_owned(), vec![width]),
        ("vision_model.embeddings.patch_embedding.weight".to_owned(), vec![width, 3, 4, 4]),
        ("vision_model.embeddings.position_embedding.weight".to_owned(), vec![1 + 5 * 5, width]),
        ("visual_projection.weight".to_owned(), vec![6, width]),
        ("text_projection.weight".to_owned(), vec![6, width]),
    ];
    let mut module = |name: &str, shape: &[usize]| {
        shapes.push((format!("{name}.weight"), shape.to_vec()));
        shapes.push((format!("{name}.bias"), vec![shape[0]]));
    };
    for norm in ["vision_model.pre_layrnorm", "vision_model.post_layernorm", "text_model.final_layer_norm"] {
        module(norm, &[width]);
    }
    for layer in ["vision_model.encoder.layers.0", "text_model.encoder.layers.0"] {
        for norm in ["layer_norm1", "layer_norm2"] {
            module(&format!("{layer}.{norm}"), &[width]);
        }
        for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            module(&format!("{layer}.self_attn.{name}"), &[width, width]);
        }
        module(&format!("{layer}.mlp.fc1"), &[8, width]);
        module(&format!("{layer}.mlp.fc2"), &[width, 8]);
    }
    let zeros = vec![0; 2 * width * width];
    let views = shapes.iter().map(|(name, shape)| {
        let bytes = &zeros[..2 * shape.iter().product::<usize>()];
        (name, TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap())
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.safetensors");
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let model = open_for(&ModelFiles::Path(path), None, &InputShapes::default()).unwrap();
    assert_eq!(model.architecture, "clip");
    assert!(model.text.is_none());
    let shape = |name: &str| model.graph.node(model.graph.find(name).unwrap()).shape.clone();
    assert_eq!(shape("pixel_values"), [1, 3, 20, 20]);
    assert_eq!(shape("vision_model.encoder.layers.0.self_attn.qk"), [1, 8, 26, 26]);
    assert_eq!(shape("text_model.encoder.layers.0.self_attn.qk"), [1, 8, 9, 9]);
}

#[test]
#[ignore = "writes checkpoints of 600 MB to 1.7 GB"]
fn published_checkpoints_open() {
    for name in ["clip-vit-base-patch32", "clip-vit-base-patch16", "clip-vit-large-patch14"] {
        published::open_whole(name);
    }
    let (model, _) = published::open("clip-vit-base-patch32", &[("input_ids", &[1, 16])]);
    published::run_once(&model, &["input_ids", "attention_mask"]);
}
