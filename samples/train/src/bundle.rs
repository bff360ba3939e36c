//! Writes the folder that ships with the program: configuration, tokenizer, weights, calibration and evaluation
//! pairs; and a file with this program's own outputs for comparing other implementations with it.

use crate::batch::Batch;
use crate::centre;
use crate::checkpoint;
use crate::evaluate::Question;
use crate::model::{DEPTHS, EMBED, HEADS, HIDDEN, Model, SIDE, TEXT, TEXT_HEADS, TEXT_LAYERS, WINDOW, WORDS};
use crate::nn::params::Params;
use crate::nn::tape::{Tape, Workspace};
use crate::rng::Rng;
use crate::scene::{Drawings, Scene, compose};
use crate::sprites::Art;
use crate::train::{BUNDLE_SEED, CALIBRATION_SEED};
use crate::words::{self, Expression, KINDS};
use serde_json::{Value, json};
use std::{error::Error, fmt::Write as _, fs, path::Path};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Calibration pairs.
pub const CALIBRATION: usize = 64;
/// Evaluation scenes, each with two sentences.
pub const EVALUATION: usize = 48;

/// Writes everything below `to`; the weights come from `weights`, a file in the shipped format.
pub fn write(art: &Art, weights: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let pretty = |name: &str, value: &Value| -> Result<()> {
        Ok(fs::write(to.join(name), serde_json::to_string_pretty(value)? + "\n")?)
    };
    pretty("config.json", &config())?;
    pretty("preprocessor_config.json", &preprocessor())?;
    pretty("tokenizer.json", &tokenizer())?;
    fs::write(to.join("vocab.txt"), words::vocabulary().join("\n") + "\n")?;
    let mut params = Params::default();
    let model = Model::new(&mut params, words::vocabulary().len(), 1);
    checkpoint::import(weights, &mut params)?;
    centre::values(art, &model, &mut params);
    checkpoint::export(&to.join("model.safetensors"), &mut params)?;
    calibration(art, &to.join("calibration"))?;
    evaluation(art, &to.join("evaluation"))
}

fn fresh(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(fs::create_dir_all(dir)?)
}

fn save_image(scene: &Scene, path: &Path) -> Result<()> {
    let side = SIDE as u32;
    Ok(image::save_buffer(path, &scene.image, side, side, image::ColorType::Rgb8)?)
}

fn save_mask(scene: &Scene, target: usize, path: &Path) -> Result<()> {
    let pixels: Vec<u8> =
        scene.ids.iter().map(|id| if usize::from(*id) == target + 1 { 255 } else { 0 }).collect();
    let side = SIDE as u32;
    Ok(image::save_buffer(path, &pixels, side, side, image::ColorType::L8)?)
}

/// Writes scenes and what is asked about them as a folder of samples with masks.
pub fn pairs(scenes: &[Scene], questions: &[Question], dir: &Path) -> Result<()> {
    // A folder that is not empty may be somebody's.
    fs::create_dir_all(dir)?;
    if fs::read_dir(dir)?.next().is_some() {
        return Err(format!("{} is not empty; choose another folder with --to", dir.display()).into());
    }
    let mut lines = String::new();
    for (n, question) in questions.iter().enumerate() {
        let (name, mask) = (format!("{n:04}.png"), format!("{n:04}-mask.png"));
        let scene = &scenes[question.scene];
        save_image(scene, &dir.join(&name))?;
        save_mask(scene, question.expression.target, &dir.join(&mask))?;
        writeln!(lines, "{}", json!({"image": name, "text": question.expression.text, "mask": mask}))?;
    }
    Ok(fs::write(dir.join("samples.jsonl"), lines)?)
}

/// Scenes with one sentence each, the kinds in turn.
pub fn calibration_pairs(art: &Art) -> Vec<(Scene, String)> {
    let mut index = 0;
    let mut next = |n: usize| loop {
        let scene = compose(art, CALIBRATION_SEED, index, Drawings::Known);
        let all = words::all(&scene.objects, &mut Rng::new(CALIBRATION_SEED, index));
        index += 1;
        if let Some(e) = all.into_iter().find(|e| e.kind == KINDS[n % KINDS.len()]) {
            return (scene, e.text);
        }
    };
    (0..CALIBRATION).map(&mut next).collect()
}

fn calibration(art: &Art, dir: &Path) -> Result<()> {
    fresh(dir)?;
    let mut lines = String::new();
    for (n, (scene, text)) in calibration_pairs(art).into_iter().enumerate() {
        let name = format!("{n:02}.png");
        save_image(&scene, &dir.join(&name))?;
        writeln!(lines, "{}", json!({"image": name, "text": text}))?;
    }
    Ok(fs::write(dir.join("samples.jsonl"), lines)?)
}

/// Scenes with two sentences about different objects, of one category where possible.
fn evaluation(art: &Art, dir: &Path) -> Result<()> {
    fresh(dir)?;
    let mut lines = String::new();
    let mut index = 0;
    for n in 0..EVALUATION {
        let (scene, pair) = loop {
            let scene = compose(art, BUNDLE_SEED, index, Drawings::Known);
            let all = words::all(&scene.objects, &mut Rng::new(BUNDLE_SEED, index));
            index += 1;
            if let Some(pair) = two(&scene, &all, n) {
                break (scene, pair);
            }
        };
        let name = format!("{n:02}.png");
        save_image(&scene, &dir.join(&name))?;
        for (e, letter) in pair.iter().zip(["a", "b"]) {
            let mask = format!("{n:02}{letter}-mask.png");
            save_mask(&scene, e.target, &dir.join(&mask))?;
            writeln!(lines, "{}", json!({"image": name, "text": e.text, "mask": mask}))?;
        }
    }
    Ok(fs::write(dir.join("samples.jsonl"), lines)?)
}

