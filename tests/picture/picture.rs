//! Draws README's picture: runs the real program in a pseudo-terminal, presses keys, writes the screen as SVG.
//!
//! `cargo run --example picture -- OUT.svg [COLUMNSxROWS] [KEYS…]` — a key is text to type, or one of `<enter>`,
//! `<esc>`, `<tab>`, `<left>`, `<right>`, `<up>`, `<down>`, `<wait>` (until the screen rests for a second).

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};

/// Size of a cell in the picture.
const CELL: (usize, usize) = (8, 17);
const DEFAULT_FG: &str = "#d8d8d8";
const DEFAULT_BG: &str = "#16181d";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let out = args.next().ok_or("usage: picture OUT.svg [COLUMNSxROWS] [KEYS…]")?;
    let mut rest: Vec<String> = args.collect();
    let size =
        rest.first().and_then(|s| s.split_once('x')).map(|(c, r)| Ok::<_, Failure>((c.parse()?, r.parse()?)));
    let (columns, rows): (u16, u16) = if let Some(size) = size {
        rest.remove(0);
        size?
    } else {
        (160, 48)
    };
    let pair =
        native_pty_system().openpty(PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 })?;
    let mut command = CommandBuilder::new(program()?);
    command.env("TERM", "xterm-256color");
    command.env("COLORTERM", "truecolor");
    command.env("LANG", "C.UTF-8");
    let home = std::env::temp_dir().join("bitloupe-picture");
    std::fs::create_dir_all(&home)?;
    command.cwd(&home);
    command.env("HOME", &home);
    command.env("XDG_STATE_HOME", home.join("state"));
    let mut child = pair.slave.spawn_command(command)?;
    drop(pair.slave);
    let size = |n: u16| std::num::NonZeroU16::new(n).ok_or("a size of zero");
    let parser = Arc::new(Mutex::new((vt100::Parser::new(size(rows)?, size(columns)?, 0), Instant::now())));
    let mut reader = pair.master.try_clone_reader()?;
    let shared = Arc::clone(&parser);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok(n @ 1..) = reader.read(&mut buffer) {
            if let Ok(mut guard) = shared.lock() {
                guard.0.process(&buffer[..n]);
                guard.1 = Instant::now();
            }
        }
    });
    let mut writer = pair.master.take_writer()?;
    settle(&parser)?;
    for key in rest {
        let bytes: &[u8] = match key.as_str() {
            "<enter>" => b"\r",
            "<esc>" => b"\x1b",
            "<tab>" => b"\t",
            "<left>" => b"\x1b[D",
            "<right>" => b"\x1b[C",
            "<up>" => b"\x1b[A",
            "<down>" => b"\x1b[B",
            "<wait>" => {
                settle(&parser)?;
                continue;
            }
            text => text.as_bytes(),
        };
        writer.write_all(bytes)?;
        writer.flush()?;
        std::thread::sleep(Duration::from_millis(150));
    }
    settle(&parser)?;
    let svg = {
        let guard = parser.lock().map_err(|_| "the reader failed")?;
        svg(guard.0.screen())
    };
    std::fs::write(&out, svg)?;
    child.kill()?;
    println!("{out}");
    Ok(())
}

/// The program beside this example.
fn program() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(std::path::Path::parent).ok_or("no folder above the example")?;
    let program = folder.join("bitloupe");
    if program.exists() {
        Ok(program)
    } else {
        Err(format!("{} is missing: cargo build", program.display()).into())
    }
}

