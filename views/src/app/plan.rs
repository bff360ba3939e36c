//! The plan that is edited, with its history.

use std::collections::HashMap;
use std::sync::Arc;

use super::graft::asks_for;
use bitloupe_quant::plan::{History, ModelRef, Plan, PlanEdit, SitePlan, Snapshot};
use bitloupe_quant::quantizer::Scheme;
use bitloupe_quant::session::messages::Generation;
use bitloupe_quant::terms::{Bits, SiteId};

/// The plan and its history.
#[derive(Debug)]
pub struct PlanState {
    /// Of the request that followed the newest edit.
    pub generation: Generation,
    history: History,
    now: Arc<Plan>,
    saving: Option<Arc<Plan>>,
    blank: bool,
    /// What the command line gave, with its name.
    initial: Option<(String, Arc<Plan>)>,
    /// Whole plans of methods with their names, newest first.
    remembered: Vec<(String, Arc<Plan>)>,
    /// What a site had before it was made float.
    before_float: HashMap<SiteId, SitePlan>,
    bits_before_float: Option<Bits>,
}

impl PlanState {
    /// The plan given at the start, or a blank one until the model is open.
    pub fn new(initial: Option<(String, Arc<Plan>)>) -> Self {
        let now = initial
            .as_ref()
            .map_or_else(|| Arc::new(Plan::new(ModelRef::default())), |(_, plan)| Arc::clone(plan));
        Self {
            generation: 0,
            history: History::new((*now).clone()),
            now,
            saving: None,
            blank: initial.is_none(),
            initial,
            remembered: Vec::new(),
            before_float: HashMap::new(),
            bits_before_float: None,
        }
    }

    /// The state of another plan beside this one: a history of its own, the same names.
    #[must_use]
    pub fn beside(&self, plan: &Arc<Plan>) -> Self {
        Self {
            generation: 0,
            history: History::new((**plan).clone()),
            now: Arc::clone(plan),
            saving: None,
            blank: false,
            initial: self.initial.clone(),
            remembered: self.remembered.clone(),
            before_float: self.before_float.clone(),
            bits_before_float: self.bits_before_float,
        }
    }

    /// The same for a plan with edits that are nowhere saved.
    #[must_use]
    pub fn beside_unsaved(&self, plan: &Arc<Plan>) -> Self {
        Self { history: History::unsaved((**plan).clone()), ..self.beside(plan) }
    }

    /// The plan.
    pub fn current(&self) -> Arc<Plan> {
        Arc::clone(&self.now)
    }

    /// Keeps a method's plan so that the plan's name can say how far it is from that.
    pub fn remember(&mut self, name: &str, plan: &Arc<Plan>) {
        const KEPT: usize = 8;
        self.remembered.retain(|(other, _)| other != name);
        self.remembered.insert(0, (name.to_owned(), Arc::clone(plan)));
        self.remembered.truncate(KEPT);
    }

    /// Its name: the ready-made plan or snapshot it is nearest to, and how many sites differ from that.
    pub fn name(&self, presets: &[(String, Arc<Plan>)], snapshots: &[Snapshot]) -> String {
        let sites = self.now.sites().count();
        let made = self.remembered.iter().chain(&self.initial).chain(presets);
        let kept = snapshots.iter().map(|snapshot| (&snapshot.name, &snapshot.plan));
        // Of equal ones the name that a person gave.
        let nearest = kept
            .chain(made.map(|(name, plan)| (name, plan)))
            .map(|(name, plan)| (differences(&self.now, plan), name))
            .min_by_key(|(count, _)| *count);
        match nearest {
            Some((0, name)) => name.clone(),
            Some((count, name)) if count * 2 <= sites => format!("{name} +{count}"),
            _ => self.now.method.clone(),
        }
    }

    /// Whether no plan was given and none taken yet.
    pub const fn is_blank(&self) -> bool {
        self.blank
    }

    /// Whether it differs from what was saved last (or from what the session began with).
    pub fn is_dirty(&self) -> bool {
        self.history.is_dirty()
    }

    /// Notes what is being written.
    pub fn mark_saving(&mut self) {
        self.saving = Some(self.current());
    }

    /// Notes that it was written. A plan that was edited meanwhile is still unsaved.
    pub fn mark_saved(&mut self) {
        if self.saving.take().is_some_and(|plan| Arc::ptr_eq(&plan, &self.now)) {
            self.history.mark_saved();
        }
    }

    /// Bits of a site; a site that the plan does not name is float.
    pub fn bits(&self, site: &SiteId) -> Bits {
        self.now.site(site).map_or(Bits::FLOAT, SitePlan::bits)
    }

    /// The scheme of a site; of a float one what it had before.
    pub fn scheme(&self, site: &SiteId) -> Option<Scheme> {
        let scheme = |plan: &SitePlan| match plan {
            SitePlan::Quantized { scheme, .. } => Some(scheme.clone()),
            SitePlan::Float => None,
        };
        self.now.site(site).and_then(scheme).or_else(|| self.before_float.get(site).and_then(scheme))
    }

