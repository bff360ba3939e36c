//! On the bundled model: one layer changed re-runs only what it reaches, and gives the bits of a whole run.

mod support;

use bitloupe_quant::exec::{Cancel, Keep, NoTap};
use bitloupe_quant::graph::{Graph, NodeId, Op};
use bitloupe_quant::method::MethodBits;
use bitloupe_quant::models::ModelFiles;
use bitloupe_quant::plan::SitePlan;
use bitloupe_quant::session::{Options, Session};
use bitloupe_quant::terms::Bits;
use std::collections::HashSet;
use std::path::PathBuf;

fn session(calibration: PathBuf) -> Session {
    let bundled = &bitloupe_samples::bundled()[0];
    let (name, label, files) = (bundled.name, bundled.label, bundled.files);
    let model = ModelFiles::Embedded { name, label, files, replace: bundled.replacements().unwrap() };
    Session::open(&Options { calibration: Some(calibration), threads: Some(2), ..Options::new(model) })
        .unwrap()
}

/// How many nodes that results need can be reached from one, itself among them.
fn reached_from(graph: &Graph, from: NodeId) -> usize {
    let mut needed = vec![false; graph.nodes().len()];
    for (_, id) in graph.outputs() {
        needed[id.index()] = true;
    }
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        if needed[index] {
            node.inputs.iter().for_each(|input| needed[input.index()] = true);
        }
    }
    let mut reached = vec![false; graph.nodes().len()];
    reached[from.index()] = true;
    for (index, node) in graph.nodes().iter().enumerate() {
        reached[index] |= node.inputs.iter().any(|input| reached[input.index()]);
    }
    let computed = |index: usize| !matches!(graph.nodes()[index].op, Op::Input | Op::Constant(_));
    (0..reached.len()).filter(|&index| reached[index] && needed[index] && computed(index)).count()
}

#[test]
fn an_edit_of_a_layer_runs_what_it_reaches() {
    let dir = support::folder();
    let session = session(support::sample_set(dir.path(), "calibration", &[0, 1]));
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    let (graph, engine, cancel) = (session.model().graph.clone(), session.engine(), Cancel::default());
    let plan = session.method_plan("percentile", &MethodBits::new(Bits::EIGHT, Bits::EIGHT)).unwrap();
    let inputs = session.inputs(session.samples().unwrap(), 5).unwrap();
    let base = session.quantization(&session.fit_plan(&plan).unwrap()).unwrap();
    let keep = Keep::within(&graph, usize::MAX);
    let (_, baseline) = engine.baseline(&inputs, &base, &keep, &mut NoTap, &cancel).unwrap();
    let four = Bits::new(4).unwrap();
    let mut counts = HashSet::new();
    // Every third layer, the first and the last parts of the model among them: all of them take long.
    for layer in graph.layers().iter().step_by(3) {
        let mut edited = plan.clone();
        for &site in &layer.sites {
            let id = &graph.sites()[site].id;
            if let Some(SitePlan::Quantized { scheme, .. }) = plan.site(id) {
                edited.set(id, Some(SitePlan::unfitted(scheme.clone(), four)));
            }
        }
        let quantization = session.quantization(&session.fit_plan(&edited).unwrap()).unwrap();
        let after = engine.run_from(&baseline, &quantization, &mut NoTap, &cancel).unwrap();
        assert_eq!(after.nodes_run, reached_from(&graph, layer.node), "{}", layer.name);
        counts.insert(after.nodes_run);
        let whole = engine.run(&inputs, &quantization, None, &mut NoTap, &cancel).unwrap();
        for (a, b) in after.outputs.iter().zip(&whole.outputs) {
            let same = a.as_slice().iter().zip(b.as_slice()).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same && a.shape() == b.shape(), "{}", layer.name);
        }
    }
    assert!(counts.len() > 25, "layers all over the model differ in what they reach: {}", counts.len());
}
