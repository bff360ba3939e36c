//! Compares every method on both bundled models and prints tables for BENCHMARKS.md:
//!
//! `cargo bench --workspace --bench methods [-- PART…]`, with PART of `methods`, `ablation`, `sketches` (the error of fits
//! from sketches against fits on the values), `samples` (the methods that are fitted on the samples themselves,
//! sequentially where the paper is), `outputs` (the methods and weights that are fitted by what comes out of layers,
//! against the same from sketches); all if none is named.
//!
//! Each row of the first and the last table is a process of its own, whose time to make and fit the plan and whose peak
//! memory are in it.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::Command;
use std::time::Instant;

use bitloupe_quant::exec::{Cancel, Decision, ExecError};
use bitloupe_quant::graph::RewriteKind;
use bitloupe_quant::method::{MethodBits, Protocol, method};
use bitloupe_quant::models::ModelFiles;
use bitloupe_quant::plan::{Plan, Rewrite, SitePlan};
use bitloupe_quant::quantizer::{Distribution, Family, Params, RangeSearch, Scheme, Survey, quantizer};
use bitloupe_quant::session::{Evaluation, FittedPlan, Options, Session};
use bitloupe_quant::stats::Sketch;
use bitloupe_quant::terms::{Bits, Layout, Role, Slot};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A table by its name.
type Part = (&'static str, fn() -> Outcome<()>);

/// First argument of a process that measures one row.
const CHILD: &str = "--row";
const WIDTHS: [(u8, u8); 5] = [(8, 8), (6, 6), (4, 8), (4, 4), (3, 3)];

fn open(sample: &str) -> Outcome<Session> {
    let all = bitloupe_samples::bundled();
    let bundled = all.iter().find(|b| b.name == sample).ok_or("no such sample")?;
    let (name, label, files) = (bundled.name, bundled.label, bundled.files);
    let model = ModelFiles::Embedded { name, label, files, replace: bundled.replacements()? };
    let session = Session::open(&Options { threads: Some(2), ..Options::new(model) })?;
    session.calibrate(&Cancel::default(), |_, _| {})?;
    Ok(session)
}

fn evaluate(session: &Session, fitted: &FittedPlan) -> Outcome<Evaluation> {
    Ok(session.evaluate(fitted, &Cancel::default(), |_, _, _| {})?)
}

/// mIoU, oIoU and agreement.
fn figures(e: &Evaluation) -> String {
    let score = |s: &Option<bitloupe_quant::eval::metrics::Scores>,
                 of: fn(&bitloupe_quant::eval::metrics::Scores) -> f64| {
        s.as_ref().map_or("–".to_owned(), |s| format!("{:.3}", of(s)))
    };
    format!(
        "{} / {} / {}",
        score(&e.quantized, bitloupe_quant::eval::metrics::Scores::standing),
        score(&e.quantized, |s| s.get("oiou").unwrap_or(f64::NAN)),
        score(&e.agreement, bitloupe_quant::eval::metrics::Scores::standing)
    )
}

/// One method on one model: prints a table row.
fn row(sample: &str, name: &str, on_samples: bool) -> Outcome<()> {
    let session = open(sample)?;
    let protocol = method(name).ok_or("no such method")?.protocol();
    let mut cells = Vec::new();
    let mut seconds = 0.0;
    for (w, a) in WIDTHS {
        let bits = MethodBits::new(Bits::new(w)?, Bits::new(a)?);
        let plan = session.method_plan(name, &bits).ok_or("no such method")?;
        let start = Instant::now();
        let fitted = if protocol == Protocol::OutputLoss {
            session.fit_plan_by_output(&plan, &Cancel::default(), |_, _| {})?
        } else if on_samples {
            session.fit_plan_on_samples(&plan, protocol, &Cancel::default(), |_, _| {})?
        } else {
            session.fit_plan(&plan)?
        };
        seconds += start.elapsed().as_secs_f64();
        cells.push(figures(&evaluate(&session, &fitted)?));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: f64 = peak.and_then(|p| p.split_whitespace().next()).unwrap_or("0").parse()?;
    let sequential = if on_samples && protocol == Protocol::Sequential { ", sequential" } else { "" };
    println!(
        "| {name}{sequential} | {} | {:.2} s | {:.0} MiB |",
        cells.join(" | "),
        seconds / WIDTHS.len() as f64,
        peak / 1024.0
    );
    Ok(())
}

/// All methods on both models.
fn methods(on_samples: bool) -> Outcome<()> {
    for bundled in bitloupe_samples::bundled() {
        let session = open(bundled.name)?;
        let float = evaluate(&session, &session.fit_plan(&session.float_plan())?)?;
        let heads: Vec<String> = WIDTHS.iter().map(|(w, a)| format!("W{w}A{a}")).collect();
        let fitted = if on_samples { "fitted on 32 samples" } else { "fitted from sketches of 64 samples" };
        println!("\n`{}`, {fitted}; full precision {}\n", bundled.name, figures(&float));
        println!("| method | {} | fit | peak |", heads.join(" | "));
        println!("|---|{}---:|---:|", "---:|".repeat(heads.len()));
        drop(session);
        for name in Session::methods() {
            let mode = if on_samples { "samples" } else { "sketch" };
            let run =
                Command::new(std::env::current_exe()?).args([CHILD, bundled.name, name, mode]).output()?;
            print!("{}", String::from_utf8_lossy(&run.stdout));
            if !run.status.success() {
                eprintln!("{name}: {}", String::from_utf8_lossy(&run.stderr));
            }
        }
    }
    Ok(())
}

/// A quantizer or rewrite that is tried alone.
struct Trial {
    label: String,
    role: Role,
    scheme: Scheme,
    rewrite: Option<RewriteKind>,
}

fn trials() -> Vec<Trial> {
    let uniform = |range| Scheme::new(Family::Uniform, range);
    let mut trials = Vec::new();
    let mut add = |role: Role, scheme: Scheme, rewrite: Option<RewriteKind>| {
        let label = rewrite.map_or_else(|| scheme.to_string(), |kind| format!("{scheme}, {kind}"));
        trials.push(Trial { label, role, scheme, rewrite });
    };
    for role in [Role::PostSoftmax, Role::PostGelu, Role::PostLayerNorm, Role::Key] {
        add(role, uniform(RangeSearch::MinMax), None);
        add(role, uniform(RangeSearch::repq()), None);
        add(role, uniform(RangeSearch::Mse { p: 2.0 }), None);
    }
    add(Role::PostSoftmax, Scheme::new(Family::LogSqrt2, RangeSearch::repq()), None);
    for family in
        [Family::Log2, Family::Agq, Family::Adalog, Family::Lnq, Family::LogIntSoftmax, Family::DrqSoftmax]
    {
        add(Role::PostSoftmax, Scheme::published(family), None);
    }
    for family in [Family::DrqGelu, Family::Adalog, Family::Hluq] {
        add(Role::PostGelu, Scheme::published(family), None);
    }
    for family in [Family::ChannelGroups, Family::Ptf, Family::Rorq] {
        add(Role::PostLayerNorm, Scheme::published(family), None);
    }
    add(Role::PostLayerNorm, uniform(RangeSearch::MinMax), Some(RewriteKind::NormReparameterization));
    add(Role::PostLayerNorm, uniform(RangeSearch::repq()), Some(RewriteKind::NormReparameterization));
    add(Role::PostLayerNorm, uniform(RangeSearch::MinMax), Some(RewriteKind::Smoothing));
    add(Role::Key, Scheme::published(Family::Rorq), None);
    add(Role::Key, uniform(RangeSearch::Bounded { p: 2.4 }), None);
    add(Role::Key, uniform(RangeSearch::Bounded { p: 2.4 }), Some(RewriteKind::SignFolding));
    trials
}

/// W8A8 min–max but for the sites of one role.
fn trial_plan(session: &Session, trial: &Trial, bits: Bits) -> Outcome<Plan> {
    let eight = MethodBits::new(Bits::EIGHT, Bits::EIGHT);
    let mut plan = session.method_plan("minmax", &eight).ok_or("no method")?;
    let graph = &session.model().graph;
    for site in graph.sites() {
        if site.role == trial.role && site.id.slot != Slot::Weight {
            let by_channel = trial.scheme.granularity == bitloupe_quant::quantizer::Granularity::Channel;
            if !by_channel || site.id.slot == Slot::Input {
                plan.set(&site.id, Some(SitePlan::unfitted(trial.scheme.clone(), bits)));
            }
        }
    }
    if let Some(kind) = trial.rewrite {
        plan.rewrites.extend(graph.rewritable(kind).into_iter().map(|node| Rewrite {
            rewrite: kind.to_string(),
            layer: graph.node(node).name.clone(),
            vectors: BTreeMap::new(),
        }));
    }
    Ok(plan)
}

/// Each quantizer alone on the sites it is made for, all else W8A8 min–max.
fn ablation() -> Outcome<()> {
    let widths = [6, 4, 3];
    let sessions: Vec<(&str, Session)> =
        bitloupe_samples::bundled().iter().map(|b| Ok((b.name, open(b.name)?))).collect::<Outcome<_>>()?;
    let heads: Vec<String> = sessions
        .iter()
        .flat_map(|(name, _)| widths.iter().map(move |w| format!("{name} {w} bits")))
        .collect();
    println!("\nOne role at a time, all else W8A8 min–max: mIoU\n");
    println!("| role | quantizer | {} |", heads.join(" | "));
    println!("|---|---|{}", "---:|".repeat(heads.len()));
    for trial in trials() {
        let mut cells = Vec::new();
        for (_, session) in &sessions {
            for width in widths {
                let fitted = session.fit_plan(&trial_plan(session, &trial, Bits::new(width)?)?)?;
                let miou = evaluate(session, &fitted)?.quantized.map_or(f64::NAN, |s| s.standing());
                cells.push(format!("{miou:.3}"));
            }
        }
        println!("| {} | {} | {} |", trial.role, trial.label, cells.join(" | "));
    }
    Ok(())
}

/// The mean squared error of parameters on values.
fn error(values: &[f32], layout: Layout, params: &Params) -> f64 {
    let mut out = values.to_vec();
    quantizer(params.scheme.family).fake_quantize(&mut out, layout, params);
    let sum: f64 = values.iter().zip(&out).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    sum / values.len().max(1) as f64
}

/// For every site of both models and every quantizer offered for it: the error of the fit from a sketch against that of
/// the fit on the values.
fn sketches() -> Outcome<()> {
    const SAMPLES: usize = 2;
    let mut ratios: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for bundled in bitloupe_samples::bundled() {
        let session = open(bundled.name)?;
        let graph = session.model().graph.clone();
        let set = session.calibration().ok_or("no calibration set")?;
        let inputs = (0..SAMPLES).map(|i| Ok(session.inputs(set, i)?)).collect::<Outcome<Vec<_>>>()?;
        session.engine().lockstep(
            &inputs,
            false,
            &Cancel::default(),
            |node, operands| -> Result<Decision, ExecError> {
                let sites = graph.sites().iter().enumerate().filter(|(_, site)| site.node == node);
                for (index, site) in sites {
                    let Some(operand) = site.operand.and_then(|operand| operands.get(operand)) else {
                        continue;
                    };
                    let values: Vec<f32> =
                        operand.iter().flat_map(|value| value.as_slice()).copied().collect();
                    let layout = if site.layout.channels == 1 {
                        Layout::tensor(values.len())
                    } else {
                        Layout { outer: site.layout.outer * SAMPLES, ..site.layout }
                    };
                    let schemes = session.schemes(index);
                    // As calibration does.
                    let by_shape = schemes.iter().any(|scheme| scheme.family == Family::Ptf);
                    let mut sketch = if by_shape {
                        Sketch::sampling(layout.channels)
                    } else {
                        Sketch::new(layout.channels)
                    };
                    if operand.iter().any(|value| sketch.observe(value.as_slice(), site.layout).is_err()) {
                        continue;
                    }
                    let survey = Survey::new(&sketch);
                    for scheme in schemes {
                        for bits in [4, 8] {
                            let Ok(bits) = Bits::new(bits) else { continue };
                            let family = quantizer(scheme.family);
                            let exact =
                                family.fit(&Distribution::Raw { values: &values, layout }, &scheme, bits);
                            let quick = family.fit(&Distribution::Survey(&survey), &scheme, bits);
                            let (Ok(exact), Ok(quick)) = (exact, quick) else { continue };
                            let (least, found) =
                                (error(&values, layout, &exact), error(&values, layout, &quick));
                            let ratio = if least > 0.0 { found / least } else { 1.0 };
                            ratios.entry(format!("{scheme}, {bits} bits")).or_default().push(ratio);
                        }
                    }
                }
                Ok(Vec::new())
            },
        )?;
    }
    println!(
        "\nError of the fit from a sketch / of the fit on the values, all sites of both bundled models\n"
    );
    println!("| quantizer | sites | median | worst | beyond 1.02 |");
    println!("|---|---:|---:|---:|---:|");
    for (name, mut of) in ratios {
        of.sort_by(f64::total_cmp);
        let (median, worst) = (of[of.len() / 2], of[of.len() - 1]);
        let beyond = of.iter().filter(|ratio| **ratio > 1.02).count();
        println!("| {name} | {} | {median:.4} | {worst:.3} | {beyond} |", of.len());
    }
    Ok(())
}

/// A method, what it is fitted on, and the range of its weights if it is another one.
const BY_OUTPUTS: [(&str, On, Option<RangeSearch>); 9] = [
    ("ptq4vit", On::Sketches, None),
    ("ptq4vit", On::Samples("gradients"), None),
    ("ptq4ris", On::Sketches, None),
    ("ptq4ris", On::Samples("gradients, sequential"), None),
    ("saq-sam", On::Sketches, None),
    ("saq-sam", On::Attention, None),
    ("percentile", On::Sketches, None),
    ("percentile", On::Sketches, Some(RangeSearch::Mse { p: 2.0 })),
    ("percentile", On::Samples("weights output"), Some(RangeSearch::Output)),
];

/// What a plan is fitted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    /// Everything on sketches.
    Sketches,
    /// Queries and keys on the attention of a sample, everything else on sketches.
    Attention,
    /// Everything on the samples.
    Samples(&'static str),
}

/// Methods that look at what comes out of layers, from sketches and on the samples.
fn outputs() -> Outcome<()> {
    let widths = [(6, 6), (4, 4)];
    for bundled in bitloupe_samples::bundled() {
        let session = open(bundled.name)?;
        println!("\n`{}`: mIoU / oIoU / agreement, time of the fit\n", bundled.name);
        println!("| method | fitted on | W6A6 | fit | W4A4 | fit |\n|---|---|---:|---:|---:|---:|");
        for (name, on, range) in &BY_OUTPUTS {
            let protocol = method(name).ok_or("no such method")?.protocol();
            let mut cells = Vec::new();
            for (w, a) in widths {
                let bits = MethodBits::new(Bits::new(w)?, Bits::new(a)?);
                let mut plan = session.method_plan(name, &bits).ok_or("no such method")?;
                for id in session.site_ids().into_iter().filter(|id| id.slot == Slot::Weight) {
                    if let (Some(range), Some(SitePlan::Quantized { scheme, bits, .. })) =
                        (range, plan.site(&id))
                    {
                        let scheme = Scheme { range: range.clone(), ..scheme.clone() };
                        let to = SitePlan::unfitted(scheme, *bits);
                        plan.set(&id, Some(to));
                    }
                }
                let start = Instant::now();
                let fitted = match on {
                    On::Sketches => session.fit_plan(&plan)?,
                    On::Samples(_) => {
                        session.fit_plan_on_samples(&plan, protocol, &Cancel::default(), |_, _| {})?
                    }
                    On::Attention => {
                        let mut rest = session.fit_plan(&plan)?.plan.as_ref().clone();
                        for (id, site) in plan.sites() {
                            if matches!(site, SitePlan::Quantized { scheme, .. } if scheme.range == RangeSearch::Overlap)
                            {
                                rest.set(&id, Some(site.clone()));
                            }
                        }
                        session.fit_plan_on_samples(&rest, protocol, &Cancel::default(), |_, _| {})?
                    }
                };
                let seconds = start.elapsed().as_secs_f64();
                cells.push(format!("{} | {seconds:.1} s", figures(&evaluate(&session, &fitted)?)));
            }
            let how = match (on, range) {
                (On::Samples(how), _) => format!("samples: {how}"),
                (On::Attention, _) => "sketches, queries and keys attention".to_owned(),
                (On::Sketches, Some(range)) => format!("sketches, weights {range}"),
                (On::Sketches, None) => "sketches".to_owned(),
            };
            println!("| {name} | {how} | {} |", cells.join(" | "));
        }
    }
    Ok(())
}

fn main() -> Outcome<()> {
    // Cargo adds `--bench`.
    let said: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [mode, sample, name, fitted] = said.as_slice()
        && mode == CHILD
    {
        return row(sample, name, fitted == "samples");
    }
    let parts: [Part; 5] = [
        ("methods", || methods(false)),
        ("ablation", ablation),
        ("sketches", sketches),
        ("samples", || methods(true)),
        ("outputs", outputs),
    ];
    for (name, measure) in parts {
        if said.is_empty() || said.iter().any(|s| s == name) {
            measure()?;
        }
    }
    Ok(())
}
