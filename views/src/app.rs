//! The state of the interface. [`App::update`] turns a message into new state and effects and does nothing else,
//! so all of it is tested without threads or a terminal.

mod act;
mod answer;
pub mod compare;
pub mod diff;
mod edit;
pub mod facts;
mod front;
mod graft;
pub mod jobs;
pub mod layers;
mod marks;
pub mod methods;
pub mod overlay;
mod overlay_keys;
mod panes;
pub mod plan;
mod prepare;
pub mod rewrites;
mod select;
pub mod sensitivity;
pub mod siblings;
pub mod snapshots;
pub mod tree;
mod update;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bitloupe_quant::plan::Plan;
use bitloupe_quant::session::explain::SiteExplanation;
use bitloupe_quant::session::messages::{
    Event, Generation, ModelView, PlanView, Request, SampleView, SetView, SiteDetail, SiteSummary,
};
use bitloupe_quant::terms::SiteId;
use crossterm::event::{KeyEvent, MouseEvent};
use ratatui::layout::Rect;

use crate::command::Keymap;
use crate::theme::Theme;
use facts::Facts;
use jobs::Jobs;
use layers::Layers;
pub use methods::{Field, MethodForm, Scope};
use overlay::Overlay;
pub use panes::{MaskView, Pane, Plot};
use plan::PlanState;
pub use prepare::Rasters;
pub use select::{Operand, decibels};

/// What happened.
#[derive(Debug, Clone)]
pub enum Msg {
    /// A key.
    Key(KeyEvent),
    /// Text from the clipboard.
    Paste(String),
    /// Wheel or click.
    Mouse(MouseEvent),
    /// The terminal has a new size.
    Resize,
    /// The session says something.
    Session(Event),
    /// The session is gone; the message of its panic, if it had one.
    SessionEnded(Option<String>),
    /// A frame of the busy sign.
    Tick,
    /// The wait asked for by [`Effect::WakeAfter`] is over.
    Wake,
    /// The shell wants the terminal.
    Suspend,
    /// The process goes on after a stop.
    Continue,
    /// The process must end.
    Terminate,
}

/// What is to be done outside.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Ask the session.
    Send(Request),
    /// Put text on the clipboard.
    Copy(String),
    /// Mouse on or off.
    Mouse(bool),
    /// To the shell.
    Suspend,
    /// Draw every cell of the next frame.
    Wipe,
    /// Draw everything anew; the terminal may have lost its state.
    Repaint,
    /// Send [`Msg::Wake`] after this time; replaces an earlier wait.
    WakeAfter(Duration),
    /// Leave.
    Quit,
}

/// How far the calibration is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calibration {
    /// Samples gathered.
    pub samples: usize,
    /// Whether that is all.
    pub complete: bool,
}

/// A line of the message list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What kind of message it is.
    pub level: Level,
    /// The text.
    pub text: String,
}

/// Kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Done.
    Info,
    /// Worth knowing.
    Warning,
    /// Failed.
    Error,
}

/// What the command line gives the interface.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Name of what is being opened, shown until it is open.
    pub opening: String,
    /// Where exports go.
    pub export_folder: PathBuf,
    /// Where the plan goes.
    pub plan_path: PathBuf,
    /// The plan to start from, with its name.
    pub initial_plan: Option<(String, Arc<Plan>)>,
    /// Whether the mouse is on.
    pub mouse: bool,
}

/// All state. Views read it and never change it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct App {
    /// What the command line gave.
    pub setup: Setup,
    /// Colours and characters.
    pub theme: Theme,
    /// The open model.
    pub model: Option<Arc<ModelView>>,
    /// Figures of the sites.
    pub summaries: Arc<Vec<SiteSummary>>,
    /// Place of each site in `summaries`.
    pub summary_of: HashMap<SiteId, usize>,
    /// How far the calibration is.
    pub calibration: Calibration,
    /// The plan and its history.
    pub plan: PlanState,
    /// The name of the plan.
    pub plan_name: String,
    /// Named snapshots of plans.
    pub snapshots: snapshots::Snapshots,
    /// The plan beside the shown one, if two are compared.
    pub compare: Option<compare::Compare>,
    /// The fitted plan.
    pub fitted: Option<Arc<PlanView>>,
    /// What the layer table shows of each layer.
    pub facts: Facts,
    /// What sites cost, as far as it was measured.
    pub effects: sensitivity::Effects,
    /// What the last search found.
    pub front: Option<Arc<bitloupe_quant::session::messages::FrontView>>,
    /// The layer table.
    pub layers: Layers,
    /// Which operand of the layer is shown, as an index into its sites.
    pub operand: select::Operand,
    /// Detail of the site, newest.
    pub detail: Option<Arc<SiteDetail>>,
    /// Why the site is as it is, newest.
    pub explained: Option<(Generation, Arc<SiteExplanation>)>,
    /// The cursor in the list of choices.
    pub choice: usize,
    /// The first choice on the screen.
    pub choice_offset: usize,
    /// How the distribution is drawn.
    pub plot: Plot,
    /// The shown sample.
    pub sample: usize,
    /// Sentences typed instead of a sample's own.
    pub sentences: HashMap<usize, String>,
    /// The newest run of the sample.
    pub shown: Option<Arc<SampleView>>,
    /// Why the sample could not be run as it is now.
    pub sample_failure: Option<String>,
    /// What the sample pane shows.
    pub masks: MaskView,
    /// The newest evaluation.
    pub set: Option<Arc<SetView>>,
    /// Background work.
    pub jobs: Jobs,
    /// What was reported, oldest first.
    pub notes: VecDeque<Note>,
    /// Whether the newest note is still on the last line.
    pub note_shown: bool,
    /// What lies over the panes, innermost last.
    pub overlays: Vec<Overlay>,
    /// The pane with the focus.
    pub focus: Pane,
    /// Whether it has all the room.
    pub zoomed: bool,
    /// The tab shown beside the layers when there is no room for all panes.
    pub tab: Pane,
    /// First line shown of the Why pane.
    pub why_scroll: u16,
    /// Whether the mouse is on.
    pub mouse: bool,
    /// Whether the session is gone.
    pub ended: bool,
    /// Frame of the busy sign.
    pub tick: usize,
    /// Prepared pictures.
    pub rasters: Rasters,
    /// The size of the last prepared frame.
    pub area: Rect,
    keymap: Keymap,
    /// The plan before another one was loaded, with its name.
    before_load: Option<(String, Arc<Plan>)>,
    generation: Generation,
    /// Whether the session keeps the hidden side of the comparison.
    kept_hidden: bool,
    /// Answers to requests before this one belong to the other side of a comparison.
    floor: Generation,
    shown_generation: Generation,
    evaluated_generation: Generation,
    /// The method that was asked for and is not there yet.
    asked: Option<methods::Asked>,
    /// What was chosen last in the list of methods.
    last_method: Option<MethodForm>,
    leaving: bool,
    /// Whether the user asked to stop what runs.
    cancelling: bool,
}

