//! The plan that is edited, what it was before, and whether it is saved.

use std::collections::HashMap;
use std::sync::Arc;

use bitloupe_quant::plan::{ModelRef, Plan, SitePlan};
use bitloupe_quant::quantizer::Scheme;
use bitloupe_quant::session::messages::Generation;
use bitloupe_quant::terms::{Bits, SiteId};

/// Steps back that are kept; a step shares all but the changed plan.
const KEPT: usize = 500;

/// A plan with its name.
#[derive(Debug, Clone)]
struct Step {
    name: Arc<str>,
    plan: Arc<Plan>,
}

/// The plan and its history.
#[derive(Debug)]
pub struct PlanState {
    /// Of the request that followed the newest edit.
    pub generation: Generation,
    now: Step,
    back: Vec<Step>,
    forward: Vec<Step>,
    saved: Option<Arc<Plan>>,
    saving: Option<Arc<Plan>>,
    blank: bool,
    /// What a site had before it was made float.
    before_float: HashMap<SiteId, SitePlan>,
    bits_before_float: Option<Bits>,
}

impl PlanState {
    /// The plan given at the start, or a blank one until the model is open.
    pub fn new(initial: Option<(String, Arc<Plan>)>) -> Self {
        let blank = initial.is_none();
        let (name, plan) =
            initial.unwrap_or_else(|| ("float".to_owned(), Arc::new(Plan::new(ModelRef::default()))));
        Self {
            generation: 0,
            saved: Some(Arc::clone(&plan)),
            now: Step { name: name.into(), plan },
            back: Vec::new(),
            forward: Vec::new(),
            saving: None,
            blank,
            before_float: HashMap::new(),
            bits_before_float: None,
        }
    }

    /// The plan.
    pub fn current(&self) -> Arc<Plan> {
        Arc::clone(&self.now.plan)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.now.name
    }

    /// Whether no plan was given and none taken yet.
    pub const fn is_blank(&self) -> bool {
        self.blank
    }

    /// Whether it differs from what was saved last (or from what the session began with).
    pub fn is_dirty(&self) -> bool {
        self.saved.as_ref().is_none_or(|saved| !Arc::ptr_eq(saved, &self.now.plan))
    }

    /// Notes what is being written.
    pub fn mark_saving(&mut self) {
        self.saving = Some(self.current());
    }

    /// Notes that it was written.
    pub fn mark_saved(&mut self) {
        if let Some(plan) = self.saving.take() {
            self.saved = Some(plan);
        }
    }

    /// Bits of a site; a site that the plan does not name is float.
    pub fn bits(&self, site: &SiteId) -> Bits {
        self.now.plan.site(site).map_or(Bits::FLOAT, SitePlan::bits)
    }

    /// The scheme of a site; of a float one what it had before.
    pub fn scheme(&self, site: &SiteId) -> Option<Scheme> {
        let scheme = |plan: &SitePlan| match plan {
            SitePlan::Quantized { scheme, .. } => Some(scheme.clone()),
            SitePlan::Float => None,
        };
        self.now.plan.site(site).and_then(scheme).or_else(|| self.before_float.get(site).and_then(scheme))
    }

    /// The bits that a float site goes back to.
    pub fn bits_before_float(&self) -> Bits {
        self.bits_before_float.or_else(|| Bits::new(8).ok()).unwrap_or(Bits::FLOAT)
    }

    /// Begins with a plan; that is no edit.
    pub fn start(&mut self, name: &str, plan: &Arc<Plan>) {
        self.now = Step { name: name.into(), plan: Arc::clone(plan) };
        self.saved = Some(Arc::clone(plan));
        self.blank = false;
    }

    /// Takes the plan of a journal; the one before stays one step back, and the plan counts as unsaved.
    pub fn recover(&mut self, plan: &Arc<Plan>) -> bool {
        self.push("recovered".into(), Arc::clone(plan))
    }

