//! MobileSAM: SAM in the authors' naming with a TinyViT as image encoder.

use bitloupe_quant::models::{Model, ModelFiles, open};

use crate::fixture::{Fixture, Run};
use crate::renamed::Renamed;
use crate::{pictures, published, roles};

/// Ten times the gaps between f32 and f64 that the fixture's README names.
const MASKS: f32 = 6.0e-5;
const SCORES: f32 = 4.7e-5;
const EMBEDDINGS: f32 = 2.9e-5;
const NAME: &str = "mobile_sam_tiny";
const IMAGE: (&str, &str) = ("pixel_values", "pixel_values");
const POINTS: (&str, &str) = ("input_points", "input_points");
const LABELS: (&str, &str) = ("input_labels", "input_labels");
const BOXES: (&str, &str) = ("input_boxes", "input_boxes");
const ALL: [(&str, &str); 4] = [IMAGE, POINTS, LABELS, BOXES];

/// Normalisations over channels are three nodes; the recorded input is that of the first.
fn turned(run: &Run, recorded: &str) -> Option<String> {
    let module = recorded.strip_prefix("act.")?.strip_suffix(".input")?;
    let first = run.model.graph.find(&format!("{module}.channels_last"))?;
    Some(run.model.graph.node(run.model.graph.node(first).inputs[0]).name.clone())
}

#[test]
fn everything_recorded_is_reproduced() {
    let fixture = Fixture::open(NAME);
    let run = fixture.run(&ALL);
    assert_eq!(run.model.architecture, "mobile_sam");
    assert!(run.model.warnings.is_empty(), "{:?}", run.model.warnings);
    fixture.compare_output(&run, "pred_masks", "out.masks", MASKS);
    fixture.compare_output(&run, "iou_scores", "out.iou", SCORES);
    fixture.compare_output(&run, "pred_masks.single", "out.single_masks", 2.2e-5);
    fixture.compare_output(&run, "iou_scores.single", "out.single_iou", 1.1e-4);
    fixture.compare_node(&run, run.node("image_encoder.neck.3"), "out.image_embeddings", EMBEDDINGS);
    fixture.compare_activations(&run, MASKS, 279, |recorded| turned(&run, recorded));
    run.compare_reference(f64::from(MASKS));
}

#[test]
fn every_kind_of_prompt() {
    let mut fixture = Fixture::open(NAME);
    let compare = |fixture: &Fixture, run: &Run, kind: &str, masks: f32, scores: f32| {
        fixture.compare_output(run, "pred_masks", &format!("out.{kind}_masks"), masks);
        fixture.compare_output(run, "iou_scores", &format!("out.{kind}_iou"), scores);
    };
    compare(&fixture, &fixture.run(&[IMAGE, POINTS, LABELS]), "points", 7.7e-5, 1.0e-5);
    compare(&fixture, &fixture.run(&[IMAGE, BOXES]), "box", 7.0e-5, 1.3e-5);
    // The first prompt alone.
    for (name, first, shape) in
        [("input_points", "first_points", vec![1, 1, 2, 2]), ("input_labels", "first_labels", vec![1, 1, 2])]
    {
        let values = fixture.inputs[name].1[..shape.iter().product()].to_vec();
        fixture.inputs.insert(first.to_owned(), (shape, values));
    }
    let first = [
        IMAGE,
        ("input_points", "first_points"),
        ("input_labels", "first_labels"),
        ("input_masks", "input_masks"),
    ];
    compare(&fixture, &fixture.run(&first), "mask_prompt", 2.3e-5, 4.5e-5);
}

#[test]
fn the_file_alone_and_in_a_folder() {
    let fixture = Fixture::open(NAME);
    let whole = open(&fixture.files(), None).unwrap();
    pictures::compare(&fixture, &whole, "image0.png", "pixel_values", 0);
    // Beside its configuration, as torch.save wrote it.
    let torch = open(&ModelFiles::Path(fixture.path("mobile_sam.pt")), None).unwrap();
    assert_eq!(torch.fingerprint, whole.fingerprint);
    // As it is published, nothing says the picture's size or the decoder's heads.
    for name in ["mobile_sam.pt", "mobile_sam.pth", "mobile_sam.safetensors"] {
        let folder = tempfile::tempdir().unwrap();
        let from = if name.ends_with(".safetensors") { "model.safetensors" } else { "mobile_sam.pt" };
        std::fs::copy(fixture.path(from), folder.path().join(name)).unwrap();
        for path in [folder.path().join(name), folder.path().to_owned()] {
            let alone = open(&ModelFiles::Path(path), None).unwrap();
            assert_eq!(alone.architecture, "mobile_sam");
            let input = alone.graph.inputs()[0];
            assert_eq!(alone.graph.node(input).shape, [1, 3, 1024, 1024]);
            assert_eq!(alone.preprocessor.as_ref().unwrap().pad, Some((1024, 1024)));
            assert!(alone.warnings.iter().any(|w| w.contains("1024x1024")), "{:?}", alone.warnings);
        }
    }
}

/// What opening the fixture with other names says, or the model.
fn renamed(from: &str, to: &str) -> Result<Model, String> {
    let fixture = Fixture::open(NAME);
    let folder = Renamed::new(&fixture, |name| name.replace(from, to), &["config.json"]);
    open(&folder.files(), None).map_err(|error| error.to_string())
}

