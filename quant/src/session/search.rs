//! The search for the best plan under a budget, on the calibration set alone.

mod bases;
mod field;
mod improve;
mod offers;
mod scores;
mod ties;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{FittedPlan, Session, SessionError};
use crate::eval::search::{Front, Limit, Point, SearchError, Space};
use crate::exec::Cancel;
use crate::method::{METHODS, MethodBits, Protocol};
use crate::terms::Bits;
use field::{Field, Stop};
use improve::{Bench, Tried};

/// Average bits of the front, where nothing else is said.
pub const BUDGETS: [f64; 8] = [3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0];
/// Widths that sites are offered, where nothing else is said.
const WIDTHS: [u8; 6] = [2, 3, 4, 5, 6, 8];
/// The parts of the time that is left that scores and whole methods get at most.
const SHARES: (f64, f64) = (0.45, 0.12);

/// How to search.
#[derive(Debug, Clone)]
pub struct SearchOptions {
    /// The budget that is asked for; those of the front are searched beside it.
    pub asked: Option<Limit>,
    /// Average bits of the front.
    pub budgets: Vec<f64>,
    /// Widths that sites are offered.
    pub bits: Vec<Bits>,
    /// Whether the projections of one attention share their choice.
    pub tied: bool,
    /// When to end. Scores that time does not suffice for are estimated; without such, results do not depend on it until
    /// plans are improved.
    pub time: Duration,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self {
            asked: None,
            budgets: BUDGETS.to_vec(),
            bits: WIDTHS.iter().filter_map(|&bits| Bits::new(bits).ok()).collect(),
            tied: true,
            time: Duration::from_mins(10),
        }
    }
}

/// What a search is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchStage {
    /// Sketches of the calibration set.
    Calibrating,
    /// Every quantizer is fitted to every site, and rewrites are tried.
    Fitting,
    /// Every candidate is measured alone.
    Scoring,
    /// Plans of methods are run.
    Methods,
    /// Plans along the front are run and improved.
    Improving,
}

impl SearchStage {
    /// In the order in which they come.
    pub const ALL: [Self; 5] =
        [Self::Calibrating, Self::Fitting, Self::Scoring, Self::Methods, Self::Improving];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calibrating => "calibrating",
            Self::Fitting => "fitting",
            Self::Scoring => "scoring",
            Self::Methods => "trying methods",
            Self::Improving => "improving plans",
        }
    }
}

/// How far a search is.
#[derive(Debug, Clone, Copy)]
pub struct SearchProgress<'p> {
    /// What it is doing.
    pub stage: SearchStage,
    /// Steps done of this stage.
    pub done: usize,
    /// Steps of this stage.
    pub total: usize,
    /// The front so far, each time it has changed.
    pub front: Option<&'p Front>,
}

/// The measured plans so far.
struct Pool<'p> {
    space: Arc<Space>,
    points: Vec<Point>,
    limits: Vec<Limit>,
    asked: Option<Limit>,
    report: &'p mut dyn FnMut(&SearchProgress<'_>),
}

impl Pool<'_> {
    fn front(&self) -> Front {
        Front::of(Arc::clone(&self.space), &self.points, &self.limits, self.asked)
    }

    fn add(&mut self, point: Point, stage: SearchStage, done: usize, total: usize) {
        self.points.push(point);
        let front = self.front();
        (self.report)(&SearchProgress { stage, done, total, front: Some(&front) });
    }

    fn step(&mut self, stage: SearchStage, done: usize, total: usize) {
        (self.report)(&SearchProgress { stage, done, total, front: None });
    }
}

