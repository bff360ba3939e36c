//! Sweeps: what each part of the model costs when it is quantized, measured on samples.

mod bench;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{FittedPlan, Session, SessionError};
use crate::data::SampleSet;
use crate::eval::sensitivity::{
    By, Finding, Findings, Header, Mode, Outcome, SweepJournal, Unit, rank, units,
};
use crate::exec::Cancel;
use crate::plan::Plan;
use bench::Bench;

/// Which samples a sweep runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum On {
    /// The samples that the model is judged on.
    #[default]
    Samples,
    /// The calibration set.
    Calibration,
}

/// What a sweep measures.
#[derive(Debug, Clone)]
pub struct SweepOptions {
    /// What counts as one part.
    pub by: By,
    /// How.
    pub modes: Vec<Mode>,
    /// Where.
    pub on: On,
    /// The first so many samples.
    pub samples: usize,
    /// Where outcomes are kept; those that are there are not run again.
    pub journal: Option<PathBuf>,
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self { by: By::Site, modes: vec![Mode::Only], on: On::Samples, samples: 32, journal: None }
    }
}

/// What a sweep found.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// One per part, the most harmful first.
    pub findings: Vec<Finding>,
    /// Samples of which every run was made.
    pub samples: usize,
    /// Runs made, those of a journal included.
    pub runs: usize,
    /// Whether it came to its end.
    pub complete: bool,
}

/// One run of a sweep.
#[derive(Debug, Clone, Copy)]
struct Task {
    sample: usize,
    unit: usize,
    mode: Mode,
}

impl Session {
    /// Runs the model once per part, way and sample; the most doubtful parts by their predicted error first, sample by
    /// sample, so that a first ranking is there after the first sample. `progress(done, total, so far)` is called on
    /// this thread. A cancelled sweep gives what is done. Every sample is prepared once, and every run computes only
    /// what its part reaches; values that are kept for that take at most the session's cap for caches.
    pub fn sweep(
        &self,
        fitted: &FittedPlan,
        options: &SweepOptions,
        cancel: &Cancel,
        mut progress: impl FnMut(usize, usize, &dyn Fn() -> Sweep),
    ) -> Result<Sweep, SessionError> {
        let set = match options.on {
            On::Samples => self.samples.as_ref().ok_or(SessionError::NoSamples)?,
            On::Calibration => self.calibration.as_ref().ok_or(SessionError::NoCalibration)?,
        };
        let graph = fitted.variant.graph();
        let units = units(graph, options.by, |site| fitted.params[site].is_some());
        let (mut journal, mut found) = self.journal(fitted, options, set, &units)?;
        let count = set.len().min(options.samples);
        let (tasks, total) = tasks(&order(fitted, &units), options, count, &found);
        let mut done = total - tasks.len();
        let layers = |unit: &Unit| graph.layers().iter().position(|layer| Some(layer.node) == unit.node);
        let so_far = |found: &Findings, complete: bool, done: usize| {
            let mut of = found.clone();
            of.bases.retain(|sample, _| *sample < count);
            of.outcomes.values_mut().for_each(|outcomes| outcomes.retain(|sample, _| *sample < count));
            let mut findings = of.of(&units, layers);
            rank(&mut findings);
            let samples = findings.iter().map(|finding| finding.samples).min().unwrap_or(0);
            Sweep { findings, samples, runs: done, complete }
        };
        progress(done, total, &|| so_far(&found, false, done));
        let bench = Bench::new(self, fitted, set, &tasks, options.modes.contains(&Mode::AllBut))?;
        let outcome = self.workers.for_each(
            tasks.len(),
            |at| {
                let task = tasks[at];
                let (ready, first) = bench.ready(task.sample, cancel)?;
                let outcome = run(&bench, &units[task.unit], task.mode, &ready, cancel)?;
                bench.done(task.sample);
                Ok::<_, SessionError>((outcome, first.then(|| ready.base.clone())))
            },
            |at, (outcome, base)| {
                let Task { sample, unit, mode } = tasks[at];
                if let Some(base) = base
                    && !found.bases.contains_key(&sample)
                {
                    if let Some(journal) = &mut journal {
                        journal.base(sample, &base)?;
                    }
                    found.bases.insert(sample, base);
                }
                if let Some(journal) = &mut journal {
                    journal.outcome(sample, &units[unit], mode, &outcome)?;
                }
                found.outcomes.entry((mode, unit)).or_default().insert(sample, outcome);
                done += 1;
                progress(done, total, &|| so_far(&found, false, done));
                Ok(())
            },
        );
        match outcome {
            Err(error) if !error.is_cancelled() => Err(error),
            outcome => Ok(so_far(&found, outcome.is_ok(), done)),
        }
    }