/// The classifier that the encoder was trained with first changes nothing, nor do counters and what can be computed; all
/// else must have a place.
#[test]
fn what_is_left_unused() {
    let whole = open(&Fixture::open(NAME).files(), None).unwrap().fingerprint;
    let counter = "layers.1.blocks.0.local_conv.bn.num_batches_tracked";
    for other in ["layers.1.blocks.0.attn.attention_bias_idxs", "layers.1.blocks.0.attn.ab"] {
        assert_eq!(renamed(counter, other).unwrap().fingerprint, whole, "{other}");
    }
    for (from, to) in [
        ("image_encoder.head.weight", "image_encoder.head.other"),
        ("image_encoder.head.weight", "head.weight"),
        ("image_encoder.norm_head.bias", "image_encoder.layers.3.norm_head.bias"),
        (counter, "layers.1.blocks.0.num_batches_tracked"),
        ("mask_decoder.iou_prediction_head.layers.2.bias", "mask_decoder.head.bias"),
    ] {
        let message = renamed(from, to).unwrap_err();
        assert!(message.contains(to.rsplit_once("image_encoder.").map_or(to, |(_, name)| name)), "{message}");
    }
}

#[test]
fn sizes_that_do_not_fit_are_errors() {
    for (from, to, words) in [
        // Stages and blocks are counted.
        (
            "image_encoder.layers.3.",
            "image_encoder.layers.4.",
            "5 stages `image_encoder.layers.N`, expected 4",
        ),
        (
            "image_encoder.layers.0.blocks.",
            "image_encoder.layers.0.block.",
            "0 blocks `image_encoder.layers.0.blocks.N`",
        ),
        ("layers.2.blocks.0.attn.qkv", "layers.2.blocks.0.attn.kqv", "layers.2.blocks.0.attn.qkv.weight"),
        ("layers.2.blocks.0.attn.attention_biases", "layers.2.blocks.0.attn.biases", "attention_biases"),
        ("neck.2", "neck.9", "image_encoder.neck.2.weight"),
    ] {
        let message = renamed(from, to).unwrap_err();
        assert!(message.contains(words), "{from}: {message}");
    }
    let fixture = Fixture::open(NAME);
    for (config, words) in [
        (r#"{"model_type": "mobile_sam", "vision_config": {"image_size": 72}}"#, "patches of 16"),
        (r#"{"model_type": "mobile_sam", "vision_config": {"image_size": 0}}"#, "image_size"),
        (r#"{"vision_config": {"image_size": "64"}}"#, "`vision_config.image_size`"),
        (r#"{"mask_decoder_config": {"num_attention_heads": 0}}"#, "num_attention_heads"),
        (r#"{"mask_decoder_config": {"num_attention_heads": 3}}"#, "reshape"),
        (r#"{"model_type": "vit_mae"}"#, "mobile_sam"),
    ] {
        let folder = Renamed::new(&fixture, str::to_owned, &[]);
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let message = open(&folder.files(), None).unwrap_err().to_string();
        assert!(message.contains(words), "{config}: {message}");
    }
}

#[test]
fn roles_of_each_kind_of_block() {
    let model = Fixture::open(NAME).run(&ALL).model;
    let encoder = |within: &str, lines: &[&str]| {
        roles::compare(&model, &format!("image_encoder.{within}"), lines);
    };
    encoder("patch_embed.", &["seq.0.c:input image", "seq.2.c:input post-gelu"]);
    // No function follows the first map, so it is what a BatchNorm makes.
    encoder(
        "layers.0.",
        &[
            "blocks.0.conv1.c:input other",
            "blocks.0.conv2.c:input post-gelu",
            "blocks.0.conv3.c:input post-gelu",
            "downsample.conv1.c:input post-gelu",
            "downsample.conv2.c:input post-gelu",
            "downsample.conv3.c:input post-gelu",
        ],
    );
    for block in ["layers.1.blocks.1.", "layers.2.blocks.0.", "layers.3.blocks.0."] {
        encoder(
            block,
            &[
                "attn.qkv:input post-layernorm",
                "attn.qk:lhs query",
                "attn.qk:rhs key",
                "attn.pv:lhs post-softmax",
                "attn.pv:rhs value",
                "attn.proj:input other",
                "local_conv.c:input residual",
                "mlp.fc1:input post-layernorm",
                "mlp.fc2:input post-gelu",
            ],
        );
    }
    encoder(
        "layers.2.downsample.",
        &["conv1.c:input residual", "conv2.c:input post-gelu", "conv3.c:input post-gelu"],
    );
    encoder("neck.", &["0:input residual", "2:input post-layernorm"]);
    roles::compare(
        &model,
        "mask_decoder.output_upscaling.",
        &["0:input post-layernorm", "3:input post-gelu"],
    );
}

#[test]
fn the_published_one_opens() {
    let (model, manifest) = published::open("mobile_sam", &[]);
    assert_eq!(model.architecture, "mobile_sam");
    // The classifier has no place: a norm over 320 numbers and 1000 classes of them.
    let classifier = 2 * 320 + 1000 * 321;
    assert_eq!(model.graph.parameters(), manifest["float_params"].as_u64().unwrap() - classifier);
    let shape = |name: &str| model.graph.node(model.graph.find(name).unwrap()).shape.clone();
    // Windows of 7, 14 and 7 on grids of 128, 64 and 64.
    assert_eq!(shape("image_encoder.layers.1.blocks.0.attn.qk"), [361, 4, 49, 49]);
    assert_eq!(shape("image_encoder.layers.2.blocks.5.attn.qk"), [25, 5, 196, 196]);
    assert_eq!(shape("image_encoder.layers.3.blocks.1.attn.qk"), [100, 10, 49, 49]);
    assert_eq!(shape("image_encoder.neck.3"), [1, 256, 64, 64]);
    assert_eq!(shape("mask_decoder.masks"), [1, 1, 4, 256 * 256]);
}

#[test]
#[ignore = "runs 40 billion multiply-accumulates"]
fn the_published_one_runs() {
    let (model, _) = published::open("mobile_sam", &[]);
    published::run_once(&model, &["input_labels"]);
}
