//! The front of a plan search: asked for, browsed, taken.

use std::sync::Arc;

use bitloupe_quant::plan::Plan;
use bitloupe_quant::session::messages::{FrontPoint, FrontView, Job, Request};
use crossterm::event::{KeyCode, KeyEvent};
use tui_input::Input;

use super::overlay::Overlay;
use super::overlay_keys::{Outcome, edit, list_key};
use super::{App, Effect, Level};

/// Seconds of a search: long enough to improve every point of the bundled model's front.
const SECONDS: u64 = 300;

impl App {
    /// Opens the front; the first time it is searched.
    pub(super) fn open_front(&mut self) -> Vec<Effect> {
        let effects =
            if self.front.is_none() && !self.jobs.runs(Job::Search) { self.ask_search() } else { Vec::new() };
        let cursor = self.front_cursor();
        self.overlays.push(Overlay::Front { cursor, before: self.plan.current() });
        effects
    }

    fn ask_search(&mut self) -> Vec<Effect> {
        let generation = self.next_generation();
        self.jobs.start(Job::Search);
        vec![Effect::Send(Request::Search { generation, seconds: SECONDS })]
    }

    /// The point whose plan is the present one.
    fn front_cursor(&self) -> usize {
        let now = self.plan.current();
        let points = self.front.as_ref().map_or(&[][..], |front| &front.points);
        points.iter().position(|point| same(&point.plan, &now)).unwrap_or(0)
    }

    /// Points arrive.
    pub(super) fn take_front(&mut self, view: Arc<FrontView>) {
        if view.doing.is_none() {
            self.jobs.end(Job::Search);
            let text = format!("found plans for {} budgets; o browses them", view.points.len());
            self.note(Level::Info, text);
            if let Some(effort) = view.effort.as_ref().filter(|effort| !effort.is_whole()) {
                let why = if effort.cut_by_clock() { "the time was over" } else { "it was stopped" };
                let done = effort.sentences().swap_remove(0);
                let left_out =
                    format!("{why} before everything was done; s in the list searches again. {done}");
                self.note(Level::Info, left_out);
            }
        }
        self.front = Some(self.with_solved(view));
        let last = self.front.as_ref().map_or(0, |front| front.points.len()).saturating_sub(1);
        for overlay in &mut self.overlays {
            if let Overlay::Front { cursor, .. } = overlay {
                *cursor = (*cursor).min(last);
            }
        }
    }

    /// A front with the plans that were solved beside it, where they belong by their bits.
    fn with_solved(&self, view: Arc<FrontView>) -> Arc<FrontView> {
        let known = |point: &FrontPoint| view.points.iter().any(|other| other.limit == point.limit);
        let more: Vec<&FrontPoint> =
            self.solved.iter().map(AsRef::as_ref).filter(|point| !known(point)).collect();
        if more.is_empty() {
            return view;
        }
        let mut points = view.points.clone();
        for point in more {
            let after = points.iter().position(|other| size(other) > size(point));
            points.insert(after.unwrap_or(points.len()), point.clone());
        }
        Arc::new(FrontView { points, ..view.as_ref().clone() })
    }

    /// A plan for another budget arrives: a point like the others from now on, under the cursor.
    pub(super) fn solved(&mut self, point: &Arc<FrontPoint>) -> Vec<Effect> {
        self.solved.retain(|other| other.limit != point.limit);
        self.solved.push(Arc::clone(point));
        self.front = self.front.take().map(|view| self.with_solved(view));
        let points = self.front.as_ref().map_or(&[][..], |front| &front.points);
        if let Some(at) = points.iter().position(|other| other.limit == point.limit) {
            for overlay in &mut self.overlays {
                if let Overlay::Front { cursor, .. } = overlay {
                    *cursor = at;
                }
            }
        }
        let effects = self.load_point(point);
        let unrun = if point.figure.or(point.agreement).is_none() { ", not run by the search" } else { "" };
        self.note(
            Level::Info,
            format!(
                "{}: W {:.2} A {:.2} bits{unrun}; u takes it back",
                point.limit, point.weight_bits, point.activation_bits
            ),
        );
        effects
    }

    /// Keys of the front: the plan under the cursor is loaded.
    pub(super) fn front_key(
        &mut self,
        cursor: &mut usize,
        before: &Arc<Plan>,
        key: KeyEvent,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let points = self.front.as_ref().map(|front| front.points.clone()).unwrap_or_default();
        match (key.code, points.get(*cursor)) {
            (KeyCode::Enter, Some(point)) => {
                effects.extend(self.load_point(point));
                return Outcome::Close;
            }
            (KeyCode::Char('b' | 'B'), Some(point)) => {
                effects.extend(self.restore(before));
                effects.extend(self.compare_with(&point.limit, &point.plan));
                return Outcome::Close;
            }
            (KeyCode::Char('t'), Some(_)) => {
                self.overlays.push(Overlay::Budget(Input::default()));
                return Outcome::Under;
            }
            (KeyCode::Char('s'), _) if !self.jobs.runs(Job::Search) => {
                effects.extend(self.ask_search());
                return Outcome::Keep;
            }
            (KeyCode::Char('x'), _) if self.jobs.runs(Job::Search) => {
                effects.extend(self.cancel_jobs());
                return Outcome::Keep;
            }
            (KeyCode::Esc | KeyCode::Char('q'), _) => {
                effects.extend(self.restore(before));
                return Outcome::Close;
            }
            (KeyCode::Char('o'), _) => return Outcome::Close,
            _ => {}
        }
        let was = *cursor;
        let outcome = list_key(cursor, key, points.len());
        if was != *cursor
            && let Some(point) = points.get(*cursor)
        {
            effects.extend(self.load_point(point));
        }
        outcome
    }

    /// Keys of the budget that is typed.
    pub(super) fn budget_key(
        &mut self,
        input: &mut Input,
        key: KeyEvent,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        match key.code {
            KeyCode::Esc => return Outcome::Close,
            KeyCode::Enter => match input.value().trim().parse::<f64>() {
                Ok(bits) if bits.is_finite() && bits > 0.0 => {
                    let generation = self.next_generation();
                    effects.push(Effect::Send(Request::Solve { generation, average_bits: bits }));
                    return Outcome::Close;
                }
                _ => self.note(Level::Warning, "average bits are a number such as 4.25"),
            },
            _ => edit(input, key),
        }
        Outcome::Keep
    }

    fn load_point(&mut self, point: &FrontPoint) -> Vec<Effect> {
        let name = format!("front {}", point.limit);
        self.plan.remember(&name, &point.plan);
        if self.load(&point.plan, &name) { self.edited() } else { Vec::new() }
    }

    /// Back to the plan from before the front was opened.
    fn restore(&mut self, before: &Arc<Plan>) -> Vec<Effect> {
        let there = same(before, &self.plan.current());
        if !there && self.load(before, "before the front") { self.edited() } else { Vec::new() }
    }
}

/// What points are sorted by: the larger of both averages, which is what a budget in bits bounds.
fn size(point: &FrontPoint) -> f64 {
    point.weight_bits.max(point.activation_bits)
}

/// Whether two plans treat all sites alike.
fn same(a: &Plan, b: &Plan) -> bool {
    a.layers == b.layers && a.rewrites == b.rewrites
}
