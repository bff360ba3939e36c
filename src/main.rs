//! `bitloupe`: see what quantization does to a model, layer by layer. The work is in the crates; this is the command
//! line.

/// Prints a line. Unlike `println!`, an output that cannot be written (a closed pipe, a full disk) is an error.
macro_rules! say {
    ($($text:tt)*) => {
        std::io::Write::write_fmt(&mut std::io::stdout().lock(), format_args!("{}\n", format_args!($($text)*)))
    };
}

mod cli;
mod commands;
mod open;
mod size;
mod table;
mod tensors;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
