//! `bitloupe search`: the best plan under a budget, and a front of others.

use std::path::Path;
use std::time::{Duration, Instant};

use bitloupe_quant::eval::metrics::Scores;
use bitloupe_quant::eval::search::{Effort, Front, Limit};
use bitloupe_quant::exec::Cancel;
use bitloupe_quant::session::{SearchOptions, SearchProgress, Session};
use color_eyre::eyre::{Result, eyre};
use serde_json::{Map, Value, json};

use super::{Outcome, print_json};
use crate::cli::Search;
use crate::open;
use crate::table::{Align, Table};

/// The part of the time that is left for figures on samples.
const FIGURES: f64 = 0.1;

/// Searches, or solves a kept search for another budget.
pub fn run(args: &Search) -> Result<Outcome> {
    let asked = asked(args);
    match (&args.from, asked) {
        (Some(from), Some(limit)) => solve(args, from, limit),
        (Some(_), None) => Err(eyre!("say the budget: --avg-bits, --max-size or --max-bitops")),
        (None, asked) => search(args, asked),
    }
}

fn asked(args: &Search) -> Option<Limit> {
    let size = || args.max_size.map(|bytes| Limit::WeightBytes(bytes as u64));
    args.avg_bits.map(Limit::AverageBits).or_else(size).or(args.max_bitops.map(Limit::BitOperations))
}

fn search(args: &Search, asked: Option<Limit>) -> Result<Outcome> {
    if !(args.minutes.is_finite() && args.minutes > 0.0 && args.minutes < 1e6) {
        return Err(eyre!("{} minutes are no time; give a positive number", args.minutes));
    }
    let begun = Instant::now();
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let session = open::session(&args.model, args.calibration.clone(), args.samples.clone())?;
    let part = if session.samples().is_some() { 1.0 - FIGURES } else { 1.0 };
    let time_of_search = time.saturating_sub(begun.elapsed()).mul_f64(part);
    let options =
        SearchOptions { asked, tied: !args.untied, time: time_of_search, ..SearchOptions::default() };
    let mut report = report();
    let front = session.search(&options, &Cancel::default(), |step| report(step))?;
    clear();
    front.write(&args.output)?;
    let held_out =
        if session.samples().is_some() { held_out(&session, &front, begun + time)? } else { Vec::new() };
    let late = held_out.iter().filter(|found| found.is_none()).count();
    if args.json {
        let mut printed = front.to_json();
        for at in 0..front.points.len() {
            // From where the command was called, not from the folder.
            printed["front"][at]["plan"] = json!(args.output.join(front.plan_file(at)));
            if let Some(Some(scores)) = held_out.get(at) {
                printed["front"][at]["held_out"] = object(scores);
            }
        }
        print_json(&printed)?;
        return Ok(Outcome::Done);
    }
    let model = session.model();
    let label = model.label.as_ref().map(|l| format!(" ({l})")).unwrap_or_default();
    let samples = front.points.first().map_or(0, |point| point.figures.samples);
    say!("{}{label}: {} plans, judged on {samples} calibration samples\n", model.name, front.points.len())?;
    table(&session, &front, &held_out)?;
    say!("")?;
    for sentence in front.effort.iter().flat_map(Effort::sentences) {
        super::paragraph(&sentence)?;
    }
    if late > 0 {
        super::paragraph(&format!(
            "{late} of {} plans were not run on the samples: the time was over; `bitloupe eval --plan` runs one.",
            front.points.len()
        ))?;
    }
    say!("\nplans, front.json and scores.json are in {}", args.output.display())?;
    Ok(Outcome::Done)
}

/// Figures of every point on the samples, which the search has not seen, as long as there is time; the plan that was asked
/// for comes first.
fn held_out(session: &Session, front: &Front, end: Instant) -> Result<Vec<Option<Scores>>> {
    let mut found = vec![None; front.points.len()];
    let mut order: Vec<usize> = (0..front.points.len()).collect();
    order.sort_by_key(|at| Some(*at) != front.asked);
    let mut report = open::progress("evaluating");
    let cancel = Cancel::default();
    for (done, at) in order.into_iter().enumerate() {
        let fitted = session.fit_plan(&front.points[at].plan)?;
        let evaluated = session.evaluate(&fitted, &cancel, |_, _, _| {
            report(done, front.points.len());
            if Instant::now() >= end {
                cancel.cancel();
            }
        });
        match evaluated {
            Ok(result) => found[at] = result.quantized.or(result.agreement),
            Err(error) if error.is_cancelled() => break,
            Err(error) => return Err(error.into()),
        }
    }
    report(front.points.len(), front.points.len());
    Ok(found)
}