    /// The bits that a float site goes back to.
    pub fn bits_before_float(&self) -> Bits {
        self.bits_before_float.or_else(|| Bits::new(8).ok()).unwrap_or(Bits::FLOAT)
    }

    /// Begins with a plan; that is no edit.
    pub fn start(&mut self, plan: &Arc<Plan>) {
        self.history = History::new((**plan).clone());
        self.now = Arc::clone(plan);
        self.blank = false;
    }

    /// Takes another plan as one step. Says whether anything changed.
    pub fn replace(&mut self, plan: &Plan, reason: impl Into<String>) -> bool {
        let edit = PlanEdit::between(&self.now, plan, reason);
        self.apply(edit, false)
    }

    /// Gives sites some bits; those without a scheme get `fallback`. Steps of the same sites are undone at once.
    pub fn set_bits(
        &mut self,
        sites: &[SiteId],
        bits: Bits,
        fallback: impl Fn(&SiteId) -> Option<Scheme>,
    ) -> bool {
        let what = if bits.is_float() { "float".to_owned() } else { format!("{bits} bits") };
        self.edit(sites, &what, (true, false), |state, site| {
            if bits.is_float() {
                return Some(SitePlan::Float);
            }
            let scheme = state.scheme(site).or_else(|| fallback(site))?;
            Some(SitePlan::unfitted(scheme, bits))
        })
    }

    /// Gives sites a scheme; float ones get `bits`. Says whether anything changed.
    pub fn set_scheme(&mut self, sites: &[SiteId], scheme: &Scheme, bits: Bits) -> bool {
        self.edit(sites, &scheme.to_string(), (false, true), |state, site| {
            let now = state.bits(site);
            Some(SitePlan::unfitted(scheme.clone(), if now.is_float() { bits } else { now }))
        })
    }

    /// Gives each of two sites what the other one has, with the numbers.
    pub fn exchange(&mut self, a: &SiteId, b: &SiteId) -> bool {
        let of = |site: &SiteId| self.now.site(site).cloned().unwrap_or(SitePlan::Float);
        let (of_a, of_b) = (of(a), of(b));
        let sites = [a.clone(), b.clone()];
        let changes = sites.into_iter().zip([Some(of_b), Some(of_a)]).collect::<Vec<_>>();
        let edit = PlanEdit::set(&self.now, changes, format!("{a} and {b} exchanged"));
        self.apply(edit, false)
    }

    /// A site's quantizer and bits without what was fitted.
    fn unfitted(&self, site: &SiteId) -> SitePlan {
        match self.now.site(site) {
            Some(SitePlan::Quantized { scheme, bits, .. }) => SitePlan::unfitted(scheme.clone(), *bits),
            _ => SitePlan::Float,
        }
    }

    /// A site's bits and quantizer in words.
    pub fn in_words(&self, site: &SiteId) -> String {
        match self.now.site(site) {
            Some(SitePlan::Quantized { scheme, bits, .. }) => format!("{bits} bits {scheme}"),
            _ => "full precision".to_owned(),
        }
    }

    /// How many sites have another quantizer or other bits than one of them.
    pub fn count_unlike(&self, from: &SiteId, sites: &[SiteId]) -> usize {
        let wanted = self.unfitted(from);
        let now = |site| self.now.site(site).unwrap_or(&SitePlan::Float);
        sites.iter().filter(|site| !same_choice(now(site), &wanted)).count()
    }

    /// Gives sites what one of them has. Says whether anything changed.
    pub fn copy(&mut self, from: &SiteId, sites: &[SiteId]) -> bool {
        let wanted = self.unfitted(from);
        self.edit(sites, &format!("as {from}"), (false, false), |_, _| Some(wanted.clone()))
    }

    /// One step of the history: what `change` says for each site. With `anew`, numbers that the plan brought are no
    /// reason to leave a site that is to have the same choice: they are fitted anew.
    fn edit(
        &mut self,
        sites: &[SiteId],
        what: &str,
        (merging, anew): (bool, bool),
        change: impl Fn(&Self, &SiteId) -> Option<SitePlan>,
    ) -> bool {
        let mut changes = Vec::new();
        for site in sites {
            let Some(wanted) = change(self, site) else { continue };
            let now = self.now.site(site).cloned().unwrap_or(SitePlan::Float);
            if same_choice(&now, &wanted) && !(anew && has_numbers(&now)) {
                continue;
            }
            if wanted.is_float() {
                self.bits_before_float = Some(now.bits());
                self.before_float.insert(site.clone(), now);
            }
            changes.push((site.clone(), Some(wanted)));
        }
        let reason = match changes.as_slice() {
            [(site, _)] => format!("{site} {what}"),
            changes => format!("{} sites {what}", changes.len()),
        };
        let edit = PlanEdit::set(&self.now, changes, reason);
        self.apply(edit, merging)
    }

