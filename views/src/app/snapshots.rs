//! Named snapshots of the plan: take, load, rename, delete; all of them kept by the session.

use std::sync::Arc;

use bitloupe_quant::plan::{
    Accuracy, Cost, Figures, Hidden, Kept, MAX_SNAPSHOTS, Plan, Snapshot, clean_name,
};
use bitloupe_quant::session::messages::{Job, PlanView, Request, SetView};
use crossterm::event::{KeyCode, KeyEvent};
use tui_input::Input;

use super::overlay::{DiffWith, Overlay};
use super::overlay_keys::{Outcome, edit, list_key};
use super::{App, Effect, Level};

/// Steps of the list that can be taken back.
const STEPS: usize = 20;

/// The snapshots of the model.
#[derive(Debug, Default)]
pub struct Snapshots {
    list: Vec<Snapshot>,
    /// The list before each change, newest last.
    before: Vec<Vec<Snapshot>>,
}

impl Snapshots {
    /// Those that the session knows.
    pub fn open(&mut self, list: Vec<Snapshot>) {
        self.list = list;
        self.before.clear();
    }

    /// In the order in which they were taken.
    pub fn list(&self) -> &[Snapshot] {
        &self.list
    }

    /// One of them.
    pub fn get(&self, place: usize) -> Option<&Snapshot> {
        self.list.get(place)
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|snapshot| snapshot.name == name)
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<Snapshot>)) {
        self.before.push(self.list.clone());
        if self.before.len() > STEPS {
            self.before.remove(0);
        }
        change(&mut self.list);
    }

    /// Takes the last change of the list back.
    fn undo(&mut self) -> bool {
        self.before.pop().map(|list| self.list = list).is_some()
    }

    /// A name like `wanted` that none has.
    fn free_name(&self, wanted: &str) -> String {
        // `W8A8 +3` as a name would make the next edit's plan `W8A8 +3 +1`.
        let wanted = match wanted.rsplit_once(" +") {
            Some((name, count)) => format!("{name}, {count} changed"),
            None => wanted.to_owned(),
        };
        let wanted = clean_name(&wanted).unwrap_or_else(|| "snapshot".to_owned());
        let numbered = (2..).map(|n| format!("{wanted} ({n})"));
        std::iter::once(wanted.clone())
            .chain(numbered)
            .find(|name| self.place(name).is_none())
            .unwrap_or(wanted)
    }
}

/// What the name that is typed is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// A new snapshot.
    New,
    /// The snapshot of this name gets another one.
    Rename(String),
}

impl App {
    /// Asks for the name of a new snapshot; the plan's own is offered.
    pub(super) fn name_snapshot(&mut self) -> Vec<Effect> {
        if self.snapshots.list.len() >= MAX_SNAPSHOTS {
            let text = format!("there are {MAX_SNAPSHOTS} snapshots already; delete one in the list");
            self.note(Level::Warning, text);
            return Vec::new();
        }
        let input = Input::new(self.snapshots.free_name(&self.plan_name));
        self.overlays.push(Overlay::Name { input, of: Naming::New });
        Vec::new()
    }

    /// Keys while a name is typed.
    pub(super) fn name_key(
        &mut self,
        input: &mut Input,
        of: &Naming,
        key: KeyEvent,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        match key.code {
            KeyCode::Esc => return Outcome::Close,
            KeyCode::Enter => {}
            _ => {
                edit(input, key);
                return Outcome::Keep;
            }
        }
        let Some(name) = clean_name(input.value()) else {
            self.note(Level::Warning, "a snapshot needs a name");
            return Outcome::Keep;
        };
        match of {
            Naming::New => self.take_snapshot(&name),
            Naming::Rename(before) if *before == name => return Outcome::Close,
            Naming::Rename(before) => {
                if self.snapshots.place(&name).is_some() {
                    self.note(Level::Warning, format!("there is a snapshot \"{name}\" already"));
                    return Outcome::Keep;
                }
                if let Some(place) = self.snapshots.place(before) {
                    self.snapshots.change(|list| {
                        if let Some(snapshot) = list.get_mut(place) {
                            snapshot.name.clone_from(&name);
                        }
                    });
                    self.note(Level::Info, format!("\"{before}\" is now \"{name}\""));
                }
            }
        }
        self.gather_facts();
        effects.push(self.keep());
        Outcome::Close
    }

