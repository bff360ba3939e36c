//! Rewrites leave the full precision of the bundled models as it was.

mod support;

use bitloupe_quant::exec::reference::Reference;
use bitloupe_quant::exec::{Cancel, Engine, NoTap, Quantization, Value};
use bitloupe_quant::graph::{Graph, RewriteKind};
use bitloupe_quant::method::MethodBits;
use bitloupe_quant::models::ModelFiles;
use bitloupe_quant::plan::Rewrite;
use bitloupe_quant::session::{Options, Session};
use bitloupe_quant::terms::Bits;
use candle_core::{DType, Device};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

fn open(name: &str, calibration: PathBuf) -> Session {
    let all = bitloupe_samples::bundled();
    let bundled = all.iter().find(|bundled| bundled.name == name).unwrap();
    let (name, label, files) = (bundled.name, bundled.label, bundled.files);
    let model = ModelFiles::Embedded { name, label, files, replace: bundled.replacements().unwrap() };
    Session::open(&Options { calibration: Some(calibration), threads: Some(2), ..Options::new(model) })
        .unwrap()
}

fn outputs(graph: &Arc<Graph>, inputs: &[Value]) -> Vec<f32> {
    let engine = Engine::new(Arc::clone(graph));
    let none = Quantization::none(engine.graph());
    let run = engine.run(inputs, &none, None, &mut NoTap, &Cancel::default()).unwrap();
    run.outputs.iter().flat_map(|value| value.as_slice().to_vec()).collect()
}

fn in_f64(graph: &Graph, inputs: &[Value]) -> Vec<f64> {
    let values = Reference::new(graph, Device::Cpu, DType::F64).run(inputs).unwrap();
    let of = |(_, node): &(String, bitloupe_quant::graph::NodeId)| {
        values[node.index()].flatten_all().unwrap().to_vec1::<f64>().unwrap()
    };
    graph.outputs().iter().flat_map(of).collect()
}

fn gap(found: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(found.len(), exact.len());
    found.iter().zip(exact).map(|(x, exact)| (f64::from(*x) - exact).abs()).fold(0.0, f64::max)
}

/// Every third channel of the keys turned round.
fn with_signs(graph: &Graph, rewrite: Rewrite) -> Rewrite {
    let key = graph.key_projection(graph.find(&rewrite.layer).unwrap()).unwrap();
    let signs = (0..graph.weight_of(key).unwrap().shape[0]).map(|c| if c % 3 == 0 { -1.0 } else { 1.0 });
    Rewrite { vectors: [("sign".to_owned(), signs.collect())].into(), ..rewrite }
}

/// Every rewrite at all of its places at once, with the numbers that the calibration gives.
fn check(name: &str) {
    let dir = support::folder();
    let session = open(name, support::sample_set(dir.path(), "calibration", &[0, 1, 2, 3]));
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    let base = Arc::clone(&session.model().graph);
    let inputs = session.inputs(session.samples().unwrap(), 3).unwrap();
    let exact = in_f64(&base, &inputs);
    let plain = gap(&outputs(&base, &inputs), &exact);
    for &kind in RewriteKind::ALL {
        // Factors are found for a site that is quantized.
        let bits = MethodBits::new(Bits::EIGHT, Bits::EIGHT);
        let mut plan = session.method_plan("percentile", &bits).unwrap();
        let open = |id| Rewrite {
            rewrite: kind.to_string(),
            layer: base.node(id).name.clone(),
            vectors: BTreeMap::new(),
        };
        plan.rewrites = base.rewritable(kind).into_iter().map(open).collect();
        let mut rewrites = session.fit_plan(&plan).unwrap().plan.rewrites.clone();
        if kind == RewriteKind::SignFolding {
            // Keys of one sign need no folding; any signs must do no harm.
            rewrites = plan.rewrites.into_iter().map(|rewrite| with_signs(&base, rewrite)).collect();
        }
        assert!(!rewrites.is_empty(), "{name}: {kind} fits nowhere");
        let mut graph = Graph::clone(&base);
        for rewrite in &rewrites {
            graph = graph.rewritten(kind, &rewrite.layer, &rewrite.vectors).unwrap().graph;
        }
        let found = gap(&outputs(&Arc::new(graph), &inputs), &exact);
        println!("{name}, {kind} at {} places: {found:e} from f64, {plain:e} before", rewrites.len());
        assert!(found <= 8.0 * plain, "{name}, {kind}: {found:e}, {plain:e} before");
    }
}

#[test]
fn the_bundled_model_stays_what_it_is() {
    check("lavt-mini");
}

#[test]
fn the_planted_model_stays_what_it_is() {
    check("lavt-mini-planted");
}
