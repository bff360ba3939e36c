//! `bitloupe eval`: metrics against truth and full precision.

use bitloupe_quant::eval::metrics::Scores;
use bitloupe_quant::exec::Cancel;
use bitloupe_quant::plan::{Plan, SitePlan};
use bitloupe_quant::session::Session;
use bitloupe_quant::terms::{SiteId, Slot};
use color_eyre::eyre::Result;
use serde_json::{Map, Value, json};

use super::{Outcome, print_json};
use crate::cli::Eval;
use crate::open;
use crate::table::{Align, Table};

/// Evaluates a plan, a method, or full precision alone.
pub fn run(args: &Eval) -> Result<Outcome> {
    let mut options = open::options(&args.model, args.calibration.clone(), args.samples.clone())?;
    options.exported_weights.clone_from(&args.exported);
    let mut session = Session::open(&options)?;
    let mut warnings = session.warnings()?;
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    if let Some(limit) = args.limit {
        session.limit_samples(limit);
    }
    let fitted = match (&args.plan, &args.method.method) {
        (Some(path), _) if args.exported.is_some() => {
            // The codes are the weights: only activations are quantized again. The fingerprint is that of the
            // original weights, so only names are checked.
            let plan = Plan::read(path)?;
            plan.check_sites(&path.display().to_string(), &session.site_ids())?;
            open::fit(&session, &without_weights(&plan))?
        }
        (Some(path), _) => open::fit(&session, &open::plan(&session, path)?)?,
        (None, Some(_)) => open::fit_method(&session, &args.method)?,
        (None, None) => open::fit(&session, &session.float_plan())?,
    };
    if args.exported.is_some() {
        // Figures of full precision are those of the original weights, as without the export.
        options.exported_weights = None;
        let original = Session::open(&options)?;
        session.compare_with(&original, &Cancel::default(), open::progress("running full precision"))?;
    }
    let mut report = open::progress("evaluating");
    let result = session.evaluate(&fitted, &Cancel::default(), |done, total, _| report(done, total))?;
    for warning in &result.warnings {
        eprintln!("warning: {warning}");
    }
    warnings.extend(result.warnings.iter().cloned());
    // With exported weights the plan that runs has float weights; the bits are those of the plan that was said.
    let budget = match &args.plan {
        Some(path) if args.exported.is_some() => session.budget(&Plan::read(path)?),
        _ => session.budget(&fitted.plan),
    };
    let model = session.model();
    if args.json {
        print_json(&json!({
            "model": model.name,
            "label": model.label,
            "samples": result.samples,
            "full_precision": object(result.full_precision.as_ref()),
            "quantized": object(result.quantized.as_ref()),
            "agreement": object(result.agreement.as_ref()),
            "average_bits": {"weights": budget.average_weight_bits, "activations": budget.average_activation_bits},
            "weight_bytes": budget.weight_bytes,
            "warnings": warnings,
        }))?;
    } else {
        let label = model.label.as_ref().map(|l| format!(" ({l})")).unwrap_or_default();
        say!("{}{label}, {} samples, plan {}", model.name, result.samples, fitted.plan.method)?;
        say!(
            "{:.2} bits of weights, {:.2} of activations on average, {} bytes of weights\n",
            budget.average_weight_bits,
            budget.average_activation_bits,
            budget.weight_bytes
        )?;
        let scores = [
            ("full precision", &result.full_precision),
            ("quantized", &result.quantized),
            ("agreement", &result.agreement),
        ];
        print_scores(&scores)?;
    }
    let reached = result.quantized.as_ref().or(result.agreement.as_ref()).map(Scores::standing);
    if let (Some(least), Some(reached)) = (args.min_miou, reached)
        && reached < least
    {
        let against = if result.quantized.is_some() { "" } else { " with full precision" };
        eprintln!("bitloupe: {}{against} {reached:.4} is below {least}", result.metric.name());
        return Ok(Outcome::Missed);
    }
    Ok(Outcome::Done)
}

fn without_weights(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    let weights: Vec<SiteId> = plan.sites().map(|(id, _)| id).filter(|id| id.slot == Slot::Weight).collect();
    for id in weights {
        plan.set(&id, Some(SitePlan::Float));
    }
    plan
}

fn object(scores: Option<&Scores>) -> Value {
    scores.map_or(Value::Null, |s| {
        Value::Object(
            s.named().iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>(),
        )
    })
}

fn print_scores(rows: &[(&str, &Option<Scores>)]) -> Result<()> {
    let Some(first) = rows.iter().find_map(|(_, s)| s.as_ref()) else { return Ok(()) };
    let names: Vec<String> = first.named().iter().map(|(n, _)| n.clone()).collect();
    let mut columns = vec![("", Align::Left)];
    columns.extend(names.iter().map(|n| (n.as_str(), Align::Right)));
    let mut table = Table::new(&columns);
    for (name, scores) in rows {
        if let Some(scores) = scores {
            let values = scores.named().iter().map(|(_, v)| format!("{v:.4}"));
            table.row(std::iter::once((*name).to_owned()).chain(values));
        }
    }
    table.print()?;
    Ok(())
}
