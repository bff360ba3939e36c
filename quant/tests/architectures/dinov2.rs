//! DINOv2 under the names of the original code and of Hugging Face, against a plain computation in f64 on random weights:
//! there is no recorded miniature.

use std::collections::BTreeMap;

use bitloupe_quant::exec::{Cancel, Engine, Quantization, Tap, Value};
use bitloupe_quant::graph::NodeId;
use bitloupe_quant::models::{InputShapes, Model, ModelFiles, open_for};
use safetensors::tensor::{Dtype, TensorView};

use crate::roles;

const WIDTH: usize = 128;
const HEADS: usize = 2;
const PATCH: usize = 4;
const DEPTH: usize = 2;
/// Rows and columns of the position table.
const TABLE: usize = 5;
/// Rows and columns of patches of the image.
const GRID: [usize; 2] = [3, 2];
/// f32 against f64 over two layers of width 128; values reach 10.
const TOLERANCE: f64 = 2e-5;

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Random weights under the names of the original code; `gated` has the MLP of the giant model.
fn original(gated: bool, registers: usize) -> Tensors {
    let mut shapes: Vec<(String, Vec<usize>, f32, f32)> = vec![
        ("cls_token".into(), vec![1, 1, WIDTH], 0.0, 1.0),
        ("mask_token".into(), vec![1, WIDTH], 0.0, 1.0),
        ("pos_embed".into(), vec![1, 1 + TABLE * TABLE, WIDTH], 0.0, 1.0),
        ("patch_embed.proj.weight".into(), vec![WIDTH, 3, PATCH, PATCH], 0.0, 0.2),
        ("patch_embed.proj.bias".into(), vec![WIDTH], 0.0, 0.5),
        ("norm.weight".into(), vec![WIDTH], 1.0, 0.3),
        ("norm.bias".into(), vec![WIDTH], 0.0, 0.3),
    ];
    if registers > 0 {
        shapes.push(("register_tokens".into(), vec![1, registers, WIDTH], 0.0, 1.0));
    }
    let mlp: [(&str, usize, usize); 2] = if gated {
        [("mlp.w12", 160, WIDTH), ("mlp.w3", WIDTH, 80)]
    } else {
        [("mlp.fc1", 96, WIDTH), ("mlp.fc2", WIDTH, 96)]
    };
    for i in 0..DEPTH {
        for norm in ["norm1", "norm2"] {
            shapes.push((format!("blocks.{i}.{norm}.weight"), vec![WIDTH], 1.0, 0.3));
            shapes.push((format!("blocks.{i}.{norm}.bias"), vec![WIDTH], 0.0, 0.3));
        }
        shapes.push((format!("blocks.{i}.ls1.gamma"), vec![WIDTH], 0.5, 0.4));
        shapes.push((format!("blocks.{i}.ls2.gamma"), vec![WIDTH], 0.5, 0.4));
        for (layer, out, from) in
            [("attn.qkv", 3 * WIDTH, WIDTH), ("attn.proj", WIDTH, WIDTH)].into_iter().chain(mlp)
        {
            shapes.push((format!("blocks.{i}.{layer}.weight"), vec![out, from], 0.0, 0.15));
            shapes.push((format!("blocks.{i}.{layer}.bias"), vec![out], 0.0, 0.3));
        }
    }
    let mut state = 3_u64;
    let mut random = move |mean: f32, spread: f32| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        mean + spread * ((state >> 40) as f32 / (1 << 23) as f32 - 1.0)
    };
    shapes
        .into_iter()
        .map(|(name, shape, mean, spread)| {
            let values = (0..shape.iter().product()).map(|_| random(mean, spread)).collect();
            (name, (shape, values))
        })
        .collect()
}

/// The same weights under the names of Hugging Face.
fn hugging_face(tensors: &Tensors) -> Tensors {
    let mut renamed = Tensors::new();
    for (name, (shape, values)) in tensors {
        if let Some((block, end)) = name.split_once(".attn.qkv.") {
            for (part, values) in
                ["query", "key", "value"].into_iter().zip(values.chunks_exact(values.len() / 3))
            {
                let mut shape = shape.clone();
                shape[0] /= 3;
                let block = block.replace("blocks.", "encoder.layer.");
                renamed.insert(format!("{block}.attention.attention.{part}.{end}"), (shape, values.to_vec()));
            }
            continue;
        }
        let name = [
            ("blocks.", "encoder.layer."),
            ("attn.proj", "attention.output.dense"),
            ("ls1.gamma", "layer_scale1.lambda1"),
            ("ls2.gamma", "layer_scale2.lambda1"),
            ("mlp.w12", "mlp.weights_in"),
            ("mlp.w3", "mlp.weights_out"),
            ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
            ("cls_token", "embeddings.cls_token"),
            ("mask_token", "embeddings.mask_token"),
            ("register_tokens", "embeddings.register_tokens"),
            ("pos_embed", "embeddings.position_embeddings"),
        ]
        .iter()
        .fold(name.clone(), |name, (from, to)| name.replace(from, to));
        let name = if name.starts_with("norm.") { name.replace("norm.", "layernorm.") } else { name };
        renamed.insert(name, (shape.clone(), values.clone()));
    }
    renamed
}

