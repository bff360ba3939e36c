//! A Markdown report of a plan: figures, a line per site, histograms.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::plan::{Plan, SitePlan};
use crate::session::{Evaluation, FittedPlan, Session};
use crate::stats::Sketch;

/// What a report is made of.
#[derive(Debug)]
pub struct Report<'a> {
    /// The model and its sketches.
    pub session: &'a Session,
    /// The plan.
    pub plan: &'a Plan,
    /// Its parameters.
    pub fitted: &'a FittedPlan,
    /// Figures on samples, if they were evaluated.
    pub evaluation: Option<&'a Evaluation>,
}

/// Columns of a drawn histogram.
const COLUMNS: usize = 32;
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The report as text.
pub fn write(report: &Report<'_>) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = head(&mut out, report)
        .and_then(|()| sites(&mut out, report))
        .and_then(|()| histograms(&mut out, report));
    out
}

/// How often each rewrite is in a plan.
fn rewrites(plan: &Plan) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for rewrite in &plan.rewrites {
        *counts.entry(rewrite.rewrite.as_str()).or_insert(0) += 1;
    }
    counts
}

fn head(out: &mut String, r: &Report<'_>) -> std::fmt::Result {
    let model = r.session.model();
    let budget = r.session.budget(r.plan);
    writeln!(out, "# Quantization of {}\n", model.name)?;
    if let Some(label) = &model.label {
        writeln!(out, "**{label}**\n")?;
    }
    writeln!(out, "| | |\n|---|---|")?;
    writeln!(out, "| plan | {} |", r.plan.method)?;
    writeln!(out, "| model fingerprint | `{}` |", model.fingerprint)?;
    if let Some(c) = &r.plan.calibration {
        writeln!(out, "| calibration | {} samples, `{}` |", c.samples, c.fingerprint)?;
    }
    writeln!(out, "| average bits of weights | {:.3} |", budget.average_weight_bits)?;
    writeln!(out, "| average bits of activations | {:.3} |", budget.average_activation_bits)?;
    writeln!(out, "| weights | {} bytes of {} |", budget.weight_bytes, budget.float_weight_bytes)?;
    for (kind, count) in rewrites(r.plan) {
        writeln!(out, "| rewrite {kind} | at {count} places |")?;
    }
    writeln!(out, "| made by | {} |\n", r.plan.created_by)?;
    let Some(e) = r.evaluation else {
        return writeln!(out, "No samples were evaluated.\n");
    };
    writeln!(out, "## Metrics on {} samples\n", e.samples)?;
    let names: Vec<String> = e
        .agreement
        .iter()
        .chain(&e.quantized)
        .next()
        .map(|s| s.named().iter().map(|(n, _)| n.clone()).collect())
        .unwrap_or_default();
    writeln!(out, "| | {} |\n|---|{}", names.join(" | "), "---:|".repeat(names.len()))?;
    let rows = [
        ("full precision", &e.full_precision),
        ("quantized", &e.quantized),
        ("agreement with full precision", &e.agreement),
    ];
    for (name, scores) in rows {
        if let Some(scores) = scores {
            let cells: Vec<String> = scores.named().iter().map(|(_, v)| format!("{v:.4}")).collect();
            writeln!(out, "| {name} | {} |", cells.join(" | "))?;
        }
    }
    writeln!(out)
}

fn sites(out: &mut String, r: &Report<'_>) -> std::fmt::Result {
    writeln!(out, "## Sites\n")?;
    writeln!(out, "SQNR is predicted from the sketch, in dB.\n")?;
    writeln!(out, "| site | role | class | bits | quantizer | SQNR |\n|---|---|---|---:|---|---:|")?;
    let predicted: std::collections::HashMap<_, _> = r.fitted.predicted_sqnr_db.iter().cloned().collect();
    let classes: std::collections::HashMap<_, _> =
        r.session.summaries().into_iter().map(|s| (s.site, s.class)).collect();
    for site in r.session.model().graph.sites() {
        let class = classes.get(&site.id).map_or_else(|| "–".to_owned(), ToString::to_string);
        let (bits, scheme) = match r.plan.site(&site.id) {
            Some(SitePlan::Quantized { bits, scheme, .. }) => (bits.to_string(), scheme.to_string()),
            _ => ("fp".to_owned(), "–".to_owned()),
        };
        let sqnr = predicted.get(&site.id).map_or_else(|| "–".to_owned(), |db| format!("{db:.1}"));
        writeln!(out, "| `{}` | {} | {class} | {bits} | {scheme} | {sqnr} |", site.id, site.role)?;
    }
    writeln!(out)
}

fn histograms(out: &mut String, r: &Report<'_>) -> std::fmt::Result {
    writeln!(out, "## Histograms\n")?;
    writeln!(out, "Counts on a logarithmic scale over the range of the site.\n\n```text")?;
    let sites = r.session.model().graph.sites();
    let width = sites.iter().map(|s| s.id.to_string().len()).max().unwrap_or(0);
    for (index, site) in sites.iter().enumerate() {
        if let Some(sketch) = r.session.sketch(index) {
            let name = site.id.to_string();
            writeln!(
                out,
                "{name:<width$} {:>11.4e} {} {:.4e}",
                sketch.min(),
                bars(&sketch, COLUMNS),
                sketch.max()
            )?;
        }
    }
    writeln!(out, "```")
}

/// A histogram in one line of text, counts on a logarithmic scale.
pub fn bars(sketch: &Sketch, columns: usize) -> String {
    let counts = sketch.histogram(columns, None, false).counts;
    let top = counts.iter().fold(0.0_f64, |m, &c| m.max(c)).ln_1p();
    let level = |c: f64| if top > 0.0 { (c.ln_1p() / top * 8.0).ceil() as usize } else { 0 };
    counts.iter().map(|&c| BARS[level(c).min(8)]).collect()
}
