//! Files from outside are hostile: every broken input is an error that names it, within little time and memory.
#![cfg(unix)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{
    PROGRAM, bitloupe, check_failure, copy_of_fixture, finish, fixture, folder, ok, picture, sample_set,
    tensors, text, write_tensors,
};

/// Runs the program with 2 GB of address space, so that an allocation of an absurd size ends it.
fn confined(args: &[&str]) -> support::Done {
    let script = "ulimit -v 2000000 && exec \"$0\" \"$@\"";
    finish(Command::new("/bin/sh").args(["-c", script, PROGRAM]).args(args))
}

#[track_caller]
fn refused(what: &str, args: &[&str], parts: &[&str]) {
    check_failure(what, &confined(args), parts);
}

/// Changes the header of the model's weights; the data stay.
fn edit_header(model: &Path, edit: impl FnOnce(&mut Value)) {
    let path = model.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    let header = serde_json::to_vec(&header).unwrap();
    fs::write(path, [&(header.len() as u64).to_le_bytes(), &header[..], &bytes[8 + length..]].concat())
        .unwrap();
}

fn edit_config(model: &Path, edit: impl FnOnce(&mut Value)) {
    edit_json(&model.join("config.json"), edit);
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut json);
    fs::write(path, serde_json::to_vec(&json).unwrap()).unwrap();
}

const BIAS: &str = "backbone.layers.0.blocks.0.attn.qkv.bias";