/// The pixels of one image `[3, H, W]`.
fn pixels() -> Vec<f32> {
    (0..3 * GRID[0] * GRID[1] * PATCH * PATCH).map(|i| ((i * 29 % 97) as f32 / 20.0).sin()).collect()
}

/// Opens a checkpoint with these tensors and runs it on the image.
fn run(tensors: &Tensors, config: Option<&str>) -> (Model, BTreeMap<String, Vec<f32>>) {
    let folder = tempfile::tempdir().unwrap();
    if let Some(config) = config {
        std::fs::write(folder.path().join("config.json"), config).unwrap();
    }
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| (name, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, (*shape).clone(), bytes).unwrap())
    });
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
    let shape = vec![1, 3, GRID[0] * PATCH, GRID[1] * PATCH];
    let shapes: InputShapes = [("pixel_values", shape.clone())].into_iter().collect();
    let model = open_for(&ModelFiles::Path(folder.path().to_owned()), None, &shapes)
        .unwrap_or_else(|e| panic!("{e}"));
    let mut kept = Kept(BTreeMap::new());
    let engine = Engine::new(model.graph.clone());
    let none = Quantization::none(&model.graph);
    engine.run(&[Value::new(shape, pixels())], &none, None, &mut kept, &Cancel::default()).unwrap();
    let outputs = model.graph.outputs().iter();
    let outputs = outputs.map(|(name, node)| (name.clone(), kept.0[&node.index()].clone())).collect();
    (model, outputs)
}

struct Kept(BTreeMap<usize, Vec<f32>>);

impl Tap for Kept {
    fn wants(&self, _: NodeId) -> bool {
        true
    }

    fn value(&mut self, node: NodeId, value: &Value) {
        self.0.insert(node.index(), value.as_slice().to_vec());
    }
}

/// `x · Wᵀ + b` of rows.
fn linear(tensors: &Tensors, name: &str, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let (weight, bias) = (&tensors[&format!("{name}.weight")].1, &tensors[&format!("{name}.bias")].1);
    rows.iter()
        .map(|x| {
            let dot = |w: &[f32]| x.iter().zip(w).map(|(x, w)| x * f64::from(*w)).sum::<f64>();
            bias.iter().zip(weight.chunks_exact(x.len())).map(|(b, w)| dot(w) + f64::from(*b)).collect()
        })
        .collect()
}

fn layer_norm(tensors: &Tensors, name: &str, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let (gain, shift) = (&tensors[&format!("{name}.weight")].1, &tensors[&format!("{name}.bias")].1);
    rows.iter()
        .map(|x| {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / x.len() as f64;
            let scale = 1.0 / (variance + 1e-6).sqrt();
            x.iter()
                .zip(gain)
                .zip(shift)
                .map(|((x, g), s)| (x - mean) * scale * f64::from(*g) + f64::from(*s))
                .collect()
        })
        .collect()
}

fn add_scaled(tensors: &Tensors, name: &str, rows: &mut [Vec<f64>], branch: &[Vec<f64>]) {
    for (row, branch) in rows.iter_mut().zip(branch) {
        for ((x, y), scale) in row.iter_mut().zip(branch).zip(&tensors[name].1) {
            *x += y * f64::from(*scale);
        }
    }
}

/// The weight of PyTorch's bicubic at a distance.
fn cubic(x: f64) -> f64 {
    let (a, x) = (-0.75, x.abs());
    if x <= 1.0 {
        (a + 2.0) * x.powi(3) - (a + 3.0) * x.powi(2) + 1.0
    } else if x < 2.0 {
        a * x.powi(3) - 5.0 * a * x.powi(2) + 8.0 * a * x - 4.0 * a
    } else {
        0.0
    }
}

/// Position of one patch: sixteen rows of the table about its place.
fn position(table: &[f32], place: [f64; 2], channel: usize) -> f64 {
    let [y, x] = place;
    let inside = |at: f64| at.clamp(0.0, TABLE as f64 - 1.0) as usize;
    let mut sum = 0.0;
    for row in (-1..=2).map(|step| y.floor() + f64::from(step)) {
        for column in (-1..=2).map(|step| x.floor() + f64::from(step)) {
            let at = 1 + inside(row) * TABLE + inside(column);
            sum += cubic(y - row) * cubic(x - column) * f64::from(table[at * WIDTH + channel]);
        }
    }
    sum
}

