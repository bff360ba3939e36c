//! Undo and redo.

use super::{Plan, PlanEdit, PlanError};

/// Edits that are kept; the oldest are forgotten beyond that.
const MAX_EDITS: usize = 1000;

/// A plan with the edits that led to it and those that were taken back.
#[derive(Debug, Clone)]
pub struct History {
    plan: Plan,
    edits: Vec<PlanEdit>,
    /// Edits before this index are applied.
    cursor: usize,
    /// The cursor at which the plan was saved; none when no number of undos leads there.
    saved: Option<usize>,
}

impl History {
    /// Starts with a plan that counts as saved.
    pub fn new(plan: Plan) -> Self {
        Self { plan, edits: Vec::new(), cursor: 0, saved: Some(0) }
    }

    /// Starts with a plan that is nowhere saved (new, or recovered after a crash).
    pub fn unsaved(plan: Plan) -> Self {
        Self { saved: None, ..Self::new(plan) }
    }

    /// The plan as it is now.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Applies an edit; what was taken back before cannot be redone any more. An edit that changes nothing is
    /// not recorded.
    pub fn apply(&mut self, edit: PlanEdit) -> Result<(), PlanError> {
        if edit.is_empty() {
            return Ok(());
        }
        edit.apply(&mut self.plan)?;
        self.drop_redo();
        self.edits.push(edit);
        self.cursor += 1;
        if self.edits.len() > MAX_EDITS {
            self.edits.remove(0);
            self.cursor -= 1;
            self.saved = self.saved.and_then(|saved| saved.checked_sub(1));
        }
        Ok(())
    }

    /// Applies an edit as part of the last one when both change the same sites: a held arrow key is undone at
    /// once. The state that was saved stays reachable.
    pub fn apply_merging(&mut self, edit: PlanEdit) -> Result<(), PlanError> {
        let merged = (self.cursor == self.edits.len() && self.saved != Some(self.cursor))
            .then(|| self.edits.last().and_then(|last| last.merged(&edit)))
            .flatten();
        match (merged, self.edits.last_mut()) {
            (Some(merged), Some(last)) => {
                edit.apply(&mut self.plan)?;
                *last = merged;
                Ok(())
            }
            _ => self.apply(edit),
        }
    }

    /// Takes the last edit back and gives it; `None` at the beginning.
    pub fn undo(&mut self) -> Result<Option<&PlanEdit>, PlanError> {
        let Some(edit) = self.cursor.checked_sub(1).and_then(|at| self.edits.get(at)) else {
            return Ok(None);
        };
        edit.inverse().apply(&mut self.plan)?;
        self.cursor -= 1;
        Ok(Some(edit))
    }

    /// Applies the edit that was taken back last and gives it; `None` at the end.
    pub fn redo(&mut self) -> Result<Option<&PlanEdit>, PlanError> {
        let Some(edit) = self.edits.get(self.cursor) else { return Ok(None) };
        edit.apply(&mut self.plan)?;
        self.cursor += 1;
        Ok(Some(edit))
    }

    /// What the next undo takes back.
    pub fn undo_reason(&self) -> Option<&str> {
        self.cursor.checked_sub(1).and_then(|at| self.edits.get(at)).map(|edit| edit.reason.as_str())
    }

    /// What the next redo does.
    pub fn redo_reason(&self) -> Option<&str> {
        self.edits.get(self.cursor).map(|edit| edit.reason.as_str())
    }

    /// The edits that are applied, oldest first, and those that were taken back.
    pub fn edits(&self) -> (&[PlanEdit], &[PlanEdit]) {
        self.edits.split_at(self.cursor.min(self.edits.len()))
    }

    /// Whether the plan differs from what was saved.
    pub fn is_dirty(&self) -> bool {
        self.saved != Some(self.cursor)
    }

    /// The plan as it is now was saved.
    pub fn mark_saved(&mut self) {
        self.saved = Some(self.cursor);
    }

    /// Records figures of the plan as it is now; no edit, as they follow from the plan.
    pub fn set_metrics(&mut self, metrics: impl IntoIterator<Item = (String, f64)>) {
        self.plan.metrics = metrics.into_iter().collect();
    }

    fn drop_redo(&mut self) {
        self.edits.truncate(self.cursor);
        if self.saved.is_some_and(|saved| saved > self.cursor) {
            self.saved = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SitePlan;
    use super::super::example::{params, plan, sites};
    use super::*;
    use proptest::prelude::*;

    fn edit(history: &History, site: usize, scale: f32) -> PlanEdit {
        let to = Some(SitePlan::fitted(params(scale)));
        PlanEdit::set(history.plan(), [(sites()[site].clone(), to)], format!("scale {scale}"))
    }

    #[test]
    fn undo_redo_and_dirty() {
        let mut history = History::new(plan());
        assert!(!history.is_dirty() && history.undo().unwrap().is_none());
        history.apply(edit(&history, 0, 1.0)).unwrap();
        history.apply(edit(&history, 0, 2.0)).unwrap();
        history.mark_saved();
        assert_eq!(history.undo_reason(), Some("scale 2"));
        history.undo().unwrap();
        assert!(history.is_dirty());
        history.redo().unwrap();
        assert!(!history.is_dirty() && history.redo().unwrap().is_none());
        history.undo().unwrap();
        history.apply(edit(&history, 0, 3.0)).unwrap();
        // Same number of edits as when it was saved, but not the same plan.
        assert!(history.is_dirty());
        history.apply(PlanEdit::set(history.plan(), [], "nothing")).unwrap();
        assert_eq!(history.edits().0.len(), 2);
        assert!(History::unsaved(plan()).is_dirty());
    }

    #[test]
    fn quick_repeats_are_one_edit() {
        let mut history = History::new(plan());
        for scale in [1.0, 2.0, 3.0] {
            history.apply_merging(edit(&history, 0, scale)).unwrap();
        }
        history.apply_merging(edit(&history, 1, 1.0)).unwrap();
        assert_eq!(history.edits().0.len(), 2);
        history.mark_saved();
        history.apply_merging(edit(&history, 1, 2.0)).unwrap();
        assert_eq!(history.edits().0.len(), 3);
        while history.undo().unwrap().is_some() {}
        assert_eq!(*history.plan(), plan());
    }

    proptest! {
        #[test]
        fn any_walk_can_be_undone(steps in prop::collection::vec((0usize..6, 0u8..20, any::<bool>()), 1..40)) {
            let mut history = History::new(plan());
            for (site, scale, undo) in steps {
                if undo { history.undo().unwrap(); } else {
                    history.apply(edit(&history, site, f32::from(scale) + 1.0)).unwrap();
                }
            }
            let now = history.plan().clone();
            let mut back = 0;
            while history.undo().unwrap().is_some() { back += 1; }
            prop_assert_eq!(history.plan(), &plan());
            for _ in 0..back { history.redo().unwrap(); }
            prop_assert_eq!(history.plan(), &now);
        }
    }
}
