//! The program in a pseudo-terminal, and what a person would see there.

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// A screen that was not written to for so long has settled.
const SETTLED: Duration = Duration::from_millis(60);

/// What came out of the program.
struct Seen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
    last: Instant,
    ended: bool,
}

/// A running program and its screen.
pub struct Terminal {
    master: Box<dyn MasterPty + Send>,
    input: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    seen: Arc<Mutex<Seen>>,
    settings: String,
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }
}

fn cells(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

impl Terminal {
    /// Starts the program on a screen of 160×50, with its state in `home`.
    pub fn start(home: &Path, args: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_program(Path::new(env!("CARGO_BIN_EXE_bitloupe")), home, args, environment)
    }

    /// The same with another program.
    pub fn start_program(program: &Path, home: &Path, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let pair = native_pty_system().openpty(size(160, 50)).unwrap();
        let mut command = CommandBuilder::new(program);
        command.args(args);
        command.env_clear();
        command.cwd(home);
        let usual = [
            ("PATH", "/usr/bin:/bin"),
            ("TERM", "xterm-256color"),
            ("LANG", "C.UTF-8"),
            ("RUST_BACKTRACE", "0"),
        ];
        for (name, value) in usual.iter().chain(environment) {
            command.env(name, value);
        }
        command.env("HOME", home);
        command.env("XDG_STATE_HOME", home.join("state"));
        let settings = settings(&*pair.master);
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let parser = vt100::Parser::new(cells(50), cells(160), 0);
        let seen =
            Arc::new(Mutex::new(Seen { parser, bytes: Vec::new(), last: Instant::now(), ended: false }));
        let mut output = pair.master.try_clone_reader().unwrap();
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let read = output.read(&mut buffer).unwrap_or(0);
                let mut seen = lock(&shared);
                if read == 0 {
                    seen.ended = true;
                    return;
                }
                seen.parser.process(&buffer[..read]);
                seen.bytes.extend_from_slice(&buffer[..read]);
                seen.last = Instant::now();
            }
        });
        let input = pair.master.take_writer().unwrap();
        Self { master: pair.master, input, child, seen, settings }
    }

    /// What stands on the screen.
    pub fn text(&self) -> String {
        lock(&self.seen).parser.screen().contents()
    }

    /// Everything that was written so far.
    pub fn bytes(&self) -> Vec<u8> {
        lock(&self.seen).bytes.clone()
    }

    /// Waits until the screen is as wanted and nothing more is written; gives what stands there.
    #[track_caller]
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let (text, settled) = {
                let seen = lock(&self.seen);
                (seen.parser.screen().contents(), seen.last.elapsed() >= SETTLED)
            };
            if settled && wanted(&text) {
                return text;
            }
            let gone = self.child.try_wait().unwrap().is_some();
            assert!(start.elapsed() < PATIENCE && !gone, "no {what} (ended: {gone}) in:\n{text}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a text on the screen.
    #[track_caller]
    pub fn wait_for(&mut self, part: &str) -> String {
        self.wait(part, |text| text.contains(part))
    }

    /// Types.
    pub fn keys(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }

    /// Another size of the window.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        lock(&self.seen).parser.set_size(cells(rows), cells(columns));
        self.master.resize(size(columns, rows)).unwrap();
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let id = self.child.process_id().unwrap().to_string();
        assert!(Command::new("/bin/kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Waits until the system says that the process is stopped and the terminal is as before.
    ///
    /// The process has written everything by then, but this side may still have to read it.
    #[track_caller]
    pub fn wait_stopped(&self) {
        let path = format!("/proc/{}/stat", self.child.process_id().unwrap());
        let start = Instant::now();
        loop {
            let stat = std::fs::read_to_string(&path).unwrap();
            let stopped = stat.rsplit_once(") ").unwrap().1.starts_with('T');
            if stopped && self.left_over().is_none() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{stat}: {:?}", self.left_over());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end and checks that the terminal is as before: main screen, cursor, line discipline.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let status = self.wait_exit();
        self.check_sane();
        status
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            let status = self.child.try_wait().unwrap();
            if let Some(status) = status.filter(|_| lock(&self.seen).ended) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end:\n{}", self.text());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The terminal is as it was before the program.
    #[track_caller]
    pub fn check_sane(&self) {
        assert_eq!(self.left_over(), None);
    }

    /// What is not as it was before the program.
    fn left_over(&self) -> Option<&'static str> {
        let seen = lock(&self.seen);
        let screen = seen.parser.screen();
        [
            (screen.alternate_screen(), "still on the alternate screen"),
            (screen.hide_cursor(), "the cursor is hidden"),
            (screen.bracketed_paste(), "bracketed paste is on"),
            (screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None, "the mouse is taken"),
            (settings(&*self.master) != self.settings, "the line discipline is not as before"),
        ]
        .into_iter()
        .find_map(|(wrong, what)| wrong.then_some(what))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn settings(master: &dyn MasterPty) -> String {
    format!("{:?}", master.get_termios())
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
