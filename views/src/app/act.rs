//! What each action does.

use tui_input::Input;

use super::overlay::{DiffWith, Finder, Overlay};
use super::select::Operand;
use super::{App, Effect, Level, Pane};
use crate::command::{Action, Key, find};
use bitloupe_quant::session::messages::{Job, Request};
use bitloupe_quant::terms::Slot;

impl App {
    /// Does an action if it can be done now; says why not otherwise.
    pub fn act(&mut self, action: Action, key: Option<Key>) -> Vec<Effect> {
        if let Some(command) = find(action)
            && let Err(reason) = (command.enabled)(self)
        {
            self.note(Level::Warning, format!("{}: {reason}", command.name));
            return Vec::new();
        }
        match action {
            Action::Up => self.step(-1),
            Action::Down => self.step(1),
            Action::PageUp => self.step(-(self.page() as isize)),
            Action::PageDown => self.step(self.page() as isize),
            Action::Top => self.step(isize::MIN / 2),
            Action::Bottom => self.step(isize::MAX / 2),
            Action::LayerNext => self.step_layer(1),
            Action::LayerBefore => self.step_layer(-1),
            Action::NextPane => self.move_focus(1),
            Action::PreviousPane => self.move_focus(-1),
            Action::Enter => self.enter(),
            Action::FoldAll => {
                self.layers.toggle_all();
                self.rebuild_layers();
                self.ask_site()
            }
            Action::Activation => {
                let product = self
                    .layer()
                    .is_some_and(|layer| layer.sites.iter().all(|site| site.site.slot != Slot::Weight));
                let next = usize::from(product && self.operand == Operand::Activation(0));
                self.show_operand(Operand::Activation(next))
            }
            Action::Weight => self.show_operand(Operand::Weight),
            Action::Filter => {
                let before = self.layers.filter.clone();
                self.set_focus(Pane::Layers);
                self.overlays.push(Overlay::Filter { input: Input::new(before.clone()), before });
                Vec::new()
            }
            Action::Mark => self.mark(),
            Action::MarkRange => self.mark_range(),
            Action::MarkMatches => self.mark_matches(),
            Action::MarkRole => self.mark_role(),
            Action::MarkOp => self.mark_op(),
            Action::InvertMarks => self.invert_marks(),
            Action::Unmark => self.unmark(),
            Action::Sort => {
                self.layers.next_sort();
                self.rebuild_layers();
                self.ask_site()
            }
            Action::Reverse => {
                self.layers.reversed = !self.layers.reversed;
                self.rebuild_layers();
                self.ask_site()
            }
            Action::FewerBits => self.step_bits(-1),
            Action::MoreBits => self.step_bits(1),
            Action::PickBits => {
                let now = self.reference_bits();
                let place = crate::view::bits_offered(self).iter().position(|bits| *bits == now).unwrap_or(0);
                self.overlays.push(Overlay::Bits(place));
                Vec::new()
            }
            Action::Zoom => {
                self.zoomed = !self.zoomed;
                Vec::new()
            }
            Action::Float => self.toggle_float(),
            Action::Choose => {
                if let Some(digit) = key.and_then(Key::digit) {
                    return self.choose(digit.saturating_sub(1));
                }
                self.set_focus(Pane::Quantizers);
                Vec::new()
            }
            Action::ApplyToRole => self.apply_to_role(),
            Action::Presets => {
                self.overlays.push(Overlay::Presets(0));
                Vec::new()
            }
            Action::Methods => self.open_methods(),
            Action::Rewrites => self.open_overlay(Overlay::Rewrites(0)),
            Action::CopyChoice => self.open_overlay(Overlay::Siblings(0)),
            Action::Exchange => self.exchange(),
            Action::Keep => self.name_snapshot(),
            Action::Snapshots => self.open_overlay(Overlay::Snapshots(0)),
            Action::SwitchSide => self.switch_side(),
            Action::Compare => self.open_overlay(Overlay::Compare(0)),
            Action::Diff => self.open_overlay(Overlay::Diff { with: DiffWith::Side, cursor: 0 }),
            Action::Undo => self.undo(),
            Action::Redo => self.redo(),
            Action::Axes => {
                (self.plot.log_counts, self.plot.log_values) =
                    match (self.plot.log_counts, self.plot.log_values) {
                        (true, false) => (true, true),
                        (true, true) => (false, true),
                        (false, true) => (false, false),
                        (false, false) => (true, false),
                    };
                self.plot.channels = false;
                self.reveal(Pane::Histogram)
            }
            Action::Channels => {
                self.plot.channels = !self.plot.channels;
                self.reveal(Pane::Histogram)
            }
            Action::Dequantized => {
                self.plot.dequantized = !self.plot.dequantized;
                self.plot.channels = false;
                self.reveal(Pane::Histogram)
            }
            Action::Masks => {
                self.masks = self.masks.next();
                self.reveal(Pane::Samples)
            }
            Action::NextSample => self.step_sample(1),
            Action::PreviousSample => self.step_sample(-1),
            Action::WorstSample => {
                let by = self.worst_sample().map_or(0, |worst| worst as isize - self.sample as isize);
                self.step_sample(by)
            }
            Action::Sentence => {
                self.reveal(Pane::Samples);
                self.overlays.push(Overlay::Sentence(Input::default()));
                Vec::new()
            }
            Action::OwnSentence => self.take_sentence(String::new()),
            Action::Rerun => self.ask_sample(),
            Action::Evaluate => self.ask_evaluation(),
            Action::Sensitivity => self.ask_sensitivity(),
            Action::Optimise => self.open_front(),
            Action::Calibrate => {
                self.jobs.start(Job::Calibration);
                vec![Effect::Send(Request::Calibrate)]
            }
            Action::CancelJobs => self.cancel_jobs(),
            Action::Export => self.export(),
            Action::Save => self.save(),
            Action::Copy => self.copy(),
            Action::Messages => self.open_overlay(Overlay::Messages(0)),
            Action::Palette => self.open_overlay(Overlay::Palette(Finder::new())),
            Action::Help => self.open_overlay(Overlay::Help(Finder::new())),
            Action::Mouse => {
                self.mouse = !self.mouse;
                self.note(
                    Level::Info,
                    if self.mouse { "mouse on; Shift-drag selects text" } else { "mouse off" },
                );
                vec![Effect::Mouse(self.mouse)]
            }
            Action::Back => self.back(),
            Action::Repaint => vec![Effect::Repaint],
            Action::Suspend => vec![Effect::Suspend],
            Action::Quit => self.quit(),
            Action::Leave => vec![Effect::Quit],
        }
    }

