//! Every subcommand, run as a program: what it prints for programs, what it writes, how it exits.

mod support;

use std::path::Path;

use bitloupe_quant::stats::StatsFile;
use serde_json::Value;
use support::{bitloupe, fails, fixture, folder, gap, json, ok, sample_set, tensors, text, write_tensors};

/// Ten times the gap between f32 and f64 that the fixture's README names.
const TOLERANCE: f32 = 1e-3;

#[track_caller]
fn has_fields(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "no `{field}` in {value:.300}");
    }
}

fn named<'v>(sites: &'v Value, name: &str) -> &'v Value {
    sites.as_array().unwrap().iter().find(|s| s["site"] == name).unwrap_or_else(|| panic!("{name}"))
}

#[test]
fn without_a_terminal_help_is_printed() {
    let done = bitloupe::<&str>(&[]);
    assert_eq!(done.code, 2);
    assert!(done.out.contains("Usage: bitloupe") && done.out.contains("calibrate"), "{}", done.out);
    assert!(done.err.contains("needs a terminal"), "{}", done.err);
}

#[test]
fn what_is_said_wrongly_exits_with_2() {
    for args in [
        &["info", "--nothing"][..],
        &["eval", "--min-miou", "much"],
        &["fit"],
        &["merge", "-o", "x"],
        &["plan"],
        &["plan", "new"],
        &["export"],
        &["completions", "csh"],
        &["info", "a", "--sample", "lavt-mini"],
        &["eval", "--plan", "p", "--method", "mse"],
        &["explain"],
        &["explain", "--plan", "p", "--method", "mse"],
        &["eval", "--exported", "w"],
    ] {
        let done = bitloupe(args);
        assert_eq!(done.code, 2, "{args:?}\n{}", done.err);
        assert!(done.err.contains("Usage") || done.err.contains("--help"), "{args:?}\n{}", done.err);
    }
    assert_eq!(bitloupe(&["--version"]).code, 0);
    assert_eq!(bitloupe(&["plan", "--help"]).code, 0);
}

#[test]
fn completions_manual_and_schema_are_printed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(ok(&["completions", shell]).contains("bitloupe"), "{shell}");
    }
    assert!(ok(&["man"]).starts_with(".ie"), "not a manual page");
    let schema: Value = serde_json::from_str(&ok(&["plan", "schema"])).unwrap();
    has_fields(&schema, &["$schema", "properties"]);
}

#[test]
fn info_lists_layers_and_sites() {
    let info = json(&["info", text(&fixture())]);
    has_fields(&info, &["architecture", "parameters", "macs", "layers"]);
    assert_eq!(info["architecture"], "lavt");
    let parameters: usize =
        tensors(&fixture().join("model.safetensors")).values().map(|(_, v)| v.len()).sum();
    let known = info["parameters"].as_u64().unwrap() as usize;
    assert!(known > 0 && known <= parameters, "{known} of {parameters}");
    let layers = info["layers"].as_array().unwrap();
    for layer in layers {
        has_fields(layer, &["name", "op", "sites"]);
        assert_eq!(layer["sites"].as_array().unwrap().len(), 2, "{layer}");
        for site in layer["sites"].as_array().unwrap() {
            has_fields(site, &["site", "role", "shape"]);
        }
    }
    let sites: Vec<&Value> = layers.iter().flat_map(|l| l["sites"].as_array().unwrap()).collect();
    let role = |name: &str| {
        sites.iter().find(|s| s["site"] == name).unwrap_or_else(|| panic!("{name}"))["role"].clone()
    };
    assert_eq!(role("backbone.layers.0.blocks.0.attn.qkv:input"), "post-layernorm");
    assert_eq!(role("backbone.layers.0.blocks.0.attn.pv:lhs"), "post-softmax");
    assert_eq!(role("backbone.layers.0.blocks.0.mlp.fc2:input"), "post-gelu");
    assert_eq!(role("backbone.layers.0.blocks.0.mlp.fc2:weight"), "weight");
    let table = ok(&["info", text(&fixture())]);
    assert!(table.contains("attn.qkv:input") && table.contains("not used, as no result depends on them"));
    let unused: Vec<&Value> = layers.iter().filter(|l| l["used"] == false).map(|l| &l["name"]).collect();
    assert_eq!(unused, ["backbone.layers.3.res_gate.0", "backbone.layers.3.res_gate.2"]);
    // Modules add up to the whole, at any depth.
    for depth in [None, Some("1"), Some("3"), Some("99")] {
        let mut words = vec!["info", "--sample", "lavt-mini"];
        words.extend(depth.iter().flat_map(|depth| ["--depth", depth]));
        let found = json(&words);
        let modules = found["modules"].as_array().unwrap();
        let sum = |field: &str| modules.iter().map(|m| m[field].as_u64().unwrap()).sum::<u64>();
        let layers = found["layers"].as_array().unwrap();
        assert_eq!(Some(sum("macs")), found["macs"].as_u64());
        assert_eq!(sum("layers"), layers.len() as u64);
        assert_eq!(sum("weights"), layers.iter().map(|l| l["weights"].as_u64().unwrap()).sum::<u64>());
        let names: Vec<&str> = modules.iter().map(|m| m["module"].as_str().unwrap()).collect();
        let steps = |name: &&str| name.split('.').count();
        match depth {
            None => assert!((6..layers.len()).contains(&names.len()), "{names:?}"),
            Some("1") => assert!(names.iter().all(|name| steps(name) == 1), "{names:?}"),
            Some("3") => assert!(names.contains(&"backbone.layers.0"), "{names:?}"),
            Some(_) => assert_eq!(names.len(), layers.len()),
        }
        let printed = ok(&words);
        assert!(names.iter().all(|name| printed.contains(name)), "{printed}");
        assert_eq!(printed.contains(":input"), depth.is_none(), "{printed}");
    }
    // The bundled models open by name.
    let planted = json(&["info", "--sample", "lavt-mini-planted"]);
    assert_eq!(planted["label"], "outliers planted");
    assert_ne!(planted["fingerprint"], json(&["info"])["fingerprint"]);
}