#[test]
fn broken_weights_are_refused() {
    type Break = fn(&Path);
    let cases: &[(&str, Break, &[&str])] = &[
        ("missing", |m| fs::remove_file(m.join("model.safetensors")).unwrap(), &["in this folder"]),
        ("empty", |m| fs::write(m.join("model.safetensors"), b"").unwrap(), &["the file is empty"]),
        (
            "truncated",
            |m| {
                let bytes = fs::read(m.join("model.safetensors")).unwrap();
                fs::write(m.join("model.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
            },
            &["not a readable safetensors file"],
        ),
        (
            "header longer than the file",
            |m| {
                fs::write(m.join("model.safetensors"), [&90_000_u64.to_le_bytes()[..], b"{}"].concat())
                    .unwrap();
            },
            &["not a readable safetensors file"],
        ),
        (
            "header of 2^60 bytes",
            |m| {
                fs::write(m.join("model.safetensors"), [&(1_u64 << 60).to_le_bytes()[..], b"{}"].concat())
                    .unwrap();
            },
            &["not a readable safetensors file"],
        ),
        (
            "overlapping offsets",
            |m| edit_header(m, |h| h[BIAS]["data_offsets"] = json!([0, 72])),
            &["not a readable safetensors file"],
        ),
        (
            "offsets behind the end",
            |m| edit_header(m, |h| h[BIAS]["data_offsets"] = json!([1_u64 << 50, (1_u64 << 50) + 72])),
            &["not a readable safetensors file"],
        ),
        (
            "a shape that overflows",
            |m| edit_header(m, |h| h[BIAS]["shape"] = json!([1_u64 << 40, 1_u64 << 40])),
            &["not a readable safetensors file"],
        ),
        (
            "another type",
            |m| edit_header(m, |h| h[BIAS]["dtype"] = json!("I32")),
            &[BIAS, "I32", "expected F32"],
        ),
        (
            "NaN",
            |m| {
                let mut all = tensors(&m.join("model.safetensors"));
                all.get_mut(BIAS).unwrap().1[3] = f32::NAN;
                write_tensors(&m.join("model.safetensors"), &all);
            },
            &[BIAS, "NaN at index 3"],
        ),
        (
            "another shape",
            |m| {
                let mut all = tensors(&m.join("model.safetensors"));
                all.insert(BIAS.to_owned(), (vec![17], vec![0.0; 17]));
                write_tensors(&m.join("model.safetensors"), &all);
            },
            &[BIAS, "[17]", "expected [18]"],
        ),
        (
            "no such tensor",
            |m| {
                let mut all = tensors(&m.join("model.safetensors"));
                all.remove("backbone.layers.0.blocks.0.attn.qkv.weight").unwrap();
                write_tensors(&m.join("model.safetensors"), &all);
            },
            &["backbone.layers.0.blocks.0.attn.qkv.weight", "missing"],
        ),
        (
            "tensors with no place",
            |m| {
                let mut all = tensors(&m.join("model.safetensors"));
                all.insert("adapter.weight".to_owned(), (vec![1], vec![0.0]));
                write_tensors(&m.join("model.safetensors"), &all);
            },
            &["adapter.weight", "no place"],
        ),
        (
            "a pipe",
            |m| {
                fs::remove_file(m.join("model.safetensors")).unwrap();
                pipe(&m.join("model.safetensors"));
            },
            &["not a regular file"],
        ),
    ];
    for (name, break_it, parts) in cases {
        let dir = folder();
        let model = copy_of_fixture(dir.path());
        break_it(&model);
        let mut parts = parts.to_vec();
        parts.push("model.safetensors");
        refused(name, &["info", text(&model)], &parts);
    }
    refused("no folder", &["info", "no/such/folder"], &["no/such/folder", "No such file"]);
    refused("no file", &["info", "no/such/model.safetensors"], &["no/such"]);
    refused("no sample", &["info", "--sample", "lavt-maxi"], &["lavt-maxi", "lavt-mini"]);
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn broken_configurations_are_refused() {
    type Break = fn(&Path);
    let cases: &[(&str, Break, &[&str])] = &[
        ("missing", |m| fs::remove_file(m.join("config.json")).unwrap(), &["config.json", "no such file"]),
        (
            "no JSON",
            |m| fs::write(m.join("config.json"), b"{\"model_type\":").unwrap(),
            &["config.json", "line 1"],
        ),
        ("a deep one", |m| fs::write(m.join("config.json"), "[".repeat(1 << 20)).unwrap(), &["config.json"]),
        (
            "a pipe",
            |m| {
                fs::remove_file(m.join("config.json")).unwrap();
                pipe(&m.join("config.json"));
            },
            &["config.json"],
        ),
        (
            "no type",
            |m| {
                edit_config(m, |c| {
                    c.as_object_mut().unwrap().remove("model_type");
                });
            },
            &["config.json", "model_type"],
        ),
        (
            "another type",
            |m| edit_config(m, |c| c["model_type"] = json!("vit")),
            &["config.json", "`vit`", "`lavt`"],
        ),
        (
            "an unknown key",
            |m| edit_config(m, |c| c["swin"]["colour"] = json!(1)),
            &["config.json", "unknown field `colour`"],
        ),
        (
            "a missing key",
            |m| {
                edit_config(m, |c| {
                    c["bert"].as_object_mut().unwrap().remove("hidden_size");
                });
            },
            &["config.json", "hidden_size"],
        ),
        (
            "a negative size",
            |m| edit_config(m, |c| c["swin"]["embed_dim"] = json!(-6)),
            &["config.json", "-6"],
        ),
        (
            "no size",
            |m| edit_config(m, |c| c["swin"]["window_size"] = json!(0)),
            &["config.json", "window_size"],
        ),
        (
            "an absurd picture",
            |m| edit_config(m, |c| c["image_size"] = json!([1_000_000, 1_000_000])),
            &["config.json", "image_size", "4096"],
        ),
        (
            "an absurd width",
            |m| edit_config(m, |c| c["swin"]["embed_dim"] = json!(1_u64 << 40)),
            &["config.json", "embed_dim"],
        ),
        (
            "absurd depths",
            |m| edit_config(m, |c| c["swin"]["depths"] = json!([1_u64 << 60, 2, 2, 2])),
            &["config.json", "depths"],
        ),
        (
            "an absurd vocabulary",
            |m| edit_config(m, |c| c["bert"]["vocab_size"] = json!(u64::MAX)),
            &["config.json", "vocab_size"],
        ),
        (
            "an absurd text width",
            |m| edit_config(m, |c| c["bert"]["hidden_size"] = json!(1_u64 << 62)),
            &["config.json", "hidden_size"],
        ),
        (
            "an absurd decoder",
            |m| edit_config(m, |c| c["decoder"]["c4_dims"] = json!(u64::MAX)),
            &["config.json", "c4_dims"],
        ),
        (
            "an absurd length",
            |m| {
                edit_config(m, |c| {
                    c["max_tokens"] = json!(1_u64 << 40);
                    c["bert"]["max_position_embeddings"] = json!(1_u64 << 41);
                });
            },
            &["config.json", "max_position_embeddings"],
        ),
        (
            "an absurd ratio",
            |m| edit_config(m, |c| c["swin"]["mlp_ratio"] = json!(1e30)),
            &["config.json", "mlp_ratio"],
        ),
        (
            "heads that do not divide",
            |m| edit_config(m, |c| c["swin"]["num_heads"] = json!([5, 2, 3, 6])),
            &["config.json", "num_heads"],
        ),
        (
            "another size",
            |m| edit_config(m, |c| c["bert"]["hidden_size"] = json!(18)),
            &["text_encoder", "config.json"],
        ),
        (
            "no tokenizer",
            |m| {
                fs::remove_file(m.join("tokenizer.json")).unwrap();
                fs::remove_file(m.join("vocab.txt")).unwrap();
            },
            &["vocab.txt", "no tokenizer.json"],
        ),
        (
            "a broken tokenizer",
            |m| fs::write(m.join("tokenizer.json"), b"{}").unwrap(),
            &["tokenizer.json", "not a tokenizer"],
        ),
        (
            "no preprocessing",
            |m| fs::remove_file(m.join("preprocessor_config.json")).unwrap(),
            &["preprocessor_config.json"],
        ),
        (
            "broken preprocessing",
            |m| fs::write(m.join("preprocessor_config.json"), b"[1]").unwrap(),
            &["preprocessor_config.json"],
        ),
    ];
    for (name, break_it, parts) in cases {
        let dir = folder();
        let model = copy_of_fixture(dir.path());
        break_it(&model);
        refused(name, &["info", text(&model)], parts);
    }
}

/// Tables that are computed from a few numbers of a config may not fill the memory, whatever the weights allow.
#[test]
fn tables_of_an_absurd_size_are_refused_before_they_are_made() {
    let dir = folder();
    let model = copy_of_fixture(dir.path());
    let window = 64;
    edit_config(&model, |c| {
        c["image_size"] = json!([512, 512]);
        c["swin"]["patch_size"] = json!(1);
        c["swin"]["window_size"] = json!(window);
    });
    // Weights that fit: 2 MB stand for shift masks of 4 GB each.
    let mut all = tensors(&model.join("model.safetensors"));
    let side = 2 * window - 1;
    for (name, (shape, data)) in &mut all {
        if name.ends_with("relative_position_bias_table") {
            *shape = vec![side * side, shape[1]];
            *data = vec![0.0; shape[0] * shape[1]];
        }
        if name == "backbone.patch_embed.proj.weight" {
            *shape = vec![6, 3, 1, 1];
            *data = vec![0.0; 18];
        }
    }
    write_tensors(&model.join("model.safetensors"), &all);
    refused("shift masks", &["info", text(&model)], &["backbone.layers.0.blocks", "config.json"]);
}

/// A PNG that says it has this size, with correct checksums and no picture.
fn png(width: u32, height: u32) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(!0_u32, |crc, &b| {
            (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
        })
    };
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let body = [&kind[..], data].concat();
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
    };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let data = [0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01];
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &data), chunk(b"IEND", b"")]
        .concat()
}

