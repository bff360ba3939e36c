//! What the session says.

use std::sync::Arc;

use bitloupe_quant::plan::Plan;
use bitloupe_quant::session::messages::{Event, Job, ModelView, Request, SampleView, SiteSummary};

use super::overlay::Overlay;
use super::plan::PlanState;
use super::{App, Calibration, Effect, Level, Pane, jobs};

impl App {
    /// Takes an event of the session. Answers to what is no longer shown are dropped.
    pub(super) fn answer(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Opened(model) => return self.opened(model),
            Event::Progress { job, done, total, eta_seconds } => {
                self.jobs.progress(job, done, total, eta_seconds);
            }
            Event::Calibrated { sites, samples, complete } => {
                return self.calibrated(sites, samples, complete);
            }
            Event::Plan(fitted) => {
                // What is fitted before the calibration is the float plan of the first look.
                let newer = self.fitted.as_ref().is_none_or(|old| old.generation <= fitted.generation);
                if self.calibration.complete && newer && fitted.generation >= self.floor {
                    self.fitted = Some(fitted);
                    self.gather_facts();
                    return self.measure_snapshots();
                }
            }
            Event::Method { generation, plan } => return self.take_method(generation, &plan),
            Event::Sample(sample) => return self.sampled(sample),
            Event::Set(set) => {
                if set.complete {
                    self.jobs.end(Job::Evaluation);
                }
                // What was asked for before the sides were switched is of the other plan.
                if set.generation >= self.evaluated_generation && set.generation > self.floor {
                    self.set = Some(set);
                    return if self.set_is_current() { self.measure_snapshots() } else { Vec::new() };
                }
            }
            Event::Sensitivity(view) => return self.measured(&view),
            Event::Front(view) => self.take_front(view),
            Event::Solved { point, .. } => return self.solved(&point),
            Event::Site(detail) => {
                let newer = self.detail.as_ref().is_none_or(|old| old.generation <= detail.generation);
                if newer && detail.generation >= self.floor && self.site_id() == Some(&detail.site) {
                    let moved = self.detail.as_ref().is_none_or(|old| old.site != detail.site);
                    self.detail = Some(detail);
                    self.jobs.end(Job::Site);
                    // A cursor that nobody moves follows the plan: a method or an undo may have changed the choice.
                    let idle = self.focus != Pane::Quantizers;
                    if moved || idle || self.choice >= self.choices().len() {
                        self.choice = self.current_choice().unwrap_or(0);
                    }
                }
            }
            Event::Explained { generation, explanation } => {
                let newer = self.explained.as_ref().is_none_or(|(old, _)| *old <= generation);
                if newer && self.site_id() == Some(&explanation.site) {
                    self.explained = Some((generation, explanation));
                }
            }
            Event::Exported { files } => {
                self.jobs.end(Job::Export);
                let folder =
                    files.first().and_then(|file| file.parent()).map(|folder| folder.display().to_string());
                let folder = folder.unwrap_or_else(|| self.setup.export_folder.display().to_string());
                self.note(Level::Info, format!("exported {} files to {folder}", files.len()));
            }
            Event::Saved { path } => {
                self.jobs.end(Job::Save);
                self.plan.mark_saved();
                if let Some(compare) = &mut self.compare {
                    compare.hidden.plan.mark_saved();
                }
                self.note(Level::Info, format!("saved {}", path.display()));
                // The session has cleared the journal; edits that came after the saved plan must stay in it.
                let mut effects = vec![self.keep_plan(), self.keep()];
                if self.leaving {
                    effects.push(Effect::Quit);
                }
                return effects;
            }
            Event::Occupied { request, files } => {
                self.jobs.end(if matches!(*request, Request::Save { .. }) { Job::Save } else { Job::Export });
                self.overlays.push(Overlay::Replace { request: *request, files });
            }
            // A newer evaluation stops the one that runs; that is no news, and the newer one goes on.
            Event::Cancelled { job: Job::Evaluation } if !self.cancelling => {}
            Event::Cancelled { job } => {
                self.cancelling = false;
                self.jobs.end(job);
                self.note(Level::Info, format!("stopped {}; what is there is kept", jobs::word(job)));
            }
            Event::Failed { job, message } => {
                self.jobs.end(job);
                match job {
                    Job::Save => self.leaving = false,
                    // What was there is of another sample, sentence or plan.
                    Job::Sample if self.model.is_some() => self.sample_failure = Some(message.clone()),
                    _ => {}
                }
                self.note(Level::Error, message);
            }
            // Nobody looks any more.
            Event::Ended => {}
            Event::Warning { message } => self.note(Level::Warning, message),
        }
        Vec::new()
    }

    fn opened(&mut self, model: Arc<ModelView>) -> Vec<Effect> {
        self.layers.open(&model);
        self.sample = 0;
        let given = self.plan.current();
        if !given.model.fingerprint.is_empty() && given.model.fingerprint != model.fingerprint {
            let (theirs, ours) = (&given.model.name, &model.name);
            let text =
                format!("the given plan is for {theirs}, not for {ours}; starting from a ready-made one");
            self.note(Level::Error, text);
            self.plan = PlanState::new(None);
            // Saving must not write over the other model's plan.
            self.setup.plan_path = "bitloupe-plan.json".into();
        }
        if self.plan.is_blank() {
            // The first ready-made plan that quantizes anything: there is something to see from the start.
            let quantizes = |plan: &Plan| plan.sites().any(|(_, site)| !site.is_float());
            let first = model.presets.iter().find(|(_, plan)| quantizes(plan)).or(model.presets.first());
            if let Some((_, plan)) = first {
                self.plan.start(plan);
            }
        }
        if let Some(recovered) = &model.recovered
            && self.plan.replace(recovered, "the plan of a session that ended early")
        {
            let text = "the plan of a session that ended early is back; u takes the last plan instead";
            self.note(Level::Warning, text);
        }
        self.snapshots.open(model.kept.snapshots.clone());
        self.restore_hidden(&model);
        self.model = Some(model);
        self.gather_facts();
        self.jobs.start(Job::Calibration);
        let mut effects = vec![Effect::Send(Request::Calibrate)];
        effects.extend(self.ask_site());
        self.plan.generation = self.generation + 1;
        effects.extend(self.ask_sample());
        effects
    }

    fn calibrated(&mut self, sites: Arc<Vec<SiteSummary>>, samples: usize, complete: bool) -> Vec<Effect> {
        let fresh = complete && !self.calibration.complete;
        self.summary_of =
            sites.iter().enumerate().map(|(place, summary)| (summary.site.clone(), place)).collect();
        self.summaries = sites;
        self.calibration = Calibration { samples, complete };
        if complete {
            self.jobs.end(Job::Calibration);
        }
        self.gather_facts();
        let mut effects = self.ask_site();
        if fresh {
            self.plan.generation = self.generation + 1;
            if let Some(compare) = &mut self.compare {
                compare.hidden.plan.generation = self.generation + 1;
            }
            effects.extend(self.ask_sample());
        }
        effects
    }

    fn sampled(&mut self, sample: Arc<SampleView>) -> Vec<Effect> {
        let newer = self.shown.as_ref().is_none_or(|old| old.generation <= sample.generation);
        if !newer || sample.generation < self.floor || sample.sample != self.sample {
            return Vec::new();
        }
        if sample.generation >= self.shown_generation {
            self.jobs.end(Job::Sample);
        }
        if sample.generation >= self.shown_generation {
            self.sample_failure = None;
            for warning in &sample.warnings {
                self.note(Level::Warning, warning.as_str());
            }
        }
        self.shown = Some(sample);
        vec![Effect::WakeAfter(super::edit::IDLE)]
    }
}
