//! Results stay the same; what does not fit is refused.

use super::RewriteKind;
use crate::exec::{Cancel, Engine, NoTap, Quantization, Value};
use crate::graph::{Graph, Op, Param};
use crate::models::{ModelFiles, open};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn fixture() -> Graph {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lavt_one_tiny");
    open(&ModelFiles::Path(folder), None).unwrap().graph.as_ref().clone()
}

/// Numbers that repeat nothing.
fn noise(seed: &mut u32) -> f32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*seed >> 8) as f32 / (1 << 24) as f32
}

fn logits(graph: Graph) -> Vec<f32> {
    let engine = Engine::new(Arc::new(graph));
    let graph = engine.graph();
    let mut seed = 7;
    let inputs: Vec<Value> = graph
        .inputs()
        .iter()
        .map(|&id| {
            let node = graph.node(id);
            let value = |_| match node.name.as_str() {
                "pixel_values" => noise(&mut seed) * 4.0 - 2.0,
                "input_ids" => (noise(&mut seed) * 50.0).floor() + 1.0,
                _ => 1.0,
            };
            Value::new(node.shape.clone(), (0..node.shape.iter().product()).map(value).collect())
        })
        .collect();
    let run = engine.run(&inputs, &Quantization::none(graph), None, &mut NoTap, &Cancel::default()).unwrap();
    run.outputs[0].as_slice().to_vec()
}

fn vectors(graph: &Graph, kind: RewriteKind, node: &str) -> BTreeMap<String, Vec<f32>> {
    let mut seed = node.len() as u32 + 3;
    let id = graph.find(node).unwrap();
    let channels = graph.node(id).shape.last().copied().unwrap();
    let of = |n: usize, f: &mut dyn FnMut() -> f32| (0..n).map(|_| f()).collect::<Vec<f32>>();
    match kind {
        RewriteKind::NormReparameterization | RewriteKind::Smoothing => [
            ("scale".to_owned(), of(channels, &mut || 0.25 + 3.0 * noise(&mut seed))),
            ("shift".to_owned(), of(channels, &mut || noise(&mut seed) - 0.5)),
        ]
        .into(),
        RewriteKind::SignFolding => {
            let key = graph.key_projection(id).unwrap();
            let n = graph.weight_of(key).unwrap().shape[0];
            [("sign".to_owned(), of(n, &mut || if noise(&mut seed) > 0.5 { 1.0 } else { -1.0 }))].into()
        }
        RewriteKind::BatchNormFolding => BTreeMap::new(),
    }
}

#[test]
fn every_rewrite_everywhere_leaves_the_logits_as_they_were() {
    let base = fixture();
    let expected = logits(base.clone());
    let largest = expected.iter().fold(0.0_f32, |a, x| a.max(x.abs()));
    for &kind in RewriteKind::ALL {
        let places = base.rewritable(kind);
        assert!(!places.is_empty(), "{kind} fits nowhere");
        let mut graph = base.clone();
        for &place in &places {
            let name = base.node(place).name.clone();
            let made = graph.rewritten(kind, &name, &vectors(&graph, kind, &name)).unwrap();
            assert!(made.changed.iter().any(|&changed| changed), "{name}");
            graph = made.graph;
        }
        let params = graph.params().to_vec();
        let found = logits(graph);
        let gap = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(gap <= 2e-4 * largest, "{kind} at {} places: {gap:e} of {largest}", places.len());
        let differs = |(a, b): (&Param, &Param)| a.data != b.data;
        assert!(base.params().iter().zip(&params).any(differs), "{kind} changed nothing");
    }
}

#[test]
fn patterns_are_where_they_should_be() {
    let graph = fixture();
    let names = |kind| -> Vec<String> {
        graph.rewritable(kind).into_iter().map(|id| graph.node(id).name.clone()).collect()
    };
    let norms = names(RewriteKind::NormReparameterization);
    assert!(norms.iter().any(|n| n.ends_with("blocks.0.norm1")), "{norms:?}");
    assert!(norms.iter().any(|n| n.ends_with("blocks.1.norm2")), "{norms:?}");
    assert!(norms.iter().any(|n| n.ends_with("downsample.norm")), "{norms:?}");
    // Post-norm layers of BERT also feed the residual.
    assert!(!norms.iter().any(|n| n.contains("attention.output.LayerNorm")), "{norms:?}");
    let products = names(RewriteKind::SignFolding);
    let all = graph.layers().iter().filter(|l| l.name.rsplit('.').next() == Some("qk")).count();
    assert_eq!(products.len(), all, "{products:?}");
    let folded = names(RewriteKind::BatchNormFolding);
    let batchnorms = graph.nodes().iter().filter(|n| matches!(n.op, Op::BatchNorm { .. })).count();
    assert_eq!(folded.len(), batchnorms);
}

#[test]
fn what_does_not_fit_is_refused() {
    let graph = fixture();
    let norm = graph.node(graph.rewritable(RewriteKind::Smoothing)[0]).name.clone();
    let refused = |kind, node: &str, vectors: &[(&str, Vec<f32>)]| {
        let vectors = vectors.iter().map(|(name, v)| ((*name).to_owned(), v.clone())).collect();
        graph.rewritten(kind, node, &vectors).unwrap_err().to_string()
    };
    let width = graph.node(graph.find(&norm).unwrap()).shape.last().copied().unwrap();
    assert!(refused(RewriteKind::Smoothing, "nowhere", &[]).contains("no such node"));
    assert!(refused(RewriteKind::Smoothing, &norm, &[]).contains("no `scale`"));
    assert!(refused(RewriteKind::Smoothing, &norm, &[("scale", vec![1.0; 3])]).contains("expected"));
    assert!(refused(RewriteKind::Smoothing, &norm, &[("scale", vec![0.0; width])]).contains("not zero"));
    assert!(refused(RewriteKind::Smoothing, &norm, &[("scale", vec![1e-45; width])]).contains("finite"));
    assert!(refused(RewriteKind::BatchNormFolding, &norm, &[]).contains("no BatchNorm"));
}
