//! Taking the terminal and giving it back, whatever happens.
//!
//! [`Guard`] restores on drop; the panic hook restores before the message is printed; an atomic keeps the two
//! from restoring twice. A panic on another thread must not touch the screen that this one still draws on: it is
//! kept for [`worker_panic`].

use std::io::{self, Write, stdout};
use std::sync::Mutex;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossterm::cursor::{Hide, Show};
use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
};
use crossterm::terminal::{
    Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode,
};
use crossterm::{execute, queue};

static TAKEN: AtomicBool = AtomicBool::new(false);
static WORKER_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Holds the terminal in raw mode on the alternate screen.
#[derive(Debug)]
pub struct Guard {
    mouse: bool,
}

impl Guard {
    /// Takes the terminal.
    pub fn take(mouse: bool) -> io::Result<Self> {
        install_panic_hook();
        enter(mouse)?;
        Ok(Self { mouse })
    }

    /// Turns the mouse on or off.
    pub fn set_mouse(&mut self, on: bool) -> io::Result<()> {
        self.mouse = on;
        if on { execute!(stdout(), EnableMouseCapture) } else { execute!(stdout(), DisableMouseCapture) }
    }

    /// Gives the terminal to the shell, stops this process, and takes the terminal again when it goes on.
    pub fn suspend(&self) -> io::Result<()> {
        restore();
        stop()?;
        enter(self.mouse)
    }

    /// Takes the terminal again after something else (a stop from outside) may have changed it.
    pub fn retake(&self) -> io::Result<()> {
        // A shell that stopped this process has put the terminal back to lines; crossterm still believes it raw.
        let _ = disable_raw_mode();
        enter(self.mouse)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}

fn enter(mouse: bool) -> io::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    let taken = enable_raw_mode().and_then(|()| {
        let mut out = stdout();
        // What a killed program left there is not ours to keep.
        queue!(
            out,
            EnterAlternateScreen,
            Clear(ClearType::All),
            EnableBracketedPaste,
            DisableLineWrap,
            Hide
        )?;
        if mouse {
            queue!(out, EnableMouseCapture)?;
        }
        out.flush()
    });
    if taken.is_err() {
        restore();
    }
    taken
}

/// Gives the terminal back. Safe to call at any time and more than once.
pub fn restore() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // Every step is tried even if one before it failed: there is nobody left to tell.
    let mut out = stdout();
    let _ =
        execute!(out, DisableMouseCapture, DisableBracketedPaste, EnableLineWrap, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// Stops the process until it is continued. `SIGSTOP`, because a self-raised `SIGTSTP` is ignored in orphaned
/// process groups.
#[cfg(unix)]
fn stop() -> io::Result<()> {
    signal_hook::low_level::raise(signal_hook::consts::SIGSTOP)
}

#[cfg(not(unix))]
fn stop() -> io::Result<()> {
    Ok(())
}

/// The message of a panic on another thread since the last call.
pub fn worker_panic() -> Option<String> {
    WORKER_PANIC.lock().ok().and_then(|mut message| message.take())
}

fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let screen_thread = thread::current().id();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if thread::current().id() == screen_thread || !TAKEN.load(Ordering::SeqCst) {
                restore();
                before(info);
                return;
            }
            tracing::error!("{info}");
            if let Ok(mut message) = WORKER_PANIC.lock() {
                *message = Some(info.to_string());
            }
        }));
    });
}