    /// Keeps the plan as it is under a name; a snapshot of that name is replaced.
    fn take_snapshot(&mut self, name: &str) {
        let snapshot = Snapshot { name: name.to_owned(), figures: self.figures(), plan: self.plan.current() };
        let place = self.snapshots.place(name);
        self.snapshots.change(|list| match place.and_then(|place| list.get_mut(place)) {
            Some(old) => *old = snapshot,
            None => list.push(snapshot),
        });
        let text = if place.is_some() {
            format!("\"{name}\" replaced; u in the list (L) takes that back")
        } else {
            format!("kept as \"{name}\"; L lists the snapshots")
        };
        self.note(Level::Info, text);
    }

    /// Keeps a plan that would be lost otherwise, under a name like `wanted`. Says under which, or nothing if there is
    /// no room.
    pub(super) fn keep_aside(&mut self, wanted: &str, plan: Arc<Plan>, figures: Figures) -> Option<String> {
        if let Some(same) = self.snapshots.list.iter().find(|snapshot| snapshot.plan == plan) {
            return Some(same.name.clone());
        }
        if self.snapshots.list.len() >= MAX_SNAPSHOTS {
            return None;
        }
        let name = self.snapshots.free_name(wanted);
        self.snapshots.change(|list| list.push(Snapshot { name: name.clone(), figures, plan }));
        Some(name)
    }

    /// Keys of the list of snapshots.
    pub(super) fn snapshots_key(
        &mut self,
        cursor: &mut usize,
        key: KeyEvent,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let digit = match key.code {
            KeyCode::Char(digit @ '1'..='9') => Some(digit as usize - '1' as usize),
            KeyCode::Enter => Some(*cursor),
            _ => None,
        };
        if let Some(snapshot) = digit.and_then(|place| self.snapshots.get(place)).cloned() {
            effects.extend(self.load_snapshot(&snapshot));
            return Outcome::Close;
        }
        let chosen = self.snapshots.get(*cursor).cloned();
        match (key.code, chosen) {
            (KeyCode::Char('n' | 'K'), _) => {
                self.name_snapshot();
                return Outcome::Under;
            }
            (KeyCode::Char('u'), _) => {
                if self.snapshots.undo() {
                    effects.push(self.keep());
                    self.gather_facts();
                    self.note(Level::Info, "the last change of the list is taken back");
                } else {
                    self.note(Level::Warning, "nothing of the list to take back");
                }
            }
            (KeyCode::Char('r'), Some(snapshot)) => {
                let input = Input::new(snapshot.name.clone());
                self.overlays.push(Overlay::Name { input, of: Naming::Rename(snapshot.name) });
                return Outcome::Under;
            }
            (KeyCode::Char('d' | 'x') | KeyCode::Delete, Some(snapshot)) => {
                let place = *cursor;
                self.snapshots.change(|list| {
                    list.remove(place);
                });
                self.gather_facts();
                self.note(Level::Info, format!("\"{}\" deleted; u brings it back", snapshot.name));
                effects.push(self.keep());
            }
            (KeyCode::Char('e'), Some(snapshot)) => {
                effects.extend(self.export_snapshot(&snapshot));
            }
            (KeyCode::Char('b' | 'B'), Some(snapshot)) => {
                effects.extend(self.compare_with(&snapshot.name, &snapshot.plan));
                return Outcome::Close;
            }
            (KeyCode::Char('D' | '='), Some(snapshot)) => {
                self.overlays.push(Overlay::Diff { with: DiffWith::Snapshot(snapshot.name), cursor: 0 });
                return Outcome::Under;
            }
            (KeyCode::Char('L'), _) => return Outcome::Close,
            _ => return list_key(cursor, key, self.snapshots.list.len()),
        }
        *cursor = (*cursor).min(self.snapshots.list.len().saturating_sub(1));
        Outcome::Keep
    }