#[test]
fn broken_samples_are_refused() {
    let dir = folder();
    let model = fixture();
    let good = "{\"image\":\"a.png\",\"text\":\"the dog\"}\n";
    let eval = |name: &str, manifest: &str, image: &[u8]| {
        let set = dir.path().join(name.replace(' ', "-"));
        fs::create_dir_all(&set).unwrap();
        fs::copy(picture(0), set.join("a.png")).unwrap();
        fs::write(set.join("b.png"), image).unwrap();
        fs::write(set.join("samples.jsonl"), manifest).unwrap();
        confined(&["eval", text(&model), "--samples", text(&set)])
    };
    let second = |line: &str| format!("{good}{line}\n");
    let image = "{\"image\":\"b.png\",\"text\":\"the dog\"}";
    let cases: &[(&str, String, Vec<u8>, &[&str])] = &[
        ("no picture", second(image), b"GIF89a".to_vec(), &["b.png", "not a readable picture"]),
        ("an empty picture", second(image), Vec::new(), &["b.png"]),
        ("half a picture", second(image), fs::read(picture(0)).unwrap()[..900].to_vec(), &["b.png"]),
        ("a picture of 0 pixels", second(image), png(0, 10), &["b.png"]),
        ("a picture of 100000 pixels a side", second(image), png(100_000, 100_000), &["b.png"]),
        ("a picture too long", second(image), png(1_000_000, 1), &["b.png"]),
        ("a picture without data", second(image), png(8, 8), &["b.png"]),
        ("an empty manifest", String::new(), Vec::new(), &["samples.jsonl", "no samples"]),
        ("a broken line", second("{\"image\":\"b.png\""), Vec::new(), &["samples.jsonl:2:"]),
        (
            "an unknown field",
            second("{\"image\":\"a.png\",\"txet\":\"x\"}"),
            Vec::new(),
            &["samples.jsonl:2:", "did you mean `text`"],
        ),
        (
            "no such picture",
            second("{\"image\":\"c.png\",\"text\":\"x\"}"),
            Vec::new(),
            &["c.png", "no such file"],
        ),
        (
            "a picture outside",
            second("{\"image\":\"../a.png\",\"text\":\"x\"}"),
            Vec::new(),
            &["../a.png", "leads out"],
        ),
        (
            "a picture at the root",
            second("{\"image\":\"/etc/passwd\",\"text\":\"x\"}"),
            Vec::new(),
            &["/etc/passwd", "leads out"],
        ),
        (
            "a mask outside",
            second("{\"image\":\"a.png\",\"text\":\"x\",\"mask\":\"../m.png\"}"),
            Vec::new(),
            &["../m.png", "leads out"],
        ),
        ("no sentence", second("{\"image\":\"a.png\"}"), Vec::new(), &["samples.jsonl:2", "text"]),
        (
            "an empty sentence",
            second("{\"image\":\"a.png\",\"text\":\" \"}"),
            Vec::new(),
            &["samples.jsonl:2", "empty"],
        ),
        (
            "a mask of another size",
            second("{\"image\":\"a.png\",\"text\":\"x\",\"mask\":{\"size\":[2,2],\"counts\":[4]}}"),
            Vec::new(),
            &["samples.jsonl:2", "2x2"],
        ),
        (
            "an absurd mask",
            second(
                "{\"image\":\"a.png\",\"text\":\"x\",\"mask\":{\"size\":[4000000,4000000],\"counts\":[4]}}",
            ),
            Vec::new(),
            &["samples.jsonl:2"],
        ),
        ("an endless line", "[".repeat(1 << 20), Vec::new(), &["samples.jsonl:1:"]),
    ];
    for (name, manifest, image, parts) in cases {
        check_failure(name, &eval(name, manifest, image), parts);
    }
    refused("no set", &["eval", text(&model), "--samples", "no/such/set"], &["no/such/set"]);
    refused("no calibration", &["calibrate", text(&model), "-o", "x.stats"], &["--calibration"]);
    refused("no samples", &["eval", text(&model)], &["--samples"]);
    // Long sentences are cut, words that nobody knows are unknown: both are figures, not errors.
    let long = format!("{{\"image\":\"a.png\",\"text\":\"{}\"}}", "dog ".repeat(100_000));
    assert_eq!(eval("a long sentence", &long, b"").code, 0);
    assert_eq!(
        eval("unknown words", "{\"image\":\"a.png\",\"text\":\"\u{2603} \u{1f418}\u{200d}\"}", b"").code,
        0
    );
    // A picture that is a link out of the set is refused: manifests stay in their folder.
    let set = sample_set(dir.path(), "linked", &[0]);
    fs::remove_file(set.join("00.png")).unwrap();
    symlink(picture(0), set.join("00.png")).unwrap();
    refused("a link", &["eval", text(&model), "--samples", text(&set)], &["00.png", "leads out"]);
}

