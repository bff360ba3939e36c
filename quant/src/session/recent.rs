//! The last answers, kept so that going back to a plan (the other one of two compared, an undo) shows its masks and
//! figures at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::lock;
use super::messages::{Generation, PlanView, SampleView, SetView};
use crate::plan::Plan;

/// Runs of samples kept: both plans of a comparison for the shown sample and the ones looked at before it.
const SHOWN: usize = 6;
/// Evaluations kept. They are small.
const SETS: usize = 8;

/// What was run last, newest first, by what was asked for. An answer does not depend on when it was asked for, so what
/// is kept is what a new run would give, with the number of the new request.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Counts the calibrations: what was begun before one is not kept after it.
    epoch: u64,
    shown: VecDeque<Shown>,
    sets: VecDeque<(Arc<Plan>, Arc<SetView>)>,
}

#[derive(Debug)]
struct Shown {
    plan: Arc<Plan>,
    sample: usize,
    text: Option<String>,
    fitted: Arc<PlanView>,
    view: Arc<SampleView>,
}

impl Recent {
    /// To be given back with what is made from now on.
    pub(super) fn epoch(&self) -> u64 {
        lock(&self.0).epoch
    }

    /// Forgets everything, also what is being made now: the calibration has changed.
    pub(super) fn forget(&self) {
        let mut inner = lock(&self.0);
        let epoch = inner.epoch + 1;
        *inner = Inner { epoch, ..Inner::default() };
    }

    /// The fitted plan and the run of a sample, as answers to request `generation`.
    pub(super) fn shown(
        &self,
        generation: Generation,
        plan: &Arc<Plan>,
        sample: usize,
        text: Option<&str>,
    ) -> Option<(PlanView, SampleView)> {
        let mut inner = lock(&self.0);
        let place = inner
            .shown
            .iter()
            .position(|one| one.sample == sample && one.text.as_deref() == text && same(&one.plan, plan))?;
        let found = inner.shown.remove(place)?;
        let fitted = PlanView { generation, ..PlanView::clone(&found.fitted) };
        let view =
            SampleView { generation, nodes_run: 0, milliseconds: 0.0, ..SampleView::clone(&found.view) };
        inner.shown.push_front(found);
        Some((fitted, view))
    }

    /// Keeps the run of a sample.
    pub(super) fn keep_shown(
        &self,
        epoch: u64,
        (plan, sample, text): (&Arc<Plan>, usize, Option<&str>),
        fitted: &Arc<PlanView>,
        view: &Arc<SampleView>,
    ) {
        let mut inner = lock(&self.0);
        if inner.epoch != epoch {
            return;
        }
        let text = text.map(str::to_owned);
        let (plan, fitted, view) = (Arc::clone(plan), Arc::clone(fitted), Arc::clone(view));
        inner.shown.push_front(Shown { plan, sample, text, fitted, view });
        inner.shown.truncate(SHOWN);
    }

    /// The complete evaluation of a plan, as the answer to request `generation`.
    pub(super) fn set(&self, generation: Generation, plan: &Arc<Plan>) -> Option<SetView> {
        let inner = lock(&self.0);
        let (_, set) = inner.sets.iter().find(|(other, _)| same(other, plan))?;
        Some(SetView { generation, ..SetView::clone(set) })
    }

    /// Keeps a complete evaluation.
    pub(super) fn keep_set(&self, epoch: u64, plan: &Arc<Plan>, set: &Arc<SetView>) {
        let mut inner = lock(&self.0);
        if inner.epoch != epoch {
            return;
        }
        inner.sets.push_front((Arc::clone(plan), Arc::clone(set)));
        inner.sets.truncate(SETS);
    }
}

