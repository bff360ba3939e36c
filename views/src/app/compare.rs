//! Two plans, A and B, of which one is shown and edited; a key switches between them in place.

use std::sync::Arc;

use bitloupe_quant::plan::{Figures, Plan};
use bitloupe_quant::session::messages::{Generation, Job, ModelView, PlanView, Request, SampleView, SetView};
use crossterm::event::{KeyCode, KeyEvent};

use super::overlay::Overlay;
use super::overlay_keys::{Outcome, list_key};
use super::plan::PlanState;
use super::snapshots::{accuracy, cost};
use super::{App, Effect, Level};

/// One of two compared plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What was there first.
    A,
    /// What it is compared with.
    B,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its letter.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

/// The comparison: which side is shown, and all that belongs to the other one.
#[derive(Debug)]
pub struct Compare {
    /// The side that is shown and edited.
    pub shown: Side,
    /// The other side.
    pub hidden: HiddenSide,
}

/// A side that is not shown, with its own history and what was computed of it last.
#[derive(Debug)]
pub struct HiddenSide {
    /// The plan.
    pub plan: PlanState,
    /// Its name.
    pub name: String,
    /// Its fit.
    pub fitted: Option<Arc<PlanView>>,
    /// Its run of a sample.
    pub sample: Option<Arc<SampleView>>,
    /// Its evaluation.
    pub set: Option<Arc<SetView>>,
}

impl Compare {
    /// The side that is not shown.
    pub const fn hidden_side(&self) -> Side {
        self.shown.other()
    }
}

impl HiddenSide {
    fn new(plan: PlanState, name: String) -> Self {
        Self { plan, name, fitted: None, sample: None, set: None }
    }

    /// What is known of its plan.
    pub fn figures(&self) -> Figures {
        let now = self.plan.generation;
        Figures {
            cost: self.fitted.as_deref().filter(|fitted| fitted.generation >= now).map(cost),
            accuracy: self.set.as_deref().filter(|set| set.complete && set.generation >= now).map(accuracy),
        }
    }
}

/// A plan that the current one can be compared with.
#[derive(Debug, Clone)]
pub struct Partner {
    /// For the list.
    pub label: String,
    /// Its name as a side.
    pub name: String,
    /// The plan.
    pub plan: Arc<Plan>,
}

impl App {
    /// Plans to compare with: the one before the last load, then the snapshots; not the plan itself.
    pub fn partners(&self) -> Vec<Partner> {
        let now = self.plan.current();
        let before = self.before_load.iter().filter(|(_, plan)| *plan != now).map(|(name, plan)| Partner {
            label: format!("before the last load: {name}"),
            name: name.clone(),
            plan: Arc::clone(plan),
        });
        let others = self.snapshots.list().iter().filter(|snapshot| snapshot.plan != now);
        let snapshots = others.map(|snapshot| Partner {
            label: snapshot.name.clone(),
            name: snapshot.name.clone(),
            plan: Arc::clone(&snapshot.plan),
        });
        before.chain(snapshots).collect()
    }

    /// Which side is shown, if two plans are compared.
    pub fn side(&self) -> Option<Side> {
        self.compare.as_ref().map(|compare| compare.shown)
    }

    /// Whether a side has edits that are not saved.
    pub fn is_unsaved(&self) -> bool {
        self.plan.is_dirty() || self.compare.as_ref().is_some_and(|compare| compare.hidden.plan.is_dirty())
    }

    /// Shows the other side; without a comparison, asks for the other plan.
    pub(super) fn switch_side(&mut self) -> Vec<Effect> {
        if self.compare.is_none() {
            self.overlays.push(Overlay::Compare(0));
            return Vec::new();
        }
        self.switch()
    }

    /// Keys of the list of plans to compare with; its last line ends a comparison.
    pub(super) fn compare_key(
        &mut self,
        cursor: &mut usize,
        key: KeyEvent,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let partners = self.partners();
        let lines = partners.len() + usize::from(self.compare.is_some());
        let chosen = match key.code {
            KeyCode::Char(digit @ '1'..='9') => Some(digit as usize - '1' as usize),
            KeyCode::Enter => Some(*cursor),
            KeyCode::Char('x') if self.compare.is_some() => Some(partners.len()),
            KeyCode::Char('B' | '|') => return Outcome::Close,
            _ => None,
        };
        match chosen {
            Some(place) if place < partners.len() => {
                if let Some(partner) = partners.get(place) {
                    effects.extend(self.compare_with(&partner.name, &partner.plan));
                }
                Outcome::Close
            }
            Some(place) if place < lines => {
                effects.extend(self.end_comparison());
                Outcome::Close
            }
            _ => list_key(cursor, key, lines),
        }
    }

    /// Makes a plan the other side and shows it.
    pub(super) fn compare_with(&mut self, name: &str, plan: &Arc<Plan>) -> Vec<Effect> {
        if !self.put_hidden_aside() {
            return Vec::new();
        }
        let hidden = HiddenSide::new(self.plan.beside(plan), name.to_owned());
        let shown = self.compare.as_ref().map_or(Side::A, |compare| compare.shown);
        self.compare = Some(Compare { shown, hidden });
        let effects = self.switch();
        let (now, before) = (shown.other().letter(), shown.letter());
        let keys = format!("the key B switches to {before} and back, D lists what differs");
        self.note(Level::Info, format!("side {now} is \"{name}\"; {keys}"));
        effects
    }