#[test]
fn inputs_that_do_not_fit_the_model_are_refused() {
    let dir = folder();
    let given = tensors(&fixture().join("inputs.safetensors"));
    let (path, out, model) =
        (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"), fixture());
    let args = ["run", text(&model), "--inputs", text(&path), "-o", text(&out)];
    let with = |name: &str, change: fn(&mut support::Tensor)| {
        let mut all = given.clone();
        change(all.get_mut(name).unwrap());
        write_tensors(&path, &all);
    };
    with("input_ids", |t| t.1[1] = 1e9);
    refused("a token too large", &args, &["word_embeddings", "token 1000000000 at position 1"]);
    with("input_ids", |t| t.1[1] = -1.0);
    refused("a negative token", &args, &["word_embeddings", "token -1 at position 1"]);
    with("input_ids", |t| t.1[1] = f32::NAN);
    refused("a token that is no number", &args, &["word_embeddings", "token NaN"]);
    with("pixel_values", |t| t.0 = vec![2, 6, 20, 48]);
    refused("six channels", &args, &["in.safetensors", "pixel_values", "[2, 6, 20, 48]"]);
    with("pixel_values", |t| t.0 = vec![2, 3, 1920]);
    refused("no image", &args, &["in.safetensors", "pixel_values", "[2, 3, 1920]"]);
    with("attention_mask", |t| *t = (vec![1, 20], vec![1.0; 20]));
    refused("another batch", &args, &["batch"]);
    let mut all = given.clone();
    all.remove("attention_mask").unwrap();
    write_tensors(&path, &all);
    refused("no mask", &args, &["attention_mask"]);
    fs::write(&path, b"nothing").unwrap();
    refused("no tensors", &args, &["in.safetensors"]);
    fs::remove_file(&path).unwrap();
    pipe(&path);
    refused("a pipe", &args, &["in.safetensors", "not a regular file"]);
    refused("a device", &["run", text(&model), "--inputs", "/dev/zero", "-o", text(&out)], &["/dev/zero"]);
    assert!(!out.exists());
}

#[test]
fn broken_plans_and_statistics_are_refused() {
    const QKV: &str = "backbone.layers.0.blocks.0.attn.qkv";
    type Break = fn(&mut Value);
    let dir = folder();
    let model = fixture();
    let set = sample_set(dir.path(), "set", &[0, 1]);
    let (plan, stats) = (dir.path().join("plan.json"), dir.path().join("a.stats"));
    ok(&["plan", "new", text(&model), "-w", "4", "-a", "4", "-c", text(&set), "-o", text(&plan)]);
    ok(&["calibrate", text(&model), "-c", text(&set), "-o", text(&stats)]);
    let saved = fs::read(&plan).unwrap();
    refused("another model", &["plan", "check", text(&plan)], &["plan.json", "lavt_one_tiny", "lavt-mini"]);
    let cases: &[(&str, Break, &[&str])] = &[
        (
            "an unknown layer",
            |p| {
                let site = p["layers"][QKV].clone();
                p["layers"]["backbone.layers.0.blocks.0.attn.qkw"] = site;
            },
            &["attn.qkw", "did you mean", QKV],
        ),
        (
            "an unknown field",
            |p| p["layers"][QKV]["weight"]["colour"] = json!("red"),
            &["plan.json:", "colour"],
        ),
        ("an unknown slot", |p| p["layers"][QKV]["bias"] = json!("float"), &["plan.json:"]),
        ("bits", |p| p["layers"][QKV]["weight"]["bits"] = json!(99), &["plan.json:", "99"]),
        ("another format", |p| p["format"] = json!("bitloupe-plan/9"), &["plan.json", "bitloupe-plan/9"]),
        ("another fingerprint", |p| p["model"]["fingerprint"] = json!("00"), &["plan.json", "not for"]),
        ("scales", |p| p["layers"][QKV]["weight"]["params"]["scale"] = json!([1.0, 2.0]), &[QKV]),
        (
            "bits of other parameters",
            |p| p["layers"][QKV]["weight"]["params"]["bits"] = json!(8),
            &["plan.json:", "fit again"],
        ),
        ("no scale", |p| p["layers"][QKV]["input"]["params"]["scale"] = json!([]), &[QKV]),
        ("a scale of 0", |p| p["layers"][QKV]["input"]["params"]["scale"] = json!([0.0]), &[QKV]),
        ("a negative scale", |p| p["layers"][QKV]["input"]["params"]["scale"] = json!([-1.0]), &[QKV]),
        ("a huge number", |p| p["layers"][QKV]["input"]["params"]["scale"] = json!([1e300]), &["plan.json"]),
    ];
    for (name, break_it, parts) in cases {
        fs::write(&plan, &saved).unwrap();
        edit_json(&plan, break_it);
        refused(name, &["eval", text(&model), "--samples", text(&set), "--plan", text(&plan)], parts);
    }
    let eval = ["eval", text(&model), "--samples", text(&set), "--plan", text(&plan)];
    fs::write(&plan, &saved[..saved.len() / 2]).unwrap();
    refused("half a plan", &eval, &["plan.json:"]);
    fs::write(&plan, "[".repeat(1 << 20)).unwrap();
    refused("a deep plan", &eval, &["plan.json:"]);
    refused("a folder", &["plan", "show", text(dir.path())], &["not a regular file"]);
    refused("no plan", &["plan", "show", "no/such/plan.json"], &["no/such/plan.json"]);
    refused("a device", &["plan", "show", "/dev/zero"], &["/dev/zero"]);

    let bytes = fs::read(&stats).unwrap();
    for cut in [300, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&stats, &bytes[..cut]).unwrap();
        refused("truncated statistics", &["merge", text(&stats), "-o", "x"], &["a.stats"]);
        refused("truncated statistics", &["stats", text(&stats)], &["a.stats"]);
    }
    fs::write(&stats, b"").unwrap();
    refused("empty statistics", &["merge", text(&stats), "-o", "x"], &["a.stats"]);
    refused("endless statistics", &["merge", "/dev/zero", "-o", "x"], &["/dev/zero"]);
    // Statistics of another model cannot be resumed.
    fs::write(&stats, &bytes).unwrap();
    refused(
        "other statistics",
        &["calibrate", "-o", text(&stats), "--resume", "--limit", "1"],
        &["another model"],
    );
    assert_eq!(fs::read(&stats).unwrap(), bytes);
}

