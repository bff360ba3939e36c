//! After an edit only the nodes it reaches run, and nobody can tell from the results.

use bitloupe_quant::method::MethodBits;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitloupe_quant::exec::{
    ActivationCache, Cancel, Engine, ExecError, Keep, NoTap, Quantization, Run, Tap, Value,
};
use bitloupe_quant::graph::{Graph, Node, NodeId, Op};
use bitloupe_quant::models::{Model, ModelFiles, open};
use bitloupe_quant::quantizer::{Distribution, Family, Params, RangeSearch, Scheme, quantizer};
use bitloupe_quant::session::{Options, Session};
use bitloupe_quant::terms::{Bits, Slot};
use safetensors::SafeTensors;

type Sites = Vec<Option<Arc<Params>>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lavt_one_tiny")
}

fn model() -> Model {
    open(&ModelFiles::Path(folder()), None).unwrap()
}

/// The recorded inputs of sample `image`, with the words of sample `words`.
fn inputs(graph: &Graph, image: usize, words: usize) -> Vec<Value> {
    let bytes = std::fs::read(folder().join("inputs.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let of = |id: &NodeId| {
        let node = graph.node(*id);
        let data = file.tensor(&node.name).unwrap();
        let len: usize = node.shape.iter().product();
        let (bytes, sample) = (data.data(), if node.name == "pixel_values" { image } else { words });
        let all: Vec<f32> = if node.name == "pixel_values" {
            bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        } else {
            bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect()
        };
        Value::new(node.shape.clone(), all[sample * len..][..len].to_vec())
    };
    graph.inputs().iter().map(of).collect()
}

/// Keeps the values of all operands of layers.
struct Operands<'g>(&'g Graph, Vec<Option<Value>>);

impl Tap for Operands<'_> {
    fn wants(&self, node: NodeId) -> bool {
        self.0.sites().iter().any(|s| s.operand.is_some_and(|i| self.0.node(s.node).inputs[i] == node))
    }

    fn value(&mut self, node: NodeId, value: &Value) {
        self.1[node.index()] = Some(value.clone());
    }
}

/// Every site at some bits, fitted on one sample.
fn fitted(engine: &Engine, bits: u8) -> Sites {
    let graph = engine.graph();
    let mut tap = Operands(graph, vec![None; graph.nodes().len()]);
    engine.run(&inputs(graph, 0, 0), &Quantization::none(graph), None, &mut tap, &Cancel::default()).unwrap();
    (0..graph.sites().len()).map(|site| Some(fit(graph, &tap.1, site, bits))).collect()
}

fn fit(graph: &Graph, values: &[Option<Value>], site: usize, bits: u8) -> Arc<Params> {
    let s = &graph.sites()[site];
    let scheme = Scheme::new(Family::Uniform, RangeSearch::MinMax);
    let data = match s.operand {
        None => graph.weight_of(s.node).unwrap().data.to_vec(),
        Some(i) => values[graph.node(s.node).inputs[i].index()].as_ref().unwrap().as_slice().to_vec(),
    };
    let data = Distribution::Raw { values: &data, layout: s.layout };
    Arc::new(quantizer(scheme.family).fit(&data, &scheme, Bits::new(bits).unwrap()).unwrap())
}

/// A finer or coarser grid for one site.
fn changed(sites: &Sites, site: usize) -> Sites {
    let mut sites = sites.clone();
    let mut params = sites[site].as_deref().unwrap().clone();
    for scale in &mut params.scale {
        *scale *= 1.25;
    }
    sites[site] = Some(Arc::new(params));
    sites
}

/// Whether a node is computed at all: results need it, and it is no constant or input.
fn computed(graph: &Graph) -> Vec<bool> {
    let mut needed = vec![false; graph.nodes().len()];
    for (_, id) in graph.outputs() {
        needed[id.index()] = true;
    }
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        if needed[index] {
            for id in &node.inputs {
                needed[id.index()] = true;
            }
        }
    }
    let given = |node: &Node| matches!(node.op, Op::Input | Op::Constant(_));
    graph.nodes().iter().zip(needed).map(|(node, needed)| needed && !given(node)).collect()
}

/// How many nodes are computed in all.
fn all(graph: &Graph) -> usize {
    computed(graph).into_iter().filter(|&computed| computed).count()
}

