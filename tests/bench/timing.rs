//! Clocks, medians and the table of the benchmark.

use std::time::{Duration, Instant};

/// One line of the table: a figure against its budget.
pub struct Line {
    what: String,
    figure: String,
    budget: String,
    /// `None` where there is no budget.
    kept: Option<bool>,
}

impl Line {
    /// A figure that must not exceed `budget`.
    pub fn at_most(what: impl Into<String>, figure: f64, budget: f64, unit: &str) -> Self {
        Self {
            what: what.into(),
            figure: number(figure, unit),
            budget: format!("≤ {}", number(budget, unit)),
            kept: Some(figure <= budget),
        }
    }

    /// A figure without a budget.
    pub fn note(what: impl Into<String>, figure: impl Into<String>) -> Self {
        Self { what: what.into(), figure: figure.into(), budget: String::new(), kept: None }
    }
}

/// Two digits after the point are enough for every unit used.
pub fn number(value: f64, unit: &str) -> String {
    if unit.is_empty() { format!("{value:.2}") } else { format!("{value:.2} {unit}") }
}

/// Prints lines as a Markdown table, so that it can be kept as it is.
pub fn print(lines: &[Line]) {
    let heads = ["what", "figure", "budget", ""];
    let rows: Vec<[&str; 4]> = lines
        .iter()
        .map(|l| {
            let verdict = match l.kept {
                Some(true) => "ok",
                Some(false) => "missed",
                None => "",
            };
            [l.what.as_str(), l.figure.as_str(), l.budget.as_str(), verdict]
        })
        .collect();
    let mut widths = heads.map(|h| h.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let show = |cells: [&str; 4]| {
        let padded: Vec<String> = cells.iter().zip(widths).map(|(c, w)| format!("{c:<w$}")).collect();
        println!("| {} |", padded.join(" | "));
    };
    show(heads);
    println!("|{}|", widths.map(|w| "-".repeat(w + 2)).join("|"));
    rows.into_iter().for_each(show);
}

/// The middle one.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The largest one.
pub fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, f64::max)
}

/// Processor time of the calling thread: what else the machine does is not in it.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the standard library has no clock of processor time")]
fn cpu(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to fill.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Milliseconds of processor time of this thread that `work` took.
pub fn thread_ms(work: impl FnOnce()) -> f64 {
    cpu_ms(true, work)
}

/// Milliseconds of processor time of all threads of this process that `work` took.
pub fn process_ms(work: impl FnOnce()) -> f64 {
    cpu_ms(false, work)
}

#[cfg(target_os = "linux")]
fn cpu_ms(thread: bool, work: impl FnOnce()) -> f64 {
    let clock = if thread { libc::CLOCK_THREAD_CPUTIME_ID } else { libc::CLOCK_PROCESS_CPUTIME_ID };
    let start = cpu(clock);
    work();
    cpu(clock).saturating_sub(start).as_secs_f64() * 1e3
}

/// Elsewhere, time on the wall stands in.
#[cfg(not(target_os = "linux"))]
fn cpu_ms(_: bool, work: impl FnOnce()) -> f64 {
    wall_ms(work)
}

/// Milliseconds on the wall.
pub fn wall_ms(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e3
}
