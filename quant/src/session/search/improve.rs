//! Plans made better by exchanges whose gain is measured where the plan is, not around full precision.

use std::sync::Arc;

use super::field::{BySite, Change, Field, Stop, mean};
use super::scores::params_of;
use crate::eval::search::{Limit, SearchError, Share, Space};
use crate::quantizer::Params;
use crate::session::SessionError;
use crate::session::variant::Variant;

/// Samples that gains are measured on.
const SAMPLES: usize = 12;
/// Rounds at most.
const ROUNDS: usize = 4;
/// Prices of a change that are tried, in units of the spread of the gains: from all exchanges at once to the surest ones.
const PRICES: [f64; 7] = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0];
/// What a measured gain counts against the expected one.
const TRUST: f64 = 0.5;
/// The part of the loss that a round must take off for another one.
const GAIN: f64 = 0.002;

/// What a search of one budget works with.
pub(super) struct Bench<'b> {
    pub(super) field: &'b Field<'b>,
    pub(super) groups: &'b [Vec<usize>],
    pub(super) space: &'b Space,
    pub(super) variant: &'b Variant,
}

/// A plan with its mean loss on the part that choices are made on.
#[derive(Debug, Clone)]
pub(super) struct Tried {
    pub(super) choices: Vec<usize>,
    pub(super) loss: f64,
}

/// A candidate that a group could have instead.
struct Move {
    group: usize,
    candidate: usize,
}

impl Bench<'_> {
    /// Parameters by site.
    pub(super) fn params(&self, choices: &[usize]) -> BySite {
        params_of(self.groups, self.space, choices)
    }

    /// Runs a plan on the part that choices are made on; none if the time does not suffice.
    pub(super) fn tried(&self, choices: &[usize], stop: &Stop) -> Result<Option<Tried>, SessionError> {
        let loss = self.field.mean_loss(self.variant, &self.params(choices), &self.field.fit, stop)?;
        Ok(loss.map(|loss| Tried { choices: choices.to_vec(), loss }))
    }

    /// Better and better plans within a budget, from `start` on (not among them). Each round measures what every
    /// exchange of one group's candidate for one of the same or a neighbouring width does to the loss under this very plan;
    /// the exact allocation then picks the exchanges that gain most together within the budget. As gains measured on
    /// few samples are part chance, each counts half and what the scores expect of it half, and every exchange has a
    /// price; of several prices the plan is taken that runs on all samples find best. The rounds end when none is
    /// better, or when the time is over; `measured` counts exchanges.
    pub(super) fn improve(
        &self,
        start: &[usize],
        limit: Limit,
        (stop, measured): (&Stop, &mut Share),
        mut found: impl FnMut(&Tried) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        let Some(mut now) = self.tried(start, stop)? else {
            measured.expect(self.moves(start).len());
            return Ok(());
        };
        for _ in 0..ROUNDS {
            let moves = self.moves(&now.choices);
            measured.expect(moves.len());
            if stop.over() {
                break;
            }
            let samples = &self.field.fit[..self.field.fit.len().min(SAMPLES)];
            let (gains, whole) = self.gains(&now, moves, samples, stop)?;
            // A round that was cut short counts in part.
            measured.done += gains.len() * whole / samples.len().max(1);
            if whole == 0 {
                break;
            }
            let mut best: Option<Tried> = None;
            let mut last = None;
            for price in PRICES {
                let losses = self.losses(&now, &gains, price);
                let choices = match self.space.allocate(&losses, limit) {
                    Ok(choices) => choices,
                    Err(SearchError::TooSmall { .. }) => break,
                    Err(error) => return Err(error.into()),
                };
                if choices == now.choices {
                    break;
                }
                if last.as_ref() == Some(&choices) {
                    continue;
                }
                let Some(tried) = self.tried(&choices, stop)? else { break };
                last = Some(choices);
                if best.as_ref().is_none_or(|best| tried.loss < best.loss) {
                    best = Some(tried);
                }
                if stop.over() {
                    break;
                }
            }
            let Some(best) = best.filter(|best| best.loss < now.loss) else { break };
            found(&best)?;
            let enough = best.loss < now.loss * (1.0 - GAIN);
            now = best;
            if !enough {
                break;
            }
        }
        Ok(())
    }

    /// The change of the loss by every move, and on how many samples all of them were measured, which is what counts.
    fn gains(
        &self,
        now: &Tried,
        moves: Vec<Move>,
        samples: &[usize],
        stop: &Stop,
    ) -> Result<(Vec<(Move, f64)>, usize), SessionError> {
        let nothing = Change { sites: &[], params: &[] };
        let change = |one: &Move| Change {
            sites: &self.groups[one.group],
            params: &self.space.groups[one.group].candidates[one.candidate].params,
        };
        let changes: Vec<Change<'_>> = std::iter::once(nothing).chain(moves.iter().map(change)).collect();
        let plan: Vec<Option<Arc<Params>>> = self.params(&now.choices);
        let losses = self.field.measure(self.variant, &plan, &changes, samples, stop, |_, _| {})?;
        let whole: Vec<usize> =
            (0..samples.len()).filter(|&at| losses.iter().all(|of| of[at].is_some())).collect();
        let of = |at: usize| mean(whole.iter().filter_map(|&sample| losses[at][sample]));
        let base = of(0);
        let gains = moves.into_iter().enumerate().map(|(at, one)| (one, of(at + 1) - base)).collect();
        Ok((gains, whole.len()))
    }

    /// Candidates of the same width, and the best ones of the widths next to it.
    fn moves(&self, choices: &[usize]) -> Vec<Move> {
        let mut moves = Vec::new();
        for (group, &current) in choices.iter().enumerate() {
            let candidates = &self.space.groups[group].candidates;
            let bits = candidates[current].bits;
            let below = candidates.iter().map(|c| c.bits).filter(|&b| b < bits).max();
            let above = candidates.iter().map(|c| c.bits).filter(|&b| b > bits).min();
            // Within a width they are sorted by their loss.
            let first = |width: Option<crate::terms::Bits>| {
                width.and_then(|width| candidates.iter().position(|c| c.bits == width))
            };
            let same = (0..candidates.len()).filter(|&at| at != current && candidates[at].bits == bits);
            moves.extend(
                same.chain(first(below)).chain(first(above)).map(|candidate| Move { group, candidate }),
            );
        }
        moves
    }

    /// Losses for the allocation: 0 for what is, the estimated change and the price of changing for what could be.
    fn losses(&self, now: &Tried, gains: &[(Move, f64)], price: f64) -> Vec<Vec<f64>> {
        let scores = self.space.losses();
        let expected: f64 = scores.iter().zip(&now.choices).map(|(of, &at)| of[at]).sum();
        // What is lost together is not quite the sum of what is lost alone.
        let scale = if expected > 0.0 { now.loss / expected } else { 1.0 };
        let mut sizes: Vec<f64> = gains.iter().map(|(_, gain)| gain.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let price = price * sizes.get(sizes.len() / 2).copied().unwrap_or(0.0);
        let mut losses: Vec<Vec<f64>> = scores.iter().map(|of| vec![f64::INFINITY; of.len()]).collect();
        for (losses, &current) in losses.iter_mut().zip(&now.choices) {
            losses[current] = 0.0;
        }
        for (Move { group, candidate }, gain) in gains {
            let own = scale * (scores[*group][*candidate] - scores[*group][now.choices[*group]]);
            losses[*group][*candidate] = TRUST * gain + (1.0 - TRUST) * own + price;
        }
        losses
    }
}