    fn apply(&mut self, edit: PlanEdit, merging: bool) -> bool {
        if edit.is_empty() {
            return false;
        }
        let applied = if merging { self.history.apply_merging(edit) } else { self.history.apply(edit) };
        if let Err(error) = applied {
            tracing::error!("{error}");
            return false;
        }
        self.blank = false;
        self.now = Arc::new(self.history.plan().clone());
        true
    }

    /// Whether there is a step to undo.
    pub fn can_undo(&self) -> bool {
        self.history.undo_reason().is_some()
    }

    /// Whether there is a step to do again.
    pub fn can_redo(&self) -> bool {
        self.history.redo_reason().is_some()
    }

    /// One step back; says what was undone.
    pub fn undo(&mut self) -> Option<String> {
        let reason = self.history.undo().ok()??.reason.clone();
        self.now = Arc::new(self.history.plan().clone());
        Some(reason)
    }

    /// One step forward; says what was done again.
    pub fn redo(&mut self) -> Option<String> {
        let reason = self.history.redo().ok()??.reason.clone();
        self.now = Arc::new(self.history.plan().clone());
        Some(reason)
    }
}

/// Sites that two plans treat differently, and rewrites that only one of them has.
pub(super) fn differences(a: &Plan, b: &Plan) -> usize {
    let float = &SitePlan::Float;
    let changed = a.sites().filter(|(site, plan)| !same_choice(plan, b.site(site).unwrap_or(float))).count();
    // A site that only the other plan names is float here.
    let named = b.sites().filter(|(site, plan)| a.site(site).is_none() && !plan.is_float()).count();
    let only = |a: &Plan, b: &Plan| a.rewrites.iter().filter(|rewrite| !asks_for(b, rewrite)).count();
    changed + named + only(a, b) + only(b, a)
}

/// Whether a plan brought fitted parameters.
fn has_numbers(choice: &SitePlan) -> bool {
    matches!(choice, SitePlan::Quantized { params: Some(_), .. })
}

/// Fitted parameters follow from scheme and bits, so they make no difference.
pub(super) fn same_choice(a: &SitePlan, b: &SitePlan) -> bool {
    match (a, b) {
        (SitePlan::Float, SitePlan::Float) => true,
        (SitePlan::Quantized { scheme: s, bits: b, .. }, SitePlan::Quantized { scheme: t, bits: c, .. }) => {
            s == t && b == c
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitloupe_quant::quantizer::{Family, Params, RangeSearch};
    use bitloupe_quant::terms::Slot;

    fn scheme() -> Scheme {
        Scheme::new(Family::Uniform, RangeSearch::MinMax)
    }

    /// As a plan brings it.
    fn with_step(step: f32) -> SitePlan {
        let (scale, zero_point, extra) = (vec![step], vec![0.0], std::collections::BTreeMap::new());
        SitePlan::fitted(Params { scheme: scheme(), bits: Bits::EIGHT, scale, zero_point, extra })
    }

    fn operands() -> (SiteId, SiteId) {
        (SiteId::new("attn.qk", Slot::Lhs), SiteId::new("attn.qk", Slot::Rhs))
    }

    /// A plan that brings numbers for both operands of a product.
    fn given() -> PlanState {
        let ((lhs, rhs), mut plan) = (operands(), Plan::new(ModelRef::default()));
        plan.set(&lhs, Some(with_step(0.1)));
        plan.set(&rhs, Some(with_step(4.0)));
        PlanState::new(Some(("given".to_owned(), Arc::new(plan))))
    }

    #[test]
    fn operands_are_exchanged_with_their_numbers_in_one_step() {
        let (mut state, (lhs, rhs)) = (given(), operands());
        let before = state.current();
        assert!(state.exchange(&lhs, &rhs));
        assert_eq!(state.current().site(&lhs), before.site(&rhs));
        assert_eq!(state.current().site(&rhs), before.site(&lhs));
        assert!(state.undo().is_some_and(|what| what.contains("exchanged")));
        assert_eq!(state.current(), before);
    }

    #[test]
    fn the_same_choice_again_fits_numbers_that_the_plan_brought_anew() {
        let (mut state, (lhs, _)) = (given(), operands());
        assert!(state.set_scheme(std::slice::from_ref(&lhs), &scheme(), Bits::EIGHT));
        assert_eq!(state.current().site(&lhs), Some(&SitePlan::unfitted(scheme(), Bits::EIGHT)));
        // Now there is nothing to fit anew.
        assert!(!state.set_scheme(std::slice::from_ref(&lhs), &scheme(), Bits::EIGHT));
        assert!(state.undo().is_some() && state.current().site(&lhs) == Some(&with_step(0.1)));
    }
}