    /// The journal that the options name, and what it holds.
    fn journal(
        &self,
        fitted: &FittedPlan,
        options: &SweepOptions,
        set: &SampleSet,
        units: &[Unit],
    ) -> Result<(Option<SweepJournal>, Findings), SessionError> {
        let Some(path) = &options.journal else { return Ok((None, Findings::default())) };
        let header = Header {
            model: self.model.fingerprint.clone(),
            plan: fingerprint(&fitted.plan),
            set: set.fingerprint()?.to_owned(),
            by: options.by.to_string(),
        };
        let (journal, found) = SweepJournal::open(path, &header, units)?;
        Ok((Some(journal), found))
    }

    /// Where the journal of a sweep of this plan is kept in a folder, if nobody names a file.
    pub fn sweep_journal(&self, folder: &Path, fitted: &FittedPlan, by: By, on: On) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update(self.model.fingerprint.as_bytes());
        hash.update(fingerprint(&fitted.plan).as_bytes());
        hash.update(by.as_str());
        hash.update([u8::from(on == On::Calibration)]);
        let name = hash.finalize().iter().take(8).fold(String::new(), |name, b| format!("{name}{b:02x}"));
        folder.join(format!("sweep-{name}.jsonl"))
    }
}

/// Stands for what a plan does: its parameters and rewrites, not its name or figures.
fn fingerprint(plan: &Plan) -> String {
    let mut hash = Sha256::new();
    // Maps are sorted, so equal plans have equal texts.
    for part in [serde_json::to_vec(&plan.layers), serde_json::to_vec(&plan.rewrites)] {
        hash.update(part.unwrap_or_default());
    }
    hash.finalize().iter().fold(String::new(), |text, b| format!("{text}{b:02x}"))
}

/// Units by their worst predicted error, the worst first; what has no prediction in the order of the model after that.
fn order(fitted: &FittedPlan, units: &[Unit]) -> Vec<usize> {
    let predicted = |unit: &Unit| {
        let sites = fitted.variant.graph().sites();
        let of = |site: &usize| {
            let known = fitted.predicted_sqnr_db.iter().find(|(id, _)| *id == sites[*site].id);
            known.map_or(f64::INFINITY, |(_, db)| *db)
        };
        unit.sites.iter().map(of).fold(f64::INFINITY, f64::min)
    };
    let mut order: Vec<(f64, usize)> = units.iter().map(predicted).zip(0..).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    order.into_iter().map(|(_, at)| at).collect()
}

/// What is still to run, and how many runs there are in all.
fn tasks(order: &[usize], options: &SweepOptions, samples: usize, found: &Findings) -> (Vec<Task>, usize) {
    let all = (0..samples).flat_map(|sample| {
        let modes = options.modes.iter();
        modes.flat_map(move |&mode| order.iter().map(move |&unit| Task { sample, unit, mode }))
    });
    let known = |task: &Task| {
        found.bases.contains_key(&task.sample)
            && found.outcomes.get(&(task.mode, task.unit)).is_some_and(|by| by.contains_key(&task.sample))
    };
    let left = all.filter(|task| !known(task)).collect();
    (left, samples * options.modes.len() * order.len())
}

/// One run.
fn run(
    bench: &Bench<'_>,
    unit: &Unit,
    mode: Mode,
    ready: &bench::Ready,
    cancel: &Cancel,
) -> Result<Outcome, SessionError> {
    let engine = &bench.fitted.variant.engine;
    let quantization = bench.quantization(&unit.sites, mode)?;
    let layer = unit.node.filter(|_| mode == Mode::Only);
    let mut tap = bench::Listen { node: layer, heard: None };
    let run = engine.run_from(ready.baseline(mode), &quantization, &mut tap, cancel)?;
    let isolated = match (layer, tap.heard) {
        (Some(layer), Some(heard)) => Some(ready.noise(engine, layer, &heard, cancel)?),
        _ => None,
    };
    Ok(Outcome { judged: ready.judge(bench.session, run.outputs)?, isolated })
}
