//! One file per subcommand; this one calls them and turns outcomes into exit codes.

mod calibrate;
mod eval;
mod explain;
mod export;
mod fit;
mod info;
mod plan;
mod run;
mod search;
mod sensitivity;
mod stats;
mod ui;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use color_eyre::eyre::{Result, eyre};

use crate::cli::{Cli, Command};

/// How a command that did its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done: 0.
    Done,
    /// Said wrongly: 2.
    Usage,
    /// A gate was missed: 3.
    Missed,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Usage) => ExitCode::from(2),
        Ok(Outcome::Missed) => ExitCode::from(3),
        Err(report) => {
            // A reader that closed its end (`| head`) is no failure.
            let kind = |e: &(dyn std::error::Error + 'static)| {
                let json = e.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
                e.downcast_ref::<std::io::Error>().map(std::io::Error::kind).or(json)
            };
            if report.chain().any(|e| kind(e) == Some(std::io::ErrorKind::BrokenPipe)) {
                return ExitCode::SUCCESS;
            }
            eprintln!("bitloupe: {}", message(&report));
            ExitCode::FAILURE
        }
    }
}

/// All causes on one line; those that a message before has quoted already are left out.
fn message(report: &color_eyre::eyre::Report) -> String {
    let mut text = String::new();
    for cause in report.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    text
}

fn dispatch(cli: Cli) -> Result<Outcome> {
    match cli.command {
        None if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() => ui::run(&cli.ui),
        None => {
            Cli::command().print_help()?;
            eprintln!("\nThe interface needs a terminal; every action of it is also a command above.");
            Ok(Outcome::Usage)
        }
        Some(Command::Info { model, depth, json }) => info::run(&model, depth, json),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Calibrate(args)) => calibrate::run(&args),
        Some(Command::Merge { stats, output }) => calibrate::merge(&stats, &output),
        Some(Command::Stats(args)) => stats::run(&args),
        Some(Command::Fit(args)) => fit::run(&args),
        Some(Command::Plan(args)) => plan::run(&args),
        Some(Command::Eval(args)) => eval::run(&args),
        Some(Command::Sensitivity(args)) => sensitivity::run(&args),
        Some(Command::Search(args)) => search::run(&args),
        Some(Command::Explain(args)) => explain::run(&args),
        Some(Command::Export(args)) => export::run(&args),
        Some(Command::Completions { shell }) => {
            // Into memory first: the generator panics where an output cannot be written.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "bitloupe", &mut script);
            std::io::stdout().write_all(&script)?;
            Ok(Outcome::Done)
        }
        Some(Command::Man) => {
            clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?;
            Ok(Outcome::Done)
        }
    }
}

/// Prints a value as JSON on one or more lines.
fn print_json(value: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// A regular expression as said.
fn regex(text: &str) -> Result<regex::Regex> {
    regex::RegexBuilder::new(text).size_limit(1 << 20).build().map_err(|e| eyre!("`{text}`: {e}"))
}

/// People read lines of this many characters at most.
const WIDTH: usize = 100;

/// A sentence in lines that people can read, indented.
fn paragraph(text: &str) -> Result<()> {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            say!("  {line}")?;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    say!("  {line}")?;
    Ok(())
}