#[test]
fn outputs_that_cannot_be_written_are_errors() {
    let dir = folder();
    let (model, set) = (fixture(), sample_set(dir.path(), "set", &[0]));
    let (model, set) = (text(&model), text(&set));
    let plan = dir.path().join("plan.json");
    ok(&["plan", "new", model, "-c", set, "-o", text(&plan)]);
    let before = fs::read(&plan).unwrap();
    // A path below a file: nobody can write there, not even root.
    let below = plan.join("out");
    let below = text(&below);
    let inputs = fixture().join("inputs.safetensors");
    for target in [below, "/dev/full"] {
        refused("plan", &["plan", "new", model, "-c", set, "-o", target], &[target]);
        refused("statistics", &["calibrate", model, "-c", set, "-o", target], &[target]);
        refused("tensors", &["run", model, "--inputs", text(&inputs), "-o", target], &[target]);
        let tensor = ["--tensor", "pixel_values", "--quantizer", "uniform", "--bits", "4"];
        refused("fit", &[&["fit", text(&inputs), "-o", target], &tensor[..]].concat(), &[target]);
        refused("export", &["export", model, "--plan", text(&plan), "-o", target], &[target]);
    }
    assert_eq!(fs::read(&plan).unwrap(), before);
    assert!(!fs::metadata("/dev/full").unwrap().is_file(), "the device was replaced by a file");
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "something is left behind: {left:?}");
    // The printed output counts too.
    for args in [
        &["info", model][..],
        &["info", model, "--json"],
        &["plan", "schema"],
        &["man"],
        &["completions", "bash"],
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = Command::new(PROGRAM).args(args).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let err = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{args:?}: {err}");
        assert!(err.contains("No space left") && !err.contains("panicked"), "{args:?}: {err}");
    }
    // A reader that has seen enough is no failure.
    for json in ["", "--json"] {
        let log = dir.path().join("log");
        let script =
            "{ \"$0\" info \"$1\" $3; echo \"status $?\" >&2; } 2>\"$2\" | head -n 1 >/dev/null; cat \"$2\"";
        let done = finish(Command::new("/bin/sh").args(["-c", script, PROGRAM, model, text(&log), json]));
        assert_eq!(done.out, "status 0\n", "{json}");
    }
}

