//! The interface in a pseudo-terminal, from the first frame to the last, on the bundled model.
#![cfg(unix)]

mod panic;
mod pty;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use pty::Terminal;
use support::{copy_of_fixture, folder, json, sample_set, text};

const QKV: &str = "backbone.layers.0.blocks.0.attn.qkv";
/// Below the picture of a sample whose sentence is not its own.
const NO_TRUTH: &str = "picture (no truth)";
/// Title of the list of all keys.
const HELP: &str = "Help: type";

/// A home with small sample sets, so that a calibration or an evaluation takes a moment.
struct Home {
    dir: tempfile::TempDir,
    calibration: PathBuf,
    samples: PathBuf,
}

impl Home {
    fn new() -> Self {
        let dir = folder();
        let calibration = sample_set(dir.path(), "calibration", &[0, 1]);
        let samples = sample_set(dir.path(), "samples", &[4, 5]);
        Self { dir, calibration, samples }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn start(&self, more: &[&str], environment: &[(&str, &str)]) -> Terminal {
        let args = ["-c", text(&self.calibration), "--samples", text(&self.samples), "--export", "out"];
        Terminal::start(self.path(), &[&args[..], more].concat(), environment)
    }

    /// The same, waited for until the whole set is evaluated.
    fn ready(&self, more: &[&str]) -> Terminal {
        let mut terminal = self.start(more, &[]);
        evaluated(&mut terminal, "plan W8A8");
        terminal
    }

    /// The plan that is kept for the case of a crash.
    fn journal(&self) -> Option<PathBuf> {
        let mut files = std::fs::read_dir(self.path().join("state/bitloupe")).ok()?;
        files.find_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            (name.starts_with("plan-") && !name.contains(".lock"))
                .then(|| self.path().join("state/bitloupe").join(name))
        })
    }
}

/// The figure after `name` in the first line, without what follows it.
fn figure<'t>(screen: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = screen.lines().next()?.split_once(name)?;
    rest.split_whitespace().next()
}

fn header(screen: &str) -> &str {
    screen.lines().next().unwrap_or_default()
}

/// Closes the box that shows `part`. Escape comes alone: with a letter behind it, it would be Alt and that letter.
#[track_caller]
fn escape(terminal: &mut Terminal, part: &str) {
    terminal.keys("\x1b");
    terminal.wait("the box closed", |screen| !screen.contains(part));
}

/// Waits until the header shows this plan with the figures of the whole set.
#[track_caller]
fn evaluated(terminal: &mut Terminal, plan: &str) -> String {
    terminal.wait(&format!("figures of {plan}"), |screen| {
        let header = header(screen);
        let current = !header.contains(" old") && !header.contains("/2)");
        header.contains(plan) && header.contains("mIoU ") && current && !screen.contains("running")
    })
}

#[test]
fn from_the_start_to_an_edit_and_back() {
    let home = Home::new();
    let mut terminal = home.start(&[], &[]);
    terminal.wait_for("lavt-mini");
    let start = evaluated(&mut terminal, "plan W8A8");
    assert!(header(&start).contains("2 calib") && header(&start).contains("2 samples"), "{start}");
    assert!(start.contains("\"the dog on the left\""), "{start}");
    // A layer found by its name.
    terminal.keys("/qkv");
    let filtered =
        terminal.wait("the filter", |screen| screen.contains("/qkv") && !screen.contains("patch_embed"));
    assert!(filtered.contains("attn.qkv"), "{filtered}");
    terminal.keys("\r");
    terminal.keys("\x1b[F");
    terminal.wait("the last layer", |screen| screen.contains("attn.qkv:input"));
    // Fewer bits for its activation: plan, bits and sample follow.
    terminal.keys("\x1b[D\x1b[D\x1b[D\x1b[D");
    let edited = terminal.wait("the edited plan", |screen| {
        figure(screen, " A ") != figure(&start, " A ")
            && header(screen).contains("mIoU")
            && !screen.contains("running")
    });
    assert!(header(&edited).contains("+1"), "{edited}");
    // Back, edit by edit.
    for _ in 0..4 {
        terminal.keys("u");
    }
    let back = evaluated(&mut terminal, "plan W8A8");
    assert_eq!(figure(&back, "mIoU"), figure(&start, "mIoU"));
    assert_eq!(figure(&back, " A "), figure(&start, " A "));
    terminal.keys("q");
    let status = terminal.end();
    assert!(status.success(), "{status:?}");
    // Nothing was left unsaved, so nothing comes back.
    let mut terminal = home.start(&[], &[]);
    let again = evaluated(&mut terminal, "plan W8A8");
    assert!(!again.contains("ended early") && !header(&again).contains('●'), "{again}");
    terminal.keys("q");
    terminal.end();
}

