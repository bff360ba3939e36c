//! Sequences of nodes that run as one, and values written over, change no bit of a result.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bitloupe_quant::exec::{ActivationCache, Cancel, Engine, NoTap, Quantization, Tap, Value};
use bitloupe_quant::graph::{Graph, NodeId};
use bitloupe_quant::models::{ModelFiles, open};
use bitloupe_quant::quantizer::{Distribution, Family, Params, RangeSearch, Scheme, quantizer};
use bitloupe_quant::terms::{Bits, Role};

/// Sees every value, so nothing runs as one; keeps them if told to.
struct Everything(Option<HashMap<usize, Value>>);

impl Tap for Everything {
    fn wants(&self, _: NodeId) -> bool {
        true
    }

    fn value(&mut self, node: NodeId, value: &Value) {
        if let Some(kept) = &mut self.0 {
            kept.insert(node.index(), value.clone());
        }
    }
}

/// Noise for pictures, small numbers for words, ones for masks.
fn inputs(graph: &Graph) -> Vec<Value> {
    let value = |id: &NodeId| {
        let node = graph.node(*id);
        let len: usize = node.shape.iter().product();
        let number = |i: usize| match node.name.as_str() {
            "pixel_values" => (i as f32 * 0.37).sin() * 2.0,
            "input_ids" => (i % 7) as f32,
            _ => 1.0,
        };
        Value::new(node.shape.clone(), (0..len).map(number).collect())
    };
    graph.inputs().iter().map(value).collect()
}

/// Another kind of grid at every site.
fn grids(graph: &Graph, values: &HashMap<usize, Value>) -> Vec<Option<Arc<Params>>> {
    let uniform = Scheme::new(Family::Uniform, RangeSearch::MinMax);
    let fit = |(at, site): (usize, &bitloupe_quant::graph::Site)| {
        let scheme = match (site.role, at % 4) {
            (Role::PostSoftmax, _) => Scheme::new(Family::LogSqrt2, RangeSearch::MinMax),
            (_, 0) => uniform.clone(),
            (_, 1) => uniform.clone().symmetric(),
            (_, 2) => uniform.clone().per_channel(),
            _ => return None,
        };
        let values = match site.operand {
            Some(operand) => values[&graph.node(site.node).inputs[operand].index()].as_slice(),
            None => &graph.weight_of(site.node).unwrap().data,
        };
        let data = Distribution::Raw { values, layout: site.layout };
        Some(Arc::new(quantizer(scheme.family).fit(&data, &scheme, Bits::new(4).unwrap()).unwrap()))
    };
    graph.sites().iter().enumerate().map(fit).collect()
}

#[test]
fn results_do_not_depend_on_what_is_seen_kept_or_run_as_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lavt_one_tiny");
    let model = open(&ModelFiles::Path(folder), None).unwrap();
    let engine = Engine::new(model.graph.clone());
    let graph = &*model.graph;
    let given = inputs(graph);
    let none = Quantization::none(graph);
    let mut kept = Everything(Some(HashMap::new()));
    engine.run(&given, &none, None, &mut kept, &Cancel::default()).unwrap();
    let quantized = Quantization::new(&engine, &grids(graph, &kept.0.unwrap())).unwrap();

    for quantization in [&none, &quantized] {
        let cancel = Cancel::default();
        let run = |cache: Option<&ActivationCache>, tap: &mut dyn Tap| {
            let run = engine.run(&given, quantization, cache, tap, &cancel).unwrap();
            let bits: Vec<u32> = run.outputs.iter().flat_map(Value::as_slice).map(|x| x.to_bits()).collect();
            (bits, run.nodes_run)
        };
        let (expected, nodes) = run(None, &mut Everything(Some(HashMap::new())));
        assert_eq!(run(None, &mut Everything(None)), (expected.clone(), nodes));
        assert_eq!(run(None, &mut NoTap), (expected.clone(), nodes));
        assert_eq!(run(None, &mut NoTap), (expected.clone(), nodes), "with buffers of the run before");
        let cache = ActivationCache::new(1 << 30);
        assert_eq!(run(Some(&cache), &mut NoTap), (expected.clone(), nodes));
        assert_eq!(run(Some(&cache), &mut NoTap), (expected.clone(), 0), "all kept");
        let small = ActivationCache::new(1 << 18);
        for _ in 0..3 {
            assert_eq!(run(Some(&small), &mut NoTap).0, expected, "some dropped");
        }
    }
}