/// Waits until nothing was drawn for a second (at most 40 seconds).
fn settle(parser: &Mutex<(vt100::Parser, Instant)>) -> Result<(), Failure> {
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(700));
    while start.elapsed() < Duration::from_secs(40) {
        let last = parser.lock().map_err(|_| "the reader failed")?.1;
        if last.elapsed() > Duration::from_secs(1) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn color(c: vt100::Color, default: &str) -> String {
    match c {
        vt100::Color::Default => default.to_owned(),
        vt100::Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
        vt100::Color::Idx(i) => indexed(i),
    }
}

fn indexed(i: u8) -> String {
    const BASE: [&str; 16] = [
        "#24272e", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#c8ccd4", "#6b7280",
        "#ff7b86", "#b5e890", "#ffd58a", "#82c7ff", "#e29bf5", "#7fe0ec", "#ffffff",
    ];
    match i {
        0..=15 => BASE[usize::from(i)].to_owned(),
        16..=231 => {
            let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
            let n = i - 16;
            format!("#{:02x}{:02x}{:02x}", level(n / 36), level(n / 6 % 6), level(n % 6))
        }
        232.. => {
            let v = 8 + 10 * (i - 232);
            format!("#{v:02x}{v:02x}{v:02x}")
        }
    }
}

/// The part of a cell that a block character fills, as (x, y, width, height) in eighths.
fn block(c: char) -> Option<(usize, usize, usize, usize)> {
    Some(match c {
        '▀' => (0, 0, 8, 4),
        '█' => (0, 0, 8, 8),
        '▌' => (0, 0, 4, 8),
        '▐' => (4, 0, 4, 8),
        '▁'..='▇' => {
            let n = c as usize - '▁' as usize + 1;
            (0, 8 - n, 8, n)
        }
        _ => return None,
    })
}

fn svg(screen: &vt100::Screen) -> String {
    let (rows, columns) = screen.size();
    let (rows, columns) = (rows.get(), columns.get());
    let (w, h) = CELL;
    let (width, height) = (usize::from(columns) * w, usize::from(rows) * h);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"13\" shape-rendering=\"crispEdges\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"{DEFAULT_BG}\"/>\n"
    );
    for row in 0..rows {
        // Runs of text of one style are written together; blocks are drawn as rectangles.
        let mut run = (String::new(), 0, String::new());
        let flush = |out: &mut String, run: &mut (String, usize, String)| {
            if !run.0.trim().is_empty() {
                let text = run.0.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                let (x, y) = (run.1 * w, usize::from(row) * h + 13);
                let length = run.0.chars().count() * w;
                let _ = writeln!(
                    out,
                    "<text x=\"{x}\" y=\"{y}\" {} textLength=\"{length}\" xml:space=\"preserve\">{text}</text>",
                    run.2
                );
            }
            run.0.clear();
        };
        for column in 0..columns {
            let Some(cell) = screen.cell(row, column) else { continue };
            let (mut fg, mut bg) = (color(cell.fgcolor(), DEFAULT_FG), color(cell.bgcolor(), DEFAULT_BG));
            if cell.inverse() {
                std::mem::swap(&mut fg, &mut bg);
            }
            if cell.dim() {
                "#8a8f98".clone_into(&mut fg);
            }
            let (x, y) = (usize::from(column) * w, usize::from(row) * h);
            if bg != DEFAULT_BG {
                let _ =
                    writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{bg}\"/>");
            }
            let contents = cell.contents();
            let first = contents.chars().next().unwrap_or(' ');
            if let Some((bx, by, bw, bh)) = block(first) {
                flush(&mut out, &mut run);
                let (top, bottom) = (by * h / 8, (by + bh) * h / 8);
                let _ = writeln!(
                    out,
                    "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{fg}\"/>",
                    x + bx * w / 8,
                    y + top,
                    bw * w / 8,
                    bottom - top
                );
                continue;
            }
            let weight = if cell.bold() { " font-weight=\"bold\"" } else { "" };
            let style = format!("fill=\"{fg}\"{weight}");
            if run.0.is_empty() || run.2 != style {
                flush(&mut out, &mut run);
                run = (String::new(), usize::from(column), style);
            }
            run.0.push(first);
        }
        flush(&mut out, &mut run);
    }
    out.push_str("</svg>\n");
    out
}
