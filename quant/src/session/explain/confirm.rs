//! Trying a remedy on samples.

use std::sync::Arc;

use serde::Serialize;

use super::gauge::decibels;
use super::remedy::Remedy;
use super::words;
use crate::eval::answer::{Answer, Sheet};
use crate::eval::metrics::Scores;
use crate::eval::output_loss::between_outputs;
use crate::exec::{Cancel, Quantization, Tap, Value};
use crate::graph::{NodeId, Site};
use crate::quantizer::{Params, quantizer};
use crate::session::{FittedPlan, Session, SessionError};
use crate::terms::{SiteId, Slot};

/// A remedy, tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Confirmation {
    /// The site.
    pub site: SiteId,
    /// What was tried.
    #[serde(flatten)]
    pub remedy: Remedy,
    /// Samples that ran.
    pub samples: usize,
    /// The figure, as `mIoU`.
    pub metric: &'static str,
    /// With the truth in full precision; none without truth.
    pub full_precision: Option<f64>,
    /// Under the plan as it is.
    pub before: Outcome,
    /// With the remedy.
    pub after: Outcome,
    /// With nothing quantized but the sites that the remedy changes, before and after: where a plan does much harm
    /// elsewhere, this alone shows what the remedy does.
    pub alone: [Outcome; 2],
    /// SQNR of the site as predicted from calibration, before and after; none in full precision.
    pub predicted_db: [Option<f64>; 2],
    /// The same measured on the values of these samples (on the weight itself); none where rewrites change them.
    pub measured_db: [Option<f64>; 2],
    /// For people.
    pub sentence: String,
}

/// Samples under one plan.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outcome {
    /// The figure with the truth; none without truth.
    pub truth: Option<f64>,
    /// The figure with the answers of full precision.
    pub agreement: f64,
    /// Mean distance of the outputs from those of full precision, in the terms of the task; infinite where a run gave
    /// numbers that are not finite (in JSON null).
    #[serde(serialize_with = "finite")]
    pub output_loss: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn finite<S: serde::Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    x.is_finite().then_some(*x).serialize(serializer)
}

/// Runs of one sample: in full precision, under the plan before and after, with the changed sites alone before and after.
const RUNS: usize = 5;

/// One sample.
#[derive(Debug, Clone)]
struct One {
    answers: Vec<Answer>,
    truth: Option<Answer>,
    /// Against the first run.
    losses: Vec<f64>,
    /// Of the site: Σ value², and Σ error² under the plan before and after.
    sums: [f64; 3],
}

/// Sees the values of one operand.
struct Operand {
    node: Option<NodeId>,
    values: Vec<f32>,
}

impl Tap for Operand {
    fn wants(&self, node: NodeId) -> bool {
        self.node == Some(node)
    }

    fn value(&mut self, _: NodeId, value: &Value) {
        self.values = value.as_slice().to_vec();
    }
}