#[test]
fn run_reproduces_the_original_and_does_not_depend_on_the_batch() {
    let dir = folder();
    let (inputs, out) = (fixture().join("inputs.safetensors"), dir.path().join("out.safetensors"));
    let (model, pattern) = (
        fixture(),
        r"^backbone\.layers\.[01]\.(blocks\.0\.mlp\.fc2|fusion\.image_lang_att\.f_key\.0:input)$",
    );
    let run = |inputs: &Path, out: &Path| {
        ok(&["run", text(&model), "--inputs", text(inputs), "-o", text(out), "--taps", pattern]);
        tensors(out)
    };
    let both = run(&inputs, &out);
    let recorded = tensors(&fixture().join("outputs.safetensors"));
    for (ours, theirs) in [
        ("logits", "out.logits"),
        ("tap/backbone.layers.0.blocks.0.mlp.fc2", "act.backbone.layers.0.blocks.0.mlp.fc2.output"),
        (
            "tap/backbone.layers.0.fusion.image_lang_att.f_key.0:input",
            "act.backbone.layers.0.fusion.image_lang_att.f_key.0.input",
        ),
    ] {
        assert_eq!(both[ours].0, recorded[theirs].0, "{ours}");
        let gap = gap(&both[ours], &recorded[theirs]);
        assert!(gap <= TOLERANCE, "{ours}: {gap:e}");
    }
    assert_eq!(both.len(), 5, "{:?}", both.keys());
    // Samples one by one give the same bits.
    let given = tensors(&inputs);
    let parts: Vec<_> = (0..2)
        .map(|i| {
            let half = given.iter().map(|(name, (shape, data))| {
                let len = data.len() / 2;
                let shape = [&[1], &shape[1..]].concat();
                (name.clone(), (shape, data[i * len..][..len].to_vec()))
            });
            let path = dir.path().join(format!("in{i}.safetensors"));
            write_tensors(&path, &half.collect());
            run(&path, &dir.path().join(format!("out{i}.safetensors")))
        })
        .collect();
    for (name, (_, data)) in &both {
        let joined = [&parts[0][name].1[..], &parts[1][name].1].concat();
        assert!(data.iter().zip(&joined).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}");
        assert_eq!(data.len(), joined.len(), "{name}");
    }
}