/// As model hubs lay out their caches: the snapshot holds links to blobs beside it.
#[test]
fn a_model_of_links_into_a_cache_opens() {
    let dir = folder();
    let copy = copy_of_fixture(dir.path());
    let (blobs, snapshot) = (dir.path().join("hub/blobs"), dir.path().join("hub/snapshots/0a1b"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    for (i, entry) in fs::read_dir(&copy).unwrap().enumerate() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), blobs.join(format!("{i:040x}"))).unwrap();
        symlink(format!("../../blobs/{i:040x}"), snapshot.join(entry.file_name())).unwrap();
    }
    let info = |path: &Path| -> Value { serde_json::from_str(&ok(&["info", text(path), "--json"])).unwrap() };
    let expected = info(&fixture());
    for path in [snapshot.clone(), snapshot.join("model.safetensors")] {
        let found = info(&path);
        assert_eq!(found["fingerprint"], expected["fingerprint"]);
        assert_eq!(found["name"], "0a1b");
    }
    // Samples in such a folder are still confined to it.
    let evaluation = snapshot.join("evaluation");
    fs::create_dir(&evaluation).unwrap();
    symlink(picture(0), evaluation.join("a.png")).unwrap();
    fs::write(evaluation.join("samples.jsonl"), "{\"image\":\"a.png\",\"text\":\"the dog\"}\n").unwrap();
    refused("a linked sample", &["eval", text(&snapshot)], &["a.png", "leads out"]);
    fs::remove_file(evaluation.join("a.png")).unwrap();
    fs::copy(picture(0), evaluation.join("a.png")).unwrap();
    assert_eq!(bitloupe(&["eval", text(&snapshot)]).code, 0);
}