impl Session {
    /// Runs the first `samples` samples in full precision, under the plan, and with the remedy. `progress(done, total)`
    /// is called on this thread.
    pub fn confirm(
        &self,
        site: &SiteId,
        fitted: &FittedPlan,
        remedy: &Remedy,
        samples: usize,
        cancel: &Cancel,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Confirmation, SessionError> {
        let index = self.index_of(site)?;
        if matches!(remedy, Remedy::Recalibrate) {
            return Err(SessionError::NoChange { remedy: remedy.label() });
        }
        let set = self.samples.as_ref().filter(|set| !set.is_empty()).ok_or(SessionError::NoSamples)?;
        let mended = self.fit_plan(&self.remedied(fitted, site, remedy)?)?;
        let changed = self.sites_of(site, remedy)?;
        let none = Quantization::none(&self.model.graph);
        let runs = [
            (&self.base.engine, none),
            (&fitted.variant.engine, self.quantization(fitted)?),
            (&mended.variant.engine, self.quantization(&mended)?),
            (&fitted.variant.engine, alone(fitted, &changed)?),
            (&mended.variant.engine, alone(&mended, &changed)?),
        ];
        let place = &self.model.graph.sites()[index];
        let rewritten =
            [fitted, &mended].iter().any(|f| !self.rewrites_at(&f.plan.rewrites, site).is_empty());
        let both =
            [fitted, &mended].map(|f| f.params.get(index).and_then(Option::as_ref).filter(|_| !rewritten));
        let observed = place.operand.map(|at| self.model.graph.node(place.node).inputs[at]);
        let total = set.len().min(samples.max(1));
        let mut all: Vec<Option<One>> = vec![None; total];
        progress(0, total);
        let mut done = 0;
        self.workers.for_each(
            total,
            |index| -> Result<One, SessionError> {
                let inputs = self.sample_inputs(set, index, None)?;
                let (mut full, mut answers, mut losses) = (None, Vec::with_capacity(RUNS), Vec::new());
                let mut sums = [0.0; 3];
                for (at, (engine, plan)) in runs.iter().enumerate() {
                    let node = observed.filter(|_| at == 0 && !rewritten);
                    let mut operand = Operand { node, values: Vec::new() };
                    let run = engine.run(&inputs.values, plan, None, &mut operand, cancel)?;
                    if node.is_some() {
                        sums = errors(&operand.values, place, both);
                    }
                    let outputs = self.named(run.outputs);
                    answers.push(self.read(&outputs, inputs.geometry.as_ref())?);
                    let full = full.get_or_insert_with(|| outputs.clone());
                    losses.push(between_outputs(&self.model.task, full, &outputs));
                }
                Ok(One { answers, truth: inputs.truth.clone(), losses, sums })
            },
            |index, one| {
                all[index] = Some(one);
                done += 1;
                progress(done, total);
                Ok(())
            },
        )?;
        let mut made = self.sum_up(site, remedy, &all);
        made.predicted_db = [fitted, &mended].map(|f| {
            let known = f.predicted_sqnr_db.iter().find(|(known, _)| known == site);
            known.map(|(_, db)| *db)
        });
        let sums = match self.model.graph.weight_of(place.node) {
            Some(weight) if place.id.slot == Slot::Weight => {
                weight.data.once(|values| errors(values, place, both))
            }
            _ => all.iter().flatten().fold([0.0; 3], |sums, one| {
                [sums[0] + one.sums[0], sums[1] + one.sums[1], sums[2] + one.sums[2]]
            }),
        };
        let known = |at: usize| both[at].map(|_| decibels(sums[0], sums[at + 1]));
        made.measured_db = [known(0), known(1)];
        made.sentence = words::confirmation(&made);
        Ok(made)
    }

    /// Adds up in the order of the samples.
    fn sum_up(&self, site: &SiteId, remedy: &Remedy, all: &[Option<One>]) -> Confirmation {
        let (mut truth, mut agreement): ([Sheet; RUNS], [Sheet; RUNS]) = Default::default();
        let mut losses = [0.0; RUNS];
        let samples = all.iter().flatten().count();
        for One { answers, truth: exact, losses: loss, .. } in all.iter().flatten() {
            for (at, answer) in answers.iter().enumerate() {
                exact
                    .iter()
                    .filter_map(|exact| answer.compare(exact))
                    .for_each(|found| truth[at].add(&found));
                answer.compare(&answers[0]).iter().for_each(|found| agreement[at].add(found));
            }
            losses.iter_mut().zip(loss).for_each(|(sum, loss)| *sum += loss);
        }
        let figure = |sheet: &Sheet| sheet.scores().as_ref().map(Scores::standing);
        let outcome = |at: usize| Outcome {
            truth: figure(&truth[at]),
            agreement: figure(&agreement[at]).unwrap_or(0.0),
            output_loss: losses[at] / samples.max(1) as f64,
        };
        Confirmation {
            site: site.clone(),
            remedy: remedy.clone(),
            samples,
            metric: self.metric().name(),
            full_precision: figure(&truth[0]),
            before: outcome(1),
            after: outcome(2),
            alone: [outcome(3), outcome(4)],
            predicted_db: [None; 2],
            measured_db: [None; 2],
            sentence: String::new(),
        }
    }

    /// The sites whose parameters a remedy changes.
    fn sites_of(&self, site: &SiteId, remedy: &Remedy) -> Result<Vec<usize>, SessionError> {
        let mut sites = vec![site.clone()];
        match remedy {
            Remedy::Exchange { with } => sites.push(with.clone()),
            Remedy::Rewrite { rewrite, layer } => sites.extend(self.changed_by(rewrite, layer)?),
            Remedy::WithoutRewrites { rewrites } | Remedy::RewritesAnew { rewrites } => {
                for (rewrite, layer) in rewrites {
                    sites.extend(self.changed_by(rewrite, layer)?);
                }
            }
            Remedy::Quantizer { .. } | Remedy::Recalibrate => {}
        }
        sites.iter().map(|site| self.index_of(site)).collect()
    }
}

/// Σ value², and Σ error² with each of two quantizers.
fn errors(values: &[f32], site: &Site, both: [Option<&Arc<Params>>; 2]) -> [f64; 3] {
    let error = |params: Option<&Arc<Params>>| {
        let Some(params) = params else { return 0.0 };
        let layout = site.layout_of(params.scheme.granularity);
        if params.check(layout).is_err() {
            return 0.0;
        }
        let mut rounded = values.to_vec();
        quantizer(params.scheme.family).fake_quantize(&mut rounded, layout, params);
        let off = |(&exact, &rounded): (&f32, &f32)| (f64::from(exact) - f64::from(rounded)).powi(2);
        values.iter().zip(&rounded).map(off).sum()
    };
    let signal = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    [signal, error(both[0]), error(both[1])]
}

/// A plan with nothing quantized but some sites.
fn alone(fitted: &FittedPlan, sites: &[usize]) -> Result<Quantization, SessionError> {
    let keep = |(at, params): (usize, &Option<Arc<Params>>)| params.clone().filter(|_| sites.contains(&at));
    let params: Vec<Option<Arc<Params>>> = fitted.params.iter().enumerate().map(keep).collect();
    Ok(Quantization::new(&fitted.variant.engine, &params)?)
}