    /// Takes another plan as one step.
    pub fn replace(&mut self, name: &str, plan: &Arc<Plan>) -> bool {
        self.push(name.into(), Arc::clone(plan))
    }

    /// Gives sites some bits; those without a scheme get `fallback`. Says whether anything changed.
    pub fn set_bits(&mut self, sites: &[SiteId], bits: Bits, fallback: Option<&Scheme>) -> bool {
        self.edit(sites, |state, site| {
            if bits.is_float() {
                return Some(SitePlan::Float);
            }
            let scheme = state.scheme(site).or_else(|| fallback.cloned())?;
            Some(SitePlan::unfitted(scheme, bits))
        })
    }

    /// Gives sites a scheme; float ones get `bits`. Says whether anything changed.
    pub fn set_scheme(&mut self, sites: &[SiteId], scheme: &Scheme, bits: Bits) -> bool {
        self.edit(sites, |state, site| {
            let now = state.bits(site);
            Some(SitePlan::unfitted(scheme.clone(), if now.is_float() { bits } else { now }))
        })
    }

    /// Gives sites what one of them has. Says whether anything changed.
    pub fn copy(&mut self, from: &SiteId, sites: &[SiteId]) -> bool {
        let wanted = match self.now.plan.site(from) {
            Some(SitePlan::Quantized { scheme, bits, .. }) => SitePlan::unfitted(scheme.clone(), *bits),
            _ => SitePlan::Float,
        };
        self.edit(sites, |_, _| Some(wanted.clone()))
    }

    /// One step of the history: what `change` says for each site.
    fn edit(&mut self, sites: &[SiteId], change: impl Fn(&Self, &SiteId) -> Option<SitePlan>) -> bool {
        let mut plan: Option<Plan> = None;
        for site in sites {
            let Some(wanted) = change(self, site) else { continue };
            let now = self.now.plan.site(site).cloned().unwrap_or(SitePlan::Float);
            if same_choice(&now, &wanted) {
                continue;
            }
            if wanted.bits().is_float() {
                self.bits_before_float = Some(now.bits());
                self.before_float.insert(site.clone(), now);
            }
            plan.get_or_insert_with(|| (*self.now.plan).clone()).set(site, Some(wanted));
        }
        let Some(plan) = plan else { return false };
        let name = Arc::clone(&self.now.name);
        let name = if name.ends_with('+') { name } else { format!("{name}+").into() };
        self.push(name, Arc::new(plan))
    }

    fn push(&mut self, name: Arc<str>, plan: Arc<Plan>) -> bool {
        if *plan == *self.now.plan {
            return false;
        }
        self.back.push(std::mem::replace(&mut self.now, Step { name, plan }));
        if self.back.len() > KEPT {
            self.back.remove(0);
        }
        self.forward.clear();
        self.blank = false;
        true
    }

    /// Whether there is a step to undo.
    pub fn can_undo(&self) -> bool {
        !self.back.is_empty()
    }

    /// Whether there is a step to do again.
    pub fn can_redo(&self) -> bool {
        !self.forward.is_empty()
    }

    /// One step back.
    pub fn undo(&mut self) -> bool {
        let Some(step) = self.back.pop() else { return false };
        self.forward.push(std::mem::replace(&mut self.now, step));
        true
    }

    /// One step forward.
    pub fn redo(&mut self) -> bool {
        let Some(step) = self.forward.pop() else { return false };
        self.back.push(std::mem::replace(&mut self.now, step));
        true
    }
}

/// Fitted parameters follow from scheme and bits, so they make no difference.
fn same_choice(a: &SitePlan, b: &SitePlan) -> bool {
    match (a, b) {
        (SitePlan::Float, SitePlan::Float) => true,
        (SitePlan::Quantized { scheme: s, bits: b, .. }, SitePlan::Quantized { scheme: t, bits: c, .. }) => {
            s == t && b == c
        }
        _ => false,
    }
}
