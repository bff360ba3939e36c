//! A session that makes everything up: the same answers every time, without a model.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing, reason = "shared by tests and examples")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bitloupe_quant::eval::answer::{Answer, Metric};
use bitloupe_quant::eval::metrics::BinaryMask;
use bitloupe_quant::method::PaperBits::{Always, AsAsked};
use bitloupe_quant::method::{Exceptions, MethodBits, PaperBits, PaperLayers};
use bitloupe_quant::plan::{Kept, ModelRef, Plan, Rewrite, SitePlan};
use bitloupe_quant::quantizer::{Family, RangeSearch, Scheme};
use bitloupe_quant::session::messages::{
    ChoiceView, Event, FrontPoint, FrontView, Generation, HistogramView, Job, LayerView, MethodView,
    ModelView, Picture, PlanView, Request, RewriteView, SampleInfo, SampleView, SensitivityView, SetView,
    SiteDetail, SiteEffect, SiteSummary, SiteView,
};
use bitloupe_quant::terms::{Bits, Class, Role, SiteId, Slot};

/// What follows from a role in a model of this kind.
fn class_of(role: Role, layer: usize) -> Class {
    match role {
        Role::PostSoftmax => Class::PowerLaw,
        Role::PostGelu => Class::OneSided,
        Role::Key => Class::Bimodal,
        Role::PostLayerNorm => Class::OutlierChannel,
        Role::Residual => Class::HeavyTailed,
        Role::Weight if layer.is_multiple_of(7) => Class::HeavyTailed,
        _ => Class::Normal,
    }
}

pub fn schemes() -> Vec<(Scheme, &'static str)> {
    vec![
        (Scheme::new(Family::Uniform, RangeSearch::MinMax), "uniform min–max"),
        (Scheme::new(Family::Uniform, RangeSearch::repq()), "uniform percentile .9999"),
        (Scheme::new(Family::Uniform, RangeSearch::Mse { p: 2.0 }), "uniform MSE"),
        (Scheme::new(Family::Uniform, RangeSearch::Kl), "uniform KL"),
        (Scheme::new(Family::Log2, RangeSearch::MinMax), "log2"),
        (Scheme::new(Family::LogSqrt2, RangeSearch::MinMax), "log √2"),
    ]
}

fn bits(width: u8) -> Bits {
    Bits::new(width).unwrap()
}

/// A made-up signal to noise ratio that behaves like a real one: 6 dB a bit, less where the grid does not fit.
fn sqnr(class: Class, scheme: &Scheme, width: Bits, layer: usize) -> f64 {
    let Some(width) = width.get() else { return f64::INFINITY };
    let place = schemes().iter().position(|(other, _)| other == scheme).unwrap_or(0);
    let penalty = match class {
        Class::Normal => [4.0, 2.5, 1.5, 2.0, 14.0, 11.0],
        Class::Bimodal => [5.0, 4.0, 2.0, 6.0, 16.0, 13.0],
        Class::PowerLaw => [16.0, 12.0, 10.0, 11.0, 4.0, 2.0],
        Class::HeavyTailed => [15.0, 7.0, 5.0, 6.0, 18.0, 15.0],
        Class::OutlierChannel => [17.0, 11.0, 9.0, 12.0, 19.0, 17.0],
        Class::OneSided => [8.0, 5.0, 3.0, 4.0, 12.0, 9.0],
        Class::Constant => [0.0; 6],
    }[place];
    6.02 * f64::from(width) - penalty - (layer * 7 % 5) as f64 * 0.4
}