impl Session {
    /// Searches the plan of least loss for a budget, and those of a front of others.
    ///
    /// 1. Every group of sites is offered all quantizers that fit, at all widths; the best few by predicted error stay.
    ///    Rewrites are kept if runs say that they help.
    /// 2. Each is measured alone on one half of the calibration samples, from runs in full precision.
    /// 3. For each budget the allocation of least summed loss is found exactly, run, and improved by exchanges measured
    ///    under it. Plans of methods compete.
    /// 4. Each plan is judged on the other half, which no choice was made on; the best within each budget is its point.
    ///
    /// Sketches are those of the whole calibration set; no other samples are looked at. A search that is cancelled gives
    /// the points that it has.
    pub fn search(
        &self,
        options: &SearchOptions,
        cancel: &Cancel,
        mut progress: impl FnMut(&SearchProgress<'_>),
    ) -> Result<Front, SessionError> {
        if let Some(asked) = options.asked {
            asked.check()?;
        }
        let stop = Stop { cancel: cancel.clone(), end: Instant::now() + options.time };
        let mut step = |stage, done, total| {
            progress(&SearchProgress { stage, done, total, front: None });
        };
        if self.stats().is_none() {
            self.calibrate(cancel, |done, total| step(SearchStage::Calibrating, done, total))?;
        }
        let field = Field::new(self, cancel)?;
        let groups = ties::groups(&self.model.graph, options.tied);
        let base = self.base_of_search(&field, &groups, &options.bits, &stop, |done, total| {
            step(SearchStage::Fitting, done, total);
        })?;
        let space = self.scored(&field, &groups, &base, &stop.within(SHARES.0), |done, total| {
            step(SearchStage::Scoring, done, total);
        })?;
        let space = Arc::new(space);
        space.check("the space of the search")?;
        let limits = limits(options);
        let mut pool = Pool {
            space: Arc::clone(&space),
            points: Vec::new(),
            limits,
            asked: options.asked,
            report: &mut progress,
        };
        let bench = Bench { field: &field, groups: &groups, space: &space, variant: &base.variant };
        let found = self.plans(&bench, &mut pool, &stop);
        match found {
            Err(error) if !error.is_cancelled() || pool.points.is_empty() => Err(error),
            _ => Ok(pool.front()),
        }
    }

    /// Runs the plans of all budgets, and improves them while there is time.
    fn plans(&self, bench: &Bench<'_>, pool: &mut Pool<'_>, stop: &Stop) -> Result<(), SessionError> {
        // The one that was asked for comes first.
        let mut order = pool.limits.clone();
        order.sort_by_key(|limit| Some(*limit) != pool.asked);
        let mut starts: Vec<(Limit, Tried)> = Vec::new();
        let total = order.len();
        for (at, &limit) in order.iter().enumerate() {
            let choices = match bench.space.allocate(&bench.space.losses(), limit) {
                Ok(choices) => choices,
                Err(SearchError::TooSmall { .. }) if Some(limit) != pool.asked => continue,
                Err(error) => return Err(error.into()),
            };
            let start = bench.tried(choices, stop)?;
            pool.add(self.point(bench, limit, &start, stop)?, SearchStage::Improving, at + 1, total * 2);
            starts.push((limit, start));
        }
        self.methods_in_search(bench, pool, &stop.within(SHARES.1))?;
        let count = starts.len();
        for (at, (limit, start)) in starts.iter().enumerate() {
            let share = stop.within(1.0 / (count - at) as f64);
            bench.improve(start, *limit, &share, |better| {
                tracing::debug!("search: {limit}: {} from {}", better.loss, start.loss);
                let point = self.point(bench, *limit, better, stop)?;
                pool.add(point, SearchStage::Improving, total + at, total * 2);
                Ok(())
            })?;
            pool.step(SearchStage::Improving, total + at + 1, total * 2);
        }
        Ok(())
    }

    /// Judges a plan.
    #[allow(clippy::unused_self, reason = "a session judges what belongs to it")]
    fn point(
        &self,
        bench: &Bench<'_>,
        limit: Limit,
        tried: &Tried,
        stop: &Stop,
    ) -> Result<Point, SessionError> {
        let choices = tried.choices.clone();
        let figures = bench.field.figures(bench.variant, &bench.params(&choices), &stop.cancel)?;
        let plan = bench.space.plan(&choices);
        Ok(Point::new(bench.space, limit, "search".to_owned(), Some(choices), plan, figures))
    }

    /// Runs whole plans of methods that are within some budget, as long as there is time: at 4 bits, at 6, at 3 and at 8.
    fn methods_in_search(
        &self,
        bench: &Bench<'_>,
        pool: &mut Pool<'_>,
        stop: &Stop,
    ) -> Result<(), SessionError> {
        let widths = [4, 6, 3, 8];
        let (total, mut done) = (widths.len() * METHODS.len(), 0);
        for width in widths {
            let bits = Bits::new(width).unwrap_or(Bits::EIGHT);
            for method in METHODS {
                done += 1;
                if stop.over() {
                    return Ok(());
                }
                pool.step(SearchStage::Methods, done, total);
                if method.protocol() == Protocol::OutputLoss {
                    continue;
                }
                let plan = crate::method::plan(
                    *method,
                    &self.model.graph,
                    self.model_ref(),
                    &MethodBits::new(bits, bits),
                );
                let Some(&limit) = pool.limits.iter().find(|limit| limit.holds(&self.budget(&plan))) else {
                    continue;
                };
                let FittedPlan { plan, params, variant, .. } = match self.fit_plan(&plan) {
                    Ok(fitted) => fitted,
                    // It is not made for what these sites hold.
                    Err(SessionError::Fit { .. } | SessionError::Rewrite(_)) => continue,
                    Err(error) => return Err(error),
                };
                let figures = bench.field.figures(&variant, &params, &stop.cancel)?;
                let origin = format!("{} W{width}A{width}", method.name());
                let point = Point::new(bench.space, limit, origin, None, plan.as_ref().clone(), figures);
                pool.add(point, SearchStage::Methods, done, total);
            }
        }
        Ok(())
    }
}

/// The budgets of a search, ascending; one of another kind comes last.
fn limits(options: &SearchOptions) -> Vec<Limit> {
    let mut limits: Vec<Limit> = options.budgets.iter().copied().map(Limit::AverageBits).collect();
    if let Some(asked @ Limit::AverageBits(_)) = options.asked {
        limits.push(asked);
    }
    limits.retain(|limit| limit.check().is_ok());
    limits.sort_by(|a, b| a.value().total_cmp(&b.value()));
    limits.dedup();
    limits.extend(options.asked.filter(|asked| !matches!(asked, Limit::AverageBits(_))));
    limits
}
