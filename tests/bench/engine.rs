//! Forward passes against each other, and the kernels against candle's operations.

use bitloupe_quant::method::MethodBits;
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

use bitloupe_quant::exec::reference::Reference;
use bitloupe_quant::exec::{Cancel, NoTap, Quantization, Tap, Value};
use bitloupe_quant::graph::{Graph, NodeId, Op};
use bitloupe_quant::plan::{Plan, SitePlan};
use bitloupe_quant::quantizer::{Family, RangeSearch, Scheme};
use bitloupe_quant::session::Session;
use bitloupe_quant::terms::{Bits, Role};
use candle_core::{DType, Device, Tensor};

use super::timing::{Line, median, process_ms, thread_ms};
use super::{Lines, open};

/// Rounds of a comparison; each takes every side once.
const ROUNDS: usize = 15;
/// Samples that one round runs.
const SAMPLES: usize = 4;

/// A one-thread pool: all processor time is that of its thread.
fn alone() -> Result<rayon::ThreadPool, Box<dyn Error>> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(1).build()?)
}

/// Percentiles for activations, with grids of powers where values are probabilities.
fn mixed(session: &Session, bits: Bits) -> Option<Plan> {
    let mut plan = session.method_plan("percentile", &MethodBits::new(bits, bits))?;
    for site in session.model().graph.sites() {
        if site.role == Role::PostSoftmax {
            let scheme = Scheme::new(Family::LogSqrt2, RangeSearch::repq());
            plan.set(&site.id, Some(SitePlan::Quantized { scheme, bits, params: None }));
        }
    }
    Some(plan)
}

/// Fake-quantized passes and calibration against the plain pass.
pub fn forward() -> Lines {
    let session = open(1)?;
    let set = session.calibration().ok_or("no calibration set")?.clone();
    let inputs: Vec<Vec<Value>> = (0..SAMPLES).map(|i| session.inputs(&set, i)).collect::<Result<_, _>>()?;
    session.calibrate(&Cancel::default(), |_, _| {})?;
    let (four, eight) = (Bits::new(4)?, Bits::new(8)?);
    let plans = [
        ("W8A8 min–max", session.method_plan("minmax", &MethodBits::new(eight, eight))),
        ("W4A4 min–max", session.method_plan("minmax", &MethodBits::new(four, four))),
        ("W4A4 percentiles, log √2 after softmax", mixed(&session, four)),
    ];
    let mut sides = vec![("plain", Quantization::none(&session.model().graph))];
    for (name, plan) in plans {
        let fitted = session.fit_plan(&plan.ok_or("no such method")?)?;
        sides.push((name, session.quantization(&fitted)?));
    }
    let pool = alone()?;
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); sides.len()];
    for round in 0..=ROUNDS {
        for ((_, quantization), times) in sides.iter().zip(&mut times) {
            let pass = || {
                for x in &inputs {
                    drop(session.engine().run(x, quantization, None, &mut NoTap, &Cancel::default()));
                }
            };
            let ms = pool.install(|| thread_ms(pass)) / SAMPLES as f64;
            // The first round fills caches.
            if round > 0 {
                times.push(ms);
            }
        }
    }
    let plain = median(times[0].iter().copied());
    let mut lines =
        vec![Line::note("plain forward of the bundled model, one thread, CPU", format!("{plain:.2} ms"))];
    for ((name, _), side) in sides.iter().zip(&times).skip(1) {
        let ratio = median(side.iter().zip(&times[0]).map(|(a, b)| a / b));
        lines.push(Line::at_most(format!("fake-quantized {name} / plain"), ratio, 1.15, ""));
    }
    Ok(lines)
}