/// A miniature in the shape of a referring segmentation model.
pub fn model() -> ModelView {
    let mut layers = Vec::new();
    let mut push = |name: String, op: &'static str, roles: &[(Slot, Role)], width: usize| {
        let sites = roles
            .iter()
            .map(|(slot, role)| SiteView {
                site: SiteId::new(name.clone(), *slot),
                role: *role,
                shape: if *slot == Slot::Weight { vec![4 * width, width] } else { vec![196, width] },
                channels: width,
            })
            .collect();
        let weights = if op == "MatMul" { 0 } else { (4 * width * width) as u64 };
        layers.push(LayerView { name, op, macs: 196 * (width * width) as u64, weights, sites });
    };
    let linear = |role: Role| [(Slot::Input, role), (Slot::Weight, Role::Weight)];
    push("backbone.patch_embed.proj".into(), "Conv2d", &linear(Role::Image), 48);
    for stage in 0..3usize {
        for block in 0..[2, 2, 6][stage] {
            let path = format!("backbone.layers.{stage}.blocks.{block}");
            let width = 48 << stage;
            push(format!("{path}.attn.qkv"), "Linear", &linear(Role::PostLayerNorm), width);
            push(
                format!("{path}.attn.qk"),
                "MatMul",
                &[(Slot::Lhs, Role::Query), (Slot::Rhs, Role::Key)],
                width,
            );
            push(
                format!("{path}.attn.pv"),
                "MatMul",
                &[(Slot::Lhs, Role::PostSoftmax), (Slot::Rhs, Role::Value)],
                width,
            );
            push(format!("{path}.attn.proj"), "Linear", &linear(Role::Other), width);
            push(format!("{path}.mlp.fc1"), "Linear", &linear(Role::PostLayerNorm), width);
            push(format!("{path}.mlp.fc2"), "Linear", &linear(Role::PostGelu), width);
        }
        push(
            format!("backbone.layers.{stage}.fusion.project"),
            "Conv1d",
            &linear(Role::Residual),
            48 << stage,
        );
    }
    for layer in 0..4 {
        let path = format!("text_encoder.layer.{layer}");
        push(format!("{path}.attention.query"), "Linear", &linear(Role::Residual), 96);
        push(format!("{path}.intermediate.dense"), "Linear", &linear(Role::PostLayerNorm), 96);
        push(format!("{path}.output.dense"), "Linear", &linear(Role::PostGelu), 96);
    }
    push("classifier.conv1".into(), "Conv2d", &linear(Role::Residual), 96);
    push("classifier.conv2".into(), "Conv2d", &linear(Role::PostRelu), 96);
    let sentences = [
        "the smaller dog on the left",
        "red circle above the blue square",
        "the largest green triangle",
        "person in a yellow coat",
        "cup at the edge of the table",
        "second bird from the right",
    ];
    let samples = sentences
        .iter()
        .enumerate()
        .map(|(number, text)| SampleInfo {
            id: format!("{number:04}.png"),
            text: (*text).to_owned(),
            has_truth: number != 4,
        })
        .collect();
    let mut view = ModelView {
        methods: methods(),
        rewrites: rewrites(&layers),
        name: "lavt-mini".into(),
        architecture: "lavt".into(),
        label: None,
        fingerprint: "0123456789abcdef".into(),
        parameters: 5_900_000,
        macs: layers.iter().map(|layer: &LayerView| layer.macs).sum(),
        float_bytes: layers.iter().map(|layer: &LayerView| layer.weights * 4).sum(),
        layers,
        calibration_samples: 32,
        samples,
        recovered: None,
        kept: Kept::default(),
        presets: Vec::new(),
        weight_schemes: schemes().into_iter().take(4).map(|(scheme, _)| scheme).collect(),
        activation_schemes: schemes().into_iter().map(|(scheme, _)| scheme).collect(),
    };
    view.presets = [(8, 8, "W8A8 min–max"), (4, 8, "W4A8 min–max"), (4, 4, "W4A4 min–max")]
        .into_iter()
        .map(|(w, a, name)| (name.to_owned(), Arc::new(preset(&view, bits(w), bits(a)))))
        .collect();
    view
}

/// The first says little, the last a lot; the box has room for both.
fn methods() -> Vec<MethodView> {
    vec![
        MethodView {
            name: "minmax",
            source: "Jacob et al. 2018",
            treatment: &[
                ("weights", "symmetric per output channel, min–max"),
                ("activations", "per tensor, min–max"),
            ],
            exceptions: exceptions(None, Some(AsAsked)),
        },
        MethodView {
            name: "repq-vit",
            source: "RepQ-ViT, Li et al., ICCV 2023, as released. The zero point of a reparameterized site is no \
                     whole number, as there; an integer kernel rounds it.",
            treatment: &[
                ("weights", "affine per output channel, the best of three percentiles"),
                (
                    "post-layernorm",
                    "per channel, made per tensor by reparameterizing the LayerNorm where it only feeds linear layers",
                ),
                ("post-softmax", "log √2"),
                ("all else", "affine per tensor, the best of three percentiles"),
            ],
            exceptions: exceptions(Some(Always(Bits::FLOAT)), Some(AsAsked)),
        },
        MethodView {
            name: "ptq4sam",
            source: "PTQ4SAM, Lv et al., CVPR 2024, the statistic variant.",
            treatment: &[
                ("key", "signs folded where the distribution has two peaks"),
                ("all else", "affine"),
            ],
            exceptions: exceptions(Some(AsAsked), Some(Always(Bits::EIGHT))),
        },
    ]
}