/// How many of the computed nodes are among these or can be reached from them.
fn downstream(graph: &Graph, from: &[NodeId]) -> usize {
    let mut reached = vec![false; graph.nodes().len()];
    for id in from {
        reached[id.index()] = true;
    }
    for (index, node) in graph.nodes().iter().enumerate() {
        reached[index] |= node.inputs.iter().any(|input| reached[input.index()]);
    }
    reached.into_iter().zip(computed(graph)).filter(|&(reached, computed)| reached && computed).count()
}

fn run(engine: &Engine, given: &[Value], sites: &Sites, cache: Option<&ActivationCache>) -> Run {
    let quantization = Quantization::new(engine, sites).unwrap();
    engine.run(given, &quantization, cache, &mut NoTap, &Cancel::default()).unwrap()
}

#[track_caller]
fn same_bits(a: &Run, b: &Run, what: &str) {
    for (a, b) in a.outputs.iter().zip(&b.outputs) {
        assert!(a.as_slice().iter().zip(b.as_slice()).all(|(a, b)| a.to_bits() == b.to_bits()), "{what}");
        assert_eq!(a.shape(), b.shape(), "{what}");
    }
}

#[test]
fn an_edit_runs_what_it_reaches_and_undoing_it_runs_nothing() {
    let model = model();
    let engine = Engine::new(model.graph.clone());
    let graph = &*model.graph;
    let given = inputs(graph, 0, 0);
    let base = fitted(&engine, 4);
    let cache = ActivationCache::new(usize::MAX);
    let first = run(&engine, &given, &base, Some(&cache));
    assert_eq!(first.nodes_run, all(graph));
    same_bits(&first, &run(&engine, &given, &base, None), "with an empty cache");
    let mut counts = HashSet::new();
    for (index, site) in graph.sites().iter().enumerate() {
        let edited = changed(&base, index);
        let after = run(&engine, &given, &edited, Some(&cache));
        assert_eq!(after.nodes_run, downstream(graph, &[site.node]), "{}", site.id);
        counts.insert(after.nodes_run);
        same_bits(&after, &run(&engine, &given, &edited, None), &site.id.to_string());
        let undone = run(&engine, &given, &base, Some(&cache));
        assert_eq!(undone.nodes_run, 0, "undoing {}", site.id);
        same_bits(&undone, &first, &site.id.to_string());
    }
    assert!(counts.len() > 20, "sites all over the model differ in what they reach: {counts:?}");
    // Float again is an edit like any other.
    let mut float = base.clone();
    let last = graph.sites().len() - 1;
    float[last] = None;
    let after = run(&engine, &given, &float, Some(&cache));
    assert_eq!(after.nodes_run, downstream(graph, &[graph.sites()[last].node]));
}

#[test]
fn a_run_from_a_baseline_runs_what_the_edit_reaches() {
    let model = model();
    let engine = Engine::new(model.graph.clone());
    let graph = &*model.graph;
    let (given, none) = (inputs(graph, 0, 0), Quantization::none(graph));
    let (cancel, everything) = (Cancel::default(), Keep::within(graph, usize::MAX));
    let (first, baseline) = engine.baseline(&given, &none, &everything, &mut NoTap, &cancel).unwrap();
    assert_eq!(first.nodes_run, all(graph));
    assert!(baseline.bytes() <= everything.bytes());
    let base = fitted(&engine, 4);
    for (index, site) in graph.sites().iter().enumerate() {
        let only: Sites = (0..base.len()).map(|i| base[i].clone().filter(|_| i == index)).collect();
        let quantization = Quantization::new(&engine, &only).unwrap();
        let after = engine.run_from(&baseline, &quantization, &mut NoTap, &cancel).unwrap();
        assert_eq!(after.nodes_run, downstream(graph, &[site.node]), "{}", site.id);
        same_bits(&after, &run(&engine, &given, &only, None), &site.id.to_string());
    }
    let same = engine.run_from(&baseline, &none, &mut NoTap, &cancel).unwrap();
    assert_eq!(same.nodes_run, 0);
    same_bits(&same, &first, "nothing changed");
}

