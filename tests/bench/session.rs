//! What a person waits for: edits, choices, evaluation.

use bitloupe_quant::exec::{Cancel, NoTap};
use bitloupe_quant::method::MethodBits;
use bitloupe_quant::plan::SitePlan;
use bitloupe_quant::terms::Bits;

use super::timing::{Line, largest, median, wall_ms};
use super::{Lines, open};

/// Threads of these measurements: what the budgets are given for.
const THREADS: usize = 2;

/// One layer after another goes from 8 to 4 bits and the shown sample is run again; then the whole set.
pub fn edits() -> Lines {
    let session = open(THREADS)?;
    session.calibrate(&Cancel::default(), |_, _| {})?;
    let (four, eight) = (Bits::new(4)?, Bits::new(8)?);
    let plan = session.method_plan("minmax", &MethodBits::new(eight, eight)).ok_or("no method")?;
    let cancel = Cancel::default();
    let fitted = session.fit_plan(&plan)?;
    session.show(0, 0, None, &fitted, &cancel)?;

    // A whole run, from the picture to the result, without anything kept.
    let set = session.samples().ok_or("no samples")?.clone();
    let quantization = session.quantization(&fitted)?;
    let mut full = Vec::new();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build()?;
    let mut nodes = 0;
    for _ in 0..15 {
        full.push(wall_ms(|| {
            let Ok(inputs) = session.inputs(&set, 0) else { return };
            let run =
                pool.install(|| session.engine().run(&inputs, &quantization, None, &mut NoTap, &cancel));
            nodes = run.map_or(0, |run| run.nodes_run);
        }));
    }
    let full = median(full);

    let (mut times, mut runs) = (Vec::new(), Vec::new());
    for (at, layer) in session.model().graph.layers().iter().enumerate() {
        let mut edited = plan.clone();
        for &site in &layer.sites {
            let id = &session.model().graph.sites()[site].id;
            if let Some(SitePlan::Quantized { scheme, .. }) = plan.site(id) {
                let scheme = scheme.clone();
                edited.set(id, Some(SitePlan::Quantized { scheme, bits: four, params: None }));
            }
        }
        let mut nodes_run = 0;
        let ms = wall_ms(|| {
            let shown = session.fit_plan(&edited).and_then(|f| session.show(at as u64, 0, None, &f, &cancel));
            nodes_run = shown.map_or(0, |s| s.nodes_run);
        });
        times.push(ms);
        runs.push(nodes_run as f64);
    }
    let mut lines = vec![
        Line::at_most("one edit of one layer, median over all layers", median(times.clone()), 100.0, "ms"),
        Line::at_most("one edit of one layer, the slowest", largest(times.clone()), 100.0, "ms"),
        Line::note(
            "nodes run after an edit, median and most, of a whole run",
            format!("{:.0}, {:.0} of {nodes}", median(runs.clone()), largest(runs)),
        ),
        Line::note("whole run of the sample, picture to logits", format!("{full:.2} ms")),
        Line::at_most("an edit / a whole run, median", median(times.iter().map(|t| t / full)), 1.0, ""),
    ];
    let total = set.len();
    let first = wall_ms(|| drop(session.evaluate(&fitted, &cancel, |_, _, _| {})));
    let again = wall_ms(|| drop(session.evaluate(&fitted, &cancel, |_, _, _| {})));
    lines.push(Line::note(
        format!("evaluation of {total} samples: with full precision, without"),
        format!("{first:.0} ms, {again:.0} ms"),
    ));
    Ok(lines)
}

/// All choices at all widths for every site, from its sketch.
pub fn fits() -> Lines {
    let session = open(THREADS)?;
    session.calibrate(&Cancel::default(), |_, _| {})?;
    let sites = session.model().graph.sites();
    let mut times = Vec::new();
    for (index, site) in sites.iter().enumerate() {
        let Some(sketch) = session.sketch(index) else { continue };
        let ms = median((0..3).map(|_| session.choices(index, &sketch).1));
        times.push((ms, site.id.to_string()));
    }
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let slowest = times.last().cloned().unwrap_or_default();
    Ok(vec![
        Line::at_most(
            "all choices × 2–8 bits of a site, median",
            median(times.iter().map(|t| t.0)),
            50.0,
            "ms",
        ),
        Line::at_most(format!("all choices × 2–8 bits, {}", slowest.1), slowest.0, 50.0, "ms"),
    ])
}