/// The patch embedding as given, all else as asked.
fn exceptions(weights: Option<PaperBits>, activations: Option<PaperBits>) -> Exceptions {
    let all = PaperLayers { weights: Some(AsAsked), activations: Some(AsAsked) };
    let softmax = PaperLayers { weights: None, activations: Some(AsAsked) };
    Exceptions { patch_embedding: PaperLayers { weights, activations }, last: all, softmax }
}

/// A norm before every `qkv` and `fc1`, keys to fold in every `qk`.
fn rewrites(layers: &[LayerView]) -> Vec<RewriteView> {
    let view = |kind: &str, at: String, sites: Vec<SiteId>| RewriteView {
        rewrite: Rewrite { rewrite: kind.to_owned(), layer: at, vectors: BTreeMap::new() },
        sites,
    };
    let both = |layer: &str| vec![SiteId::new(layer, Slot::Input), SiteId::new(layer, Slot::Weight)];
    let norms = |kind: &'static str| {
        layers.iter().filter_map(move |layer| {
            let block = layer.name.strip_suffix(".attn.qkv").map(|block| format!("{block}.norm1"));
            let norm = block.or_else(|| Some(format!("{}.norm2", layer.name.strip_suffix(".mlp.fc1")?)))?;
            Some(view(kind, norm, both(&layer.name)))
        })
    };
    let folds = layers.iter().filter_map(|layer| {
        let block = layer.name.strip_suffix(".attn.qk")?;
        let mut sites =
            vec![SiteId::new(layer.name.clone(), Slot::Lhs), SiteId::new(layer.name.clone(), Slot::Rhs)];
        sites.push(SiteId::new(format!("{block}.attn.qkv"), Slot::Weight));
        Some(view("sign-folding", layer.name.clone(), sites))
    });
    norms("layernorm-reparameterization").chain(norms("smoothing")).chain(folds).collect()
}

/// The plan of a method: its own scheme per role, its rewrites wherever they fit.
pub fn method(model: &ModelView, name: &str, bits: MethodBits) -> Plan {
    let mut plan = preset(model, bits.weights, bits.activations);
    name.clone_into(&mut plan.method);
    let kind = match name {
        "repq-vit" => "layernorm-reparameterization",
        "ptq4sam" => "sign-folding",
        _ => return plan,
    };
    for site in model.layers.iter().flat_map(|layer| &layer.sites) {
        if let Some(SitePlan::Quantized { bits, .. }) = plan.site(&site.site) {
            let scheme = schemes()[if site.role == Role::PostSoftmax { 5 } else { 2 }].0.clone();
            let made = SitePlan::unfitted(scheme, *bits);
            plan.set(&site.site, Some(made));
        }
    }
    let places = model.rewrites.iter().filter(|place| place.rewrite.rewrite == kind);
    plan.rewrites = places.map(|place| place.rewrite.clone()).collect();
    plan
}

/// One scheme everywhere.
pub fn preset(model: &ModelView, weight: Bits, activation: Bits) -> Plan {
    let mut plan = Plan::new(ModelRef { name: model.name.clone(), ..ModelRef::default() });
    let scheme = schemes()[0].0.clone();
    for site in model.layers.iter().flat_map(|layer| &layer.sites) {
        let width = if site.site.slot == Slot::Weight { weight } else { activation };
        plan.set(&site.site, Some(SitePlan::unfitted(scheme.clone(), width)));
    }
    plan
}

fn place(model: &ModelView, site: &SiteId) -> (usize, SiteView) {
    let found = model.layers.iter().enumerate().find_map(|(place, layer)| {
        layer.sites.iter().find(|view| view.site == *site).map(|view| (place, view.clone()))
    });
    found.unwrap()
}