#[test]
fn parts_of_a_calibration_merge_to_the_whole() {
    let dir = folder();
    let (a, b) = (sample_set(dir.path(), "a", &[0, 1, 2]), sample_set(dir.path(), "b", &[3, 4]));
    let whole = sample_set(dir.path(), "whole", &[0, 1, 2, 3, 4]);
    let path = |name: &str| dir.path().join(format!("{name}.stats"));
    let model = fixture();
    let calibrate = |set: &Path, name: &str, more: &[&str]| {
        let out = path(name);
        let args = ["calibrate", text(&model), "-c", text(set), "-o", text(&out)];
        let printed = json(&[&args[..], more].concat());
        has_fields(&printed, &["samples", "added", "sites"]);
        printed["added"].as_u64().unwrap()
    };
    assert_eq!(calibrate(&whole, "whole", &["--threads", "1"]), 5);
    assert_eq!(calibrate(&whole, "threads", &["--threads", "2"]), 5);
    calibrate(&a, "a", &[]);
    calibrate(&b, "b", &[]);
    ok(&["merge", text(&path("a")), text(&path("b")), "-o", text(&path("ab"))]);
    ok(&["merge", text(&path("b")), text(&path("a")), "-o", text(&path("ba"))]);
    let read = |name: &str| StatsFile::read(&path(name)).unwrap();
    let expected = read("whole");
    assert_eq!(std::fs::read(path("whole")).unwrap(), std::fs::read(path("threads")).unwrap());
    assert_eq!(std::fs::read(path("ab")).unwrap(), std::fs::read(path("ba")).unwrap());
    // The same pictures, sentences and counts; only the fingerprint says that it came in two sets.
    let merged = read("ab");
    assert_eq!(merged.samples, expected.samples);
    assert!(merged.sites == expected.sites, "sketches differ");
    assert_eq!(merged.calibration_fingerprint.split('+').count(), 2);
    // Interrupted after two samples and continued; a second time there is nothing to do.
    assert_eq!(calibrate(&whole, "resumed", &["--limit", "2"]), 2);
    assert_eq!(calibrate(&whole, "resumed", &["--resume"]), 3);
    assert!(read("resumed").sites == expected.sites);
    assert_eq!(calibrate(&whole, "resumed", &["--resume"]), 0);
    // Other pictures of the same names are other samples.
    let namesakes = sample_set(dir.path(), "namesakes", &[0, 1]);
    std::fs::copy(whole.join("04.png"), namesakes.join("01.png")).unwrap();
    assert_eq!(calibrate(&namesakes, "resumed", &["--resume"]), 1);
    // Nothing is counted twice, and other models do not mix.
    fails(
        &["merge", text(&path("a")), text(&path("whole")), "-o", text(&path("x"))],
        &["00", "counted in both"],
    );
    assert!(!path("x").exists());

    let stats = json(&["stats", text(&path("whole")), "--site", r"layers\.0\.blocks\.0\.(attn\.pv|mlp)"]);
    for site in stats["sites"].as_array().unwrap() {
        let fields = [
            "site", "role", "class", "evidence", "min", "max", "mean", "std", "zeros", "nan", "inf", "count",
        ];
        has_fields(site, &fields);
    }
    let softmax = named(&stats["sites"], "backbone.layers.0.blocks.0.attn.pv:lhs");
    assert!(softmax["min"].as_f64().unwrap() >= 0.0 && softmax["max"].as_f64().unwrap() <= 1.0, "{softmax}");
    assert_eq!(softmax["nan"], 0);
    assert_eq!(named(&stats["sites"], "backbone.layers.0.blocks.0.mlp.fc1:input")["count"], 5 * 120 * 6);
    // The same from a model at once, on any number of threads.
    let direct = |threads: &str| json(&["stats", text(&model), "-c", text(&whole), "--threads", threads]);
    let (one, two) = (direct("1"), direct("2"));
    assert_eq!(one, two);
    assert_eq!(named(&one["sites"], "backbone.layers.0.blocks.0.attn.pv:lhs"), softmax);
    named(&one["sites"], "backbone.layers.0.blocks.0.mlp.fc1:weight");
    assert!(ok(&["stats", text(&path("whole")), "--histogram", "--site", "qkv"]).contains("post-layernorm"));
    let inputs = fixture().join("inputs.safetensors");
    let tensor = json(&["stats", text(&inputs), "--tensor", "pixel_values", "--axis", "1"]);
    assert_eq!(tensor["sites"][0]["count"], 2 * 3 * 48 * 40);
}

