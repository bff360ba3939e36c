//! Number by number against tensors that the original implementations of the methods made.
//!
//! One file per golden file; `tests/golden` of the repository holds the data, its README what made them. The
//! run prints how many tensors were compared and the largest deviation, and fails if any is off.

mod adalog;
mod channels;
mod fqvit_lis;
mod hluq;
#[allow(dead_code, reason = "the files to come need the rest")]
mod ledger;
mod lnq_own;
mod logs;
mod output;
mod ptq4sam_agq;
mod ranges;
mod regions;
mod repq;
mod rewrites;
mod sketches;

use ledger::{Ledger, Section};
use sketches::Holds::{Gelu, Input, Other, Probabilities};
use std::process::ExitCode;

/// A golden file and what is compared with it.
type Check = (&'static str, fn(&mut Section));

const CHECKS: &[Check] = &[
    ("repq", repq::check),
    ("adalog", adalog::check),
    ("ptq4sam", ptq4sam_agq::check),
    ("lnq_own", lnq_own::check),
    ("fqvit", fqvit_lis::check),
    ("ptq4vit_twin", regions::twin),
    ("ptq4ris", regions::ris),
    ("ptq4ris", regions::rorq),
    ("fqvit", channels::ptf),
    ("cag", channels::cag),
    ("hluq", hluq::check),
    ("ptq4sam", ranges::ptq4sam),
    ("ptq4sam", ranges::bimodal),
    ("ptq4ris", ranges::ptq4ris),
    ("brecq_adaround", ranges::brecq),
    ("fqvit", ranges::omse),
    ("ptq4vit_calib", output::ptq4vit),
    ("ptq4ris", output::ptq4ris),
    ("saq_pcc", output::overlap),
    ("smoothquant", ranges::smoothquant),
    ("repq", rewrites::repq),
    ("smoothquant", rewrites::smoothquant),
    ("adalog", |golden| sketches::check(golden, &[("gelu", Gelu)])),
    ("cag", |golden| sketches::check(golden, &[("in.a0", Input), ("in.a1", Input)])),
    ("fqvit", |golden| sketches::check(golden, &[("ptf.x", Input)])),
    ("hluq", |golden| sketches::check(golden, &[("in.x0", Gelu), ("in.x1", Gelu), ("in.wide", Gelu)])),
    ("lnq_own", |golden| {
        sketches::check(golden, &[("in.a0", Probabilities), ("in.a1", Probabilities), ("in.v0", Other)]);
    }),
    ("ptq4ris", |golden| {
        let picture = [("in.vis.qkv.x", Input), ("in.vis.fc1.x", Input), ("in.vis.fc2.x", Gelu)];
        sketches::check(golden, &picture);
        let attention = [("in.vis.sv.A", Probabilities), ("in.vis.sv.B", Other), ("in.vis.qk.B", Other)];
        sketches::check(golden, &attention);
        sketches::check(golden, &[("in.text", Input), ("in.text_q", Other), ("in.dec.a0", Other)]);
    }),
    ("ptq4sam", |golden| {
        sketches::check(golden, &[("in.ln0", Input), ("in.ln1", Input), ("in.gelu0", Gelu)]);
        let maps = [("in.softmax0", Probabilities), ("in.softmax1", Probabilities)];
        sketches::check(golden, &maps);
        sketches::check(
            golden,
            &[("in.softmax_i2t0", Probabilities), ("in.bimodal", Other), ("in.v0", Other)],
        );
    }),
    ("ptq4vit_calib", |golden| {
        sketches::check(golden, &[("qkv.b8.x", Input), ("fc2.b8.x", Gelu), ("sv.b8.A", Probabilities)]);
    }),
    ("ptq4vit_twin", |golden| sketches::check(golden, &[("gelu.x", Gelu), ("softmax.A", Probabilities)])),
    ("repq", |golden| {
        sketches::check(golden, &[("in.ln", Input), ("in.reparam_x", Input), ("in.gelu", Gelu)]);
        sketches::check(golden, &[("in.softmax", Probabilities), ("in.k", Other)]);
    }),
    ("saq_pcc", |golden| sketches::check(golden, &[("in.q", Other), ("in.k", Other)])),
    ("smoothquant", |golden| sketches::check(golden, &[("in.x", Input)])),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // A word after a flag, as in `--skip NAME`, is about the tests of other harnesses.
    let words = arguments.iter().enumerate().filter(|(at, arg)| {
        let value = at.checked_sub(1).is_some_and(|before| arguments[before].starts_with("--"));
        !arg.starts_with('-') && !value
    });
    let only: Vec<&String> = words.map(|(_, arg)| arg).collect();
    // What test runners ask to find the tests of a harness.
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let mut ledger = Ledger::default();
    for &(name, check) in CHECKS {
        if only.is_empty() || only.iter().any(|word| name.contains(word.as_str())) {
            ledger.section(name, check);
        }
    }
    ledger.report()
}