pub fn summaries(model: &ModelView) -> Vec<SiteSummary> {
    let mut all = Vec::new();
    for (number, layer) in model.layers.iter().enumerate() {
        for site in &layer.sites {
            let class = class_of(site.role, number);
            let (sentence, evidence) = match class {
                Class::OutlierChannel => (
                    "6 of 96 channels reach ±38; the other 90 lie in ±2. A per-tensor grid spends 13 of 16 levels on them.",
                    vec![("outlier channels", "6"), ("reach", "±38"), ("median channel", "±2")],
                ),
                Class::Bimodal => (
                    "Two peaks at -3.1 and 2.9 with few values between: half of a uniform grid lies in the valley.",
                    vec![("peaks", "-3.1, 2.9"), ("valley", "0.04")],
                ),
                Class::PowerLaw => (
                    "Most values lie near 0 and few reach 1; equal steps waste the grid on the empty upper range.",
                    vec![("slope", "-1.7"), ("below 0.01", "93 %")],
                ),
                Class::HeavyTailed => (
                    "One peak and rare values far out: the largest is 11 times the 99.9th percentile.",
                    vec![("max / p99.9", "11.2"), ("kurtosis", "84")],
                ),
                Class::OneSided => (
                    "Almost everything is positive; a short negative tail ends at -0.17.",
                    vec![("below zero", "41 %"), ("min", "-0.17")],
                ),
                _ => ("One peak with light tails: a uniform grid fits.", vec![("kurtosis", "3.1")]),
            };
            let (min, max) = range(class);
            all.push(SiteSummary {
                site: site.site.clone(),
                role: site.role,
                class,
                sentence: sentence.into(),
                evidence: evidence.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect(),
                min,
                max,
                mean: 0.1,
                std: 1.2,
                count: 37_000_000,
                zeros: 1_200,
                nan: 0,
                inf: 0,
            });
        }
    }
    all
}

fn range(class: Class) -> (f32, f32) {
    match class {
        Class::PowerLaw => (0.0, 1.0),
        Class::OneSided => (-0.17, 6.0),
        Class::OutlierChannel => (-38.0, 31.0),
        Class::HeavyTailed => (-14.0, 22.0),
        _ => (-5.0, 5.0),
    }
}

fn density(class: Class, x: f64) -> f64 {
    let bell = |mean: f64, std: f64| (-0.5 * ((x - mean) / std).powi(2)).exp() / std;
    match class {
        Class::Bimodal => bell(-3.1, 0.7) + 0.8 * bell(2.9, 0.8),
        Class::PowerLaw => 1.0 / (x.abs() + 0.004).powf(1.7),
        Class::OneSided => {
            if x < 0.0 {
                3.0 * (1.0 + x / 0.17).max(0.0)
            } else {
                bell(0.2, 0.9)
            }
        }
        Class::OutlierChannel => bell(0.0, 1.1) + 0.003 * bell(-31.0, 3.0) + 0.002 * bell(24.0, 4.0),
        Class::HeavyTailed => bell(0.0, 1.0) + 0.002 / (1.0 + x.abs()),
        _ => bell(0.0, 1.2),
    }
}