#[test]
fn plans_are_made_shown_compared_checked_and_changed() {
    let dir = folder();
    let set = sample_set(dir.path(), "calib", &[0, 1, 2]);
    let path = |name: &str| dir.path().join(format!("{name}.json"));
    let model = fixture();
    let new = |name: &str, method: &str, more: &[&str]| {
        let out = path(name);
        let args = ["plan", "new", text(&model), "--method", method, "-w", "4", "-a", "6", "-c", text(&set)];
        ok(&[&args[..], &["-o", text(&out)], more].concat());
        std::fs::read_to_string(out).unwrap()
    };
    // A plan does not depend on the number of threads, to the byte.
    for method in ["minmax", "percentile", "mse", "kl"] {
        let (one, two) = (new("one", method, &["--threads", "1"]), new("two", method, &["--threads", "2"]));
        assert_eq!(one, two, "{method}");
    }
    new("p", "percentile", &[]);
    let shown = json(&["plan", "show", text(&path("p"))]);
    has_fields(&shown, &["format", "model", "calibration", "layers", "metrics"]);
    assert_eq!(shown["format"], "bitloupe-plan/1");
    assert_eq!(shown["calibration"]["samples"], 3);
    let site = &shown["layers"]["backbone.layers.0.blocks.0.attn.qkv"]["weight"];
    has_fields(site, &["scheme", "bits", "params"]);
    has_fields(&site["scheme"], &["family", "range", "symmetric", "granularity"]);
    has_fields(&site["params"], &["scale", "zero_point"]);
    assert_eq!(site["bits"], 4);
    assert!(ok(&["plan", "show", text(&path("p"))]).contains("attn.qkv:weight"));
    assert!(ok(&["plan", "check", text(&path("p")), text(&model)]).contains("fits"));

    // One site changed differs in one site.
    let set_site = |site: &str, more: &[&str], out: &str| {
        let (plan, out) = (path("p"), path(out));
        let args =
            ["plan", "set", text(&plan), text(&model), "-c", text(&set), "--site", site, "-o", text(&out)];
        bitloupe(&[&args[..], more].concat())
    };
    let done = set_site(r"^backbone\.layers\.0\.blocks\.0\.attn\.qkv:input$", &["-b", "3"], "q");
    assert_eq!(done.code, 0, "{}", done.err);
    let diff = json(&["plan", "diff", text(&path("p")), text(&path("q"))]);
    let sites = diff["sites"].as_array().unwrap();
    assert_eq!(sites.len(), 1, "{diff}");
    assert_eq!(sites[0]["site"], "backbone.layers.0.blocks.0.attn.qkv:input");
    assert!(sites[0]["before"].as_str().unwrap().starts_with('6'), "{diff}");
    assert!(sites[0]["after"].as_str().unwrap().starts_with('3'), "{diff}");
    assert_eq!(json(&["plan", "diff", text(&path("p")), text(&path("p"))])["sites"], Value::Array(vec![]));
    // A rewrite at some places, with another share than the usual one, and taken back.
    let rewrite = |from: &str, more: &[&str]| {
        let (plan, out) = (path(from), path("s"));
        let args = ["plan", "rewrite", text(&plan), text(&model), "-c", text(&set), "-o", text(&out)];
        ok(&[&args[..], &["--layer", r"blocks\.0\.norm1$"], more].concat());
        json(&["plan", "show", text(&out)])
    };
    let smoothed = rewrite("p", &["--on", "smoothing", "--alpha", "0.75"]);
    let rewrites = smoothed["rewrites"].as_array().unwrap();
    assert!(
        !rewrites.is_empty() && rewrites.iter().all(|r| r["vectors"]["alpha"][0] == 0.75),
        "{rewrites:?}"
    );
    assert!(rewrites.iter().all(|r| r["vectors"]["scale"].as_array().unwrap().len() > 1));
    assert_ne!(smoothed["layers"], shown["layers"]);
    let back = rewrite("s", &["--off", "smoothing"]);
    assert!(back["rewrites"].as_array().is_none_or(Vec::is_empty), "{}", back["rewrites"]);
    assert_eq!(back["layers"], shown["layers"]);
    let bad = |more: &[&str], part: &str| {
        let (plan, out) = (path("p"), path("t"));
        let args = ["plan", "rewrite", text(&plan), text(&model), "-o", text(&out)];
        fails(&[&args[..], more].concat(), &[part]);
        assert!(!out.exists());
    };
    bad(&["--on", "sign-folding", "--alpha", "0.5"], "--alpha is for smoothing");
    bad(&["--on", "smoothing", "--alpha", "1.5"], "is no share");
    bad(&["--on", "smoother"], "smoother");
    bad(&["--on", "smoothing", "--layer", "nowhere"], "no place that matches");
    // Every quantizer as it prints itself; float too.
    for (quantizer, site) in [
        ("uniform symmetric mse per channel", r"attn\.qkv:weight$"),
        ("log-sqrt2 percentile", r"attn\.pv:lhs$"),
        ("log2 minmax", r"attn\.pv:lhs$"),
        ("uniform kl", r"mlp\.fc1:input$"),
    ] {
        let done = set_site(site, &["--quantizer", quantizer, "-b", "4"], "r");
        assert_eq!(done.code, 0, "{quantizer}: {}", done.err);
        assert!(
            !json(&["plan", "diff", text(&path("p")), text(&path("r"))])["sites"]
                .as_array()
                .unwrap()
                .is_empty()
        );
    }
    assert_eq!(set_site("pv:lhs$", &["-b", "float"], "r").code, 0);
    for (site, more, message) in [
        ("nothing-like-this", &["-b", "4"][..], "no site matches"),
        ("(", &["-b", "4"], "`(`"),
        ("pv:lhs$", &["-b", "9"], "9"),
        ("pv:lhs$", &["--quantizer", "log3"], "log3"),
    ] {
        let done = set_site(site, more, "x");
        support::check_failure(site, &done, &[message]);
    }
}

