//! Every rewrite everywhere it fits, on every architecture: full precision stays what it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitloupe_quant::exec::reference::Reference;
use bitloupe_quant::exec::{Cancel, Engine, NoTap, Quantization, Value};
use bitloupe_quant::graph::{Graph, Op, RewriteKind};
use candle_core::{DType, Device};

use crate::fixture::{Fixture, Run};

/// Inputs of the graph with the tensors of the fixture.
type Given<'a> = [(&'a str, &'a str)];

const PIXELS: &Given<'_> = &[("pixel_values", "pixel_values")];
const TEXT: &Given<'_> =
    &[("pixel_values", "pixel_values"), ("input_ids", "input_ids"), ("attention_mask", "attention_mask")];
const BERT: &Given<'_> =
    &[("input_ids", "input_ids"), ("attention_mask", "attention_mask"), ("token_type_ids", "token_type_ids")];
const DETR: &Given<'_> = &[("pixel_values", "pixel_values"), ("pixel_mask", "pixel_mask")];
const SAM: &Given<'_> = &[
    ("pixel_values", "pixel_values"),
    ("input_points", "input_points"),
    ("input_labels", "input_labels"),
    ("input_boxes", "input_boxes"),
];

/// Numbers from 0 to 1 that repeat nothing.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }
}

/// How often a rewrite fits.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    /// LayerNorms that feed linear layers alone; smoothing fits at the same.
    norms: usize,
    /// Products of queries and keys.
    products: usize,
    /// BatchNorms.
    batchnorms: usize,
}

/// All outputs of a graph on a sample, one after another.
fn outputs(graph: Graph, inputs: &[Value]) -> Vec<f32> {
    let engine = Engine::new(Arc::new(graph));
    let none = Quantization::none(engine.graph());
    let run = engine.run(inputs, &none, None, &mut NoTap, &Cancel::default()).unwrap();
    run.outputs.iter().flat_map(|value| value.as_slice().to_vec()).collect()
}

/// What f32 costs: the largest distance of the outputs from those in f64, at least half a unit in the last place of the
/// largest output.
fn rounding(run: &Run, found: &[f32]) -> f32 {
    let graph = &run.model.graph;
    let values = Reference::new(graph, Device::Cpu, DType::F64).run(&run.inputs[0]).unwrap();
    let exact = graph
        .outputs()
        .iter()
        .flat_map(|(_, node)| values[node.index()].flatten_all().unwrap().to_vec1::<f64>().unwrap());
    let least = found.iter().fold(0.0_f32, |most, x| most.max(x.abs())) * 0.5 * f32::EPSILON;
    found.iter().zip(exact).map(|(x, exact)| (f64::from(*x) - exact).abs() as f32).fold(least, f32::max)
}

/// Numbers that a calibration could give: scales over a factor of 16, shifts of the size of a deviation, signs.
fn vectors(
    graph: &Graph,
    kind: RewriteKind,
    node: &str,
    numbers: &mut Numbers,
) -> BTreeMap<String, Vec<f32>> {
    let id = graph.find(node).unwrap();
    let channels = graph.node(id).shape.last().copied().unwrap();
    let mut of = |n: usize, f: &dyn Fn(f32) -> f32| (0..n).map(|_| f(numbers.next())).collect::<Vec<f32>>();
    match kind {
        RewriteKind::NormReparameterization | RewriteKind::Smoothing => [
            ("scale".to_owned(), of(channels, &|x| (4.0 * x - 2.0).exp2())),
            ("shift".to_owned(), of(channels, &|x| 2.0 * x - 1.0)),
        ]
        .into(),
        RewriteKind::SignFolding => {
            let key = graph.key_projection(id).unwrap();
            let channels = graph.weight_of(key).unwrap().shape[0];
            [("sign".to_owned(), of(channels, &|x| if x < 0.5 { -1.0 } else { 1.0 }))].into()
        }
        RewriteKind::BatchNormFolding => BTreeMap::new(),
    }
}

