//! `bitloupe plan`.

mod rewrite;

use std::path::Path;

use bitloupe_quant::method::{METHODS, Protocol};
use bitloupe_quant::plan::{self, Plan as QuantPlan, PlanEdit, SitePlan};
use bitloupe_quant::quantizer::{Family, RangeSearch, Scheme};
use bitloupe_quant::terms::Slot;
use color_eyre::eyre::{Result, eyre};
use serde_json::json;

use super::{Outcome, print_json, regex};
use crate::cli::{ModelArgs, Plan};
use crate::open;
use crate::table::{Align, Table};

/// Does what was said of plans.
pub fn run(command: &Plan) -> Result<Outcome> {
    match command {
        Plan::New { model, method, preset, calibration, output } => {
            let session = open::session(model, calibration.clone(), None)?;
            let fitted = match preset {
                Some(name) => open::fit_preset(&session, name, method.exact)?,
                None => open::fit_method(&session, method)?,
            };
            fitted.plan.write(output)?;
            let budget = session.budget(&fitted.plan);
            say!(
                "{}: {} sites, {:.2} bits of weights and {:.2} of activations on average, {} bytes",
                output.display(),
                fitted.plan.sites().count(),
                budget.average_weight_bits,
                budget.average_activation_bits,
                budget.weight_bytes
            )?;
        }
        Plan::Show { plan, json } => show(plan, *json)?,
        Plan::Diff { a, b, json } => diff(a, b, *json)?,
        Plan::Check { plan, model } => {
            let session = open::session(model, None, None)?;
            let read = open::plan(&session, plan)?;
            let ids = session.site_ids();
            let missing = read.missing_sites(&ids);
            say!(
                "{}: fits {}; {} sites named, {} not named stay in full precision",
                plan.display(),
                session.model().name,
                read.sites().count(),
                missing.len()
            )?;
        }
        Plan::Set { plan, model, site, bits, quantizer, exact, calibration, output } => {
            let change = Change { bits: bits.as_deref(), quantizer: quantizer.as_deref(), exact: *exact };
            let output = output.as_deref().unwrap_or(plan);
            set(plan, model, site, &change, calibration.as_deref(), output)?;
        }
        Plan::Rewrite { plan, model, layer, on, off, alpha, calibration, output } => {
            let output = output.as_deref().unwrap_or(plan);
            let rewrite = on.as_deref().or(off.as_deref()).unwrap_or_default();
            let switch = rewrite::Switch { rewrite, layer, on: on.is_some(), alpha: *alpha };
            rewrite::run(plan, model, &switch, calibration.as_deref(), output)?;
        }
        Plan::Methods { json } => methods(*json)?,
        Plan::Schema => say!("{}", plan::SCHEMA)?,
    }
    Ok(Outcome::Done)
}

fn methods(as_json: bool) -> Result<()> {
    if as_json {
        let rows: Vec<_> = METHODS
            .iter()
            .map(|m| {
                let treatment: serde_json::Map<String, serde_json::Value> =
                    m.treatment().iter().map(|(role, how)| ((*role).to_owned(), json!(how))).collect();
                json!({"method": m.name(), "source": m.source(), "treatment": treatment})
            })
            .collect();
        return print_json(&json!({ "methods": rows }));
    }
    for (i, method) in METHODS.iter().enumerate() {
        let gap = if i > 0 { "\n" } else { "" };
        say!("{gap}{}: {}", method.name(), method.source())?;
        for (role, how) in method.treatment() {
            say!("  {role}: {how}")?;
        }
    }
    Ok(())
}

fn describe(site: Option<&SitePlan>) -> String {
    match site {
        None => "–".to_owned(),
        Some(SitePlan::Float) => "fp".to_owned(),
        Some(SitePlan::Quantized { scheme, bits, .. }) => format!("{bits} {scheme}"),
    }
}

fn show(path: &Path, as_json: bool) -> Result<()> {
    let plan = QuantPlan::read(path)?;
    if as_json {
        return print_json(&serde_json::from_str(&plan.to_json()?)?);
    }
    say!("{} for {} ({})", plan.method, plan.model.name, plan.created_by)?;
    for (name, value) in &plan.metrics {
        say!("  {name} = {value}")?;
    }
    for rewrite in &plan.rewrites {
        say!("  {} at {}", rewrite.rewrite, rewrite.layer)?;
    }
    say!("")?;
    let mut table = Table::new(&[
        ("site", Align::Left),
        ("bits", Align::Right),
        ("quantizer", Align::Left),
        ("scale", Align::Left),
        ("zero point", Align::Left),
    ]);
    let few = |values: &[f32]| match values {
        [] => "–".to_owned(),
        [one] => one.to_string(),
        many => format!("{} … {} values", many[0], many.len()),
    };
    for (id, site) in plan.sites() {
        let params = site.params();
        table.row([
            id.to_string(),
            site.bits().to_string(),
            match site {
                SitePlan::Float => "–".to_owned(),
                SitePlan::Quantized { scheme, .. } => scheme.to_string(),
            },
            params.map_or_else(|| "not fitted".to_owned(), |p| few(&p.scale)),
            params.map_or_else(String::new, |p| few(&p.zero_point)),
        ]);
    }
    table.print()?;
    Ok(())
}