#[test]
fn a_baseline_goes_along_with_edits_under_any_cap() {
    let model = model();
    let engine = Engine::new(model.graph.clone());
    let graph = &*model.graph;
    let given = inputs(graph, 1, 0);
    let cancel = Cancel::default();
    let mut sites = fitted(&engine, 4);
    for cap in [0, 100_000, 1_000_000, usize::MAX] {
        let keep = Keep::within(graph, cap);
        assert!(keep.bytes() <= cap);
        let quantization = Quantization::new(&engine, &sites).unwrap();
        let (_, mut baseline) = engine.baseline(&given, &quantization, &keep, &mut NoTap, &cancel).unwrap();
        for index in (0..sites.len()).step_by(11) {
            sites = changed(&sites, index);
            let quantization = Quantization::new(&engine, &sites).unwrap();
            let after = engine.advance(&mut baseline, &quantization, &keep, &cancel).unwrap();
            let whole = run(&engine, &given, &sites, None);
            same_bits(&after, &whole, &graph.sites()[index].id.to_string());
            assert!(baseline.bytes() <= cap, "{} of {cap}", baseline.bytes());
            // No value keeps more alive than is counted.
            let inputs: HashSet<usize> = baseline.inputs().iter().map(Value::buffer).collect();
            let alive: HashMap<usize, usize> = baseline
                .values()
                .filter(|value| !inputs.contains(&value.buffer()))
                .map(|value| (value.buffer(), value.buffer_bytes()))
                .collect();
            assert!(alive.values().sum::<usize>() <= baseline.bytes(), "{} of {cap}", baseline.bytes());
            if cap == usize::MAX {
                assert_eq!(after.nodes_run, downstream(graph, &[graph.sites()[index].node]));
            }
            // Nothing is left to do, whatever was kept is still right.
            let again = engine.run_from(&baseline, &quantization, &mut NoTap, &cancel).unwrap();
            same_bits(&again, &whole, "again");
        }
    }
}

#[test]
fn another_sentence_runs_only_what_words_reach() {
    let model = model();
    let engine = Engine::new(model.graph.clone());
    let graph = &*model.graph;
    let sites = fitted(&engine, 6);
    let cache = ActivationCache::new(usize::MAX);
    run(&engine, &inputs(graph, 0, 0), &sites, Some(&cache));
    let other = run(&engine, &inputs(graph, 0, 1), &sites, Some(&cache));
    let words: Vec<NodeId> =
        graph.inputs().iter().copied().filter(|id| graph.node(*id).name != "pixel_values").collect();
    assert_eq!(other.nodes_run, downstream(graph, &words));
    assert!(other.nodes_run < all(graph), "the first stage needs the picture alone");
    same_bits(&other, &run(&engine, &inputs(graph, 0, 1), &sites, None), "another sentence");
    // And back.
    assert_eq!(run(&engine, &inputs(graph, 0, 0), &sites, Some(&cache)).nodes_run, 0);
}

#[test]
fn a_small_cache_keeps_its_cap_and_gives_the_same_results() {
    let model = model();
    let engine = Engine::new(model.graph.clone());
    let graph = &*model.graph;
    let base = fitted(&engine, 4);
    let cache = ActivationCache::new(200_000);
    let mut reused = 0;
    for (step, index) in (0..graph.sites().len()).step_by(7).enumerate() {
        let (given, sites) = (inputs(graph, step % 2, 0), changed(&base, index));
        let cached = run(&engine, &given, &sites, Some(&cache));
        assert!(cache.bytes() <= cache.cap(), "{} of {}", cache.bytes(), cache.cap());
        same_bits(&cached, &run(&engine, &given, &sites, None), &graph.sites()[index].id.to_string());
        reused += cached.nodes_reused;
    }
    assert!(reused > 0 && cache.bytes() > 0);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let model = model();
    let engine = Engine::new(model.graph.clone());
    let graph = &*model.graph;
    let sites = fitted(&engine, 5);
    let given = inputs(graph, 1, 1);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&engine, &given, &sites, None))
    };
    let one = with(1);
    for threads in [2, 3, 5] {
        same_bits(&with(threads), &one, &format!("{threads} threads"));
    }
}

