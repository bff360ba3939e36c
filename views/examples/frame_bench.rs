//! Time of a frame: `cargo run --release -p bitloupe-views --example frame_bench`.
//!
//! Prints the median of drawing an unchanged screen, and of a frame after which every picture had to be made anew.

#[path = "../tests/support/fake.rs"]
mod fake;
#[path = "../tests/support/harness.rs"]
mod harness;

use std::time::{Duration, Instant};

use bitloupe_views::ColorDepth;
use harness::Harness;

const FRAMES: usize = 500;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() {
    for (width, height) in [(80, 24), (200, 60)] {
        for (name, depth) in [("true colour", ColorDepth::TrueColor), ("256 colours", ColorDepth::Ansi256)] {
            let mut harness = Harness::ready(depth, false);
            harness.press(&["down", "down", "down", "left", "left", "d"]);
            let mut timed = |before: &dyn Fn(&mut Harness, usize)| {
                let times = (0..FRAMES).map(|frame| {
                    before(&mut harness, frame);
                    let start = Instant::now();
                    harness.frame(width, height);
                    start.elapsed()
                });
                median(times.collect())
            };
            let same = timed(&|_, _| {});
            let moved =
                timed(&|harness, frame| harness.press(&[if frame % 100 < 50 { "down" } else { "up" }]));
            println!(
                "{width}x{height} {name}: {:.2} ms a frame, {:.2} ms with a new site",
                same.as_secs_f64() * 1e3,
                moved.as_secs_f64() * 1e3
            );
        }
    }
}
