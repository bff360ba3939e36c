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
use crate::eval::search::{Effort, Front, Limit, Point, SearchError, Share, Space};
use crate::exec::Cancel;
use crate::method::{METHODS, Method, MethodBits, Protocol};
use crate::plan::Plan;
use crate::terms::Bits;
use field::{Field, Stop};
use improve::Bench;

/// Average bits of the front, where nothing else is said.
pub const BUDGETS: [f64; 8] = [3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0];
/// Widths that sites are offered, where nothing else is said.
const WIDTHS: [u8; 6] = [2, 3, 4, 5, 6, 8];
/// Minutes of a search where nothing else is said. More find better plans: what they did not suffice for is said.
pub const MINUTES: u64 = 10;
/// The part of the time that counting the calibration set gets at most.
const CALIBRATION: f64 = 0.2;
/// The parts of the time that is left that preparing samples, scores, and whole methods get at most.
const SHARES: (f64, f64, f64) = (0.1, 0.45, 0.12);
/// Budgets that are tried for more points at most, where several had the same plan.
const MORE: usize = 12;
/// Budgets nearer to each other than this many average bits are one.
const APART: f64 = 0.1;
/// How far below the smallest budget the next one lies, in average bits.
const STEP: f64 = 0.25;

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
    /// When to end; it is looked at between runs. What it does not suffice for is left out, and [`Effort`] says how much
    /// that was: where nothing was, results do not depend on it.
    pub time: Duration,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self {
            asked: None,
            budgets: BUDGETS.to_vec(),
            bits: WIDTHS.iter().filter_map(|&bits| Bits::new(bits).ok()).collect(),
            tied: true,
            time: Duration::from_mins(MINUTES),
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
    effort: Effort,
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
        let begun = Instant::now();
        let stop = Stop { cancel: cancel.clone(), end: begun + options.time };
        let mut step = |stage, done, total| {
            progress(&SearchProgress { stage, done, total, front: None });
        };
        let mut effort = Effort::default();
        if self.stats().is_none() {
            let calibrating = |done, total| step(SearchStage::Calibrating, done, total);
            let share = options.time.mul_f64(CALIBRATION);
            effort.calibration = self.calibrate_within(share, cancel, calibrating)?;
        }
        let field = Field::new(self, &stop.within(SHARES.0))?;
        effort.samples = field.prepared;
        let groups = ties::groups(&self.model.graph, options.tied);
        let fitting = |done, total| step(SearchStage::Fitting, done, total);
        let base = self.base_of_search(&field, &groups, &options.bits, (&stop, &mut effort), fitting)?;
        let scoring = |done, total| step(SearchStage::Scoring, done, total);
        let (within, told) = (stop.within(SHARES.1), &mut effort);
        let space = Arc::new(self.scored(&field, &groups, &base, (&within, told), scoring)?);
        space.check("the space of the search")?;
        let mut pool = Pool {
            space: Arc::clone(&space),
            points: Vec::new(),
            limits: limits(options),
            asked: options.asked,
            effort,
            report: &mut progress,
        };
        let bench = Bench { field: &field, groups: &groups, space: &space, variant: &base.variant };
        let found = self.plans(&bench, &mut pool, options.budgets.len(), &stop);
        match found {
            Err(error) if !error.is_cancelled() || pool.points.is_empty() => Err(error),
            _ => {
                let mut front = pool.front();
                pool.effort.timed(options.time, begun.elapsed());
                pool.effort.stopped = cancel.is_cancelled();
                front.effort = Some(pool.effort);
                Ok(front)
            }
        }
    }

    /// Runs the plans of all budgets, and improves them while there is time. Where budgets share a plan, more budgets give
    /// the front as many points as were wished for.
    fn plans(
        &self,
        bench: &Bench<'_>,
        pool: &mut Pool<'_>,
        points: usize,
        stop: &Stop,
    ) -> Result<(), SessionError> {
        // The one that was asked for comes first.
        let mut order = pool.limits.clone();
        order.sort_by_key(|limit| Some(*limit) != pool.asked);
        let mut starts: Vec<(Limit, Vec<usize>)> = Vec::new();
        let total = order.len() * 2;
        for limit in order {
            self.start(bench, pool, limit, total, stop, &mut starts)?;
        }
        self.methods_in_search(bench, pool, &stop.within(SHARES.2))?;
        self.more_points(bench, pool, points, stop, &mut starts)?;
        let (count, total) = (starts.len(), starts.len() * 2);
        for (at, (limit, start)) in starts.iter().enumerate() {
            self.improve(
                bench,
                pool,
                (*limit, start),
                (count + at, total),
                &stop.within(1.0 / (count - at) as f64),
            )?;
            pool.step(SearchStage::Improving, count + at + 1, total);
        }
        // What was improved may serve several budgets too.
        let mut late = Vec::new();
        self.more_points(bench, pool, points, stop, &mut late)?;
        for (limit, start) in &late {
            self.improve(bench, pool, (*limit, start), (total, total), stop)?;
        }
        Ok(())
    }

    /// Runs the plan that scores give for a budget. The first plan of all is run whatever the time.
    fn start(
        &self,
        bench: &Bench<'_>,
        pool: &mut Pool<'_>,
        limit: Limit,
        total: usize,
        stop: &Stop,
        starts: &mut Vec<(Limit, Vec<usize>)>,
    ) -> Result<(), SessionError> {
        let choices = match bench.space.allocate(&bench.space.losses(), limit) {
            Ok(choices) => choices,
            Err(SearchError::TooSmall { .. }) if Some(limit) != pool.asked => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        pool.effort.plans.expect(1);
        let least = usize::from(pool.points.is_empty());
        if let Some(point) = self.point(bench, limit, &choices, least, stop)? {
            pool.effort.plans.done += 1;
            pool.add(point, SearchStage::Improving, starts.len() + 1, total);
        }
        starts.push((limit, choices));
        Ok(())
    }

    fn improve(
        &self,
        bench: &Bench<'_>,
        pool: &mut Pool<'_>,
        (limit, start): (Limit, &[usize]),
        (done, total): (usize, usize),
        stop: &Stop,
    ) -> Result<(), SessionError> {
        let mut measured = std::mem::take(&mut pool.effort.exchanges);
        let outcome = bench.improve(start, limit, (stop, &mut measured), |better| {
            tracing::debug!("search: {limit}: {}", better.loss);
            if let Some(point) = self.point(bench, limit, &better.choices, 0, stop)? {
                pool.add(point, SearchStage::Improving, done, total);
            }
            Ok(())
        });
        pool.effort.exchanges = measured;
        outcome
    }

    /// Runs plans for budgets between those whose losses lie furthest apart, and below the smallest, until there are as many
    /// points as budgets were wished for.
    fn more_points(
        &self,
        bench: &Bench<'_>,
        pool: &mut Pool<'_>,
        points: usize,
        stop: &Stop,
        starts: &mut Vec<(Limit, Vec<usize>)>,
    ) -> Result<(), SessionError> {
        for attempt in 0..MORE {
            let front = pool.front();
            if front.points.len() >= points || stop.over() {
                break;
            }
            // A plan for less is always another one.
            let inside = between(&front, &pool.limits).filter(|_| attempt % 3 < 2);
            let Some(limit) = inside.or_else(|| below(&pool.limits)) else { break };
            let place = pool.limits.iter().position(|known| match known {
                Limit::AverageBits(bits) => *bits > limit.value(),
                _ => true,
            });
            pool.limits.insert(place.unwrap_or(pool.limits.len()), limit);
            let total = pool.limits.len() * 2;
            self.start(bench, pool, limit, total, stop, starts)?;
        }
        Ok(())
    }

    /// Judges a plan; none if the time did not suffice, which it does for `least` samples.
    #[allow(clippy::unused_self, reason = "a session judges what belongs to it")]
    fn point(
        &self,
        bench: &Bench<'_>,
        limit: Limit,
        choices: &[usize],
        least: usize,
        stop: &Stop,
    ) -> Result<Option<Point>, SessionError> {
        let figures = bench.field.figures(bench.variant, &bench.params(choices), least, stop)?;
        Ok(figures.map(|figures| {
            let plan = bench.space.plan(choices);
            Point::new(bench.space, limit, "search".to_owned(), Some(choices.to_vec()), plan, figures)
        }))
    }

    /// Plans of methods that are within some budget: at 4 bits, at 6, at 3 and at 8.
    fn plans_of_methods(&self, limits: &[Limit]) -> Vec<(&'static dyn Method, Bits, Limit, Plan)> {
        let mut found = Vec::new();
        for bits in [4, 6, 3, 8].map(|width| Bits::new(width).unwrap_or(Bits::EIGHT)) {
            for method in METHODS.iter().filter(|method| method.protocol() != Protocol::OutputLoss) {
                let plan = crate::method::plan(
                    *method,
                    &self.model.graph,
                    self.model_ref(),
                    &MethodBits::new(bits, bits),
                );
                let limit = limits.iter().find(|limit| limit.holds(&self.budget(&plan)));
                found.extend(limit.map(|&limit| (*method, bits, limit, plan)));
            }
        }
        found
    }

    /// Runs whole plans of methods, as long as there is time.
    fn methods_in_search(
        &self,
        bench: &Bench<'_>,
        pool: &mut Pool<'_>,
        stop: &Stop,
    ) -> Result<(), SessionError> {
        let plans = self.plans_of_methods(&pool.limits);
        let total = plans.len();
        pool.effort.methods = Share { done: 0, of: total };
        for (at, (method, bits, limit, plan)) in plans.into_iter().enumerate() {
            if stop.over() {
                return Ok(());
            }
            pool.step(SearchStage::Methods, at, total);
            let FittedPlan { plan, params, variant, .. } = match self.fit_plan(&plan) {
                Ok(fitted) => fitted,
                // It is not made for what these sites hold.
                Err(SessionError::Fit { .. } | SessionError::Rewrite(_)) => {
                    pool.effort.methods.done += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(figures) = bench.field.figures(&variant, &params, 0, stop)? else { return Ok(()) };
            pool.effort.methods.done += 1;
            let origin = format!("{} W{bits}A{bits}", method.name());
            let point = Point::new(bench.space, limit, origin, None, plan.as_ref().clone(), figures);
            pool.add(point, SearchStage::Methods, at + 1, total);
        }
        Ok(())
    }
}

/// A budget between two known ones, where the front's loss falls most and they lie apart.
fn between(front: &Front, known: &[Limit]) -> Option<Limit> {
    let bits = |limit: &Limit| match limit {
        Limit::AverageBits(bits) => Some(*bits),
        _ => None,
    };
    let point = |point: &Point| Some((bits(&point.limit)?, point.figures.loss.max(f64::MIN_POSITIVE)));
    let points: Vec<(f64, f64)> = front.points.iter().filter_map(point).collect();
    let known: Vec<f64> = known.iter().filter_map(bits).collect();
    let middles = known.windows(2).filter(|pair| pair[1] - pair[0] >= 2.0 * APART).map(|pair| {
        let middle = 0.5 * (pair[0] + pair[1]);
        // The points on both sides; nothing falls beyond the last.
        let next = points.iter().position(|point| point.0 > middle).filter(|&next| next > 0);
        let falls = next.map_or(0.0, |next| (points[next - 1].1 / points[next].1).ln() * (pair[1] - pair[0]));
        (falls, middle)
    });
    middles
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)))
        .map(|(_, middle)| Limit::AverageBits(middle))
}

/// A budget below the smallest one.
fn below(known: &[Limit]) -> Option<Limit> {
    let bits = |limit: &Limit| match limit {
        Limit::AverageBits(bits) => Some(*bits),
        _ => None,
    };
    let least = known.iter().filter_map(bits).reduce(f64::min)?;
    Limit::AverageBits(least - STEP).check().ok()
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
