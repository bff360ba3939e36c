//! Edits of the plan and the requests that follow from them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bitloupe_quant::plan::{Plan, SitePlan};
use bitloupe_quant::quantizer::{Granularity, Scheme};
use bitloupe_quant::session::messages::{Job, Request};
use bitloupe_quant::terms::{Bits, SiteId, Slot};

use super::facts::{Facts, SiteSummaryRef};
use super::{App, Effect, Level};
use crate::view::bits_offered;

/// How long nothing must happen before the whole set is evaluated.
pub(super) const IDLE: Duration = Duration::from_millis(300);

impl App {
    /// Gives the targets some bits.
    pub(super) fn set_bits(&mut self, bits: Bits) -> Vec<Effect> {
        let (best, usual) = (self.best_scheme(), self.usual_scheme());
        let fallback: HashMap<SiteId, Scheme> = self
            .targets_in_layers()
            .into_iter()
            .filter_map(|(layer, site)| {
                let suiting = best.as_ref().filter(|scheme| self.suits(scheme, layer, site));
                Some((site.site.clone(), suiting.or(usual.as_ref())?.clone()))
            })
            .collect();
        let sites = self.targets();
        if self.plan.set_bits(&sites, bits, |site| fallback.get(site).cloned()) {
            self.say_marked(sites.len(), &[]);
            self.edited()
        } else {
            Vec::new()
        }
    }

    /// One step along the offered bits.
    pub(super) fn step_bits(&mut self, by: isize) -> Vec<Effect> {
        let offered = bits_offered(self);
        let now = self.reference_bits();
        let place = offered.iter().position(|bits| *bits >= now).unwrap_or(offered.len().saturating_sub(1));
        match offered.get(place.saturating_add_signed(by).min(offered.len().saturating_sub(1))) {
            Some(bits) if *bits != now => self.set_bits(*bits),
            _ => Vec::new(),
        }
    }

    /// Float, or back to the bits before.
    pub(super) fn toggle_float(&mut self) -> Vec<Effect> {
        let bits = if self.reference_bits().is_float() { self.plan.bits_before_float() } else { Bits::FLOAT };
        self.set_bits(bits)
    }

    /// Gives the targets the n-th choice, where it fits: what is made for a softmax does not fit a sum.
    pub(super) fn choose(&mut self, place: usize) -> Vec<Effect> {
        let Some(choice) = self.choices().get(place) else {
            self.note(Level::Warning, format!("there is no quantizer {}", place + 1));
            return Vec::new();
        };
        let (scheme, bits) = (choice.scheme.clone(), self.compared_bits());
        let (sites, unfit) = self.fitting_targets(&scheme);
        let unfit: Vec<String> = unfit.iter().map(|site| format!("{} ({})", site.site, site.role)).collect();
        self.choice = place;
        if sites.is_empty() {
            self.note(
                Level::Warning,
                format!("{scheme} fits no site of the marked layers; X clears the marks"),
            );
            return Vec::new();
        }
        if self.plan.set_scheme(&sites, &scheme, bits) {
            self.say_marked(sites.len(), &unfit);
            self.edited()
        } else {
            Vec::new()
        }
    }

    /// Gives the shown site's choice to all sites of its role.
    pub(super) fn apply_to_role(&mut self) -> Vec<Effect> {
        let Some(site) = self.site_id().cloned() else { return Vec::new() };
        let sites = self.role_targets();
        let changed = self.plan.copy(&site, &sites);
        let count = sites.len();
        let role = self.site().map(|site| site.role.to_string()).unwrap_or_default();
        if changed {
            self.note(Level::Info, format!("{count} {role} sites now as this one"));
            self.edited()
        } else {
            self.note(Level::Info, format!("all {count} {role} sites are as this one already"));
            Vec::new()
        }
    }