    fn open_overlay(&mut self, overlay: Overlay) -> Vec<Effect> {
        self.overlays.push(overlay);
        Vec::new()
    }

    fn page(&self) -> usize {
        match self.focus {
            Pane::Layers => self.layers.page.max(2) - 1,
            _ => 5,
        }
    }

    /// Moves the cursor of the focused pane.
    pub(super) fn step(&mut self, by: isize) -> Vec<Effect> {
        match self.focus {
            Pane::Layers | Pane::Histogram => {
                let before = self.site_id().cloned();
                self.layers.step(by);
                if self.site_id() == before.as_ref() { Vec::new() } else { self.ask_site() }
            }
            Pane::Quantizers => {
                let last = self.choices().len().saturating_sub(1);
                self.choice = self.choice.saturating_add_signed(by).min(last);
                Vec::new()
            }
            Pane::Why => {
                let by = by.clamp(-1000, 1000) as i16;
                self.why_scroll = self.why_scroll.saturating_add_signed(by).min(200);
                Vec::new()
            }
            Pane::Samples => self.step_sample(by.clamp(-(1 << 20), 1 << 20)),
        }
    }

    pub(super) fn step_layer(&mut self, by: isize) -> Vec<Effect> {
        self.layers.step_layer(by);
        self.ask_site()
    }