pub fn detail(model: &ModelView, generation: Generation, site: &SiteId, plan: &Plan) -> SiteDetail {
    let (layer, view) = place(model, site);
    let class = class_of(view.role, layer);
    let (low, high) = range(class);
    let edges: Vec<f32> = (0..=256).map(|i| low + (high - low) * i as f32 / 256.0).collect();
    let middle = |pair: &[f32]| f64::from(pair[0] + pair[1]) / 2.0;
    let counts: Vec<f64> =
        edges.windows(2).map(|pair| (density(class, middle(pair)) * 1e6).floor()).collect();
    let log_edges: Vec<f32> =
        (0..=256).map(|i| high.max(-low) * 10f32.powf(-6.0 * (1.0 - i as f32 / 256.0))).collect();
    let log_counts = log_edges
        .windows(2)
        .map(|pair| {
            let x = middle(pair);
            let width = f64::from(pair[1] - pair[0]);
            let sides = [x, -x].into_iter().filter(|x| *x >= f64::from(low) && *x <= f64::from(high));
            (sides.map(|x| density(class, x)).sum::<f64>() * width * 1e7).floor()
        })
        .collect();
    let width = plan.site(site).map_or(Bits::FLOAT, SitePlan::bits);
    let scheme = match plan.site(site) {
        Some(SitePlan::Quantized { scheme, .. }) => Some(scheme.clone()),
        _ => None,
    };
    let clips = scheme.as_ref().is_some_and(|scheme| *scheme != schemes()[0].0);
    let clip = if clips { (low * 0.6, high * 0.6) } else { (low, high) };
    let levels: Vec<f32> = match (width.levels(), &scheme) {
        (Some(levels), Some(scheme)) if scheme.family == Family::Uniform => {
            let levels = levels.min(512);
            (0..levels).map(|i| clip.0 + (clip.1 - clip.0) * i as f32 / (levels - 1) as f32).collect()
        }
        (Some(levels), Some(_)) => {
            (0..levels.min(64)).rev().map(|i| clip.1 * 2f32.powi(-(i as i32))).collect()
        }
        _ => Vec::new(),
    };
    let dequantized = (!levels.is_empty()).then(|| {
        let mut out = vec![0.0; 256];
        for (pair, count) in edges.windows(2).zip(&counts) {
            let x = middle(pair) as f32;
            let level =
                levels.iter().copied().min_by(|a, b| (a - x).abs().total_cmp(&(b - x).abs())).unwrap();
            let bin = ((level - low) / (high - low) * 256.0).clamp(0.0, 255.0) as usize;
            out[bin] += count;
        }
        HistogramView { edges: edges.clone(), counts: out }
    });
    let channels: Vec<(f32, f32)> = (0..view.channels)
        .map(|channel| {
            let outlier = class == Class::OutlierChannel && channel % 17 == 5;
            let reach =
                if outlier { 30.0 + channel as f32 / 12.0 } else { 1.6 + (channel % 5) as f32 * 0.15 };
            (-reach.min(-low), reach.min(high))
        })
        .collect();
    let (rows, columns) = (channels.len().min(64), 64);
    let mut heat = Vec::new();
    for row in 0..rows {
        let (from, to) = channels[row * channels.len() / rows];
        let std = f64::from(to - from) / 5.0;
        let line: Vec<f64> = (0..columns)
            .map(|column| {
                let x = f64::from(low) + f64::from(high - low) * (column as f64 + 0.5) / columns as f64;
                if x < f64::from(from) || x > f64::from(to) { 0.0 } else { (-0.5 * (x / std).powi(2)).exp() }
            })
            .collect();
        let sum: f64 = line.iter().sum::<f64>().max(1e-9);
        heat.extend(line.iter().map(|value| (value / sum) as f32));
    }
    let allowed = if view.role == Role::PostSoftmax || view.role == Role::PostRelu { 6 } else { 4 };
    let choices = schemes()
        .into_iter()
        .take(allowed)
        .map(|(scheme, label)| ChoiceView {
            sqnr_db: [2, 3, 4, 5, 6, 8, 16]
                .into_iter()
                .map(|width| (bits(width), sqnr(class, &scheme, bits(width), layer)))
                .collect(),
            scheme,
            label: label.into(),
        })
        .collect();
    SiteDetail {
        generation,
        site: site.clone(),
        linear: HistogramView { edges, counts },
        logarithmic: HistogramView { edges: log_edges, counts: log_counts },
        dequantized,
        clip: (!levels.is_empty()).then_some(clip),
        levels,
        channels,
        heat,
        heat_rows: rows,
        heat_columns: columns,
        choices,
        milliseconds: 7.0,
    }
}

pub fn plan_view(model: &ModelView, generation: Generation, plan: &Arc<Plan>) -> PlanView {
    let mut predicted = Vec::new();
    let (mut weight_bits, mut weights, mut activation_bits, mut macs) = (0.0, 0.0, 0.0, 0.0);
    let mut bytes = 0;
    for (number, layer) in model.layers.iter().enumerate() {
        for site in &layer.sites {
            let width = plan.site(&site.site).map_or(Bits::FLOAT, SitePlan::bits);
            if let Some(SitePlan::Quantized { scheme, .. }) = plan.site(&site.site) {
                predicted.push((site.site.clone(), sqnr(class_of(site.role, number), scheme, width, number)));
            }
            let value = f64::from(width.get().unwrap_or(16));
            if site.site.slot == Slot::Weight {
                weight_bits += value * layer.weights as f64;
                weights += layer.weights as f64;
                bytes += layer.weights * u64::from(width.get().unwrap_or(32)) / 8;
            } else {
                activation_bits += value * layer.macs as f64;
                macs += layer.macs as f64;
            }
        }
    }
    // As a session does: the keys of the first block have one peak, so there is nothing to fold.
    let mut fitted = (**plan).clone();
    fitted.rewrites.retain(|rewrite| rewrite.layer != "backbone.layers.0.blocks.0.attn.qk");
    PlanView {
        generation,
        plan: Arc::new(fitted),
        predicted_sqnr_db: predicted,
        weight_bits: weight_bits / weights,
        activation_bits: activation_bits / macs,
        weight_bytes: bytes,
    }
}

