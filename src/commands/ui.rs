//! The terminal interface.

use std::path::PathBuf;
use std::sync::Arc;

use bitloupe_quant::plan::Plan;
use bitloupe_quant::session::worker;
use bitloupe_views::{ColorChoice, ColorDepth, Exit, Options, SessionHandle};
use color_eyre::eyre::{Result, eyre};

use super::Outcome;
use crate::cli::{Color, Ui};
use crate::open;

/// Opens the interface; the model is opened behind it.
pub fn run(args: &Ui) -> Result<Outcome> {
    let options = open::options(&args.model, args.calibration.clone(), args.samples.clone())?;
    // A plan that cannot be read is better said before the screen is taken.
    let initial_plan = match &args.plan {
        Some(path) => Some((path.display().to_string(), Arc::new(Plan::read(path)?))),
        None => None,
    };
    let session = worker::start(options, journal_folder());
    let exit = bitloupe_views::run(
        Options {
            color: match args.color {
                Color::Auto => ColorChoice::Auto,
                Color::Truecolor => ColorChoice::Exactly(ColorDepth::TrueColor),
                Color::Ansi256 => ColorChoice::Exactly(ColorDepth::Ansi256),
                Color::Ansi16 => ColorChoice::Exactly(ColorDepth::Ansi16),
                Color::None => ColorChoice::Exactly(ColorDepth::None),
            },
            ascii: args.ascii,
            mouse: !args.no_mouse,
            opening: opening(args),
            export_folder: args.export.clone(),
            plan_path: args.plan.clone().unwrap_or_else(|| PathBuf::from("bitloupe-plan.json")),
            initial_plan,
        },
        SessionHandle { requests: session.requests, events: session.events },
    )?;
    match exit {
        Exit::Quit | Exit::Terminated => Ok(Outcome::Done),
        Exit::SessionEnded(told) => Err(eyre!("{}", told.as_deref().unwrap_or("the engine stopped"))),
    }
}

fn opening(args: &Ui) -> String {
    match (&args.model.model, &args.model.sample) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(name)) => name.clone(),
        (None, None) => bitloupe_samples::bundled()[0].name.to_owned(),
    }
}

/// Where edited plans are kept for the case of a crash, by the XDG convention; nowhere without a home.
fn journal_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state =
        absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("bitloupe"))
}
