//! `bitloupe explain`: why a plan loses accuracy, in words, and what would help.

use std::path::Path;

use bitloupe_quant::exec::Cancel;
use bitloupe_quant::plan::Plan;
use bitloupe_quant::session::explain::{Confirmation, ModelExplanation, SiteExplanation};
use bitloupe_quant::session::{FittedPlan, Session};
use bitloupe_quant::terms::{Bits, Slot};
use color_eyre::eyre::{Result, eyre};
use serde_json::{Value, json};

use super::{Outcome, paragraph, print_json};
use crate::cli::Explain;
use crate::open;
use crate::table::{Align, Table};

/// Sites whose remedy is confirmed for a whole model.
const CONFIRMED: usize = 3;
/// Sites of the table for people.
const SHOWN: usize = 12;
/// Groups for people; the last ones gain least.
const GROUPS: usize = 8;
/// A ranking has a line per site.
const MAX_RANKING: u64 = 64 << 20;

/// Explains a plan or a method, the whole model or some sites.
pub fn run(args: &Explain) -> Result<Outcome> {
    let session = open::session(&args.model, args.calibration.clone(), args.samples.clone())?;
    let pattern = args.site.as_deref().map(super::regex).transpose()?;
    // Before anything long: a pattern that matches nothing is a slip of the finger.
    if let (Some(pattern), Some(text)) = (&pattern, &args.site)
        && !session.site_ids().iter().any(|site| pattern.is_match(&site.to_string()))
    {
        return Err(eyre!("no site matches `{text}`; `bitloupe info` lists the sites"));
    }
    let plan = args.plan.as_deref().map(|path| open::plan(&session, path)).transpose()?;
    let ranking = args.ranking.as_deref().map(|path| ranking(&session, path)).transpose()?;
    // Sketches are needed even where the plan has all its numbers.
    open::calibrate(&session)?;
    let fitted = match &plan {
        Some(plan) => open::fit(&session, plan)?,
        None if args.method.method.is_none() => session.fit_plan(&Plan::new(session.model_ref()))?,
        None => open::fit_method(&session, &args.method)?,
    };
    session.prepare_explanations(&fitted, &Cancel::default(), open::progress("gathering"))?;
    match pattern {
        Some(pattern) => sites(&session, &fitted, args, &pattern),
        None => whole(&session, &fitted, args, ranking.as_deref()),
    }
}

/// Explains the sites whose name matches.
fn sites(session: &Session, fitted: &FittedPlan, args: &Explain, pattern: &regex::Regex) -> Result<Outcome> {
    let wanted = session.site_ids().into_iter().filter(|site| pattern.is_match(&site.to_string()));
    let (weights, activations) = (open::bits(&args.method.weights)?, open::bits(&args.method.activations)?);
    let sites = wanted
        .map(|site| {
            let bits = if site.slot == Slot::Weight { weights } else { activations };
            // Choices in full precision are no choices.
            let bits = if bits.is_float() { Bits::EIGHT } else { bits };
            Ok(session.explain_site_at(&site, fitted, bits)?)
        })
        .collect::<Result<Vec<SiteExplanation>>>()?;
    let confirmed = confirm(session, fitted, args, sites.iter())?;
    if args.json {
        print_json(&json!({
            "model": session.model().name,
            "method": fitted.plan.method,
            "sites": sites,
            "confirmed": confirmed,
        }))?;
    } else {
        sites.iter().try_for_each(|site| print_site(site, &confirmed))?;
    }
    Ok(Outcome::Done)
}

/// Explains the whole model.
fn whole(
    session: &Session,
    fitted: &FittedPlan,
    args: &Explain,
    ranking: Option<&[(usize, f64)]>,
) -> Result<Outcome> {
    let progress = open::progress("swapping sentences");
    let model = session.explain(fitted, ranking, args.limit, &Cancel::default(), progress)?;
    let confirmed = confirm(session, fitted, args, model.sites.iter().take(CONFIRMED))?;
    if args.json {
        let mut value = serde_json::to_value(&model)?;
        if let Value::Object(fields) = &mut value {
            fields.insert("model".into(), json!(session.model().name));
            fields.insert("method".into(), json!(fitted.plan.method));
            fields.insert("confirmed".into(), json!(confirmed));
        }
        print_json(&value)?;
    } else {
        print_model(session, fitted, &model, &confirmed)?;
    }
    Ok(Outcome::Done)
}