/// Applies every rewrite at all of its places at once.
fn check(name: &str, given: &Given<'_>, expected: &Places) {
    let run = Fixture::open(name).run(given);
    let base = &*run.model.graph;
    let before = outputs(base.clone(), &run.inputs[0]);
    let unit = rounding(&run, &before);
    let mut numbers = Numbers(11);
    let mut counted = Vec::new();
    for &kind in RewriteKind::ALL {
        let places = base.rewritable(kind);
        counted.push(places.len());
        let mut graph = base.clone();
        for place in &places {
            let node = &base.node(*place).name;
            let vectors = vectors(&graph, kind, node, &mut numbers);
            graph = graph.rewritten(kind, node, &vectors).unwrap_or_else(|e| panic!("{name}: {e}")).graph;
        }
        if places.is_empty() {
            continue;
        }
        let differs = base.params().iter().zip(graph.params()).any(|(a, b)| a.data != b.data);
        assert!(differs, "{name}: {kind} changed no weight");
        let after = outputs(graph, &run.inputs[0]);
        assert_eq!(before.len(), after.len());
        let gap = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}, {kind} at {} places: {gap:e}, {:.1} of what f32 costs", places.len(), gap / unit);
        // Rewritten weights are rounded once more, and sums run over other numbers.
        assert!(gap <= 8.0 * unit, "{name}, {kind}: outputs moved by {gap:e}, f32 costs {unit:e}");
    }
    let batchnorms = base.nodes().iter().filter(|node| matches!(node.op, Op::BatchNorm { .. })).count();
    assert_eq!(batchnorms, expected.batchnorms, "{name}");
    let found = Places { norms: counted[0], products: counted[2], batchnorms: counted[3] };
    assert_eq!(counted[0], counted[1], "{name}");
    assert_eq!(&found, expected, "{name}");
}

#[test]
fn vit_deit_and_yolos() {
    for name in ["vit_tiny_hf", "vit_tiny_timm"] {
        check(name, PIXELS, &Places { norms: 5, products: 2, batchnorms: 0 });
    }
    for name in ["deit_dist_tiny_hf", "deit_dist_tiny_timm"] {
        check(name, PIXELS, &Places { norms: 5, products: 2, batchnorms: 0 });
    }
    for name in ["yolos_tiny", "yolos_mid_tiny"] {
        check(name, PIXELS, &Places { norms: 6, products: 3, batchnorms: 0 });
    }
}

#[test]
fn swin() {
    for name in ["swin_tiny_hf", "swin_tiny_timm", "swin_tiny_original"] {
        check(name, PIXELS, &Places { norms: 12, products: 5, batchnorms: 0 });
    }
}

/// Every LayerNorm of an encoder also feeds the residual; the one of the head feeds a linear layer whose weight is the
/// embedding.
#[test]
fn bert() {
    check("bert_tiny_hf", BERT, &Places { norms: 0, products: 2, batchnorms: 0 });
    check("bert_bare_tiny_hf", BERT, &Places { norms: 0, products: 2, batchnorms: 0 });
}

#[test]
fn clip_and_clipseg() {
    check("clip_tiny", TEXT, &Places { norms: 9, products: 4, batchnorms: 0 });
    for name in ["clipseg_tiny", "clipseg_simple_tiny"] {
        check(name, TEXT, &Places { norms: 13, products: 9, batchnorms: 0 });
    }
}

#[test]
fn sam() {
    check("sam_tiny", SAM, &Places { norms: 7, products: 7, batchnorms: 0 });
    check("mobile_sam_tiny", SAM, &Places { norms: 9, products: 11, batchnorms: 18 });
}

#[test]
fn detr() {
    check("detr_tiny_hf", DETR, &Places { norms: 1, products: 6, batchnorms: 16 });
    check("detr_tiny_timm", DETR, &Places { norms: 1, products: 6, batchnorms: 29 });
}

#[test]
fn lavt() {
    check("lavt_one_tiny", TEXT, &Places { norms: 19, products: 14, batchnorms: 6 });
}
