//! What a search did of what there was to do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A part of some whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// What was done.
    pub done: usize,
    /// What there was.
    pub of: usize,
}

impl Share {
    /// Whether nothing was left out.
    pub fn is_whole(self) -> bool {
        self.done >= self.of
    }

    /// Adds what there is to do, none of it done yet.
    pub fn expect(&mut self, more: usize) {
        self.of += more;
    }
}

/// What a search did of what there was to do, and in what time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effort {
    /// The time that it was given, in minutes.
    pub minutes: f64,
    /// The time that it took.
    pub took_minutes: f64,
    /// Whether a person ended it.
    pub stopped: bool,
    /// Calibration samples that were counted, where that was part of it.
    #[serde(default)]
    pub calibration: Share,
    /// Calibration samples whose results in full precision were prepared.
    pub samples: Share,
    /// Groups of sites, at each width: those that every quantizer was fitted to; the others have a plain one.
    pub fits: Share,
    /// Kinds of rewrites that were tried.
    pub rewrites: Share,
    /// Sites all of whose candidates were measured; what was not is estimated from sketches.
    pub scores: Share,
    /// Candidates that were measured.
    pub candidates: Share,
    /// Samples on which all of them were.
    pub score_samples: Share,
    /// Budgets whose plan was run.
    pub plans: Share,
    /// Plans of methods that were run.
    pub methods: Share,
    /// Exchanges whose gain was measured under a plan.
    pub exchanges: Share,
}

impl Effort {
    /// Every part.
    fn shares(&self) -> [Share; 10] {
        [
            self.calibration,
            self.samples,
            self.fits,
            self.rewrites,
            self.scores,
            self.candidates,
            self.score_samples,
            self.plans,
            self.methods,
            self.exchanges,
        ]
    }

    /// Whether everything was done.
    pub fn is_whole(&self) -> bool {
        self.shares().iter().all(|share| share.is_whole())
    }

    /// Whether time did not suffice for everything.
    pub fn cut_by_clock(&self) -> bool {
        !self.is_whole() && !self.stopped
    }

    /// For people: what was done, and what to do where the clock or a person ended it.
    pub fn sentences(&self) -> Vec<String> {
        let of = |share: Share| format!("{} of {}", share.done, share.of);
        let mut all = vec![format!(
            "Measured alone: the candidates of {} sites ({} candidates, on {} samples). Tried: {} kinds of rewrites, \
             {} plans of methods, {} exchanges under a plan; run: the plans of {} budgets.",
            of(self.scores),
            of(self.candidates),
            of(self.score_samples),
            of(self.rewrites),
            of(self.methods),
            of(self.exchanges),
            of(self.plans)
        )];
        let took = minutes(self.took_minutes);
        if self.is_whole() {
            all.push(format!("Nothing was left out; it took {took} of {}.", minutes(self.minutes)));
            return all;
        }
        let mut text = if self.cut_by_clock() {
            format!("The clock cut it short: {took} do not suffice for everything")
        } else {
            format!("It was stopped after {took}")
        };
        if !self.calibration.is_whole() {
            text.push_str(&format!("; {} calibration samples were counted", of(self.calibration)));
        }
        if !self.fits.is_whole() {
            text.push_str(&format!(
                "; not even every quantizer was fitted ({} widths of groups have all of them, the others a plain one)",
                of(self.fits)
            ));
        }
        if !self.scores.is_whole() {
            text.push_str("; scores that were not measured are estimated from sketches");
        }
        text.push_str(
            ". Search again with more --minutes; `search --from` solves other budgets from what was measured.",
        );
        all.push(text);
        all
    }

    /// Notes the time.
    pub fn timed(&mut self, given: Duration, took: Duration) {
        self.minutes = given.as_secs_f64() / 60.0;
        self.took_minutes = took.as_secs_f64() / 60.0;
    }
}

/// A time for people.
fn minutes(minutes: f64) -> String {
    let seconds = minutes * 60.0;
    if seconds < 100.0 { format!("{seconds:.0} s") } else { format!("{minutes:.1} minutes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_said_with_the_remedy() {
        let whole = Share { done: 4, of: 4 };
        let mut effort = Effort { minutes: 1.0, took_minutes: 0.5, scores: whole, ..Effort::default() };
        assert!(effort.is_whole() && !effort.cut_by_clock());
        assert!(effort.sentences()[1].contains("Nothing was left out; it took 30 s of 60 s"));
        effort.scores.expect(6);
        effort.stopped = true;
        assert!(!effort.is_whole() && !effort.cut_by_clock());
        assert!(effort.sentences()[1].starts_with("It was stopped after 30 s"));
        effort.stopped = false;
        assert!(effort.cut_by_clock());
        let said = effort.sentences();
        assert!(said[0].contains("candidates of 4 of 10 sites"), "{}", said[0]);
        for part in ["The clock cut it short", "estimated from sketches", "more --minutes", "`search --from`"]
        {
            assert!(said[1].contains(part), "{part}: {}", said[1]);
        }
    }
}