fn same(a: &Arc<Plan>, b: &Arc<Plan>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::answer::{Answer, Metric};
    use crate::plan::ModelRef;

    fn plan(method: &str) -> Arc<Plan> {
        let mut plan = Plan::new(ModelRef::default());
        method.clone_into(&mut plan.method);
        Arc::new(plan)
    }

    fn fitted(plan: &Arc<Plan>) -> Arc<PlanView> {
        Arc::new(PlanView {
            generation: 1,
            plan: Arc::clone(plan),
            predicted_sqnr_db: Vec::new(),
            weight_bits: 4.0,
            activation_bits: 4.0,
            weight_bytes: 1,
        })
    }

    fn view(letters: &str) -> Arc<SampleView> {
        Arc::new(SampleView {
            generation: 1,
            sample: 0,
            text: String::new(),
            own_text: true,
            warnings: Vec::new(),
            picture: None,
            truth: None,
            full_precision: Answer::Letters("a".to_owned()),
            quantized: Answer::Letters(letters.to_owned()),
            full_precision_score: None,
            quantized_score: None,
            agreement: 0.5,
            outputs: Vec::new(),
            nodes_run: 9,
            nodes: 9,
            milliseconds: 3.0,
        })
    }

    fn set(quantized: f64) -> Arc<SetView> {
        Arc::new(SetView {
            generation: 1,
            samples: 2,
            complete: true,
            metric: Metric::Miou,
            full_precision: None,
            quantized: Some(quantized),
            agreement: 1.0,
            per_sample: Vec::new(),
            cache: (0, 0),
        })
    }

    #[test]
    fn an_answer_comes_back_for_the_same_question_only() {
        let recent = Recent::default();
        let (a, b) = (plan("a"), plan("b"));
        let epoch = recent.epoch();
        recent.keep_shown(epoch, (&a, 0, None), &fitted(&a), &view("of a"));
        recent.keep_shown(epoch, (&b, 0, None), &fitted(&b), &view("of b"));
        recent.keep_set(epoch, &a, &set(0.25));
        // The same plan need not be the same value in memory.
        let (found, sample) = recent.shown(7, &plan("a"), 0, None).unwrap();
        assert_eq!((found.generation, sample.generation, sample.nodes_run), (7, 7, 0));
        assert_eq!(sample.quantized, Answer::Letters("of a".to_owned()));
        assert!(recent.shown(7, &a, 1, None).is_none(), "another sample");
        assert!(recent.shown(7, &a, 0, Some("dog")).is_none(), "another sentence");
        assert!(recent.shown(7, &plan("c"), 0, None).is_none(), "another plan");
        let found = recent.set(8, &a).unwrap();
        assert_eq!((found.generation, found.quantized), (8, Some(0.25)));
        assert!(recent.set(8, &b).is_none());
    }

    #[test]
    fn a_calibration_forgets_what_was_made_and_what_is_being_made() {
        let recent = Recent::default();
        let a = plan("a");
        let before = recent.epoch();
        recent.keep_shown(before, (&a, 0, None), &fitted(&a), &view("x"));
        recent.keep_set(before, &a, &set(0.5));
        recent.forget();
        recent.keep_shown(before, (&a, 0, None), &fitted(&a), &view("x"));
        recent.keep_set(before, &a, &set(0.5));
        assert!(recent.shown(2, &a, 0, None).is_none() && recent.set(2, &a).is_none());
    }

    #[test]
    fn few_answers_are_kept_and_those_in_use_stay() {
        let recent = Recent::default();
        let (a, b) = (plan("a"), plan("b"));
        let epoch = recent.epoch();
        recent.keep_shown(epoch, (&a, 0, None), &fitted(&a), &view("a"));
        for sample in 0..50 {
            recent.keep_shown(epoch, (&b, sample, None), &fitted(&b), &view("b"));
            recent.keep_set(epoch, &b, &set(0.5));
            assert!(recent.shown(2, &a, 0, None).is_some(), "looked at again and again");
        }
        let inner = lock(&recent.0);
        assert_eq!((inner.shown.len(), inner.sets.len()), (SHOWN, SETS));
    }
}
