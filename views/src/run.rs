//! The loop: wait, update, draw if something changed.

use std::io::{self, IsTerminal, Write, stdout};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bitloupe_quant::plan::Plan;
use bitloupe_quant::session::messages::{Event, Request};
use crossbeam_channel::{Receiver, RecvError, Sender, after, never, select, unbounded};
use crossterm::clipboard::CopyToClipboard;
use crossterm::event::{Event as TerminalEvent, read};
use crossterm::execute;
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use crate::app::{App, Effect, Level, Msg, Setup};
use crate::terminal::{Guard, worker_panic};
use crate::theme::{ColorChoice, ColorDepth, Theme};
use crate::view;

/// The busy sign moves five times a second, and only while something runs.
const FRAME: Duration = Duration::from_millis(200);
/// The session is waited for so long when the user leaves.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// No more messages than this are taken before a frame, so that a flood cannot stop drawing.
const BATCH: usize = 256;

/// What the command line decides.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many colours.
    pub color: ColorChoice,
    /// ASCII only. A locale without UTF-8 has the same effect.
    pub ascii: bool,
    /// Click and wheel; the terminal's own selection then needs Shift.
    pub mouse: bool,
    /// What is being opened, shown until it is open.
    pub opening: String,
    /// Where exports go.
    pub export_folder: PathBuf,
    /// Where the plan is saved.
    pub plan_path: PathBuf,
    /// The plan to start from, with its name.
    pub initial_plan: Option<(String, Arc<Plan>)>,
}

/// The way to a session and back.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    /// To the session.
    pub requests: Sender<Request>,
    /// From the session.
    pub events: Receiver<Event>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The user left.
    Quit,
    /// A signal asked to end.
    Terminated,
    /// The session had stopped before the user left; the last error that it told.
    SessionEnded(Option<String>),
}

/// Why the interface could not run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Input and output must both be a terminal.
    NoTerminal,
    /// The terminal failed.
    Terminal(io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoTerminal => f.write_str(
                "the interface needs a terminal for input and output; every result is also there as a subcommand, see --help",
            ),
            Self::Terminal(error) => write!(f, "the terminal failed: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoTerminal => None,
            Self::Terminal(error) => Some(error),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Terminal(error)
    }
}

/// Runs the interface until the user leaves. The terminal is as before on every way out.
pub fn run(options: Options, session: SessionHandle) -> Result<Exit, Error> {
    if !stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Error::NoTerminal);
    }
    let environment = |name: &str| std::env::var(name).ok();
    let depth = ColorDepth::resolve(options.color, true, environment);
    let ascii = options.ascii || !ColorDepth::is_utf8(environment);
    // The theme decides about colours; crossterm must not decide once more.
    crossterm::style::force_color_output(depth != ColorDepth::None);
    let guard = Guard::take(options.mouse)?;
    let setup = Setup {
        opening: options.opening,
        export_folder: options.export_folder,
        plan_path: options.plan_path,
        initial_plan: options.initial_plan,
        mouse: options.mouse,
    };
    let app = App::new(setup, Theme::new(depth, ascii));
    let exit = Loop { app, guard, session, wake: None, terminated: false }.run();
    drop_quietly(exit)
}

/// The guard is gone by now, so a late message of the terminal may be printed.
fn drop_quietly(exit: Result<Exit, Error>) -> Result<Exit, Error> {
    let _ = stdout().flush();
    exit
}

struct Loop {
    app: App,
    guard: Guard,
    session: SessionHandle,
    wake: Option<Instant>,
    terminated: bool,
}

impl Loop {
    fn run(mut self) -> Result<Exit, Error> {
        let mut terminal =
            Terminal::new(CrosstermBackend::new(io::BufWriter::with_capacity(1 << 16, stdout())))?;
        self.draw(&mut terminal)?;
        let input = spawn_input()?;
        let exit = loop {
            let msg = self.next(&input);
            let mut effects = self.update(msg);
            for _ in 0..BATCH {
                let Some(msg) = self.waiting(&input) else { break };
                effects.extend(self.update(msg));
            }
            if let Some(exit) = self.perform(effects, &mut terminal)? {
                break exit;
            }
            self.draw(&mut terminal)?;
        };
        let _ = self.session.requests.send(Request::Cancel);
        let _ = self.session.requests.send(Request::Quit);
        // What was asked to be kept last is written before the program is gone.
        let until = Instant::now() + LAST_WORDS;
        while self.app.model.is_some()
            && !matches!(self.session.events.recv_deadline(until), Ok(Event::Ended) | Err(_))
        {}
        Ok(exit)
    }

    fn update(&mut self, msg: Msg) -> Vec<Effect> {
        if matches!(msg, Msg::Terminate) {
            self.terminated = true;
        }
        self.app.update(msg)
    }

