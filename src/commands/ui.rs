//! The terminal interface.

use color_eyre::eyre::Result;

use super::Outcome;
use crate::cli::Ui;

/// Opens the interface.
pub fn run(_args: &Ui) -> Result<Outcome> {
    Ok(Outcome::Usage)
}
