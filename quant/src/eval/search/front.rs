//! The measured plans of a search, and plans between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Effort, Limit, SearchError, Space};
use crate::eval::metrics::Scores;
use crate::plan::{Budget, Plan};

/// What runs of a plan gave on calibration samples that no choice was made on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Samples that were run.
    pub samples: usize,
    /// Against the truth, where samples have one.
    pub truth: BTreeMap<String, f64>,
    /// Against the answers of full precision.
    pub agreement: BTreeMap<String, f64>,
    /// Mean distance from the results of full precision
    /// (see [`between_outputs`](crate::eval::output_loss::between_outputs)): what plans are ranked by.
    pub loss: f64,
}

impl Figures {
    /// Figures with their names.
    pub fn of(samples: usize, truth: Option<&Scores>, agreement: Option<&Scores>, loss: f64) -> Self {
        let named = |scores: Option<&Scores>| scores.map(|s| s.named().to_vec()).unwrap_or_default();
        Self {
            samples,
            truth: named(truth).into_iter().collect(),
            agreement: named(agreement).into_iter().collect(),
            loss: Space::kept_loss(loss),
        }
    }

    /// The same for a plan's file.
    fn metrics(&self) -> BTreeMap<String, f64> {
        let truth = self.truth.iter().map(|(name, value)| (format!("calibration_{name}"), *value));
        let agreement =
            self.agreement.iter().map(|(name, value)| (format!("calibration_agreement_{name}"), *value));
        let others = [("calibration_samples", self.samples as f64), ("calibration_loss", self.loss)];
        let others = others.map(|(name, value)| (name.to_owned(), value));
        truth.chain(agreement).chain(others).filter(|(_, value)| value.is_finite()).collect()
    }
}

/// A measured plan.
#[derive(Debug, Clone)]
pub struct Point {
    /// The budget that it is the best plan for.
    pub limit: Limit,
    /// Where it comes from: `search`, or a method with its bits.
    pub origin: String,
    /// By group; none for a plan of a method, which need not be made of candidates.
    pub choices: Option<Vec<usize>>,
    /// The plan, fitted, with its figures.
    pub plan: Arc<Plan>,
    /// What it costs.
    pub budget: Budget,
    /// What runs gave.
    pub figures: Figures,
}

impl Point {
    /// A measured plan over the layers of a space.
    pub fn new(
        space: &Space,
        limit: Limit,
        origin: String,
        choices: Option<Vec<usize>>,
        mut plan: Plan,
        figures: Figures,
    ) -> Self {
        let budget = space.budget(&plan);
        plan.metrics = figures.metrics();
        Self { limit, origin, choices, plan: Arc::new(plan), budget, figures }
    }
}

/// What a search found: one measured plan per budget, and what others can be made of.
#[derive(Debug, Clone)]
pub struct Front {
    /// Groups, candidates and their scores.
    pub space: Arc<Space>,
    /// From the smallest budget to the largest; none loses more than a smaller one, and no two are the same plan.
    pub points: Vec<Point>,
    /// The place of the plan for the budget that was asked for.
    pub asked: Option<usize>,
    /// What was done for it; none while it is being searched.
    pub effort: Option<Effort>,
}

/// A plan for a budget.
#[derive(Debug, Clone)]
pub struct Solved {
    /// The plan.
    pub plan: Arc<Plan>,
    /// What it costs.
    pub budget: Budget,
    /// The point that it is; none for a plan that was not run.
    pub point: Option<usize>,
}

impl Front {
    /// The best plan of `pool` for every budget. A plan of a smaller budget serves a larger one too if it loses less: then
    /// it is one point, of the smaller one, or of the one that was asked for.
    pub fn of(space: Arc<Space>, pool: &[Point], limits: &[Limit], asked: Option<Limit>) -> Self {
        let mut points: Vec<Point> = Vec::new();
        let mut place = None;
        for &limit in limits {
            let fitting = pool.iter().filter(|point| limit.holds(&point.budget));
            let Some(best) = fitting.min_by(|a, b| a.figures.loss.total_cmp(&b.figures.loss)) else {
                continue;
            };
            let known = points.iter().position(|point| same(&point.plan, &best.plan));
            let at = known.unwrap_or(points.len());
            if known.is_none() {
                points.push(Point { limit, ..best.clone() });
            }
            if asked == Some(limit) {
                points[at].limit = limit;
                place = Some(at);
            }
        }
        Self { space, points, asked: place, effort: None }
    }