fn diff(a: &Path, b: &Path, as_json: bool) -> Result<()> {
    let (a, b) = (QuantPlan::read(a)?, QuantPlan::read(b)?);
    let differences = plan::diff(&a, &b);
    // Figures that both were saved with.
    let metrics: Vec<(&String, f64, f64)> =
        a.metrics.iter().filter_map(|(name, before)| Some((name, *before, *b.metrics.get(name)?))).collect();
    if as_json {
        let rows: Vec<_> = differences
            .iter()
            .map(|d| json!({"site": d.site.to_string(), "before": describe(d.before), "after": describe(d.after)}))
            .collect();
        let metrics: serde_json::Map<String, serde_json::Value> = metrics
            .iter()
            .map(|(name, before, after)| ((*name).clone(), json!({"before": before, "after": after})))
            .collect();
        return print_json(&json!({ "sites": rows, "metrics": metrics }));
    }
    if !metrics.is_empty() {
        let right = |name| (name, Align::Right);
        let mut table =
            Table::new(&[("figure", Align::Left), right("before"), right("after"), right("change")]);
        for (name, before, after) in metrics {
            let change = format!("{:+.4}", after - before);
            table.row([name.clone(), format!("{before:.4}"), format!("{after:.4}"), change]);
        }
        table.print()?;
        say!("")?;
    }
    let only = |here: &QuantPlan, there: &QuantPlan, sign: &str| -> Result<()> {
        for rewrite in here.rewrites.iter().filter(|rewrite| !there.rewrites.contains(rewrite)) {
            say!("{sign} {} at {}", rewrite.rewrite, rewrite.layer)?;
        }
        Ok(())
    };
    only(&a, &b, "-")?;
    only(&b, &a, "+")?;
    if differences.is_empty() {
        say!("no site differs")?;
        return Ok(());
    }
    let mut table = Table::new(&[("site", Align::Left), ("before", Align::Left), ("after", Align::Left)]);
    for d in &differences {
        let (before, after) = (describe(d.before), describe(d.after));
        let after = if before == after { format!("{after} (other parameters)") } else { after };
        table.row([d.site.to_string(), before, after]);
    }
    table.print()?;
    Ok(())
}

/// What is changed at the matching sites.
struct Change<'a> {
    bits: Option<&'a str>,
    quantizer: Option<&'a str>,
    /// Whether it is fitted on the samples.
    exact: bool,
}

fn set(
    path: &Path,
    model: &ModelArgs,
    pattern: &str,
    change: &Change<'_>,
    calibration: Option<&Path>,
    output: &Path,
) -> Result<()> {
    let session = open::session(model, calibration.map(Path::to_owned), None)?;
    let mut plan = open::plan(&session, path)?;
    let pattern = regex(pattern)?;
    let bits = change.bits.map(open::bits).transpose()?;
    let mut changes = Vec::new();
    for id in session.site_ids().into_iter().filter(|id| pattern.is_match(&id.to_string())) {
        let default = default_scheme(id.slot);
        let (scheme, width) = match plan.site(&id) {
            Some(SitePlan::Quantized { scheme, bits, .. }) => (scheme.clone(), *bits),
            _ => (default, bits.ok_or_else(|| eyre!("{id} is in full precision; say --bits too"))?),
        };
        let scheme = change.quantizer.map_or(Ok(scheme), str::parse)?;
        changes.push((id, SitePlan::unfitted(scheme, bits.unwrap_or(width))));
    }
    if changes.is_empty() {
        return Err(eyre!("no site matches `{pattern}`; `bitloupe info` lists them"));
    }
    let count = changes.len();
    for (id, to) in changes {
        let edit = PlanEdit::set(&plan, [(id, Some(to))], "set on the command line");
        edit.apply(&mut plan)?;
    }
    "manual".clone_into(&mut plan.method);
    plan.metrics.clear();
    let fitted = if change.exact {
        open::fit_on_samples(&session, &plan, Protocol::Parallel)?
    } else {
        open::fit(&session, &plan)?
    };
    fitted.plan.write(output)?;
    say!("{}: {count} sites changed", output.display())?;
    Ok(())
}

/// What a site gets that was in full precision: symmetric per output channel for weights, min–max otherwise.
fn default_scheme(slot: Slot) -> Scheme {
    let scheme = Scheme::new(Family::Uniform, RangeSearch::MinMax);
    if slot == Slot::Weight { scheme.symmetric().per_channel() } else { scheme }
}
