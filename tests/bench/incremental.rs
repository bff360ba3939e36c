//! What is saved by running only what an edit reaches: for the shown sample, for a set, for a sweep. In processor time.

use bitloupe_quant::exec::{Cancel, NoTap};
use bitloupe_quant::method::MethodBits;
use bitloupe_quant::plan::{Plan, SitePlan};
use bitloupe_quant::session::{Session, SweepOptions};
use bitloupe_quant::terms::Bits;

use super::timing::{Line, mean, median, process_ms, thread_ms};
use super::{Lines, open};

/// Threads of these measurements: what the budgets are given for.
const THREADS: usize = 2;
/// Samples of a set, and of a sweep.
const SET: usize = 32;
/// What the names of the layers behind the backbone begin with.
const DECODER: &str = "classifier";

/// All of it.
pub fn reached() -> Lines {
    let mut lines = edits()?;
    lines.extend(sweep()?);
    Ok(lines)
}

/// A plan with one layer at other bits.
fn edited(session: &Session, plan: &Plan, layer: usize, bits: Bits) -> Plan {
    let graph = &session.model().graph;
    let mut plan = plan.clone();
    for &site in &graph.layers()[layer].sites {
        let id = &graph.sites()[site].id;
        if let Some(SitePlan::Quantized { scheme, .. }) = plan.site(id) {
            plan.set(id, Some(SitePlan::unfitted(scheme.clone(), bits)));
        }
    }
    plan
}

/// One layer after another at other bits: the shown sample, then the set, each against running everything.
fn edits() -> Lines {
    let mut session = open(THREADS)?;
    session.limit_samples(SET);
    session.calibrate(&Cancel::default(), |_, _| {})?;
    let (four, eight) = (Bits::new(4)?, Bits::new(8)?);
    let plan = session.method_plan("minmax", &MethodBits::new(eight, eight)).ok_or("no method")?;
    let cancel = Cancel::default();
    let base = session.fit_plan(&plan)?;
    let whole = session.quantization(&base)?;
    let set = session.samples().ok_or("no samples")?.clone();
    let inputs = session.inputs(&set, 0)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let keep = bitloupe_quant::exec::Keep::within(&session.model().graph, usize::MAX);
    let engine = session.engine();
    let (_, baseline) = pool.install(|| engine.baseline(&inputs, &whole, &keep, &mut NoTap, &cancel))?;
    drop(session.evaluate_edited(&base, &cancel, |_, _, _| {})?);
    drop(session.evaluate(&base, &cancel, |_, _, _| {})?);

    let (mut shown, mut of_set, mut decoder, mut decoder_set) = (vec![], vec![], vec![], vec![]);
    for (at, layer) in session.model().graph.layers().iter().enumerate() {
        let fitted = session.fit_plan(&edited(&session, &plan, at, four))?;
        let quantization = session.quantization(&fitted)?;
        let ratios = (0..7).map(|_| {
            let part = || drop(engine.run_from(&baseline, &quantization, &mut NoTap, &cancel));
            let all = || drop(engine.run(&inputs, &quantization, None, &mut NoTap, &cancel));
            pool.install(|| thread_ms(part) / thread_ms(all))
        });
        let one = median(ratios);
        // Back to the plan before, so that every edit starts from there.
        drop(session.evaluate_edited(&base, &cancel, |_, _, _| {})?);
        let part = process_ms(|| drop(session.evaluate_edited(&fitted, &cancel, |_, _, _| {})));
        let all = process_ms(|| drop(session.evaluate(&fitted, &cancel, |_, _, _| {})));
        if layer.name.starts_with(DECODER) {
            decoder.push(one);
            decoder_set.push(part / all);
        }
        shown.push(one);
        of_set.push(part / all);
    }
    let (used, cap) = session.cache_use();
    Ok(vec![
        Line::at_most(
            "an edit of one layer / a whole run, one sample: mean over layers",
            mean(&shown),
            0.6,
            "",
        ),
        Line::note("the same, median over layers", format!("{:.2}", median(shown))),
        Line::at_most("an edit in the decoder / a whole run, one sample: mean", mean(&decoder), 0.15, ""),
        Line::at_most(
            format!("an edit / a whole evaluation of {SET} samples: mean over layers"),
            mean(&of_set),
            0.6,
            "",
        ),
        Line::note("the same, median over layers", format!("{:.2}", median(of_set))),
        Line::at_most("an edit in the decoder / a whole evaluation: mean", mean(&decoder_set), 0.15, ""),
        Line::note("memory in use for that, of its cap", format!("{} of {} MiB", used >> 20, cap >> 20)),
    ])
}

/// A sweep over all sites against as many evaluations.
fn sweep() -> Lines {
    let mut session = open(THREADS)?;
    session.limit_samples(SET);
    session.calibrate(&Cancel::default(), |_, _| {})?;
    let four = Bits::new(4)?;
    let plan = session.method_plan("minmax", &MethodBits::new(four, four)).ok_or("no method")?;
    let fitted = session.fit_plan(&plan)?;
    let cancel = Cancel::default();
    // Answers of full precision are there for both.
    drop(session.evaluate(&fitted, &cancel, |_, _, _| {})?);
    let evaluation =
        median((0..5).map(|_| process_ms(|| drop(session.evaluate(&fitted, &cancel, |_, _, _| {})))));
    let options = SweepOptions { samples: SET, ..SweepOptions::default() };
    let mut first = None;
    let start = std::time::Instant::now();
    let mut found = None;
    let used = process_ms(|| {
        found = session
            .sweep(&fitted, &options, &cancel, |done, total, _| {
                if done == total / SET {
                    first = Some(start.elapsed().as_secs_f64());
                }
            })
            .ok();
    });
    let seconds = start.elapsed().as_secs_f64();
    let found = found.ok_or("the sweep failed")?;
    let sites = found.findings.len();
    Ok(vec![
        Line::note(
            format!("a sweep over {sites} sites on {SET} samples; its first ranking"),
            format!("{seconds:.1} s; {:.2} s", first.unwrap_or(f64::NAN)),
        ),
        Line::at_most(
            format!("the sweep / {sites} evaluations"),
            used / (sites as f64 * evaluation),
            0.55,
            "",
        ),
    ])
}