    /// Waits for whatever comes first. Nothing wakes it up while nothing runs.
    fn next(&mut self, input: &Receiver<Msg>) -> Msg {
        let wake = self.wake.map_or_else(never, |at| after(at.saturating_duration_since(Instant::now())));
        let tick = if self.app.is_animated() { after(FRAME) } else { never() };
        let ended = never();
        let events = if self.app.ended { &ended } else { &self.session.events };
        select! {
            recv(input) -> msg => msg.unwrap_or(Msg::Terminate),
            recv(events) -> event => session_message(event),
            recv(wake) -> _ => {
                self.wake = None;
                Msg::Wake
            }
            recv(tick) -> _ => Msg::Tick,
        }
    }

    /// What has come already; input first.
    fn waiting(&self, input: &Receiver<Msg>) -> Option<Msg> {
        input.try_recv().ok().or_else(|| self.session.events.try_recv().ok().map(Msg::Session))
    }

    fn perform<W: Write>(
        &mut self,
        effects: Vec<Effect>,
        terminal: &mut Terminal<CrosstermBackend<W>>,
    ) -> Result<Option<Exit>, Error> {
        for effect in effects {
            match effect {
                Effect::Send(request) => {
                    if self.session.requests.send(request).is_err() {
                        let _ = self.app.update(Msg::SessionEnded(worker_panic()));
                    }
                }
                Effect::Copy(text) => execute!(stdout(), CopyToClipboard::to_clipboard_from(text))?,
                Effect::Mouse(on) => self.guard.set_mouse(on)?,
                Effect::Suspend => {
                    self.guard.suspend()?;
                    wipe(terminal)?;
                }
                Effect::Wipe => wipe(terminal)?,
                Effect::Repaint => {
                    self.guard.retake()?;
                    wipe(terminal)?;
                }
                Effect::WakeAfter(time) => self.wake = Some(Instant::now() + time),
                Effect::Quit => {
                    return Ok(Some(if self.terminated {
                        Exit::Terminated
                    } else if self.app.ended {
                        let told = self.app.notes.iter().rev().find(|note| note.level == Level::Error);
                        Exit::SessionEnded(told.map(|note| note.text.clone()))
                    } else {
                        Exit::Quit
                    }));
                }
            }
        }
        Ok(None)
    }

    fn draw<W: Write>(&mut self, terminal: &mut Terminal<CrosstermBackend<W>>) -> Result<(), Error> {
        execute!(terminal.backend_mut(), BeginSynchronizedUpdate)?;
        let app = &mut self.app;
        let drawn = terminal
            .draw(|frame| {
                let area = frame.area();
                app.prepare(area);
                if let Some(cursor) = view::draw(app, area, frame.buffer_mut()) {
                    frame.set_cursor_position(cursor);
                }
            })
            .map(|_| ());
        execute!(terminal.backend_mut(), EndSynchronizedUpdate)?;
        Ok(drawn?)
    }
}

/// Makes the next frame draw every cell. Not `Terminal::clear`: that asks the terminal where its cursor is, and the
/// answer would go to the thread that waits for keys.
fn wipe<W: Write>(terminal: &mut Terminal<CrosstermBackend<W>>) -> io::Result<()> {
    execute!(terminal.backend_mut(), Clear(ClearType::All))?;
    terminal.swap_buffers();
    Ok(())
}

fn session_message(event: Result<Event, RecvError>) -> Msg {
    event.map_or_else(|_| Msg::SessionEnded(worker_panic()), Msg::Session)
}

/// Threads that wait for keys and for signals. They end with the process: a blocked read cannot be called off.
fn spawn_input() -> io::Result<Receiver<Msg>> {
    let (sender, receiver) = unbounded();
    let signals = sender.clone();
    thread::Builder::new().name("input".to_owned()).spawn(move || {
        while let Ok(event) = read() {
            let msg = match event {
                TerminalEvent::Key(key) => Msg::Key(key),
                TerminalEvent::Mouse(mouse) => Msg::Mouse(mouse),
                TerminalEvent::Paste(text) => Msg::Paste(text),
                TerminalEvent::Resize(..) => Msg::Resize,
                TerminalEvent::FocusGained | TerminalEvent::FocusLost => continue,
            };
            if sender.send(msg).is_err() {
                return;
            }
        }
        // The terminal is gone.
        let _ = sender.send(Msg::Terminate);
    })?;
    spawn_signals(signals)?;
    Ok(receiver)
}

#[cfg(unix)]
fn spawn_signals(sender: Sender<Msg>) -> io::Result<()> {
    use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGHUP, SIGINT, SIGTSTP, SIGCONT])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let msg = match signal {
                SIGTSTP => Msg::Suspend,
                SIGCONT => Msg::Continue,
                _ => Msg::Terminate,
            };
            if sender.send(msg).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "has the shape of the other systems' function")]
fn spawn_signals(_: Sender<Msg>) -> io::Result<()> {
    Ok(())
}