    /// The operands of the shown product, if each can have what the other has; why not otherwise.
    pub fn exchangeable(&self) -> Result<[SiteId; 2], &'static str> {
        let only_products = "only the two operands of a product of activations can be exchanged";
        let layer = self.layer().ok_or("no layer is selected")?;
        let [a, b] = layer.sites.as_slice() else { return Err(only_products) };
        if [a, b].iter().any(|site| site.site.slot == Slot::Weight) {
            return Err(only_products);
        }
        let plan = self.plan.current();
        match (plan.site(&a.site), plan.site(&b.site)) {
            (Some(of_a), Some(of_b)) if of_a == of_b => Err("both operands have the same"),
            (Some(SitePlan::Quantized { scheme, .. }), Some(SitePlan::Quantized { scheme: other, .. }))
                if scheme.family == other.family
                    && [scheme, other].iter().all(|scheme| scheme.granularity == Granularity::Tensor) =>
            {
                Ok([a.site.clone(), b.site.clone()])
            }
            _ => Err("the two operands have quantizers of different kinds"),
        }
    }

    /// Gives each operand of the shown product what the other one has.
    pub(super) fn exchange(&mut self) -> Vec<Effect> {
        let Ok([a, b]) = self.exchangeable() else { return Vec::new() };
        if self.plan.exchange(&a, &b) {
            self.note(Level::Info, format!("operands exchanged, u takes it back: {}", a.layer));
            self.edited()
        } else {
            Vec::new()
        }
    }

    /// Starts from a ready-made plan.
    pub(super) fn take_preset(&mut self, name: &str, plan: &Arc<Plan>) -> Vec<Effect> {
        if self.load(plan, name) { self.edited() } else { Vec::new() }
    }

    /// The best choice of the shown site, for sites that have no scheme yet.
    fn best_scheme(&self) -> Option<Scheme> {
        let (place, _) = self.best_choice()?;
        Some(self.choices().get(place)?.scheme.clone())
    }

    /// What is offered first: it fits every site of its kind.
    fn usual_scheme(&self) -> Option<Scheme> {
        let model = self.model.as_ref()?;
        let weight = self.site_id()?.slot == Slot::Weight;
        if weight { model.weight_schemes.first().cloned() } else { model.activation_schemes.first().cloned() }
    }

    /// After any change of the plan: keep it, run the sample, fit the site, evaluate when idle.
    pub(super) fn edited(&mut self) -> Vec<Effect> {
        self.plan.generation = self.generation + 1;
        self.gather_facts();
        let mut effects = vec![self.keep_plan()];
        // That of the other side changes only when the first edit is made or the last one taken back.
        if self.kept_hidden != (self.compare.is_some() && self.is_unsaved()) {
            effects.push(self.keep());
        }
        effects.extend(self.ask_sample());
        effects.extend(self.ask_site());
        effects
    }

    /// Runs the sample.
    pub(super) fn ask_sample(&mut self) -> Vec<Effect> {
        if self.model.is_none() || self.ended {
            return Vec::new();
        }
        let generation = self.next_generation();
        self.shown_generation = generation;
        self.sample_failure = None;
        self.jobs.start(Job::Sample);
        let text = self.typed_sentence().map(str::to_owned);
        // Before the calibration a plan cannot be fitted: the full-precision mask is there to look at meanwhile.
        let plan = if self.calibration.complete { self.plan.current() } else { self.float_plan() };
        let request = Request::Show { generation, plan, sample: self.sample, text };
        vec![Effect::Send(request), Effect::WakeAfter(IDLE)]
    }

    /// A plan that names no site.
    pub(super) fn float_plan(&self) -> Arc<Plan> {
        Arc::new(Plan::new(self.plan.current().model.clone()))
    }

    /// Fits the shown site.
    pub(super) fn ask_site(&mut self) -> Vec<Effect> {
        let Some(site) = self.site_id().cloned() else { return Vec::new() };
        // An activation has nothing to fit before its first calibration sample; a weight has.
        let known = site.slot == Slot::Weight || self.summary_of.contains_key(&site);
        if self.ended || !known {
            return Vec::new();
        }
        let generation = self.next_generation();
        self.why_scroll = 0;
        vec![Effect::Send(Request::Site { generation, site, plan: self.plan.current() })]
    }

    /// Evaluates the set.
    pub(super) fn ask_evaluation(&mut self) -> Vec<Effect> {
        if self.sample_count() == 0 || self.ended {
            return Vec::new();
        }
        let generation = self.next_generation();
        self.evaluated_generation = generation;
        self.jobs.start(Job::Evaluation);
        vec![Effect::Send(Request::Evaluate { generation, plan: self.plan.current() })]
    }

    /// Evaluates the set if the sample is done and the figures are old.
    pub(super) fn evaluate_when_idle(&mut self) -> Vec<Effect> {
        let asked = self.evaluated_generation > self.plan.generation;
        if asked || !self.calibration.complete || !self.sample_is_current() {
            Vec::new()
        } else {
            self.ask_evaluation()
        }
    }

    /// Writes the plan.
    pub(super) fn save(&mut self) -> Vec<Effect> {
        self.jobs.start(Job::Save);
        let path = self.setup.plan_path.clone();
        self.plan.mark_saving();
        // The file that the plan was opened from is meant to be written.
        let replace = self.setup.initial_plan.as_ref().is_some_and(|(from, _)| path == Path::new(from));
        vec![Effect::Send(Request::Save { plan: self.written_plan(), path, replace })]
    }

    /// Writes the export files.
    pub(super) fn export(&mut self) -> Vec<Effect> {
        self.jobs.start(Job::Export);
        let folder = self.setup.export_folder.clone();
        vec![Effect::Send(Request::Export { plan: self.written_plan(), folder, replace: false })]
    }

    /// The plan with its parameters if they are known.
    fn written_plan(&self) -> Arc<Plan> {
        match &self.fitted {
            Some(fitted) if self.plan_is_fitted() => Arc::clone(&fitted.plan),
            _ => self.plan.current(),
        }
    }

    /// Another sentence for the shown sample; an empty one brings the sample's own back.
    pub(super) fn take_sentence(&mut self, text: String) -> Vec<Effect> {
        let own = self
            .model
            .as_ref()
            .and_then(|model| model.samples.get(self.sample))
            .map(|info| info.text.clone());
        if text.is_empty() || own.as_deref() == Some(text.as_str()) {
            self.sentences.remove(&self.sample);
        } else {
            self.sentences.insert(self.sample, text);
        }
        self.ask_sample()
    }

    /// Gathers what the layer table shows.
    pub(super) fn gather_facts(&mut self) {
        let Some(model) = &self.model else { return };
        let summary = |site: &bitloupe_quant::terms::SiteId| {
            self.summary_of.get(site).and_then(|place| self.summaries.get(*place)).map(SiteSummaryRef::from)
        };
        let effect = |site: &SiteId| self.effect(site).map(|effect| effect.delta);
        self.facts = Facts::gather(model, &self.plan, self.fitted.as_deref(), &summary, &effect);
        self.plan_name = self.plan.name(&model.presets, self.snapshots.list());
        self.rebuild_layers();
    }

    /// Makes the lines of the layer table.
    pub(super) fn rebuild_layers(&mut self) {
        if let Some(model) = &self.model {
            self.layers.rebuild(model, &self.facts);
        }
    }
}