    /// A plan for another budget, without any run: the measured one if there is one for this very budget; else the plan
    /// of least summed loss that is made of the choices of the two measured plans next to it, the better one within
    /// the budget and the smallest beyond it. It keeps the budget and lies between what was measured. Where there is
    /// a measured plan on one side only, all candidates may be chosen.
    pub fn solve(&self, limit: Limit) -> Result<Solved, SearchError> {
        let limit = limit.check()?;
        if let Some(at) = self.points.iter().position(|point| point.limit == limit) {
            return Ok(self.measured(at));
        }
        let within = |at: &usize| limit.holds(&self.points[*at].budget);
        let loss = |at: &usize| self.points[*at].figures.loss;
        let (below, beyond): (Vec<usize>, Vec<usize>) = (0..self.points.len()).partition(within);
        let below = below.into_iter().min_by(|a, b| loss(a).total_cmp(&loss(b)));
        let cost = |at: &usize| {
            let budget = &self.points[*at].budget;
            match limit {
                Limit::AverageBits(_) => budget.average_weight_bits.max(budget.average_activation_bits),
                Limit::WeightBytes(_) => budget.weight_bytes as f64,
                Limit::BitOperations(_) => budget.bit_operations,
            }
        };
        let beyond = beyond.into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)));
        let choices = |at: Option<usize>| at.and_then(|at| self.points[at].choices.as_ref());
        let mut losses = self.space.losses();
        if let (Some(a), Some(b)) = (choices(below), choices(beyond)) {
            for (group, losses) in losses.iter_mut().enumerate() {
                for (at, loss) in losses.iter_mut().enumerate() {
                    if at != a[group] && at != b[group] {
                        *loss = f64::INFINITY;
                    }
                }
            }
        } else if let (Some(below), None) = (below, beyond)
            && self.points.iter().all(|point| within(&below) && limit.holds(&point.budget))
        {
            // Larger than everything that was measured.
            return Ok(self.measured(below));
        }
        let choices = self.space.allocate(&losses, limit)?;
        let plan = self.space.plan(&choices);
        let budget = self.space.budget(&plan);
        Ok(Solved { plan: Arc::new(plan), budget, point: None })
    }

    fn measured(&self, at: usize) -> Solved {
        let point = &self.points[at];
        Solved { plan: Arc::clone(&point.plan), budget: point.budget, point: Some(at) }
    }
}

/// Whether two plans treat all sites alike.
fn same(a: &Arc<Plan>, b: &Arc<Plan>) -> bool {
    Arc::ptr_eq(a, b) || (a.layers == b.layers && a.rewrites == b.rewrites)
}

#[cfg(test)]
mod tests {
    use super::super::example::{self, choices};
    use super::*;

    fn front() -> Front {
        let space = Arc::new(example::space());
        let point = |bits: f64, at: usize, loss: f64| {
            let taken = choices(&space, at);
            let figures = Figures { samples: 3, loss, ..Figures::default() };
            let plan = space.plan(&taken);
            Point::new(&space, Limit::AverageBits(bits), "search".to_owned(), Some(taken), plan, figures)
        };
        let pool = [point(2.0, 0, 0.9), point(4.0, 1, 0.3), point(8.0, 2, 0.4)];
        let limits = [2.0, 3.0, 4.0, 8.0].map(Limit::AverageBits);
        Front::of(Arc::clone(&space), &pool, &limits, Some(Limit::AverageBits(4.0)))
    }

    #[test]
    fn a_smaller_plan_that_loses_less_serves_the_larger_budget() {
        let front = front();
        let losses: Vec<f64> = front.points.iter().map(|point| point.figures.loss).collect();
        assert_eq!(losses, [0.9, 0.3], "each plan is there once");
        assert_eq!(front.asked, Some(1));
        assert_eq!(front.points[1].limit, Limit::AverageBits(4.0), "8 bits are served by 4");
        assert_eq!(front.points[1].plan.metrics["calibration_loss"], 0.3);
        // Asked for 8, the same plan is the answer to that.
        let limits = [4.0, 8.0].map(Limit::AverageBits);
        let eight = Front::of(Arc::clone(&front.space), &front.points, &limits, Some(limits[1]));
        assert_eq!((eight.points.len(), eight.asked), (1, Some(0)));
        assert_eq!(eight.points[0].limit, limits[1]);
    }

    #[test]
    fn other_budgets_lie_between_what_was_measured() {
        let front = front();
        assert_eq!(front.solve(Limit::AverageBits(4.0)).unwrap().point, Some(1));
        assert_eq!(front.solve(Limit::AverageBits(16.0)).unwrap().point, Some(1), "the best of all");
        let between = front.solve(Limit::AverageBits(3.2)).unwrap();
        assert!(between.point.is_none());
        assert!(Limit::AverageBits(3.2).holds(&between.budget), "{:?}", between.budget);
        assert!(between.budget.average_weight_bits > 2.0);
        for (_, site) in between.plan.sites() {
            assert!(matches!(site.bits().get(), Some(2 | 4)), "{site:?}");
        }
        let bytes = front.points[1].budget.weight_bytes;
        let solved = front.solve(Limit::WeightBytes(bytes - 1)).unwrap();
        assert!(solved.budget.weight_bytes < bytes);
        let error = front.solve(Limit::AverageBits(1.5)).unwrap_err().to_string();
        assert!(error.contains("1.5 average bits") && error.contains("2.000 average bits"), "{error}");
        assert!(front.solve(Limit::AverageBits(f64::NAN)).is_err());
    }
}