/// The calibration pass against loading and running the same samples.
pub fn calibration() -> Lines {
    let session = open(1)?;
    let set = session.calibration().ok_or("no calibration set")?.clone();
    let none = Quantization::none(&session.model().graph);
    let (mut ratios, mut load_shares, mut loaded) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..set.len() {
        loaded.push(session.inputs(&set, i)?);
    }
    for round in 0..=ROUNDS / 3 {
        let run = |x: &Vec<Value>| session.engine().run(x, &none, None, &mut NoTap, &Cancel::default());
        let observed = process_ms(|| drop(session.gather(None, &Cancel::default(), |_, _| {})));
        let load = |i: usize| session.inputs(&set, i).map(drop);
        let loading = process_ms(|| drop(session.workers().for_each(set.len(), load, |_, ()| Ok(()))));
        let each = |i: usize| run(&loaded[i]).map(drop);
        let plain = process_ms(|| drop(session.workers().for_each(loaded.len(), each, |_, ()| Ok(()))));
        if round > 0 {
            ratios.push((observed - loading) / plain);
            load_shares.push(loading / plain);
        }
    }
    Ok(vec![
        Line::at_most("calibration pass / plain passes (loading left out of both)", median(ratios), 1.3, ""),
        Line::note("loading pictures and texts / plain passes", format!("{:.2}", median(load_shares))),
    ])
}

/// Notes when each node was done.
struct Clock<'g> {
    graph: &'g Graph,
    last: Instant,
    by_kind: BTreeMap<&'static str, f64>,
}

impl Tap for Clock<'_> {
    fn wants(&self, _: NodeId) -> bool {
        true
    }

    fn value(&mut self, node: NodeId, _: &Value) {
        let now = Instant::now();
        *self.by_kind.entry(self.graph.node(node).op.kind()).or_default() +=
            (now - self.last).as_secs_f64() * 1e3;
        self.last = now;
    }
}

/// Every operation of the bundled model, in its real shapes, against candle's own; on the wall, one thread, the
/// quickest of all rounds.
pub fn operations() -> Lines {
    let session = open(1)?;
    let graph = &*session.model().graph;
    let set = session.calibration().ok_or("no calibration set")?;
    let inputs = session.inputs(set, 0)?;
    let none = Quantization::none(graph);
    let reference = Reference::new(graph, Device::Cpu, DType::F32);
    let pool = alone()?;
    let values = pool.install(|| reference.run(&inputs))?;
    let mut best: BTreeMap<&str, [f64; 2]> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let mut clock = Clock { graph, last: Instant::now(), by_kind: BTreeMap::new() };
        pool.install(|| session.engine().run(&inputs, &none, None, &mut clock, &Cancel::default()))?;
        let mut peer: BTreeMap<&str, f64> = BTreeMap::new();
        pool.install(|| -> Result<(), Box<dyn Error + Send + Sync>> {
            for node in graph.nodes().iter().filter(|n| !matches!(n.op, Op::Input)) {
                let operands: Vec<&Tensor> = node.inputs.iter().map(|id| &values[id.index()]).collect();
                let start = Instant::now();
                drop(reference.node(node, &operands)?);
                *peer.entry(node.op.kind()).or_default() += start.elapsed().as_secs_f64() * 1e3;
            }
            Ok(())
        })
        .map_err(|e| e.to_string())?;
        for (kind, ours) in clock.by_kind {
            let Some(&theirs) = peer.get(kind) else { continue };
            let least = best.entry(kind).or_insert([f64::INFINITY; 2]);
            *least = [least[0].min(ours), least[1].min(theirs)];
        }
    }
    let mut kinds: Vec<_> =
        best.into_iter().filter(|(kind, _)| *kind != "Constant" && *kind != "Reshape").collect();
    kinds.sort_by(|a, b| b.1[1].total_cmp(&a.1[1]));
    let total = kinds.iter().fold([0.0; 2], |sum, (_, t)| [sum[0] + t[0], sum[1] + t[1]]);
    kinds.push(("all", total));
    let line = |(kind, [ours, theirs]): (&str, [f64; 2])| {
        let what = format!("{kind}: ours / candle's ({ours:.2} / {theirs:.2} ms)");
        Line::at_most(what, ours / theirs, 1.0, "")
    };
    Ok(kinds.into_iter().map(line).collect())
}
