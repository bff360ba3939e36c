//! `bitloupe plan rewrite`: switching rewrites where they fit.

use std::collections::BTreeMap;
use std::path::Path;

use bitloupe_quant::graph::RewriteKind;
use bitloupe_quant::plan::{Rewrite, SitePlan};
use color_eyre::eyre::{Result, eyre};

use crate::cli::ModelArgs;
use crate::commands::regex;
use crate::open;

/// What is switched where.
pub(super) struct Switch<'a> {
    /// Name of the rewrite.
    pub(super) rewrite: &'a str,
    /// Nodes that it begins at.
    pub(super) layer: &'a str,
    pub(super) on: bool,
    /// Of smoothing: the share of the spread that goes into the weight.
    pub(super) alpha: Option<f32>,
}

/// Switches a rewrite on or off at every place that matches, and fits what it changes anew.
pub(super) fn run(
    path: &Path,
    model: &ModelArgs,
    switch: &Switch<'_>,
    calibration: Option<&Path>,
    output: &Path,
) -> Result<()> {
    let kind: RewriteKind = switch.rewrite.parse()?;
    let vectors: BTreeMap<String, Vec<f32>> = match switch.alpha {
        None => BTreeMap::new(),
        Some(_) if kind != RewriteKind::Smoothing => {
            return Err(eyre!("--alpha is for smoothing, not for {kind}"));
        }
        Some(alpha) if !(0.0..=1.0).contains(&alpha) => {
            return Err(eyre!(
                "--alpha {alpha} is no share; give 0 (all stays) to 1 (all goes into the weight)"
            ));
        }
        Some(alpha) => [("alpha".to_owned(), vec![alpha])].into(),
    };
    let session = open::session(model, calibration.map(Path::to_owned), None)?;
    let mut plan = open::plan(&session, path)?;
    let pattern = regex(switch.layer)?;
    let word = kind.to_string();
    let places: Vec<_> = session
        .rewrite_views()
        .into_iter()
        .filter(|place| place.rewrite.rewrite == word && pattern.is_match(&place.rewrite.layer))
        .collect();
    if places.is_empty() {
        return Err(eyre!("{word} fits at no place that matches `{pattern}`"));
    }
    for place in &places {
        let Rewrite { rewrite, layer, .. } = &place.rewrite;
        plan.rewrites.retain(|other| other.rewrite != *rewrite || other.layer != *layer);
        if switch.on {
            plan.rewrites.push(Rewrite { vectors: vectors.clone(), ..place.rewrite.clone() });
        }
        for site in &place.sites {
            if let Some(SitePlan::Quantized { scheme, bits, .. }) = plan.site(site).cloned() {
                plan.set(site, Some(SitePlan::unfitted(scheme, bits)));
            }
        }
    }
    "manual".clone_into(&mut plan.method);
    plan.metrics.clear();
    let fitted = open::fit(&session, &plan)?;
    fitted.plan.write(output)?;
    let on = fitted.plan.rewrites.iter().filter(|r| r.rewrite == word && pattern.is_match(&r.layer)).count();
    say!("{}: {word} at {on} of {} places", output.display(), places.len())?;
    Ok(())
}
