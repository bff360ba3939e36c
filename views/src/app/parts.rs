//! What groups of sites cost: how they are grouped is chosen here, and the table that comes back is kept.

use std::sync::Arc;

use bitloupe_quant::eval::sensitivity::By;
use bitloupe_quant::session::messages::{Job, PartsOf, PartsView, Request};
use crossterm::event::{KeyCode, KeyEvent};

use super::overlay::Overlay;
use super::overlay_keys::{Outcome, list_key};
use super::sensitivity::same_choices;
use super::{App, Effect};

/// What is asked for, and the last table of it.
#[derive(Debug, Clone)]
pub struct Parts {
    /// What is measured of which parts.
    pub of: PartsOf,
    /// The table, as far as it is known.
    pub view: Option<Arc<PartsView>>,
}

impl Default for Parts {
    fn default() -> Self {
        Self { of: PartsOf { by: By::Role, ..PartsOf::default() }, view: None }
    }
}

impl App {
    /// Opens the table; it is measured anew if the plan is another one by now.
    pub(super) fn open_parts(&mut self) -> Vec<Effect> {
        let effects = if self.parts_are_current() { Vec::new() } else { self.ask_parts() };
        self.overlays.push(Overlay::Parts(0));
        effects
    }

    /// Whether the table is of what is asked for, under the present plan.
    pub fn parts_are_current(&self) -> bool {
        let now = self.plan.current();
        let same = |view: &Arc<PartsView>| view.of == self.parts.of && same_choices(&view.plan, &now);
        self.parts.view.as_ref().is_some_and(same)
    }

    fn ask_parts(&mut self) -> Vec<Effect> {
        let generation = self.next_generation();
        self.jobs.start(Job::Parts);
        vec![Effect::Send(Request::Parts { generation, plan: self.plan.current(), of: self.parts.of })]
    }

    /// A table arrives; one of another choice is no answer any more.
    pub(super) fn take_parts(&mut self, view: Arc<PartsView>) {
        if view.of != self.parts.of {
            return;
        }
        if view.complete {
            self.jobs.end(Job::Parts);
        }
        let last = view.parts.len().saturating_sub(1);
        for overlay in &mut self.overlays {
            if let Overlay::Parts(cursor) = overlay {
                *cursor = (*cursor).min(last);
            }
        }
        self.parts.view = Some(view);
    }

    /// Keys of the table.
    pub(super) fn parts_key(
        &mut self,
        cursor: &mut usize,
        key: KeyEvent,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let before = self.parts.of;
        let of = &mut self.parts.of;
        match key.code {
            KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q' | 'I') => return Outcome::Close,
            KeyCode::Char('b') => of.by = next(of.by),
            KeyCode::Char('a') => of.all_but = !of.all_but,
            KeyCode::Char('c') => of.calibration = !of.calibration,
            KeyCode::Char('x') if self.jobs.runs(Job::Parts) => {
                effects.extend(self.cancel_jobs());
                return Outcome::Keep;
            }
            _ => {
                let count = self.parts.view.as_ref().map_or(0, |view| view.parts.len());
                return list_key(cursor, key, count);
            }
        }
        if self.parts.of != before {
            *cursor = 0;
            effects.extend(self.ask_parts());
        }
        Outcome::Keep
    }
}

/// The next grouping.
fn next(by: By) -> By {
    let at = By::ALL.iter().position(|known| *known == by).unwrap_or(0);
    By::ALL[(at + 1) % By::ALL.len()]
}