#[test]
fn a_cancelled_run_stops_and_leaves_the_engine_usable() {
    /// Asks to stop when it has seen some values.
    struct Stop<'c>(&'c Cancel, usize);
    impl Tap for Stop<'_> {
        fn wants(&self, _: NodeId) -> bool {
            true
        }
        fn value(&mut self, _: NodeId, _: &Value) {
            self.1 += 1;
            if self.1 == 40 {
                self.0.cancel();
            }
        }
    }
    let model = model();
    let engine = Engine::new(model.graph.clone());
    let graph = &*model.graph;
    let (given, sites) = (inputs(graph, 0, 0), fitted(&engine, 4));
    let expected = run(&engine, &given, &sites, None);
    let (cache, cancel) = (ActivationCache::new(usize::MAX), Cancel::default());
    let mut tap = Stop(&cancel, 0);
    let quantization = Quantization::new(&engine, &sites).unwrap();
    let stopped = engine.run(&given, &quantization, Some(&cache), &mut tap, &cancel);
    assert!(matches!(stopped, Err(ExecError::Cancelled)));
    assert_eq!(tap.1, 40, "nothing runs after the request");
    same_bits(&run(&engine, &given, &sites, Some(&cache)), &expected, "after a cancelled run");
}

/// A session over a sample set with copies of the fixture's pictures.
fn session(dir: &Path, samples: usize) -> Session {
    let mut manifest = String::new();
    for i in 0..samples {
        let file = format!("{i}.png");
        std::fs::copy(folder().join(format!("image{}.png", i % 2)), dir.join(&file)).unwrap();
        manifest.push_str(&format!(
            "{{\"image\":\"{file}\",\"text\":\"the dog on the left\",\"mask\":[[5,5,40,5,40,40]]}}\n"
        ));
    }
    std::fs::write(dir.join("samples.jsonl"), manifest).unwrap();
    let set = Some(dir.to_owned());
    let options = Options {
        calibration: set.clone(),
        samples: set,
        threads: Some(2),
        ..Options::new(ModelFiles::Path(folder()))
    };
    Session::open(&options).unwrap()
}

#[test]
fn a_session_shows_edits_incrementally() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), 2);
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    let four = Bits::new(4).unwrap();
    let plan = session.method_plan("minmax", &MethodBits::new(four, four)).unwrap();
    let show = |plan: &_, text: Option<&str>| {
        let fitted = session.fit_plan(plan).unwrap();
        session.show(1, 0, text, &fitted, &Cancel::default()).unwrap()
    };
    let first = show(&plan, None);
    assert_eq!(show(&plan, None).nodes_run, 0);
    let graph = session.model().graph.clone();
    let site = graph.sites().iter().rev().find(|s| s.id.slot == Slot::Input).unwrap();
    let mut edited = plan.clone();
    edited.set(&site.id, Some(bitloupe_quant::plan::SitePlan::Float));
    assert_eq!(show(&edited, None).nodes_run, downstream(&graph, &[site.node]));
    let undone = show(&plan, None);
    assert_eq!(undone.nodes_run, 0);
    assert_eq!(undone.quantized, first.quantized);
    let other = show(&plan, Some("two zebras"));
    assert!(other.nodes_run > 0 && other.nodes_run < all(&graph));
    assert!(other.quantized_score.is_none(), "the truth belongs to the sample's own sentence");
    let (used, cap) = session.cache_use();
    assert!(used > 0 && used <= cap);
}

#[test]
fn cancelled_jobs_of_a_session_return_at_once_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path(), 40);
    let stop = |cancel: &Cancel, done: usize| {
        if done >= 3 {
            cancel.cancel();
        }
    };
    // Calibration: stopped after the first samples (they run in groups), nothing is kept; then all of it.
    let (cancel, mut last, start) = (Cancel::default(), 0, Instant::now());
    let stopped = session.calibrate(&cancel, |done, _| {
        last = done;
        stop(&cancel, done);
    });
    assert!(stopped.unwrap_err().is_cancelled());
    assert!(last < 36, "{last} samples ran after the request");
    assert!(session.stats().is_none());
    session.calibrate(&Cancel::default(), |_, _| {}).unwrap();
    let whole = start.elapsed();
    let eight = Bits::new(8).unwrap();
    let fitted =
        session.fit_plan(&session.method_plan("minmax", &MethodBits::new(eight, eight)).unwrap()).unwrap();
    let (cancel, start) = (Cancel::default(), Instant::now());
    let stopped = session.evaluate(&fitted, &cancel, |done, _, _| stop(&cancel, done));
    assert!(stopped.unwrap_err().is_cancelled());
    assert!(start.elapsed() < whole + Duration::from_secs(5));
    let cancelled = Cancel::default();
    cancelled.cancel();
    assert!(session.show(1, 0, None, &fitted, &cancelled).unwrap_err().is_cancelled());
    let all = session.evaluate(&fitted, &Cancel::default(), |_, _, _| {}).unwrap();
    assert_eq!(all.samples, 40);
}