#[test]
fn an_export_evaluates_to_the_figures_in_its_plan() {
    let dir = folder();
    let (calib, samples) =
        (sample_set(dir.path(), "calib", &[0, 1, 2]), sample_set(dir.path(), "eval", &[5, 6, 7, 8]));
    let model = fixture();
    let (plan, out) = (dir.path().join("plan.json"), dir.path().join("out"));
    let (model, calib, samples) = (text(&model), text(&calib), text(&samples));
    for bits in ["4", "8"] {
        ok(&[
            "plan",
            "new",
            model,
            "--method",
            "mse",
            "-w",
            bits,
            "-a",
            bits,
            "-c",
            calib,
            "-o",
            text(&plan),
        ]);
        ok(&["export", model, "--plan", text(&plan), "-o", text(&out), "--samples", samples, "-c", calib]);
        let (exported, weights) = (out.join("plan.json"), out.join("weights.safetensors"));
        let report = std::fs::read_to_string(out.join("report.md")).unwrap();
        assert!(report.contains("## Metrics on 4 samples"));
        // The plan came with its parameters; what they make of every site is said all the same.
        let input = report.lines().find(|line| line.contains(":input")).unwrap();
        assert!(input.split('|').rev().nth(1).unwrap().trim().parse::<f64>().is_ok(), "{input}");
        let metrics = json(&["plan", "show", text(&exported)])["metrics"].clone();
        let eval = json(&["eval", model, "--plan", text(&exported), "--samples", samples]);
        has_fields(
            &eval,
            &["samples", "full_precision", "quantized", "agreement", "average_bits", "weight_bytes"],
        );
        assert_eq!(eval["samples"], 4);
        let groups = [("", "quantized"), ("full_precision_", "full_precision"), ("agreement_", "agreement")];
        for (prefix, group) in groups {
            let figures = eval[group].as_object().unwrap();
            for name in ["miou", "oiou", "precision@0.5", "precision@0.9"] {
                assert!(figures.contains_key(name), "{group}: no {name}");
            }
            for (name, value) in figures {
                assert_eq!(&metrics[format!("{prefix}{name}")], value, "{group} {name}");
            }
        }
        // A coarse plan changes something, or the comparison above says nothing.
        assert!(bits == "8" || eval["agreement"]["miou"].as_f64().unwrap() < 1.0, "{eval}");
        // The written codes instead of the model's weights: the same to the last digit.
        let again = json(&[
            "eval",
            model,
            "--plan",
            text(&exported),
            "--samples",
            samples,
            "--exported",
            text(&weights),
        ]);
        for field in ["quantized", "full_precision", "agreement", "average_bits", "weight_bytes"] {
            assert_eq!(again[field], eval[field], "{field}");
        }
    }
    // In full precision everything agrees.
    let float = json(&["eval", model, "--samples", samples]);
    assert_eq!(float["quantized"], float["full_precision"]);
    assert_eq!(float["agreement"]["miou"], 1.0);
    assert_eq!(float["average_bits"]["weights"], 16.0);
    // The gate.
    let gate = |least: &str| bitloupe(&["eval", model, "--samples", samples, "--min-miou", least]);
    assert_eq!(gate("0").code, 0);
    let missed = gate("1.01");
    assert_eq!(missed.code, 3);
    assert!(missed.err.contains("mIoU") && missed.err.contains("is below 1.01"), "{}", missed.err);
    assert!(missed.out.contains("full precision"), "{}", missed.out);
    // Of another task, with labels on some samples: the figure has its own name, and what is missing is said.
    let vit = fixture().with_file_name("vit_tiny_hf");
    let few = dir.path().join("labels");
    std::fs::create_dir(&few).unwrap();
    for name in ["image0.png", "image1.png"] {
        std::fs::copy(vit.join(name), few.join(name)).unwrap();
    }
    let lines =
        "{\"image\": \"image0.png\", \"label\": \"whale\"}\n{\"image\": \"image1.png\", \"label\": \"3\"}\n";
    std::fs::write(few.join("samples.jsonl"), lines).unwrap();
    let words = ["eval", text(&vit), "--samples", text(&few)];
    let found = json(&words);
    let warnings: Vec<&str> =
        found["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    assert!(warnings.iter().any(|w| w.contains("`whale`") && w.contains("no class")), "{warnings:?}");
    assert!(warnings.iter().any(|w| w.contains("1 of 2 samples")), "{warnings:?}");
    let missed = bitloupe(&[&words[..], &["--min", "1.01"]].concat());
    assert_eq!(missed.code, 3);
    assert!(missed.err.contains("top-1") && !missed.err.contains("mIoU"), "{}", missed.err);
    assert!(warnings.iter().all(|w| missed.err.matches(w).count() == 1), "{}", missed.err);
    // Methods on the spot, as a plan that is made first.
    let spot =
        json(&["eval", model, "--samples", samples, "-c", calib, "--method", "mse", "-w", "8", "-a", "8"]);
    let saved = json(&["eval", model, "--samples", samples, "--plan", text(&plan)]);
    assert_eq!(spot["quantized"], saved["quantized"]);
    // Each format writes its file alone.
    for (format, file) in [("plan", "plan.json"), ("weights", "weights.safetensors"), ("report", "report.md")]
    {
        let to = dir.path().join(format);
        ok(&[
            "export",
            model,
            "--plan",
            text(&plan),
            "-f",
            format,
            "-o",
            text(&to),
            "--samples",
            samples,
            "-c",
            calib,
        ]);
        let files: Vec<_> = std::fs::read_dir(&to).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(files, [file]);
    }
}

#[test]
fn fit_is_repq_vit_to_the_bit() {
    let dir = folder();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/repq.safetensors");
    let expected = tensors(&golden);
    let out = dir.path().join("out.safetensors");
    let channel = |axis| ["--granularity", "channel", "--axis", axis];
    let cases = [
        ("gelu", "in.gelu", "uniform", &[][..]),
        ("k", "in.k", "uniform", &[]),
        ("ln_tensor", "in.ln", "uniform", &[]),
        ("ln_chan", "in.ln", "uniform", &channel("-1")),
        ("w_linear", "in.w_linear", "uniform", &channel("0")),
        ("w_conv", "in.w_conv", "uniform", &channel("0")),
        ("softmax", "in.softmax", "log-sqrt2", &[]),
    ];
    for (name, input, quantizer, more) in cases {
        for bits in ["4", "6", "8"] {
            let args = ["fit", text(&golden), "--tensor", input, "--quantizer", quantizer, "--bits", bits];
            let rest = ["--range", "percentile", "--exact", "-o", text(&out)];
            let printed = json(&[&args[..], &rest, more].concat());
            has_fields(&printed, &["quantizer", "bits", "parameters", "mse", "sqnr_db"]);
            let made = tensors(&out);
            for (ours, theirs) in [("quantized", "out"), ("scale", "delta"), ("zero_point", "zp")] {
                let Some(theirs) = expected.get(&format!("b{bits}.{name}.{theirs}")) else { continue };
                assert_eq!(made[ours].1, theirs.1, "b{bits}.{name}: {ours}");
            }
            // What is printed is what is written.
            let scale: Vec<f32> = printed["parameters"]["scale"]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_f64().unwrap() as f32)
                .collect();
            assert_eq!(scale, made["scale"].1);
        }
    }
}