#[test]
fn a_preset_an_export_and_the_same_figures_from_the_command_line() {
    let home = Home::new();
    let mut terminal = home.ready(&[]);
    terminal.keys("P");
    let presets = terminal.wait_for("W4A4 min");
    let number = presets
        .lines()
        .find_map(|line| line.split_once("W4A4 min")?.0.split_whitespace().next_back()?.parse::<u8>().ok())
        .unwrap();
    terminal.keys(&number.to_string());
    let preset = evaluated(&mut terminal, "plan W4A4");
    assert!(header(&preset).contains("W 4.0 A 4.0 bits"), "{preset}");
    // Another sentence gives another run, which has no truth.
    terminal.keys("t");
    terminal.wait_for("sentence: ");
    terminal.keys("\x15the red umbrella\r");
    terminal.wait("the other sentence", |screen| {
        screen.contains("\"the red umbrella\"") && screen.contains(NO_TRUTH) && !screen.contains("running")
    });
    terminal.keys("T");
    terminal.wait("its own sentence", |screen| {
        screen.contains("\"the dog on the left\"")
            && !screen.contains(NO_TRUTH)
            && !screen.contains("running")
    });
    // The files say what the header says.
    terminal.keys("e");
    let screen = terminal.wait_for("exported 3 files");
    let out = home.path().join("out");
    for file in ["plan.json", "weights.safetensors", "report.md"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let eval = json(&["eval", "--plan", text(&out.join("plan.json")), "--samples", text(&home.samples)]);
    let miou = eval["quantized"]["miou"].as_f64().unwrap();
    let shown: f64 = figure(&screen, "mIoU").unwrap().parse().unwrap();
    assert!((miou - shown).abs() <= 0.0005 + 1e-9, "{miou} and {shown}");
    assert_eq!(eval["average_bits"]["weights"], 4.0);
    // Asked before the unsaved plan is left; `s` writes it.
    terminal.keys("q");
    terminal.wait_for("The plan is not saved");
    escape(&mut terminal, "The plan is not saved");
    terminal.keys("q");
    terminal.wait_for("The plan is not saved");
    terminal.keys("s");
    assert!(terminal.end().success());
    assert_eq!(home.journal(), None, "a saved plan needs no journal");
    let saved = home.path().join("bitloupe-plan.json");
    let again = json(&["eval", "--plan", text(&saved), "--samples", text(&home.samples)]);
    assert_eq!(again["quantized"], eval["quantized"]);
}

#[test]
fn a_method_is_applied_and_taken_back() {
    let home = Home::new();
    let mut terminal = home.ready(&[]);
    let before = terminal.text();
    terminal.keys("R");
    terminal.wait_for(" Methods ");
    terminal.keys("jjjjjjw44");
    terminal.wait_for("applies repq-vit W4A4");
    terminal.keys("\r");
    let applied = evaluated(&mut terminal, "plan repq-vit W4A4");
    assert_eq!(figure(&applied, "W "), Some("4.0"), "{applied}");
    assert_ne!(figure(&applied, "mIoU"), figure(&before, "mIoU"), "{applied}");
    // The LayerNorms before the linear layers are rewritten, and the table says so.
    terminal.keys("/rewritten\r");
    terminal.wait_for("↻ attn.qkv");
    terminal.keys("u");
    let undone = evaluated(&mut terminal, "plan W8A8");
    assert_eq!(header(&undone).trim_end(), header(&before).trim_end());
    assert!(!undone.contains('↻'), "{undone}");
    terminal.keys("q");
    assert!(terminal.end().success());
}

#[test]
fn interrupts_and_signals_leave_the_terminal_sane() {
    type Leave = fn(&mut Terminal);
    let home = Home::new();
    let ways: [(&str, Leave); 4] = [
        ("Ctrl-C", |t| t.keys("\x03")),
        ("SIGTERM", |t| t.signal("TERM")),
        ("SIGINT", |t| t.signal("INT")),
        ("SIGHUP", |t| t.signal("HUP")),
    ];
    for (name, leave) in ways {
        // In the middle of the calibration.
        let mut terminal = home.start(&[], &[]);
        terminal.wait_for("lavt-mini");
        leave(&mut terminal);
        let status = terminal.end();
        assert!(status.signal().is_none(), "{name}: {status:?}");
    }
    // To the shell and back.
    let mut terminal = home.ready(&[]);
    terminal.keys("\x1a");
    terminal.wait_stopped();
    terminal.signal("CONT");
    terminal.wait_for("mIoU");
    terminal.keys("?");
    terminal.wait_for(HELP);
    escape(&mut terminal, HELP);
    terminal.keys("q");
    assert!(terminal.end().success());
}

#[test]
fn small_and_large_windows() {
    let home = Home::new();
    let mut terminal = home.ready(&[]);
    let before = terminal.text();
    for (columns, rows) in [(40, 12), (20, 6), (220, 60), (40, 12), (160, 50)] {
        terminal.resize(columns, rows);
        if columns >= 10 {
            terminal.wait("a frame", |screen| !screen.trim().is_empty());
        }
    }
    let after = terminal.wait("the large screen again", |screen| {
        header(screen).contains("mIoU") && header(screen).contains("bits")
    });
    assert_eq!(header(&after).trim_end(), header(&before).trim_end());
    assert_eq!(after.lines().count(), before.lines().count());
    terminal.keys("q");
    assert!(terminal.end().success());
}

#[test]
fn no_colour_and_ascii_are_kept_to() {
    let home = Home::new();
    let mut terminal = home.start(&[], &[("NO_COLOR", "1"), ("COLORTERM", "truecolor")]);
    evaluated(&mut terminal, "plan W8A8");
    terminal.keys("mmmmc/qkv\r?");
    terminal.wait_for(HELP);
    escape(&mut terminal, HELP);
    terminal.keys("q");
    assert!(terminal.end().success());
    let bytes = terminal.bytes();
    let text = String::from_utf8_lossy(&bytes);
    for code in text
        .split("\x1b[")
        .skip(1)
        .filter_map(|rest| rest.split_once(|c: char| !c.is_ascii_digit() && c != ';' && c != ':'))
    {
        let end = text.as_bytes()[code.1.as_ptr() as usize - text.as_ptr() as usize - 1];
        let coloured = code
            .0
            .split([';', ':'])
            .filter_map(|n| n.parse::<u16>().ok())
            .any(|n| matches!(n, 30..=38 | 40..=48 | 58 | 90..=97 | 100..=107));
        assert!(end != b'm' || !coloured, "a colour: {:?}", code.0);
    }

    let mut terminal = home.start(&["--ascii"], &[]);
    evaluated(&mut terminal, "plan W8A8");
    terminal.keys("mmmmlcd/qkv\r?");
    terminal.wait_for(HELP);
    escape(&mut terminal, HELP);
    terminal.keys("P");
    terminal.wait_for("W4A4");
    escape(&mut terminal, "W4A4");
    terminal.keys("q");
    assert!(terminal.end().success());
    let bytes = terminal.bytes();
    if let Some(at) = bytes.iter().position(|b| !b.is_ascii()) {
        let from = at.saturating_sub(60);
        panic!("not ASCII: {:?}", String::from_utf8_lossy(&bytes[from..(at + 8).min(bytes.len())]));
    }
}

#[test]
fn an_edit_survives_a_crash() {
    let home = Home::new();
    let mut terminal = home.ready(&[]);
    terminal.keys("/blocks.0.attn.qkv\r");
    terminal.wait("the layer", |screen| screen.contains("attn.qkv:input"));
    terminal.keys("b");
    terminal.wait_for("Bits: ");
    terminal.keys("3");
    let edited = evaluated(&mut terminal, "+");
    let bits = figure(&edited, " A ").unwrap().to_owned();
    let journal = home.journal().expect("the edit is kept");
    terminal.signal("KILL");
    terminal.wait_exit();
    assert!(std::fs::read_to_string(&journal).unwrap().contains(QKV));

    let mut terminal = home.start(&[], &[]);
    terminal.wait_for("ended early is back");
    terminal.wait("the recovered plan", |screen| {
        figure(screen, " A ") == Some(&bits) && header(screen).contains("mIoU")
    });
    // It is an edit that can be taken back.
    terminal.keys("u");
    terminal.wait("another plan", |screen| figure(screen, " A ") != Some(&bits));
    terminal.keys("\x03");
    terminal.end();
}

#[test]
fn snapshots_and_both_compared_plans_survive_a_crash() {
    let home = Home::new();
    let mut terminal = home.ready(&[]);
    let before = terminal.text();
    // Kept with its figures, under the name that is typed.
    terminal.keys("K");
    terminal.wait_for("keep the plan as: W8A8");
    terminal.keys("\x15eight bits\r");
    terminal.wait_for("kept as \"eight bits\"");
    terminal.keys("R");
    terminal.wait_for(" Methods ");
    terminal.keys("w44\r");
    terminal.wait("another plan", |screen| figure(screen, "W ") == Some("4.0"));
    // Compared with the snapshot: the other side is shown in place, with the figures that it had.
    terminal.keys("B");
    terminal.wait_for("Compare the plan (A) with");
    terminal.keys("\r");
    let other = evaluated(&mut terminal, "plan  A [B] eight bits");
    assert_eq!(figure(&other, "mIoU"), figure(&before, "mIoU"));
    terminal.keys("B");
    let first = evaluated(&mut terminal, "plan [A] B ");
    assert_eq!(figure(&first, "W "), Some("4.0"));
    terminal.keys("D");
    let differences = terminal.wait_for("sites differ");
    assert!(
        differences.contains("[A] minmax W4A4") && differences.contains("B  eight bits"),
        "{differences}"
    );
    escape(&mut terminal, "sites differ");
    terminal.signal("KILL");
    terminal.wait_exit();

    let mut terminal = home.start(&[], &[]);
    terminal.wait_for("ended early are back");
    let back = evaluated(&mut terminal, "plan [A] B ");
    assert_eq!(figure(&back, "W "), Some("4.0"));
    terminal.keys("B");
    let other = evaluated(&mut terminal, "plan  A [B] eight bits");
    assert_eq!(figure(&other, "mIoU"), figure(&before, "mIoU"));
    terminal.keys("L");
    let list = terminal.wait_for("eight bits  W  8.0 A  8.0");
    assert!(list.contains(&format!("mIoU {}", figure(&before, "mIoU").unwrap())), "{list}");
    escape(&mut terminal, " Snapshots ");
    terminal.keys("q");
    terminal.wait_for("The plan is not saved");
    terminal.keys("s");
    assert!(terminal.end().success());
    // B was saved; A was not, and the journal has kept it, as the question said.
    let mut terminal = home.start(&[], &[]);
    terminal.wait_for("ended early are back");
    evaluated(&mut terminal, "plan  A [B] eight bits");
    terminal.keys("B");
    let first = evaluated(&mut terminal, "plan [A] B ");
    assert_eq!(figure(&first, "W "), Some("4.0"));
    // The file of the session before is not written over unasked.
    terminal.keys("S");
    let asked = terminal.wait_for("These files are there already");
    assert!(asked.contains("bitloupe-plan.json"), "{asked}");
    let saved = || std::fs::read(home.path().join("bitloupe-plan.json")).unwrap();
    let before = saved();
    escape(&mut terminal, "These files are there already");
    assert!(saved() == before);
    terminal.keys("S");
    terminal.wait_for("These files are there already");
    terminal.keys("y");
    terminal.wait_for("saved bitloupe-plan.json");
    assert!(saved() != before);
    terminal.keys("q");
    assert!(terminal.end().success());
    // A snapshot stays when nothing is unsaved any more.
    let mut terminal = home.start(&[], &[]);
    evaluated(&mut terminal, "plan eight bits");
    assert_eq!(home.journal(), None);
    terminal.keys("L");
    terminal.wait_for("eight bits  W  8.0 A  8.0");
    escape(&mut terminal, " Snapshots ");
    terminal.keys("q");
    assert!(terminal.end().success());
}

#[test]
fn a_broken_model_is_said_and_the_terminal_stays_sane() {
    let home = Home::new();
    let model = copy_of_fixture(home.path());
    std::fs::write(model.join("model.safetensors"), b"nothing").unwrap();
    let mut terminal = Terminal::start(home.path(), &["model"], &[]);
    terminal.wait_for("not a readable safetensors file");
    terminal.keys("\x1b[A\x1b[D1Pevn");
    terminal.keys("M");
    terminal.wait_for(" Messages ");
    assert!(terminal.text().contains("model.safetensors"), "{}", terminal.text());
    escape(&mut terminal, " Messages ");
    terminal.keys("q");
    assert_eq!(terminal.end().exit_code(), 1, "as any command that failed");
    // A plan that cannot be read is said before the screen is taken.
    std::fs::write(home.path().join("plan.json"), b"{").unwrap();
    let mut terminal = Terminal::start(home.path(), &["--plan", "plan.json"], &[]);
    let status = terminal.end();
    assert_eq!(status.exit_code(), 1);
    assert!(terminal.text().contains("plan.json:1"), "{}", terminal.text());
}