fn two(scene: &Scene, all: &[Expression], n: usize) -> Option<[Expression; 2]> {
    let first = all.iter().find(|e| e.kind == KINDS[n % KINDS.len()])?;
    let others = || all.iter().filter(|e| e.target != first.target);
    let category = |e: &Expression| scene.objects[e.target].category;
    let rival = others().find(|e| category(e) == category(first));
    Some([first.clone(), rival.or_else(|| others().next())?.clone()])
}

fn config() -> Value {
    json!({
        "model_type": "lavt",
        "lavt_model": "lavt_one",
        "image_size": [SIDE, SIDE],
        "max_tokens": WORDS,
        "mha": "1-1-1-1",
        "swin": {
            "patch_size": 4,
            "in_chans": 3,
            "qkv_bias": true,
            "ape": true,
            "merge_position_tables": true,
            "clamp_window": true,
            "patch_norm": true,
            "layer_norm_eps": 1e-5,
            "embed_dim": EMBED,
            "depths": DEPTHS,
            "num_heads": HEADS,
            "window_size": WINDOW,
            "mlp_ratio": 4.0,
            "num_heads_fusion": [1, 1, 1, 1]
        },
        "lang_channels": TEXT,
        "decoder": {
            "c4_dims": 8 * EMBED,
            "factor": 8 * EMBED / HIDDEN,
            "num_classes": 2,
            "align_corners": false
        },
        "bert": {
            "pad_token_id": 0,
            "vocab_size": words::vocabulary().len(),
            "hidden_size": TEXT,
            "num_hidden_layers": TEXT_LAYERS,
            "num_attention_heads": TEXT_HEADS,
            "hidden_act": "gelu",
            "intermediate_size": 4 * TEXT,
            "max_position_embeddings": WORDS,
            "type_vocab_size": 2,
            "layer_norm_eps": 1e-12
        }
    })
}

fn preprocessor() -> Value {
    json!({
        "do_resize": true,
        "size": {"height": SIDE, "width": SIDE},
        "resample": 2,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225]
    })
}

fn tokenizer() -> Value {
    let vocabulary = words::vocabulary();
    let special = |id: usize| {
        json!({
            "id": id, "content": vocabulary[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        })
    };
    let token = |name: &str, segment: u8| json!({"SpecialToken": {"id": name, "type_id": segment}});
    let text = |name: &str, segment: u8| json!({"Sequence": {"id": name, "type_id": segment}});
    let entry = |id: usize| json!({"id": vocabulary[id], "ids": [id], "tokens": [vocabulary[id]]});
    let map: serde_json::Map<String, Value> =
        vocabulary.iter().enumerate().map(|(i, w)| ((*w).to_owned(), json!(i))).collect();
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": WORDS, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": WORDS}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"
        },
        "added_tokens": (0..5).map(special).collect::<Vec<_>>(),
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [token("[CLS]", 0), text("A", 0), token("[SEP]", 0)],
            "pair": [token("[CLS]", 0), text("A", 0), token("[SEP]", 0), text("B", 1), token("[SEP]", 1)],
            "special_tokens": {"[CLS]": entry(2), "[SEP]": entry(3)}
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": map
        }
    })
}

/// Inputs and outputs of two evaluation pairs in f32.
pub fn parity(art: &Art, model: &Model, params: &Params, path: &Path) -> Result<()> {
    let mut batch = Batch::default();
    let mut index = 0;
    while batch.ids.len() < 2 * WORDS {
        let scene = compose(art, BUNDLE_SEED, index, Drawings::Known);
        if let Some(e) = words::all(&scene.objects, &mut Rng::new(BUNDLE_SEED, index)).first() {
            batch.push_plain(&scene, &e.text, SIDE);
        }
        index += 1;
    }
    // Patches back to planes.
    let mut pixels = vec![0.0; 2 * 3 * SIDE * SIDE];
    let grid = SIDE / 4;
    for (row, patch) in batch.patches.chunks_exact(48).enumerate() {
        let (image, py, px) = (row / (grid * grid), row / grid % grid, row % grid);
        for (i, v) in patch.iter().enumerate() {
            let (y, x, c) = (py * 4 + i / 12, px * 4 + i / 3 % 4, i % 3);
            pixels[((image * 3 + c) * SIDE + y) * SIDE + x] = *v;
        }
    }
    let mut tape = Tape::new(params, Workspace::default(), false);
    let out = model.forward(&mut tape, &model.plans(SIDE), batch.patches, &batch.ids, &batch.words);
    let full = tape.upsample(out.logits, grid, SIDE);
    let mut logits = vec![0.0; 2 * 2 * SIDE * SIDE];
    for (i, v) in tape.value(full).iter().enumerate() {
        let (image, at, c) = (i / 2 / (SIDE * SIDE), i / 2 % (SIDE * SIDE), i % 2);
        logits[(image * 2 + c) * SIDE * SIDE + at] = *v;
    }
    let ids: Vec<i64> = batch.ids.iter().map(|i| i64::from(*i)).collect();
    let mask: Vec<i64> = batch.words.iter().map(|m| *m as i64).collect();
    let tensors = [
        checkpoint::f32_tensor("pixel_values", &[2, 3, SIDE, SIDE], &pixels),
        checkpoint::i64_tensor("input_ids", &[2, WORDS], &ids),
        checkpoint::i64_tensor("attention_mask", &[2, WORDS], &mask),
        checkpoint::f32_tensor("logits", &[2, 2, SIDE, SIDE], &logits),
    ];
    checkpoint::write(path, &tensors, &[])
}
