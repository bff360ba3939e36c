//! A panic gives the terminal back before its message is printed. Nothing that a user can do is known to cause one, so
//! this test program itself takes the terminal and panics, started once more in a pseudo-terminal.

use std::io::Write;
use std::path::Path;

use bitloupe_views::terminal::{Guard, worker_panic};

use crate::pty::Terminal;
use crate::support::folder;

/// Which way to panic; set only by the tests below.
const WAY: &str = "BITLOUPE_TEST_PANIC";

fn start(home: &Path, way: &str) -> Terminal {
    let program = std::env::current_exe().unwrap();
    let args = ["--ignored", "--exact", "panic::child", "--nocapture", "--test-threads=1"];
    Terminal::start_program(&program, home, &args, &[(WAY, way)])
}

#[test]
fn a_panic_of_the_screen_gives_the_terminal_back() {
    let dir = folder();
    let mut terminal = start(dir.path(), "screen");
    assert!(!terminal.wait_exit().success());
    let text = terminal.text();
    // On the normal screen, with lines that begin at the left: the terminal was back when it was printed.
    assert!(text.contains("the drawing panicked") && !text.contains("drawn"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("thread '")), "{text}");
    terminal.check_sane();
}

#[test]
fn a_panic_of_a_worker_does_not_touch_the_screen() {
    let dir = folder();
    let mut terminal = start(dir.path(), "worker");
    let screen = terminal.wait_for("told: ");
    assert!(screen.contains("the computing panicked") && screen.contains("drawn"), "{screen}");
    terminal.keys("x");
    assert!(terminal.wait_exit().success());
    terminal.check_sane();
}

/// Not a test of its own: what the two above start.
#[test]
#[ignore = "started by the other tests of this file in a terminal of its own"]
fn child() {
    let Ok(way) = std::env::var(WAY) else { return };
    let guard = Guard::take(true).unwrap();
    let mut out = std::io::stdout();
    write!(out, "\x1b[2J\x1b[Hdrawn ").unwrap();
    out.flush().unwrap();
    if way == "screen" {
        panic!("the drawing panicked");
    }
    let worker = std::thread::spawn(|| panic!("the computing panicked"));
    assert!(worker.join().is_err());
    let message = worker_panic().unwrap();
    let message: String = message.chars().map(|ch| if ch.is_control() { ' ' } else { ch }).collect();
    write!(out, "told: {message}").unwrap();
    out.flush().unwrap();
    let mut key = [0];
    std::io::Read::read_exact(&mut std::io::stdin(), &mut key).unwrap();
    drop(guard);
}