/// The change of the metric by each site, as `bitloupe sensitivity --json` prints it.
fn ranking(session: &Session, path: &Path) -> Result<Vec<(usize, f64)>> {
    let name = path.display();
    let size = std::fs::metadata(path).map_err(|e| eyre!("{name}: {e}"))?.len();
    if size > MAX_RANKING {
        return Err(eyre!("{name}: {size} bytes; a ranking has at most {MAX_RANKING}"));
    }
    let text = std::fs::read(path).map_err(|e| eyre!("{name}: {e}"))?;
    let value: Value = serde_json::from_slice(&text).map_err(|e| eyre!("{name}: {e}"))?;
    let unlike =
        || eyre!("{name}: no ranking; write one with `bitloupe sensitivity --json`, a line per site");
    let sites = value.get("sites").and_then(Value::as_array).ok_or_else(unlike)?;
    let graph = &session.model().graph;
    let one = |entry: &Value| {
        let site = entry.get("site").and_then(Value::as_str).ok_or_else(unlike)?;
        let index = site.parse().ok().and_then(|id| graph.site_index(&id));
        let index = index.ok_or_else(|| eyre!("{name}: the model has no site `{site}`"))?;
        // A sweep that was stopped has sites without a figure.
        Ok(entry.get("delta_miou").and_then(Value::as_f64).map(|delta| (index, delta)))
    };
    sites.iter().filter_map(|entry| one(entry).transpose()).collect()
}

/// Tries the first remedy of each site that can be tried by a run.
fn confirm<'s>(
    session: &Session,
    fitted: &FittedPlan,
    args: &Explain,
    sites: impl Iterator<Item = &'s SiteExplanation>,
) -> Result<Vec<Confirmation>> {
    use bitloupe_quant::session::explain::Remedy;
    if !args.confirm {
        return Ok(Vec::new());
    }
    let tried = |site: &'s SiteExplanation| {
        let first = site.remedies.iter().find(|advice| advice.remedy != Remedy::Recalibrate)?;
        Some((site, &first.remedy))
    };
    sites
        .filter_map(tried)
        .map(|(site, remedy)| {
            let progress = open::progress("confirming");
            Ok(session.confirm(&site.site, fitted, remedy, args.limit, &Cancel::default(), progress)?)
        })
        .collect()
}

fn print_site(site: &SiteExplanation, confirmed: &[Confirmation]) -> Result<()> {
    let what = site.present.as_ref().map_or_else(
        || "full precision".to_owned(),
        |present| format!("{} at {} bits, {:.1} dB", present.quantizer, present.bits, present.sqnr_db),
    );
    say!("{}  {}, {}; {what}", site.site, site.role, site.class)?;
    for sentence in &site.sentences {
        paragraph(sentence)?;
    }
    for found in confirmed.iter().filter(|found| found.site == site.site) {
        paragraph(&found.sentence)?;
    }
    let mut table =
        Table::new(&[("quantizer at these bits", Align::Left), ("dB", Align::Right), ("gain", Align::Right)]);
    for choice in &site.choices {
        let gain = choice.gain_db.map_or_else(String::new, |gain| format!("{gain:+.1}"));
        table.row([choice.quantizer.clone(), format!("{:.1}", choice.sqnr_db), gain]);
    }
    for choice in &site.rewrites {
        let on = if choice.on { " (on)" } else { "" };
        let name = format!("{} at {}{on}", choice.rewrite, choice.layer);
        table.row([name, format!("{:.1}", choice.sqnr_db), format!("{:+.1}", choice.gain_db)]);
    }
    say!("")?;
    table.print()?;
    say!("")?;
    Ok(())
}

fn print_model(
    session: &Session,
    fitted: &FittedPlan,
    made: &ModelExplanation,
    confirmed: &[Confirmation],
) -> Result<()> {
    let label = session.model().label.as_ref().map(|label| format!(" ({label})")).unwrap_or_default();
    say!("{}{label}, plan {}", session.model().name, fitted.plan.method)?;
    let shared: Vec<&String> = made.groups.iter().map(|group| &group.sentence).collect();
    let (groups, others): (Vec<&String>, Vec<&String>) =
        made.sentences.iter().partition(|sentence| shared.contains(sentence));
    for sentence in others.into_iter().chain(groups.into_iter().take(GROUPS)) {
        paragraph(sentence)?;
    }
    for found in confirmed {
        paragraph(&format!("{}: {}", found.site, found.sentence))?;
    }
    say!("")?;
    let mut table = Table::new(&[
        ("site", Align::Left),
        ("role", Align::Left),
        ("class", Align::Left),
        ("bits", Align::Right),
        ("quantizer", Align::Left),
        ("dB", Align::Right),
        ("fault", Align::Left),
        ("would help", Align::Left),
        ("gain", Align::Right),
    ]);
    for site in made.sites.iter().take(SHOWN) {
        let Some(present) = &site.present else { continue };
        let first = site.remedies.first();
        table.row([
            site.site.to_string(),
            site.role.to_string(),
            site.class.to_string(),
            present.bits.to_string(),
            present.quantizer.clone(),
            format!("{:.1}", present.sqnr_db),
            site.faults.first().map_or_else(String::new, |named| named.fault.word().to_owned()),
            first.map_or_else(String::new, |advice| advice.remedy.label()),
            first.and_then(|advice| advice.gain_db).map_or_else(String::new, |gain| format!("{gain:+.1}")),
        ]);
    }
    table.print()?;
    Ok(())
}