#[test]
fn fit_knows_every_quantizer_range_and_option() {
    let dir = folder();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/repq.safetensors");
    let out = dir.path().join("out.safetensors");
    let fit = |input: &str, more: &[&str]| {
        let args = ["fit", text(&golden), "--tensor", input, "-o", text(&out), "--bits", "4"];
        let printed = json(&[&args[..], more].concat());
        let made = tensors(&out);
        // Values lie on the levels, at most 16 of them, and the error is that of the values.
        let original = &tensors(&golden)[input];
        let quantized = &made["quantized"];
        assert_eq!(quantized.0, original.0, "{more:?}");
        if made["scale"].1.len() == 1 {
            let levels = &made["levels"].1;
            // Grids of powers have an exact zero besides.
            assert!(levels.len() <= if more[1] == "uniform" { 16 } else { 17 }, "{more:?}");
            assert!(quantized.1.iter().all(|x| levels.contains(x)), "{more:?}: off the grid");
        }
        let squares: f64 = original.1.iter().zip(&quantized.1).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let mse = squares / original.1.len() as f64;
        assert!((printed["mse"].as_f64().unwrap() / mse - 1.0).abs() < 1e-6, "{more:?}");
        (mse, made)
    };
    for quantizer in ["uniform", "log2", "log-sqrt2"] {
        for range in ["minmax", "percentile", "mse", "kl"] {
            if quantizer != "uniform" && !matches!(range, "minmax" | "percentile") {
                continue;
            }
            fit("in.softmax", &["--quantizer", quantizer, "--range", range]);
            fit("in.softmax", &["--quantizer", quantizer, "--range", range, "--exact"]);
        }
    }
    let exact = |more: &[&str]| fit("in.ln", &[&["--quantizer", "uniform", "--exact"], more].concat()).0;
    // The search for the least error finds no more than the whole range has; channels help where they differ.
    assert!(exact(&["--range", "mse"]) <= exact(&["--range", "minmax"]));
    assert!(exact(&["--granularity", "channel", "--axis", "-1"]) < exact(&[]));
    assert!(exact(&["--symmetric"]) >= exact(&[]));
    exact(&["--range", "percentile", "--level", "0.99"]);
    exact(&["--range", "mse", "--p", "2.4"]);
    // LNQ as released has a level more than its bits have codes.
    let levels =
        |more: &[&str]| fit("in.softmax", &[&["--quantizer", "lnq"], more].concat()).1["levels"].1.len();
    assert_eq!((levels(&[]), levels(&["--levels", "released"])), (16, 17));
    // A scale for every head is one for every channel of that axis.
    let heads = |more: &[&str]| fit("in.k", &[&["--quantizer", "uniform", "--exact"], more].concat()).1;
    let by_head = heads(&["--granularity", "head"]);
    assert_eq!(by_head["scale"].1.len(), tensors(&golden)["in.k"].0[1]);
    assert_eq!(by_head, heads(&["--granularity", "channel", "--axis", "1"]));
    // Parameters that are set are used.
    let (_, made) = fit("in.ln", &["--quantizer", "uniform", "--set", "scale=0.5", "--set", "zero_point=8"]);
    assert_eq!((&made["scale"].1[..], &made["zero_point"].1[..]), (&[0.5][..], &[8.0][..]));
    assert_eq!(made["levels"].1, (0..16).map(|q| (q as f32 - 8.0) * 0.5).collect::<Vec<_>>());

    let bad = |more: &[&str], part: &str| {
        let args = ["fit", text(&golden), "-o", text(&out)];
        fails(&[&args[..], more].concat(), &[part]);
    };
    let base = ["--tensor", "in.ln", "--bits", "4", "--quantizer", "uniform"];
    bad(&["--tensor", "in.lm", "--bits", "4", "--quantizer", "uniform"], "nearest: in.ln");
    bad(&["--tensor", "in.ln", "--bits", "4", "--quantizer", "uniformly"], "uniformly");
    bad(&["--tensor", "in.ln", "--bits", "1", "--quantizer", "uniform"], "1");
    bad(&[&base[..], &["--range", "widest"]].concat(), "widest");
    bad(&[&base[..], &["--granularity", "channel", "--axis", "7"]].concat(), "7");
    bad(&[&base[..], &["--set", "tau=2"]].concat(), "it has scale, zero_point");
    bad(&[&base[..], &["--set", "scale=wide"]].concat(), "`wide` is no number");
    bad(&[&base[..], &["--set", "scale=0.1,0.2"]].concat(), "2");
    bad(&[&base[..], &["--set", "scale=nan"]].concat(), "finite and positive");
}

