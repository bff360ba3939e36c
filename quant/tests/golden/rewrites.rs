//! Rewrites on a graph of a LayerNorm and the linear layers behind it, against RepQ-ViT's and SmoothQuant's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ledger::{Section, Tolerance};
use bitloupe_quant::exec::{Cancel, Engine, NoTap, Quantization, Value};
use bitloupe_quant::graph::{Builder, Graph, RewriteKind};
use bitloupe_quant::models::Weights;
use bitloupe_quant::quantizer::rewriting::{reparameterize, smoothing};
use bitloupe_quant::quantizer::{Distribution, Family, Params, RangeSearch, Scheme, quantizer};
use bitloupe_quant::terms::{Bits, Layout};
use safetensors::tensor::{Dtype, TensorView};

/// A weight `[out, in]` and a bias by the layer's name.
type Layer<'a> = (&'a str, Vec<f32>, Option<Vec<f32>>);

/// `norm`, then linear layers of `channels` inputs on it.
fn graph(shape: &[usize], gamma: &[f32], beta: &[f32], layers: &[Layer<'_>]) -> Graph {
    let channels = gamma.len();
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = vec![
        ("norm.weight".into(), vec![channels], gamma.to_vec()),
        ("norm.bias".into(), vec![channels], beta.to_vec()),
    ];
    for (name, weight, bias) in layers {
        let rows = weight.len() / channels;
        tensors.push((format!("{name}.weight"), vec![rows, channels], weight.clone()));
        if let Some(bias) = bias {
            tensors.push((format!("{name}.bias"), vec![rows], bias.clone()));
        }
    }
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape, data)| (name, shape, data.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    let weights = Weights::from_bytes("golden", safetensors::serialize(views, None).unwrap()).unwrap();
    let mut builder = Builder::new(&weights);
    let mut outputs = Vec::new();
    {
        let mut g = builder.root();
        let x = g.input("x", shape).unwrap();
        let normed = g.layer_norm("norm", x, 1e-5).unwrap();
        for (name, ..) in layers {
            outputs.push(((*name).to_owned(), g.linear(name, normed).unwrap()));
        }
    }
    for (name, node) in outputs {
        builder.output(&name, node);
    }
    builder.finish(|_| false).unwrap()
}

fn param(graph: &Graph, name: &str) -> Vec<f32> {
    graph.params().iter().find(|p| p.name == name).unwrap().data.to_vec()
}

/// The value that the norm gives.
fn normed(graph: &Graph, x: &Value) -> Vec<f32> {
    struct Seen(bitloupe_quant::graph::NodeId, Vec<f32>);
    impl bitloupe_quant::exec::Tap for Seen {
        fn wants(&self, node: bitloupe_quant::graph::NodeId) -> bool {
            node == self.0
        }
        fn value(&mut self, _: bitloupe_quant::graph::NodeId, value: &Value) {
            self.1 = value.as_slice().to_vec();
        }
    }
    let engine = Engine::new(Arc::new(graph.clone()));
    let mut seen = Seen(graph.find("norm").unwrap(), Vec::new());
    engine
        .run(std::slice::from_ref(x), &Quantization::none(graph), None, &mut seen, &Cancel::default())
        .unwrap();
    seen.1
}

/// RepQ-ViT: three LayerNorm–Linear pairs at three widths. The golden file holds what came out; what went in follows
/// from it by undoing the change.
pub fn repq(golden: &mut Section) {
    let input = golden.tensor("in.reparam_x");
    let channels = input.shape[2];
    let layout = Layout::axis(&input.shape, -1).unwrap();
    let scheme = Scheme::new(Family::Uniform, RangeSearch::repq());
    let uniform = quantizer(Family::Uniform);
    for width in [4, 6, 8] {
        let bits = Bits::new(width).unwrap();
        for pair in ["norm1_qkv", "norm2_fc1", "norm_reduction"] {
            let name = |part: &str| format!("b{width}.reparam.{pair}.{part}");
            let values = |golden: &Section, part: &str| golden.tensor(&name(part)).values;
            let per_channel = Params {
                scheme: scheme.clone().per_channel(),
                bits,
                scale: values(golden, "pre.delta"),
                zero_point: values(golden, "pre.zp"),
                extra: BTreeMap::new(),
            };
            let merged = reparameterize(&per_channel);
            golden.compare(&name("post.delta"), &[merged.step], Tolerance::Relative(1e-6));
            golden.compare(&name("post.zp"), &[merged.zero_point], Tolerance::Relative(1e-6));

            let (r, u) = (&merged.scale, &merged.shift);
            let each = |part: &str, f: &dyn Fn(usize, f32) -> f32| -> Vec<f32> {
                values(golden, part).iter().enumerate().map(|(i, &x)| f(i, x)).collect()
            };
            let gamma = each("post.ln_w", &|c, x| x * r[c]);
            let beta = each("post.ln_b", &|c, x| (x + u[c]) * r[c]);
            let weight = each("post.w", &|i, x| x / r[i % channels]);
            let after = values(golden, "post.w");
            let bias = each("post.bias", &|o, x| {
                let row = &after[o * channels..(o + 1) * channels];
                x - row.iter().zip(u).map(|(w, u)| w * u).sum::<f32>()
            });
            let base = graph(&input.shape, &gamma, &beta, &[("fc", weight, Some(bias))]);
            let vectors = [("scale".to_owned(), r.clone()), ("shift".to_owned(), u.clone())].into();
            let made = base.rewritten(RewriteKind::NormReparameterization, "norm", &vectors).unwrap().graph;
            // What went in was recovered in f32: adding the shift and taking it off again loses its last bits.
            let reach = u.iter().fold(0.0_f32, |most, u| most.max(u.abs()));
            let recovered = Tolerance::Ties { share: 1e-5, flips: 0.05, step: f64::from(reach) * 1e-6 };
            for (ours, theirs, tolerance) in [
                ("norm.weight", "post.ln_w", Tolerance::Relative(1e-5)),
                ("norm.bias", "post.ln_b", recovered),
                ("fc.weight", "post.w", Tolerance::Relative(1e-5)),
                ("fc.bias", "post.bias", recovered),
            ] {
                golden.compare(&name(theirs), &param(&made, ours), tolerance);
            }

            // The first calibration, on what the norm gave before the change.
            let x = Value::new(input.shape.clone(), input.values.clone());
            let y = normed(&base, &x);
            let data = Distribution::Raw { values: &y, layout };
            let fitted = uniform.fit(&data, &scheme.clone().per_channel(), bits).unwrap();
            golden.compare(&name("pre.delta"), &fitted.scale, Tolerance::Relative(1e-5));
            golden.compare(&name("pre.zp"), &fitted.zero_point, Tolerance::Exact);

            // The second, on the changed weight, and the layer with both.
            let after_layout = Layout { outer: 1, channels: after.len() / channels, inner: channels };
            let data = Distribution::Raw { values: &after, layout: after_layout };
            let rows = uniform.fit(&data, &scheme.clone().per_channel(), bits).unwrap();
            golden.compare(&name("post.wdelta"), &rows.scale, Tolerance::Relative(1e-6));
            golden.compare(&name("post.wzp"), &rows.zero_point, Tolerance::Exact);
            let layer_wise = Params {
                scheme: scheme.clone(),
                bits,
                scale: vec![merged.step],
                zero_point: vec![merged.zero_point],
                extra: BTreeMap::new(),
            };
            let engine = Engine::new(Arc::new(made.clone()));
            let sites: Vec<Option<Arc<Params>>> = vec![Some(Arc::new(layer_wise)), Some(Arc::new(rows))];
            let quantization = Quantization::new(&engine, &sites).unwrap();
            let run = engine.run(&[x], &quantization, None, &mut NoTap, &Cancel::default()).unwrap();
            // A value of the norm on a rounding tie moves all results of its token.
            let step =
                f64::from(values(golden, "post.out").iter().fold(0.0_f32, |a, x| a.max(x.abs()))) / 20.0;
            let ties = Tolerance::Ties { share: 1e-4, flips: 0.02, step };
            golden.compare(&name("post.out"), run.outputs[0].as_slice(), ties);
        }
    }
}

/// SmoothQuant: one LayerNorm, three linear layers, two strengths.
pub fn smoothquant(golden: &mut Section) {
    let shape = golden.tensor("in.x").shape;
    let of = |name: &str| golden.tensor(name).values;
    let layers: Vec<Layer<'_>> = ["q", "k", "v"]
        .into_iter()
        .enumerate()
        .map(|(i, name)| (name, of(&format!("in.w{i}")), Some(of(&format!("in.b{i}")))))
        .collect();
    let base = graph(&shape, &of("in.ln_w"), &of("in.ln_b"), &layers);
    let reach = of("act_scales");
    let weights: Vec<Vec<f32>> = (0..3).map(|i| of(&format!("in.w{i}"))).collect();
    let weights: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
    for (prefix, alpha) in [("a50", 0.5), ("a75", 0.75)] {
        let scale = smoothing(&reach, &weights, alpha);
        golden.compare(&format!("{prefix}.scales"), &scale, Tolerance::Relative(1e-5));
        let vectors = [("scale".to_owned(), scale)].into();
        let made = base.rewritten(RewriteKind::Smoothing, "norm", &vectors).unwrap().graph;
        golden.compare(&format!("{prefix}.ln_w"), &param(&made, "norm.weight"), Tolerance::Relative(1e-5));
        golden.compare(&format!("{prefix}.ln_b"), &param(&made, "norm.bias"), Tolerance::Relative(1e-5));
        for (i, layer) in ["q", "k", "v"].into_iter().enumerate() {
            let found = param(&made, &format!("{layer}.weight"));
            golden.compare(&format!("{prefix}.w{i}"), &found, Tolerance::Relative(1e-5));
        }
    }
}