/// How much of the mask a plan loses: more bits, less loss.
fn damage(model: &ModelView, plan: &Plan) -> f64 {
    let view = plan_view(model, 0, &Arc::new(plan.clone()));
    let noise: f64 = view.predicted_sqnr_db.iter().map(|(_, db)| 10f64.powf(-db / 10.0)).sum();
    (noise / view.predicted_sqnr_db.len().max(1) as f64).sqrt().min(1.0)
}

fn disc(x: f64, y: f64, cx: f64, cy: f64, r: f64) -> bool {
    (x - cx).powi(2) + (y - cy).powi(2) < r * r
}

pub fn sample(
    model: &ModelView,
    generation: Generation,
    plan: &Plan,
    number: usize,
    typed: Option<&str>,
) -> SampleView {
    let (width, height) = if number.is_multiple_of(2) { (160u32, 120u32) } else { (120, 120) };
    let shift = number as f64 * 7.0;
    let (w, h) = (f64::from(width), f64::from(height));
    let own = typed.is_none_or(|text| text == model.samples[number].text);
    let (cx, cy) = if own { (w * 0.32 + shift, h * 0.55) } else { (w * 0.7, h * 0.4) };
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let (fx, fy) = (f64::from(x), f64::from(y));
            let pixel = if disc(fx, fy, w * 0.32 + shift, h * 0.55, h * 0.27) {
                [190, 120, 60]
            } else if disc(fx, fy, w * 0.7, h * 0.4, h * 0.2) {
                [210, 205, 190]
            } else if fy > h * 0.7 {
                [70, 130 + (x % 16) as u8, 60]
            } else {
                [110 + (fy / 2.0) as u8, 170, 225]
            };
            rgb.extend(pixel);
        }
    }
    let damage = damage(model, plan);
    let mask = |grow: f64, bite: f64| {
        let radius = h * 0.27 + grow;
        BinaryMask::from_fn(width, height, |x, y| {
            let (x, y) = (f64::from(x), f64::from(y));
            disc(x, y, cx, cy, radius) && !disc(x, y, cx + radius, cy - radius * 0.4, radius * bite)
                || bite > 0.0 && disc(x, y, cx - radius * 1.2, cy + radius * 0.7, radius * bite * 0.6)
        })
        .unwrap()
    };
    let (truth, float, quantized) = (mask(0.0, 0.0), mask(1.0, 0.0), mask(1.0, damage * 1.5));
    let iou = |mask: &BinaryMask| mask.iou(&truth);
    let has_truth = own && model.samples[number].has_truth;
    let text = typed.map_or_else(|| model.samples[number].text.clone(), str::to_owned);
    SampleView {
        generation,
        sample: number,
        warnings: text
            .split_whitespace()
            .filter(|word| word.contains('z'))
            .map(|word| format!("the model does not know: {word}"))
            .collect(),
        text,
        own_text: own,
        picture: Some(Arc::new(Picture { width: width as usize, height: height as usize, rgb })),
        full_precision_score: iou(&float).filter(|_| has_truth),
        quantized_score: iou(&quantized).filter(|_| has_truth),
        agreement: quantized.iou(&float).unwrap_or(1.0),
        truth: has_truth.then(|| Answer::Mask(Arc::new(truth))),
        full_precision: Answer::Mask(Arc::new(float)),
        quantized: Answer::Mask(Arc::new(quantized)),
        outputs: Vec::new(),
        nodes_run: 37,
        nodes: 412,
        milliseconds: 41.0,
    }
}

pub fn set(model: &ModelView, generation: Generation, plan: &Plan, samples: usize) -> SetView {
    let miou = (0.803 - damage(model, plan) * 0.9).max(0.02);
    SetView {
        generation,
        samples,
        complete: samples == model.samples.len(),
        metric: Metric::Miou,
        full_precision: Some(0.803),
        quantized: Some(miou),
        agreement: miou / 0.803,
        per_sample: (0..samples).map(|number| (number, miou)).collect(),
        cache: (123 << 20, 512 << 20),
    }
}