/// A text without its line breaks.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_search_writes_plans_that_evaluate_and_solve_for_other_budgets() {
    let dir = folder();
    let (set, out) = (sample_set(dir.path(), "set", &[0, 1]), dir.path().join("search"));
    let model = fixture().with_file_name("vit_tiny_hf");
    let args = ["search", text(&model), "-c", text(&set), "--samples", text(&set), "-o", text(&out)];
    let found = json(&[&args[..], &["--avg-bits", "4.2", "--minutes", "2"]].concat());
    let front = found["front"].as_array().unwrap();
    assert!(front.len() >= 8, "{} points", front.len());
    let mut asked = 0;
    for point in front {
        has_fields(
            point,
            &["average_bits", "weight_bytes", "bit_operations", "top1", "agreement", "plan", "held_out"],
        );
        // There is no truth: what is under the name of the figure is the agreement.
        assert_eq!(
            (&point["metric"], &point["top1"]),
            (&Value::from("agreement"), &point["agreement"]["top1"])
        );
        let most = point["limit"]["average-bits"].as_f64().unwrap();
        assert!(point["average_bits"]["weights"].as_f64().unwrap() <= most, "{point}");
        assert!(point["average_bits"]["activations"].as_f64().unwrap() <= most, "{point}");
        asked += usize::from(point["asked"] == true);
    }
    assert_eq!(asked, 1);
    let effort = &found["effort"];
    assert_eq!((&effort["complete"], &effort["cut_by_clock"]), (&Value::from(true), &Value::from(false)));
    // A time that does not suffice is kept, and what it left out is said.
    let hurried =
        ok(&[&args[..4], &["-o", text(&dir.path().join("hurried")), "--minutes", "0.001"]].concat());
    for part in
        ["The clock cut it short", "Measured alone: the candidates of 0 of 36 sites", "more --minutes"]
    {
        assert!(words(&hurried).contains(part), "{part}: {hurried}");
    }
    // The same plan, read back, gives the figures that were printed.
    let last = &front[front.len() - 1];
    let plan = last["plan"].as_str().unwrap();
    let eval = json(&["eval", text(&model), "--samples", text(&set), "--plan", plan]);
    assert_eq!(eval["agreement"], last["held_out"]);
    assert_eq!(eval["weight_bytes"], last["weight_bytes"]);
    let listed: Value = serde_json::from_slice(&std::fs::read(out.join("front.json")).unwrap()).unwrap();
    assert_eq!(listed["front"].as_array().unwrap().len(), front.len());

    // Two plans of it: sites and figures side by side.
    let first = front[0]["plan"].as_str().unwrap();
    let diff = json(&["plan", "diff", first, plan]);
    let losses = &diff["metrics"]["calibration_loss"];
    assert!(losses["before"].as_f64().unwrap() >= losses["after"].as_f64().unwrap(), "{losses}");
    assert!(ok(&["plan", "diff", first, plan]).contains("calibration_loss"));

    // Another budget, from another folder, without the model.
    let solved = json(&["search", "--from", text(&out), "--avg-bits", "4.3", "-o", text(dir.path())]);
    assert!(solved["average_bits"]["weights"].as_f64().unwrap() <= 4.3, "{solved}");
    let plan = solved["plan"].as_str().unwrap();
    has_fields(&json(&["eval", text(&model), "--samples", text(&set), "--plan", plan]), &["agreement"]);
    let small = ["search", "--from", text(&out), "-o", text(dir.path())];
    fails(&[&small[..], &["--avg-bits", "1"]].concat(), &["1 average bits", "larger budget"]);
    fails(&small, &["--avg-bits", "--max-size"]);
    fails(&[&small[..], &["--avg-bits", "NaN"]].concat(), &["no budget"]);
    std::fs::write(out.join("scores.json"), "{}").unwrap();
    fails(&[&small[..], &["--avg-bits", "4"]].concat(), &["scores.json", "make the search again"]);
    fails(&[&args[..], &["--avg-bits", "4", "--minutes", "0"]].concat(), &["no time"]);
    assert_eq!(bitloupe(&["search", "--avg-bits", "4", "--max-size", "1M", "-o", "x"]).code, 2);
}

