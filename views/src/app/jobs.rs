//! Background work: what runs, how far it is, how long it will take.

use bitloupe_quant::session::messages::Job;

/// A running job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Running {
    /// Its kind.
    pub job: Job,
    /// Steps done.
    pub done: usize,
    /// Steps in all; 0 while unknown.
    pub total: usize,
    /// Seconds left.
    pub eta_seconds: Option<f64>,
}

/// All running jobs, in the order in which they began.
#[derive(Debug, Clone, Default)]
pub struct Jobs(Vec<Running>);

impl Jobs {
    /// Notes that a job was asked for.
    pub fn start(&mut self, job: Job) {
        self.progress(job, 0, 0, None);
    }

    /// Notes how far a job is; it ends when all is done.
    pub fn progress(&mut self, job: Job, done: usize, total: usize, eta_seconds: Option<f64>) {
        if total > 0 && done >= total {
            self.end(job);
            return;
        }
        let running = Running { job, done, total, eta_seconds };
        match self.0.iter_mut().find(|other| other.job == job) {
            Some(slot) => *slot = running,
            None => self.0.push(running),
        }
    }

    /// Notes that a job is over.
    pub fn end(&mut self, job: Job) {
        self.0.retain(|running| running.job != job);
    }

    /// Forgets all jobs.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether anything runs.
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether a job runs.
    pub fn runs(&self, job: Job) -> bool {
        self.0.iter().any(|running| running.job == job)
    }

    /// Whether something runs that can be stopped.
    pub fn cancellable(&self) -> bool {
        self.0.iter().any(|running| {
            matches!(
                running.job,
                Job::Calibration
                    | Job::Evaluation
                    | Job::Export
                    | Job::Sensitivity
                    | Job::Parts
                    | Job::Diagnosis
                    | Job::Search
            )
        })
    }

    /// The job worth a line: a long one before a short one.
    pub fn foremost(&self) -> Option<Running> {
        self.0.iter().copied().min_by_key(|running| match running.job {
            Job::Export => 0,
            Job::Calibration => 1,
            Job::Save => 2,
            Job::Evaluation => 3,
            Job::Sample => 4,
            Job::Site => 5,
            Job::Diagnosis => 6,
            Job::Sensitivity => 7,
            Job::Parts => 8,
            Job::Search => 9,
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Running> {
        self.0.iter()
    }
}

/// A job in a word.
pub const fn word(job: Job) -> &'static str {
    match job {
        Job::Calibration => "calibrating",
        Job::Sample => "running the sample",
        Job::Evaluation => "evaluating",
        Job::Site => "fitting the site",
        Job::Sensitivity => "measuring every site",
        Job::Parts => "measuring parts",
        Job::Diagnosis => "explaining the model",
        Job::Search => "searching plans",
        Job::Export => "exporting",
        Job::Save => "saving",
    }
}

/// Seconds as people say them: `8 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    let seconds = seconds.ceil().min(1e9) as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_ends_when_all_is_done() {
        let mut jobs = Jobs::default();
        jobs.progress(Job::Calibration, 1, 4, Some(3.0));
        assert!(jobs.any() && jobs.cancellable());
        jobs.progress(Job::Calibration, 4, 4, None);
        assert!(!jobs.any());
    }

    #[test]
    fn durations_are_readable() {
        assert_eq!(duration(7.2), "8 s");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(7500.0), "2 h 5 min");
        assert_eq!(duration(f64::NAN), "?");
    }
}
