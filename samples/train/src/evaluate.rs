//! Mean intersection over union on scenes never trained on: per kind of sentence, after swapping the sentence,
//! and with the sentence of another scene.

use crate::batch::{Batch, shrink};
use crate::model::{Model, Plans};
use crate::nn::params::Params;
use crate::nn::spatial::taps;
use crate::nn::tape::{Tape, Workspace};
use crate::rng::Rng;
use crate::scene::Scene;
use crate::words::{self, Expression, KINDS};

/// One question of the evaluation.
pub struct Question {
    /// Index of the scene.
    pub scene: usize,
    /// The sentence.
    pub expression: Expression,
    /// A sentence about another object of the scene.
    pub swapped: Option<Expression>,
}

/// One question per scene; the kind is drawn uniformly among the kinds the scene allows.
pub fn questions(scenes: &[Scene], seed: u64) -> Vec<Question> {
    let mut out = Vec::new();
    for (scene, s) in scenes.iter().enumerate() {
        let mut rng = Rng::new(seed ^ 0x5117, scene as u64);
        let all = words::all(&s.objects, &mut rng);
        let kinds: Vec<_> = KINDS.into_iter().filter(|k| all.iter().any(|e| e.kind == *k)).collect();
        if kinds.is_empty() {
            continue;
        }
        let kind = *rng.pick(&kinds);
        let Some(expression) = all.iter().find(|e| e.kind == kind).cloned() else { continue };
        let swapped = all.iter().find(|e| e.target != expression.target).cloned();
        out.push(Question { scene, expression, swapped });
    }
    out
}

/// The measured numbers.
#[derive(Default, Clone)]
pub struct Report {
    /// IoU and kind of every question.
    pub ious: Vec<(f32, usize)>,
    /// Intersection and union over all questions.
    pub overall: [f64; 2],
    /// Whether the target is covered more than every rival of its category, where it has rivals.
    pub picks: Vec<(bool, usize)>,
    /// IoU with the old object after the swap.
    pub old: Vec<f32>,
    /// IoU with the newly named object.
    pub new: Vec<f32>,
    /// IoU with the target when the sentence of another scene is given.
    pub foreign: Vec<f32>,
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, n) = values.fold((0.0, 0), |(s, n), v| (s + v, n + 1));
    sum / n.max(1) as f32
}

impl Report {
    /// Mean over all questions.
    pub fn miou(&self) -> f32 {
        mean(self.ious.iter().map(|i| i.0))
    }

    /// One line for logs and tables.
    pub fn line(&self) -> String {
        let kinds: Vec<String> = KINDS
            .iter()
            .map(|k| {
                let own = self.ious.iter().filter(|i| i.1 == *k as usize);
                let n = own.clone().count();
                let picks = self.picks.iter().filter(|i| i.1 == *k as usize);
                let pick = match picks.clone().count() {
                    0 => String::new(),
                    _ => format!(", pick {:.2}", mean(picks.map(|p| f32::from(u8::from(p.0))))),
                };
                format!("{} {:.3} (n {n}{pick})", k.name(), mean(own.map(|i| i.0)))
            })
            .collect();
        let over = |t: f32| mean(self.ious.iter().map(|i| f32::from(u8::from(i.0 > t))));
        format!(
            "mIoU {:.4} oIoU {:.4} P@.5 {:.3} P@.7 {:.3} | {} | swap old {:.3} new {:.3} | foreign {:.3}",
            self.miou(),
            self.overall[0] / self.overall[1].max(1.0),
            over(0.5),
            over(0.7),
            kinds.join(" "),
            mean(self.old.iter().copied()),
            mean(self.new.iter().copied()),
            mean(self.foreign.iter().copied()),
        )
    }

    fn merge(&mut self, other: Self) {
        self.ious.extend(other.ious);
        self.picks.extend(other.picks);
        self.old.extend(other.old);
        self.new.extend(other.new);
        self.foreign.extend(other.foreign);
        for i in 0..2 {
            self.overall[i] += other.overall[i];
        }
    }
}

