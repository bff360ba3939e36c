//! What sites cost, as far as it was measured.

use std::collections::HashMap;
use std::sync::Arc;

use bitloupe_quant::eval::answer::Metric;
use bitloupe_quant::plan::{Plan, Rewrite, SitePlan};
use bitloupe_quant::session::messages::{Job, Request, SensitivityView, SiteEffect};
use bitloupe_quant::terms::SiteId;

use super::layers::Sort;
use super::{App, Effect, Level};

/// The effects of sites. An effect is of a site's choice alone, so it holds for every plan with the same choice there and
/// the same rewrites.
#[derive(Debug, Clone, Default)]
pub struct Effects {
    by_site: HashMap<SiteId, (SiteEffect, SitePlan)>,
    rewrites: Vec<Rewrite>,
    /// The figure that changes.
    pub metric: Metric,
}

impl Effects {
    /// Takes a table that was measured.
    fn take(&mut self, view: &SensitivityView) {
        if self.rewrites != view.plan.rewrites || self.metric != view.metric {
            self.by_site.clear();
            self.rewrites.clone_from(&view.plan.rewrites);
            self.metric = view.metric;
        }
        for effect in &view.sites {
            if let Some(choice) = view.plan.site(&effect.site) {
                self.by_site.insert(effect.site.clone(), (effect.clone(), choice.clone()));
            }
        }
    }

    /// What a site costs under a plan, if that was measured.
    pub fn of(&self, plan: &Plan, site: &SiteId) -> Option<&SiteEffect> {
        let (effect, choice) = self.by_site.get(site)?;
        let same = |(a, b): (&Rewrite, &Rewrite)| (&a.rewrite, &a.layer) == (&b.rewrite, &b.layer);
        let rewritten =
            plan.rewrites.len() == self.rewrites.len() && plan.rewrites.iter().zip(&self.rewrites).all(same);
        (rewritten && same_choice(plan.site(site)?, choice)).then_some(effect)
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.by_site.is_empty()
    }
}

/// Whether one plan chooses for every site what another one does, under the same rewrites.
pub(super) fn same_choices(a: &Plan, b: &Plan) -> bool {
    let within = |a: &Plan, b: &Plan| {
        a.sites().all(|(site, choice)| same_choice(b.site(&site).unwrap_or(&SitePlan::Float), choice))
    };
    let word = |rewrite: &Rewrite| (rewrite.rewrite.clone(), rewrite.layer.clone());
    a.rewrites.iter().map(word).eq(b.rewrites.iter().map(word)) && within(a, b) && within(b, a)
}

/// Whether two entries are the same choice; numbers count only where both have them.
fn same_choice(a: &SitePlan, b: &SitePlan) -> bool {
    match (a, b) {
        (SitePlan::Float, SitePlan::Float) => true,
        (
            SitePlan::Quantized { scheme, bits, params },
            SitePlan::Quantized { scheme: other, bits: others, params: theirs },
        ) => scheme == other && bits == others && (params.is_none() || theirs.is_none() || params == theirs),
        _ => false,
    }
}

impl App {
    /// What a site costs under the present plan, if that was measured.
    pub fn effect(&self, site: &SiteId) -> Option<&SiteEffect> {
        self.effects.of(&self.plan.current(), site)
    }

    /// Measures what each site costs, and sorts by it.
    pub(super) fn ask_sensitivity(&mut self) -> Vec<Effect> {
        self.layers.sort = Sort::Effect;
        self.layers.reversed = false;
        self.rebuild_layers();
        // The ranking is read from its top.
        let before = self.site_id().cloned();
        self.layers.step(isize::MIN / 2);
        let mut effects = if self.site_id() == before.as_ref() { Vec::new() } else { self.ask_site() };
        let plan = self.plan.current();
        let quantized = plan.sites().filter(|(_, choice)| !matches!(choice, SitePlan::Float));
        let mut known = true;
        let mut any = false;
        let unused: Vec<&str> = self.model.as_ref().map_or_else(Vec::new, |model| {
            model.layers.iter().filter(|layer| !layer.used).map(|layer| layer.name.as_str()).collect()
        });
        for (site, _) in quantized.filter(|(site, _)| !unused.contains(&site.layer.as_str())) {
            any = true;
            known &= self.effect(&site).is_some();
        }
        if !any {
            self.note(Level::Warning, "the plan quantizes nothing: every site is float");
            return effects;
        }
        if known && !self.jobs.runs(Job::Sensitivity) {
            self.note(Level::Info, "every site is measured under this plan; sorted by it");
            return effects;
        }
        let generation = self.next_generation();
        self.jobs.start(Job::Sensitivity);
        effects.push(Effect::Send(Request::Sweep { generation, plan }));
        effects
    }

    /// A table arrives. A cursor on the first line of the ranking stays there, one below it stays on its layer.
    pub(super) fn measured(&mut self, view: &Arc<SensitivityView>) -> Vec<Effect> {
        let before = self.site_id().cloned();
        let at_top = self.layers.sort == Sort::Effect && self.layers.cursor == 0;
        self.effects.take(view);
        if view.complete {
            self.jobs.end(Job::Sensitivity);
            // Runs that were not needed, in sites: what an edit left as it was.
            let known = view.reused.checked_div(view.samples).unwrap_or(0);
            let known = if known > 0 { format!(" ({known} known from before)") } else { String::new() };
            let text = format!(
                "measured {} sites{known} on {} samples; > sorts by other columns",
                view.sites.len(),
                view.samples
            );
            self.note(Level::Info, text);
        }
        self.gather_facts();
        if at_top {
            self.layers.step(isize::MIN / 2);
        }
        if self.site_id() == before.as_ref() { Vec::new() } else { self.ask_site() }
    }
}