    fn load_snapshot(&mut self, snapshot: &Snapshot) -> Vec<Effect> {
        let name = &snapshot.name;
        if !self.load(&snapshot.plan, &format!("snapshot \"{name}\"")) {
            self.note(Level::Info, format!("the plan is that of \"{name}\" already"));
            return Vec::new();
        }
        self.note(Level::Info, format!("\"{name}\" loaded; u takes it back"));
        self.edited()
    }

    /// Takes a whole other plan as one step and remembers the one before. Says whether anything changed.
    pub(super) fn load(&mut self, plan: &Arc<Plan>, reason: &str) -> bool {
        let before = (self.plan_name.clone(), self.plan.current());
        let changed = self.plan.replace(plan, reason);
        if changed {
            self.before_load = Some(before);
        }
        changed
    }

    fn export_snapshot(&mut self, snapshot: &Snapshot) -> Vec<Effect> {
        if !self.calibration.complete {
            self.note(Level::Warning, "a plan cannot be fitted before the calibration is complete");
            return Vec::new();
        }
        self.jobs.start(Job::Export);
        let folder = self.setup.export_folder.join(folder_name(&snapshot.name));
        vec![Effect::Send(Request::Export { plan: Arc::clone(&snapshot.plan), folder, replace: false })]
    }

    /// What is known of the plan now.
    pub(super) fn figures(&self) -> Figures {
        let fitted = self.fitted.as_deref().filter(|_| self.plan_is_fitted());
        Figures {
            cost: fitted.map(cost),
            accuracy: self.set.as_deref().filter(|_| self.set_is_current()).map(accuracy),
        }
    }

    /// Brings the figures of snapshots up to what was measured of the same plan just now.
    pub(super) fn measure_snapshots(&mut self) -> Vec<Effect> {
        let (figures, plan) = (self.figures(), self.plan.current());
        let mut changed = false;
        for snapshot in self.snapshots.list.iter_mut().filter(|snapshot| snapshot.plan == plan) {
            let known = &mut snapshot.figures;
            let newer = Figures {
                cost: figures.cost.or(known.cost),
                accuracy: figures.accuracy.clone().or_else(|| known.accuracy.clone()),
            };
            changed |= *known != newer;
            *known = newer;
        }
        if changed { vec![self.keep()] } else { Vec::new() }
    }

    /// Has the session keep the snapshots and, while there are unsaved edits, the hidden side of a comparison.
    pub(super) fn keep(&mut self) -> Effect {
        self.kept_hidden = self.compare.is_some() && self.is_unsaved();
        let hidden = self.compare.as_ref().filter(|_| self.is_unsaved());
        let hidden = hidden.map(|compare| Hidden {
            is_b: compare.hidden_side() == super::compare::Side::B,
            plan: compare.hidden.plan.current(),
        });
        Effect::Send(Request::Keep { kept: Kept::new(self.snapshots.list.clone(), hidden) })
    }
}

/// Bits and bytes as they are kept.
pub(super) fn cost(fitted: &PlanView) -> Cost {
    Cost {
        weight_bits: fitted.weight_bits,
        activation_bits: fitted.activation_bits,
        weight_bytes: fitted.weight_bytes,
    }
}

/// An evaluation as it is kept.
pub(super) fn accuracy(set: &SetView) -> Accuracy {
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    Accuracy {
        metric: set.metric.name().to_owned(),
        samples: set.samples as u64,
        quantized: finite(set.quantized),
        full_precision: finite(set.full_precision),
        agreement: finite(Some(set.agreement)).unwrap_or(0.0),
    }
}

/// A name as a folder's: letters, digits and a few signs.
fn folder_name(name: &str) -> String {
    let plain = |ch: char| if ch.is_alphanumeric() || "-_+".contains(ch) { ch } else { '-' };
    let text: String = name.chars().map(plain).collect();
    let text = text.trim_matches('-');
    if text.is_empty() { "snapshot".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_make_folders_that_stay_inside() {
        assert_eq!(folder_name("repq-vit W4A4 +3"), "repq-vit-W4A4-+3");
        assert_eq!(folder_name("../../etc"), "etc");
        assert_eq!(folder_name(" . "), "snapshot");
        assert_eq!(folder_name("über/1"), "über-1");
    }
}
