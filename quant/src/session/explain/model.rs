//! A whole model under a plan.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::Serialize;

use super::groups::{Group, groups};
use super::site::SiteExplanation;
use super::swapped_text::SwappedText;
use super::words;
use crate::exec::{Cancel, ExecError};
use crate::session::{FittedPlan, Session, SessionError};
use crate::terms::SiteId;

/// Change of the metric by each site, by its place in [`Graph::sites`](crate::graph::Graph::sites): the most negative is
/// the worst.
pub type Ranking<'r> = &'r [(usize, f64)];

/// What is known of a model under a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelExplanation {
    /// What puts the sites in order: `ranking` or `predicted-sqnr`.
    pub ranked_by: &'static str,
    /// Every quantized site, the worst first.
    pub sites: Vec<SiteExplanation>,
    /// Sites by their first fault, the fault of most sites first.
    pub faults: Vec<FaultySites>,
    /// Remedies that sites share.
    pub groups: Vec<Group>,
    /// Whether the sentence still matters, for models that answer sentences with masks.
    pub swapped_text: Option<SwappedText>,
    /// Why that was left out.
    pub swapped_text_left_out: Option<&'static str>,
    /// All of it for people.
    pub sentences: Vec<String>,
}

/// Sites with the same first fault.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultySites {
    /// Its word.
    pub fault: &'static str,
    /// The sites, the worst first.
    pub sites: Vec<SiteId>,
}

impl Session {
    /// Explains every quantized site from what is known by now (see [`Session::prepare_explanations`]), and runs at most
    /// `samples` samples with swapped sentences. `progress(done, total)` is of those runs, on this thread.
    pub fn explain(
        &self,
        fitted: &FittedPlan,
        ranking: Option<Ranking<'_>>,
        samples: usize,
        cancel: &Cancel,
        progress: impl FnMut(usize, usize),
    ) -> Result<ModelExplanation, SessionError> {
        let graph = &*self.model.graph;
        // What no result depends on loses nothing.
        let counts = |i: &usize| {
            fitted.params.get(*i).is_some_and(Option::is_some) && graph.is_used(graph.sites()[*i].node)
        };
        let quantized: Vec<usize> = (0..graph.sites().len()).filter(counts).collect();
        let one = |index: usize| {
            if cancel.is_cancelled() {
                return Err(ExecError::Cancelled.into());
            }
            Ok((index, self.explain_site(&graph.sites()[index].id, fitted)?))
        };
        let mut sites: Vec<(usize, SiteExplanation)> =
            self.pool.install(|| quantized.into_par_iter().map(one).collect::<Result<_, SessionError>>())?;
        let groups = groups(&sites.iter().map(|(_, site)| site).collect::<Vec<_>>());
        let effects: HashMap<usize, f64> = ranking.unwrap_or_default().iter().copied().collect();
        let effect = |index: usize| effects.get(&index).copied().unwrap_or(f64::INFINITY);
        let sqnr = |site: &SiteExplanation| site.present.as_ref().map_or(f64::INFINITY, |p| p.sqnr_db);
        sites.sort_by(|(i, a), (j, b)| {
            effect(*i).total_cmp(&effect(*j)).then(sqnr(a).total_cmp(&sqnr(b))).then(i.cmp(j))
        });
        let sites: Vec<SiteExplanation> = sites.into_iter().map(|(_, site)| site).collect();
        let text = if sites.is_empty() {
            Err("nothing is quantized")
        } else {
            self.swapped_text(fitted, samples, cancel, progress)?
        };
        let (swapped_text, swapped_text_left_out) = match text {
            Ok(text) => (Some(text), None),
            Err(why) => (None, Some(why)),
        };
        let mut made = ModelExplanation {
            ranked_by: if ranking.is_some() { "ranking" } else { "predicted-sqnr" },
            faults: faulty(&sites),
            sites,
            groups,
            swapped_text,
            swapped_text_left_out,
            sentences: Vec::new(),
        };
        made.sentences = words::model(&made);
        Ok(made)
    }
}

/// Sites by their first fault.
fn faulty(sites: &[SiteExplanation]) -> Vec<FaultySites> {
    let mut found: Vec<FaultySites> = Vec::new();
    for site in sites {
        let Some(first) = site.faults.first() else { continue };
        let fault = first.fault.word();
        match found.iter_mut().find(|known| known.fault == fault) {
            Some(known) => known.sites.push(site.site.clone()),
            None => found.push(FaultySites { fault, sites: vec![site.site.clone()] }),
        }
    }
    found.sort_by_key(|known| std::cmp::Reverse(known.sites.len()));
    found
}