fn object(scores: &Scores) -> Value {
    let named = scores.named().iter().map(|(name, value)| (name.clone(), json!(value)));
    Value::Object(named.collect::<Map<_, _>>())
}

fn table(session: &Session, front: &Front, held_out: &[Option<Scores>]) -> Result<()> {
    let figure = session.metric().name();
    let (agreement, on_samples) = (format!("{figure} with fp"), format!("{figure} on samples"));
    let mut columns = vec![
        ("", Align::Left),
        ("budget", Align::Left),
        ("W bits", Align::Right),
        ("A bits", Align::Right),
        ("weight bytes", Align::Right),
        ("bit-operations", Align::Right),
        ("loss", Align::Right),
        (agreement.as_str(), Align::Right),
    ];
    if !held_out.is_empty() {
        columns.push((&on_samples, Align::Right));
    }
    columns.extend([("from", Align::Left), ("plan", Align::Left)]);
    let mut table = Table::new(&columns);
    for (at, point) in front.points.iter().enumerate() {
        let (budget, figures) = (&point.budget, &point.figures);
        let standing = session.metric().figure();
        let agreement = figures.agreement.get(standing).map_or_else(String::new, |x| format!("{x:.4}"));
        let mut row = vec![
            if front.asked == Some(at) { "›" } else { "" }.to_owned(),
            point.limit.to_string(),
            format!("{:.3}", budget.average_weight_bits),
            format!("{:.3}", budget.average_activation_bits),
            budget.weight_bytes.to_string(),
            format!("{:.3e}", budget.bit_operations),
            format!("{:.3e}", figures.loss),
            agreement,
        ];
        let shown = |scores: &Option<Scores>| {
            scores.as_ref().map_or_else(String::new, |scores| format!("{:.4}", scores.standing()))
        };
        row.extend(held_out.get(at).map(shown));
        row.extend([point.origin.clone(), front.plan_file(at)]);
        table.row(row);
    }
    table.print()?;
    Ok(())
}

/// Another budget from what was kept, without any run.
fn solve(args: &Search, from: &Path, limit: Limit) -> Result<Outcome> {
    let front = Front::read(from)?;
    let solved = front.solve(limit)?;
    std::fs::create_dir_all(&args.output).map_err(|e| eyre!("{}: {e}", args.output.display()))?;
    let path = args.output.join(Front::file_of(limit));
    solved.plan.write(&path)?;
    let budget = &solved.budget;
    let measured = solved.point.map(|at| &front.points[at].figures);
    if args.json {
        print_json(&json!({
            "limit": limit,
            "average_bits": {"weights": budget.average_weight_bits, "activations": budget.average_activation_bits},
            "weight_bytes": budget.weight_bytes,
            "bit_operations": budget.bit_operations,
            "measured": measured,
            "plan": path.display().to_string(),
        }))?;
    } else {
        say!(
            "{}: {:.3} bits of weights, {:.3} of activations on average, {} bytes of weights, {:.3e} bit-operations; {}",
            path.display(),
            budget.average_weight_bits,
            budget.average_activation_bits,
            budget.weight_bytes,
            budget.bit_operations,
            measured.map_or_else(
                || "not run yet: `bitloupe eval --plan` measures it".to_owned(),
                |figures| format!("loss {:.3e} on {} calibration samples", figures.loss, figures.samples)
            )
        )?;
    }
    Ok(Outcome::Done)
}

/// Progress on one line of standard error, if that is a terminal.
fn report() -> impl FnMut(&SearchProgress<'_>) {
    use std::io::{IsTerminal, Write};
    let shown = std::io::stderr().is_terminal();
    let mut last = std::time::Instant::now();
    move |step| {
        if !shown || (last.elapsed().as_millis() < 100 && step.front.is_none()) {
            return;
        }
        last = std::time::Instant::now();
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "\r{} {}/{} \x1b[K", step.stage.name(), step.done, step.total);
        let _ = err.flush();
    }
}

fn clear() {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}
