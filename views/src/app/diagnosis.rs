//! The whole model explained: asked for, shown, scrolled.

use std::sync::Arc;

use bitloupe_quant::plan::Plan;
use bitloupe_quant::session::explain::ModelExplanation;
use bitloupe_quant::session::messages::{Job, Request};
use crossterm::event::{KeyCode, KeyEvent};

use super::overlay::Overlay;
use super::overlay_keys::Outcome;
use super::sensitivity::same_choices;
use super::{App, Effect};

/// What was said, and the plan that it was said of.
pub type Diagnosis = (Arc<Plan>, Arc<ModelExplanation>);

/// Lines of a page.
const PAGE: u16 = 10;
/// Lines that can be scrolled at most.
const MOST: u16 = 500;

impl App {
    /// Opens the diagnosis; it is made anew if the plan is another one by now.
    pub(super) fn open_diagnosis(&mut self) -> Vec<Effect> {
        let effects = if self.diagnosis_is_current() { Vec::new() } else { self.ask_diagnosis() };
        self.overlays.push(Overlay::Diagnosis(0));
        effects
    }

    /// Whether what was said is of the present plan.
    pub fn diagnosis_is_current(&self) -> bool {
        let now = self.plan.current();
        self.diagnosis.as_ref().is_some_and(|(plan, _)| Arc::ptr_eq(plan, &now) || same_choices(plan, &now))
    }

    fn ask_diagnosis(&mut self) -> Vec<Effect> {
        let generation = self.next_generation();
        self.jobs.start(Job::Diagnosis);
        vec![Effect::Send(Request::Diagnose { generation, plan: self.plan.current() })]
    }

    /// Keys of the diagnosis.
    pub(super) fn diagnosis_key(
        &mut self,
        scroll: &mut u16,
        key: KeyEvent,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        match key.code {
            KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q' | 'i') => return Outcome::Close,
            KeyCode::Up | KeyCode::Char('k') => *scroll = scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => *scroll = (*scroll + 1).min(MOST),
            KeyCode::PageUp => *scroll = scroll.saturating_sub(PAGE),
            KeyCode::PageDown => *scroll = (*scroll + PAGE).min(MOST),
            KeyCode::Home | KeyCode::Char('g') => *scroll = 0,
            KeyCode::Char('x') if self.jobs.runs(Job::Diagnosis) => effects.extend(self.cancel_jobs()),
            _ => {}
        }
        Outcome::Keep
    }
}