#[test]
fn plans_are_explained_per_site_and_as_a_whole() {
    let dir = folder();
    let (calibration, samples) = (sample_set(dir.path(), "c", &[0, 1]), sample_set(dir.path(), "s", &[2, 3]));
    let model = fixture();
    let common = |more: &[&str]| {
        let mut args = vec!["explain".to_owned(), text(&model).to_owned()];
        let sets = ["-c", text(&calibration), "--samples", text(&samples)];
        let plan = ["--method", "minmax", "-w", "4", "-a", "4", "--limit", "2"];
        args.extend(sets.iter().chain(&plan).chain(more).map(|arg| (*arg).to_owned()));
        args
    };
    let whole = json(&common(&["--confirm"]));
    has_fields(
        &whole,
        &["model", "method", "ranked_by", "faults", "groups", "sentences", "swapped_text", "confirmed"],
    );
    let sites = whole["sites"].as_array().unwrap();
    assert!(!sites.is_empty());
    has_fields(
        &sites[0],
        &[
            "site",
            "role",
            "class",
            "evidence",
            "present",
            "faults",
            "remedies",
            "choices",
            "widths",
            "rewrites",
            "held_out",
            "sentences",
        ],
    );
    has_fields(
        &sites[0]["present"],
        &["quantizer", "bits", "sqnr_db", "clipped_fraction", "levels", "levels_used"],
    );
    for found in whole["confirmed"].as_array().unwrap() {
        has_fields(found, &["site", "remedy", "samples", "metric", "before", "after", "alone", "sentence"]);
    }
    let table = ok(&common(&[]));
    assert!(table.contains("would help") && table.contains("sites are quantized"), "{table}");
    let one = ok(&common(&["--site", "layers.0.blocks.0.attn.qkv:input"]));
    assert!(one.contains("quantizer at these bits") && one.contains("layernorm-reparameterization"), "{one}");
    fails(&common(&["--site", "nowhere"]), &["no site matches `nowhere`"]);
    // Without a plan every choice is shown at full precision, at the bits that are said.
    let sets = ["explain", text(&model), "-c", text(&calibration), "--samples", text(&samples)];
    let float = [&sets[..], &["--site", "layers.0.blocks.0.attn.pv:lhs", "-a", "3"]].concat();
    let found = &json(&float)["sites"][0];
    assert!(found["present"].is_null() && found["choices"].as_array().unwrap().len() > 5, "{found}");
    assert!(words(&ok(&float)).contains("stays in full precision. At 3 bits"));
    assert_eq!(bitloupe(&sets).code, 2, "a plan, a method or a site is wanted");

    let ranking = dir.path().join("sensitivity.json");
    let worst = sites.last().unwrap()["site"].as_str().unwrap();
    std::fs::write(&ranking, format!(r#"{{"sites": [{{"site": "{worst}", "delta_miou": -0.5}}]}}"#)).unwrap();
    let ranked = json(&common(&["--ranking", text(&ranking)]));
    assert_eq!(
        (&ranked["sites"][0]["site"], &ranked["ranked_by"]),
        (&Value::from(worst), &Value::from("ranking"))
    );
    for (contents, part) in [
        ("[]", "no ranking"),
        (r#"{"sites": [{"site": 1}]}"#, "no ranking"),
        (r#"{"sites": [{"site": "a:input", "delta_miou": 0}]}"#, "no site `a:input`"),
        ("{", "sensitivity.json"),
    ] {
        std::fs::write(&ranking, contents).unwrap();
        fails(&common(&["--ranking", text(&ranking)]), &[part]);
    }
}
