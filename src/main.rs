//! `bitloupe`: see what quantization does to a model, layer by layer. The work is in the crates; this is the command
//! line.

mod cli;
mod commands;
mod open;
mod table;
mod tensors;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