    fn show_operand(&mut self, operand: Operand) -> Vec<Effect> {
        let before = self.site_id().cloned();
        self.operand = operand;
        if self.site_id() == before.as_ref() { Vec::new() } else { self.ask_site() }
    }

    fn step_sample(&mut self, by: isize) -> Vec<Effect> {
        let count = self.sample_count();
        if count == 0 {
            return Vec::new();
        }
        let sample = self.sample.saturating_add_signed(by).min(count - 1);
        self.reveal(Pane::Samples);
        if sample == self.sample {
            return Vec::new();
        }
        self.sample = sample;
        self.ask_sample()
    }

    pub(super) fn enter(&mut self) -> Vec<Effect> {
        match self.focus {
            Pane::Layers => {
                if self.layers.toggle() {
                    self.rebuild_layers();
                    Vec::new()
                } else {
                    self.move_focus(1)
                }
            }
            Pane::Quantizers => {
                let Some(command) = find(Action::Choose) else { return Vec::new() };
                if let Err(reason) = (command.enabled)(self) {
                    self.note(Level::Warning, reason);
                    return Vec::new();
                }
                self.choose(self.choice)
            }
            Pane::Samples => self.act(Action::Masks, None),
            Pane::Histogram => self.act(Action::Channels, None),
            Pane::Why => Vec::new(),
        }
    }

    fn move_focus(&mut self, by: isize) -> Vec<Effect> {
        let count = Pane::ALL.len() as isize;
        let place = Pane::ALL.iter().position(|pane| *pane == self.focus).unwrap_or(0) as isize;
        let next = (place + by).rem_euclid(count) as usize;
        if let Some(pane) = Pane::ALL.get(next) {
            self.set_focus(*pane);
        }
        Vec::new()
    }

    /// Focuses a pane; where there is no room for all, its tab comes up.
    pub(super) fn set_focus(&mut self, pane: Pane) {
        self.focus = pane;
        if pane != Pane::Layers {
            self.tab = pane;
        }
    }

    /// Brings a pane's tab up because it now shows something new; the focus stays.
    fn reveal(&mut self, pane: Pane) -> Vec<Effect> {
        // A zoomed pane covers what is to be seen.
        if self.zoomed || (self.focus != Pane::Layers && self.focus != pane) {
            self.focus = pane;
        }
        self.tab = pane;
        Vec::new()
    }

    fn undo(&mut self) -> Vec<Effect> {
        let Some(reason) = self.plan.undo() else { return Vec::new() };
        self.note(Level::Info, format!("undone: {reason}"));
        self.edited()
    }

    fn redo(&mut self) -> Vec<Effect> {
        let Some(reason) = self.plan.redo() else { return Vec::new() };
        self.note(Level::Info, format!("done again: {reason}"));
        self.edited()
    }

    fn copy(&mut self) -> Vec<Effect> {
        let Some(site) = self.site_id().map(ToString::to_string) else { return Vec::new() };
        self.note(Level::Info, format!("copied {site}"));
        vec![Effect::Copy(site)]
    }

    fn back(&mut self) -> Vec<Effect> {
        if self.note_shown {
            self.note_shown = false;
        } else if !self.layers.filter.is_empty() {
            self.layers.filter.clear();
            self.rebuild_layers();
            return self.ask_site();
        } else if self.jobs.cancellable() {
            return self.cancel_jobs();
        } else if self.focus != Pane::Layers {
            self.focus = Pane::Layers;
        }
        Vec::new()
    }

    pub(super) fn cancel_jobs(&mut self) -> Vec<Effect> {
        self.cancelling = true;
        vec![Effect::Send(Request::Cancel)]
    }

    fn quit(&mut self) -> Vec<Effect> {
        if self.is_unsaved() && !self.ended {
            self.overlays.push(Overlay::ConfirmQuit);
            return Vec::new();
        }
        vec![Effect::Quit]
    }
}