/// The normalised tokens, from weights in the original naming; `scales` are the steps between patches in the table.
fn expected(tensors: &Tensors, scales: [f64; 2]) -> Vec<Vec<f64>> {
    let (pixels, [h, w]) = (pixels(), GRID);
    let (kernel, bias) = (&tensors["patch_embed.proj.weight"].1, &tensors["patch_embed.proj.bias"].1);
    let table = &tensors["pos_embed"].1;
    let cls = tensors["cls_token"].1.iter().zip(table).map(|(a, b)| f64::from(a + b));
    let mut x: Vec<Vec<f64>> = vec![cls.collect()];
    if let Some((_, registers)) = tensors.get("register_tokens") {
        x.extend(registers.chunks_exact(WIDTH).map(|r| r.iter().map(|v| f64::from(*v)).collect()));
    }
    for row in 0..h {
        for column in 0..w {
            let mut token = Vec::new();
            for out in 0..WIDTH {
                let mut sum = f64::from(bias[out]);
                for (i, k) in kernel[out * 3 * PATCH * PATCH..][..3 * PATCH * PATCH].iter().enumerate() {
                    let (channel, y, x) = (i / (PATCH * PATCH), i / PATCH % PATCH, i % PATCH);
                    let (y, x) = (row * PATCH + y, column * PATCH + x);
                    sum += f64::from(*k) * f64::from(pixels[(channel * h * PATCH + y) * w * PATCH + x]);
                }
                let place = [(row as f64 + 0.5) * scales[0] - 0.5, (column as f64 + 0.5) * scales[1] - 0.5];
                token.push(sum + position(table, place, out));
            }
            x.push(token);
        }
    }
    for i in 0..DEPTH {
        let block = format!("blocks.{i}");
        let y = layer_norm(tensors, &format!("{block}.norm1"), &x);
        let qkv = linear(tensors, &format!("{block}.attn.qkv"), &y);
        let head = WIDTH / HEADS;
        let mut attended = vec![vec![0.0; WIDTH]; x.len()];
        for (query, out) in qkv.iter().zip(&mut attended) {
            for h in 0..HEADS {
                let part = |row: &Vec<f64>, which: usize| row[which * WIDTH + h * head..][..head].to_vec();
                let q = part(query, 0);
                let score = |key: &Vec<f64>| {
                    let dot: f64 = q.iter().zip(part(key, 1)).map(|(a, b)| a * b).sum();
                    (dot / (head as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = qkv.iter().map(score).collect();
                let total: f64 = scores.iter().sum();
                for (score, value) in scores.iter().zip(&qkv) {
                    for (out, v) in out[h * head..][..head].iter_mut().zip(part(value, 2)) {
                        *out += score / total * v;
                    }
                }
            }
        }
        let y = linear(tensors, &format!("{block}.attn.proj"), &attended);
        add_scaled(tensors, &format!("{block}.ls1.gamma"), &mut x, &y);
        let y = layer_norm(tensors, &format!("{block}.norm2"), &x);
        let y = if tensors.contains_key(&format!("{block}.mlp.w12.weight")) {
            let joined = linear(tensors, &format!("{block}.mlp.w12"), &y);
            let gate = |row: &Vec<f64>| {
                let (gate, value) = row.split_at(row.len() / 2);
                gate.iter().zip(value).map(|(g, v)| g / (1.0 + (-g).exp()) * v).collect()
            };
            linear(tensors, &format!("{block}.mlp.w3"), &joined.iter().map(gate).collect::<Vec<_>>())
        } else {
            let mut y = linear(tensors, &format!("{block}.mlp.fc1"), &y);
            y.iter_mut().flatten().for_each(|x| *x *= 0.5 * (1.0 + libm::erf(*x / 2.0_f64.sqrt())));
            linear(tensors, &format!("{block}.mlp.fc2"), &y)
        };
        add_scaled(tensors, &format!("{block}.ls2.gamma"), &mut x, &y);
    }
    layer_norm(tensors, "norm", &x)
}

fn compare(outputs: &BTreeMap<String, Vec<f32>>, expected: &[Vec<f64>]) {
    let tokens: Vec<f64> = expected.iter().flatten().copied().collect();
    for (name, expected) in [("last_hidden_state", &tokens), ("pooler_output", &expected[0])] {
        let ours = &outputs[name];
        assert_eq!(ours.len(), expected.len(), "{name}");
        let gap = ours.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        println!("{name}: {gap:e} of {}", expected.iter().fold(0.0_f64, |m, x| m.max(x.abs())));
        assert!(gap <= TOLERANCE, "{name}: {gap:e}");
    }
}

/// Steps of Hugging Face, which asks for a size.
const BY_SIZE: [f64; 2] = [TABLE as f64 / GRID[0] as f64, TABLE as f64 / GRID[1] as f64];
/// Steps of the original code, which asks for a factor with 0.1 patches more.
const BY_FACTOR: [f64; 2] = [TABLE as f64 / (GRID[0] as f64 + 0.1), TABLE as f64 / (GRID[1] as f64 + 0.1)];

fn config(rest: &str) -> String {
    format!(
        r#"{{"model_type": "dinov2", "hidden_size": {WIDTH}, "num_hidden_layers": {DEPTH}, "num_attention_heads": {HEADS},
        "patch_size": {PATCH}, "image_size": {}, "layer_norm_eps": 1e-6{rest}}}"#,
        TABLE * PATCH
    )
}

#[test]
fn the_original_naming() {
    for gated in [false, true] {
        let tensors = original(gated, 0);
        let (model, outputs) = run(&tensors, None);
        assert_eq!(model.architecture, "dinov2");
        compare(&outputs, &expected(&tensors, BY_FACTOR));
    }
}

#[test]
fn hugging_face_naming() {
    for gated in [false, true] {
        let tensors = original(gated, 0);
        let (model, outputs) = run(&hugging_face(&tensors), Some(&config("")));
        assert_eq!(model.architecture, "dinov2");
        compare(&outputs, &expected(&tensors, BY_SIZE));
    }
}

/// Positions of the right size, so that only the order of the tokens is tested.
#[test]
fn registers_lie_between_class_token_and_patches() {
    let mut tensors = original(false, 4);
    let table = &mut tensors.get_mut("pos_embed").unwrap().1;
    let patch = table[WIDTH..2 * WIDTH].to_vec();
    table[WIDTH..].chunks_exact_mut(WIDTH).for_each(|row| row.copy_from_slice(&patch));
    let (_, outputs) = run(&tensors, None);
    compare(&outputs, &expected(&tensors, BY_SIZE));
    let config = config("").replace("dinov2", "dinov2_with_registers");
    let (_, outputs) = run(&hugging_face(&tensors), Some(&config));
    compare(&outputs, &expected(&tensors, BY_SIZE));
}

#[test]
fn a_linear_head_sees_class_token_and_mean() {
    let tensors = original(false, 0);
    let mut named: Tensors =
        hugging_face(&tensors).into_iter().map(|(name, tensor)| (format!("dinov2.{name}"), tensor)).collect();
    let weight: Vec<f32> = (0..3 * 2 * WIDTH).map(|i| (i as f32).sin()).collect();
    named.insert("classifier.weight".into(), (vec![3, 2 * WIDTH], weight.clone()));
    named.insert("classifier.bias".into(), (vec![3], vec![0.5; 3]));
    let (_, outputs) = run(&named, Some(&config("")));
    let x = expected(&tensors, BY_SIZE);
    let patches = x.len() as f64 - 1.0;
    let mean = (0..WIDTH).map(|c| x[1..].iter().map(|row| row[c]).sum::<f64>() / patches);
    let both: Vec<f64> = x[0].iter().copied().chain(mean).collect();
    for (logit, row) in outputs["logits"].iter().zip(weight.chunks_exact(2 * WIDTH)) {
        let expected = 0.5 + both.iter().zip(row).map(|(x, w)| x * f64::from(*w)).sum::<f64>();
        assert!((f64::from(*logit) - expected).abs() < 10.0 * TOLERANCE, "{logit} {expected}");
    }
}

#[test]
fn roles_of_a_block() {
    let (model, _) = run(&original(false, 0), None);
    roles::compare(
        &model,
        "blocks.1.",
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
    let (model, _) = run(&hugging_face(&original(true, 0)), Some(&config("")));
    roles::compare(
        &model,
        "encoder.layer.0.",
        &[
            "attention.attention.query:input post-layernorm",
            "attention.attention.key:input post-layernorm",
            "attention.attention.value:input post-layernorm",
            "attention.attention.qk:lhs query",
            "attention.attention.qk:rhs key",
            "attention.attention.pv:lhs post-softmax",
            "attention.attention.pv:rhs value",
            "attention.output.dense:input other",
            "mlp.weights_in:input post-layernorm",
            "mlp.weights_out:input other",
        ],
    );
}