impl App {
    /// The state before the model is open.
    pub fn new(setup: Setup, theme: Theme) -> Self {
        let plan = PlanState::new(setup.initial_plan.clone());
        Self {
            mouse: setup.mouse,
            setup,
            theme,
            model: None,
            summaries: Arc::default(),
            summary_of: HashMap::new(),
            calibration: Calibration::default(),
            plan,
            plan_name: String::new(),
            snapshots: snapshots::Snapshots::default(),
            compare: None,
            before_load: None,
            kept_hidden: false,
            floor: 0,
            fitted: None,
            facts: Facts::default(),
            effects: sensitivity::Effects::default(),
            front: None,
            layers: Layers::default(),
            operand: select::Operand::Activation(0),
            detail: None,
            explained: None,
            choice: 0,
            choice_offset: 0,
            plot: Plot { log_counts: true, log_values: false, channels: false, dequantized: false },
            sample: 0,
            sentences: HashMap::new(),
            shown: None,
            sample_failure: None,
            masks: MaskView::All,
            set: None,
            jobs: Jobs::default(),
            notes: VecDeque::new(),
            note_shown: false,
            overlays: Vec::new(),
            focus: Pane::Layers,
            zoomed: false,
            tab: Pane::Histogram,
            why_scroll: 0,
            ended: false,
            tick: 0,
            rasters: Rasters::default(),
            area: Rect::ZERO,
            keymap: Keymap::default(),
            generation: 0,
            shown_generation: 0,
            evaluated_generation: 0,
            asked: None,
            last_method: None,
            leaving: false,
            cancelling: false,
        }
    }

    /// Whether something moves on the screen by itself.
    pub fn is_animated(&self) -> bool {
        self.jobs.any() || (self.model.is_none() && !self.ended)
    }

    /// Number of samples.
    pub fn sample_count(&self) -> usize {
        self.model.as_ref().map_or(0, |model| model.samples.len())
    }

    /// The sample with the least IoU in the newest evaluation.
    pub fn worst_sample(&self) -> Option<usize> {
        let scored = self.set.as_ref()?.per_sample.iter().filter(|(number, _)| *number < self.sample_count());
        scored.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(number, _)| *number)
    }

    /// The sentence typed for the shown sample.
    pub fn typed_sentence(&self) -> Option<&str> {
        self.sentences.get(&self.sample).map(String::as_str)
    }

    /// The sentence of the shown sample.
    pub fn sentence(&self) -> &str {
        let own = || {
            self.model
                .as_ref()
                .and_then(|model| model.samples.get(self.sample))
                .map(|info| info.text.as_str())
        };
        self.typed_sentence().or_else(own).unwrap_or_default()
    }

    /// Whether the fitted plan is that of the newest edit.
    pub fn plan_is_fitted(&self) -> bool {
        self.fitted.as_ref().is_some_and(|fitted| fitted.generation >= self.plan.generation)
    }

    /// Whether the shown masks are those of the newest edit.
    pub fn sample_is_current(&self) -> bool {
        self.calibration.complete
            && self.shown.as_ref().is_some_and(|shown| {
                shown.generation >= self.plan.generation
                    && shown.sample == self.sample
                    && shown.text == self.sentence()
            })
    }

    /// Whether the evaluation is of the newest edit and complete.
    pub fn set_is_current(&self) -> bool {
        self.set.as_ref().is_some_and(|set| set.complete && set.generation >= self.plan.generation)
    }

    /// Adds a message and shows it on the last line.
    pub fn note(&mut self, level: Level, text: impl Into<String>) {
        const KEPT: usize = 200;
        let text: String = text.into();
        // What comes from files must not steer the terminal.
        let text = text.chars().map(|ch| if ch.is_control() { ' ' } else { ch }).collect();
        self.notes.push_back(Note { level, text });
        while self.notes.len() > KEPT {
            self.notes.pop_front();
        }
        self.note_shown = true;
    }

    fn next_generation(&mut self) -> Generation {
        self.generation += 1;
        self.generation
    }
}
