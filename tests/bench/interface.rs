//! Opening, the first frame, and drawing.

use std::error::Error;
use std::io::Read;
use std::num::NonZero;
use std::time::Instant;

use bitloupe_views::ColorDepth;
use portable_pty::{CommandBuilder, PtySize, native_pty_system};

use super::harness::Harness;
use super::timing::{Line, median, wall_ms};
use super::{Lines, open};

/// Frames per size.
const FRAMES: usize = 200;
/// Starts.
const STARTS: usize = 7;

/// From the start of the program to the first frame, and to the open model.
pub fn start() -> Lines {
    let (mut first, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let (a, b) = launch()?;
        first.push(a);
        ready.push(b);
    }
    let opening = median((0..5).map(|_| wall_ms(|| drop(open(2)))));
    Ok(vec![
        Line::at_most("start to the first frame", median(first), 300.0, "ms"),
        Line::note("start to the list of layers", format!("{:.0} ms", median(ready))),
        Line::note("opening the bundled model, in the process", format!("{opening:.0} ms")),
    ])
}

/// Milliseconds until the screen names the program, and until it names a layer.
fn launch() -> Result<(f64, f64), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let size = PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 };
    let pty = native_pty_system().openpty(size)?;
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_bitloupe"));
    command.args(["--color", "truecolor"]);
    command.env("TERM", "xterm-256color");
    command.env("HOME", home.path());
    command.env("XDG_STATE_HOME", home.path());
    let mut reader = pty.master.try_clone_reader()?;
    let begin = Instant::now();
    let mut child = pty.slave.spawn_command(command)?;
    drop(pty.slave);
    let [rows, columns] = [size.rows, size.cols].map(NonZero::new);
    let mut screen = vt100::Parser::new(rows.ok_or("no rows")?, columns.ok_or("no columns")?, 0);
    let mut bytes = vec![0_u8; 65536];
    let mut first = None;
    let mut ready = None;
    while ready.is_none() && begin.elapsed().as_secs() < 5 {
        let n = reader.read(&mut bytes)?;
        if n == 0 {
            break;
        }
        screen.process(&bytes[..n]);
        let text = screen.screen().contents();
        let now = begin.elapsed().as_secs_f64() * 1e3;
        if text.contains("bitloupe") {
            first.get_or_insert(now);
        }
        if text.contains("encoder.layer") {
            ready = Some(now);
        }
    }
    child.kill()?;
    child.wait()?;
    Ok((first.ok_or("no frame was drawn")?, ready.ok_or("no layer was shown")?))
}

/// A frame after which every picture had to be made anew.
pub fn frames() -> Lines {
    let mut lines = Vec::new();
    for (width, height) in [(80, 24), (200, 60)] {
        let mut harness = Harness::ready(ColorDepth::TrueColor, false);
        harness.press(&["down", "down", "down", "left", "left", "d"]);
        let mut times = Vec::new();
        for frame in 0..FRAMES {
            harness.press(&[if frame % 100 < 50 { "down" } else { "up" }]);
            times.push(wall_ms(|| drop(harness.frame(width, height))));
        }
        lines.push(Line::at_most(format!("a frame at {width}×{height}, new site"), median(times), 5.0, "ms"));
    }
    Ok(lines)
}