    /// Ends the comparison; the shown side stays.
    fn end_comparison(&mut self) -> Vec<Effect> {
        if self.compare.is_none() || !self.put_hidden_aside() {
            return Vec::new();
        }
        self.compare = None;
        vec![self.keep_plan(), self.keep()]
    }

    /// Edits of the hidden side become a snapshot before the side goes. Says whether it may go.
    fn put_hidden_aside(&mut self) -> bool {
        let Some(compare) = self.compare.as_ref().filter(|compare| compare.hidden.plan.is_dirty()) else {
            return true;
        };
        let side = compare.hidden_side().letter();
        let (name, plan) = (compare.hidden.name.clone(), compare.hidden.plan.current());
        let figures = compare.hidden.figures();
        let Some(name) = self.keep_aside(&name, plan, figures) else {
            let text = format!("{side} has unsaved edits and there is no room for another snapshot");
            self.note(Level::Warning, text);
            return false;
        };
        self.note(Level::Info, format!("{side} had unsaved edits: they are in the snapshot \"{name}\""));
        true
    }

    /// Swaps the sides. What was computed of the other one comes with it; the rest is asked for.
    fn switch(&mut self) -> Vec<Effect> {
        let Some(mut compare) = self.compare.take() else { return Vec::new() };
        let hidden = &mut compare.hidden;
        let floor = self.next_generation();
        // Answers to what was asked before belong to the other side.
        self.floor = floor;
        self.asked = None;
        std::mem::swap(&mut self.plan, &mut hidden.plan);
        std::mem::swap(&mut self.plan_name, &mut hidden.name);
        let known = std::mem::replace(&mut self.plan.generation, floor);
        let fitted = fresh(
            hidden.fitted.as_ref(),
            known,
            |view| view.generation,
            |view| PlanView { generation: floor, ..view },
        );
        let sample = fresh(
            hidden.sample.as_ref(),
            known,
            |view| view.generation,
            |view| SampleView { generation: floor, ..view },
        );
        let complete = hidden.set.as_ref().filter(|set| set.complete);
        let set = fresh(complete, known, |set| set.generation, |set| SetView { generation: floor, ..set });
        // Old masks stay until there are new ones; figures of the other plan would be taken for this one's.
        let (fitted, sample) = (fitted.or(self.fitted.clone()), sample.or(self.shown.clone()));
        hidden.fitted = std::mem::replace(&mut self.fitted, fitted);
        hidden.sample = std::mem::replace(&mut self.shown, sample);
        hidden.set = std::mem::replace(&mut self.set, set);
        compare.shown = compare.shown.other();
        self.compare = Some(compare);
        self.gather_facts();
        let mut effects = vec![self.keep_plan()];
        if self.kept_hidden || self.is_unsaved() {
            effects.push(self.keep());
        }
        self.evaluated_generation = floor;
        if self.set_is_current() {
            self.evaluated_generation = self.next_generation();
        }
        if self.sample_is_current() && self.plan_is_fitted() {
            self.shown_generation = floor;
            self.jobs.end(Job::Sample);
            effects.push(Effect::WakeAfter(super::edit::IDLE));
        } else {
            effects.extend(self.ask_sample());
        }
        effects.extend(self.ask_site());
        effects
    }

    /// The hidden side of a session that ended early: it stands beside the plan that is back, or among the snapshots if
    /// that one was saved.
    pub(super) fn restore_hidden(&mut self, model: &ModelView) {
        let Some(found) = &model.kept.hidden else { return };
        if model.recovered.is_some() {
            let plan = self.plan.beside_unsaved(&found.plan);
            let shown = if found.is_b { Side::A } else { Side::B };
            let name = plan.name(&model.presets, self.snapshots.list());
            self.compare = Some(Compare { shown, hidden: HiddenSide::new(plan, name) });
            self.kept_hidden = true;
            let text = "both plans of a session that ended early are back; B shows the other one";
            self.note(Level::Warning, text);
            return;
        }
        let name = format!("{} ({})", found.plan.method, if found.is_b { "B" } else { "A" });
        if let Some(name) = self.keep_aside(&name, Arc::clone(&found.plan), Figures::default()) {
            let text = format!("unsaved edits of a compared plan are back as the snapshot \"{name}\"");
            self.note(Level::Warning, text);
        }
    }

    /// Has the session keep the shown plan while anything is unsaved.
    pub(super) fn keep_plan(&self) -> Effect {
        // With nothing unsaved there is nothing to recover: a plan that says nothing clears the journal.
        let plan = if self.is_unsaved() { self.plan.current() } else { self.float_plan() };
        Effect::Send(Request::Journal { plan })
    }
}

/// A view that belongs to the newest edit of its plan, with another number.
fn fresh<V: Clone>(
    view: Option<&Arc<V>>,
    known: Generation,
    generation: impl Fn(&V) -> Generation,
    stamp: impl FnOnce(V) -> V,
) -> Option<Arc<V>> {
    let view = view.filter(|view| generation(view) >= known)?;
    Some(Arc::new(stamp(V::clone(view))))
}