/// Foreground scores (difference of the two logits) at full size for every picture of a batch.
pub fn predict(
    model: &Model,
    params: &Params,
    plans: &Plans,
    batch: &mut Batch,
    side: usize,
) -> Vec<Vec<f32>> {
    let mut tape = Tape::new(params, Workspace::default(), false);
    let patches = std::mem::take(&mut batch.patches);
    let out = model.forward(&mut tape, plans, patches, &batch.ids, &batch.words);
    let from = side / 4;
    let taps = taps(from, side);
    let logits = tape.value(out.logits);
    logits
        .chunks_exact(from * from * 2)
        .map(|l| {
            let at = |y: usize, x: usize| l[(y * from + x) * 2 + 1] - l[(y * from + x) * 2];
            let mut score = Vec::with_capacity(side * side);
            for &(y0, y1, ty) in &taps {
                for &(x0, x1, tx) in &taps {
                    let top = at(y0, x0) * (1.0 - tx) + at(y0, x1) * tx;
                    let low = at(y1, x0) * (1.0 - tx) + at(y1, x1) * tx;
                    score.push(top * (1.0 - ty) + low * ty);
                }
            }
            score
        })
        .collect()
}

fn overlap(score: &[f32], ids: &[u8], object: usize) -> [f64; 2] {
    let (mut both, mut any) = (0, 0);
    for (s, id) in score.iter().zip(ids) {
        let (p, t) = (*s > 0.0, usize::from(*id) == object + 1);
        both += usize::from(p && t);
        any += usize::from(p || t);
    }
    [both as f64, any as f64]
}

/// Runs all questions on `threads` threads.
pub fn run(
    model: &Model,
    params: &Params,
    scenes: &[Scene],
    questions: &[Question],
    side: usize,
    threads: usize,
) -> Report {
    let plans = model.plans(side);
    let share = questions.len().div_ceil(threads).max(1);
    let mut report = Report::default();
    std::thread::scope(|scope| {
        let handles: Vec<_> = questions
            .chunks(share)
            .enumerate()
            .map(|(i, part)| {
                let plans = &plans;
                scope.spawn(move || {
                    let mut report = Report::default();
                    for (j, q) in part.iter().enumerate() {
                        let at = i * share + j;
                        let foreign = &questions[(at + 1) % questions.len()].expression;
                        ask(
                            &Setting { model, params, plans, side },
                            &scenes[q.scene],
                            q,
                            foreign,
                            &mut report,
                        );
                    }
                    report
                })
            })
            .collect();
        for handle in handles {
            report.merge(handle.join().expect("an evaluation thread panicked"));
        }
    });
    report
}

struct Setting<'a> {
    model: &'a Model,
    params: &'a Params,
    plans: &'a Plans,
    side: usize,
}

fn ask(s: &Setting, scene: &Scene, q: &Question, foreign: &Expression, report: &mut Report) {
    let mut batch = Batch::default();
    batch.push_plain(scene, &q.expression.text, s.side);
    batch.push_plain(scene, &foreign.text, s.side);
    if let Some(swapped) = &q.swapped {
        batch.push_plain(scene, &swapped.text, s.side);
    }
    let scores = predict(s.model, s.params, s.plans, &mut batch, s.side);
    let ids = shrink(&scene.ids, s.side, false);
    let target = q.expression.target;
    let iou = |o: [f64; 2]| (o[0] / o[1].max(1.0)) as f32;
    let o = overlap(&scores[0], &ids, target);
    let kind = q.expression.kind as usize;
    report.ious.push((iou(o), kind));
    report.overall[0] += o[0];
    report.overall[1] += o[1];
    let covered = |object: usize| {
        let own = ids.iter().zip(&scores[0]).filter(|(id, _)| usize::from(**id) == object + 1);
        mean(own.map(|(_, s)| f32::from(u8::from(*s > 0.0))))
    };
    let category = scene.objects[target].category;
    let rivals = scene.objects.iter().enumerate().filter(|(i, o)| *i != target && o.category == category);
    if let Some(most) = rivals.map(|(i, _)| covered(i)).reduce(f32::max) {
        report.picks.push((covered(target) > most, kind));
    }
    report.foreign.push(iou(overlap(&scores[1], &ids, target)));
    if let Some(swapped) = &q.swapped {
        report.old.push(iou(overlap(&scores[2], &ids, target)));
        report.new.push(iou(overlap(&scores[2], &ids, swapped.target)));
    }
}