/// A front of the ready-made plans.
pub fn front(model: &ModelView, generation: Generation, doing: Option<&'static str>) -> FrontView {
    let point = |(bits, name): (f64, &str)| {
        let (_, plan) = model.presets.iter().find(|(known, _)| known.starts_with(name)).unwrap();
        FrontPoint {
            limit: format!("{bits} average bits"),
            origin: if bits < 5.0 { "search".to_owned() } else { "repq-vit W6A6".to_owned() },
            weight_bits: bits - 0.02,
            activation_bits: bits,
            weight_bytes: (bits * 300_000.0) as u64,
            figure: Some(0.6 + bits / 40.0),
            agreement: Some(0.7 + bits / 40.0),
            plan: Arc::clone(plan),
        }
    };
    let points = [(4.0, "W4A4"), (6.0, "W4A8"), (8.0, "W8A8")].map(point).to_vec();
    FrontView { generation, metric: Metric::Miou, points, doing }
}

/// What every quantized site costs: what is far down the list of layers costs less, weights little.
pub fn sensitivity(
    model: &ModelView,
    generation: Generation,
    plan: &Arc<Plan>,
    samples: usize,
) -> SensitivityView {
    let fitted = plan_view(model, generation, plan).plan;
    let mut sites: Vec<SiteEffect> = Vec::new();
    for (place, layer) in model.layers.iter().enumerate() {
        for site in &layer.sites {
            if fitted.site(&site.site).is_none_or(|choice| choice.bits().is_float()) {
                continue;
            }
            let worth = if site.site.slot == bitloupe_quant::terms::Slot::Weight { 0.001 } else { 0.06 };
            let delta = -worth / (1.0 + place as f64);
            sites.push(SiteEffect {
                site: site.site.clone(),
                isolated_sqnr_db: Some(20.0 + place as f64),
                cumulative_sqnr_db: Some(12.5),
                delta,
                agreement: 1.0 + 2.0 * delta,
                samples,
            });
        }
    }
    sites.sort_by(|a, b| a.delta.total_cmp(&b.delta));
    SensitivityView {
        generation,
        plan: fitted,
        metric: Metric::Miou,
        sites,
        samples,
        reused: 0,
        complete: samples >= 32,
    }
}

/// The answers to a request, all at once.
pub fn respond(model: &Arc<ModelView>, request: &Request) -> Vec<Event> {
    match request {
        Request::Calibrate => vec![Event::Calibrated {
            sites: Arc::new(summaries(model)),
            samples: model.calibration_samples,
            complete: true,
        }],
        Request::Show { generation, plan, sample: number, text } => vec![
            Event::Plan(Arc::new(plan_view(model, *generation, plan))),
            Event::Sample(Arc::new(sample(model, *generation, plan, *number, text.as_deref()))),
        ],
        Request::Evaluate { generation, plan } => {
            vec![Event::Set(Arc::new(set(model, *generation, plan, model.samples.len())))]
        }
        Request::Sweep { generation, plan } => {
            vec![Event::Sensitivity(Arc::new(sensitivity(model, *generation, plan, 32)))]
        }
        Request::Search { generation, .. } => vec![Event::Front(Arc::new(front(model, *generation, None)))],
        Request::Solve { generation, average_bits } => {
            let mut point = front(model, *generation, None).points[1].clone();
            point.limit = format!("{average_bits} average bits");
            (point.figure, point.agreement) = (None, None);
            vec![Event::Solved { generation: *generation, point: Arc::new(point) }]
        }
        Request::Site { generation, site, plan } => {
            vec![Event::Site(Arc::new(detail(model, *generation, site, plan)))]
        }
        Request::Method { generation, method: name, bits } => {
            vec![Event::Method { generation: *generation, plan: Arc::new(method(model, name, *bits)) }]
        }
        Request::Export { folder, .. } => {
            vec![Event::Exported {
                files: vec![folder.join("plan.json"), folder.join("weights.safetensors")],
            }]
        }
        Request::Save { path, .. } => vec![Event::Saved { path: path.clone() }],
        Request::Journal { .. } | Request::Keep { .. } | Request::Quit => Vec::new(),
        Request::Cancel => vec![Event::Cancelled { job: Job::Calibration }],
    }
}
