//! The table itself.

use super::{Action as A, Command, Group, Reason};
use crate::app::App;

/// Every command, in the order of help.
pub static COMMANDS: &[Command] = &[
    row(A::Up, "up", "Cursor of the focused pane up", &["up", "k"], Group::Move, None, always),
    row(A::Down, "down", "Cursor of the focused pane down", &["down", "j"], Group::Move, None, always),
    row(A::PageUp, "page up", "A page up", &["pageup", "ctrl-u"], Group::Move, None, always),
    row(A::PageDown, "page down", "A page down", &["pagedown", "ctrl-d"], Group::Move, None, always),
    row(A::Top, "first", "To the first line", &["home", "g"], Group::Move, None, always),
    row(A::Bottom, "last", "To the last line", &["end", "G"], Group::Move, None, always),
    row(A::LayerNext, "next layer", "The next layer, from any pane", &["]"], Group::Move, None, open),
    row(A::LayerBefore, "layer before", "The layer before, from any pane", &["["], Group::Move, None, open),
    row(A::NextPane, "next pane", "Focus the next pane", &["tab"], Group::Move, Some((3, "pane")), always),
    row(A::PreviousPane, "pane before", "Focus the pane before", &["backtab"], Group::Move, None, always),
    row(
        A::Enter,
        "enter",
        "Fold or unfold a group, take the line under the cursor",
        &["enter", "space"],
        Group::Move,
        None,
        always,
    ),
    row(A::FoldAll, "fold all", "Fold or unfold all groups", &["z"], Group::Move, None, open),
    row(
        A::Activation,
        "activation",
        "Show the layer's activation (left operand, then right)",
        &["a"],
        Group::Move,
        Some((5, "activation")),
        open,
    ),
    row(
        A::Weight,
        "weight",
        "Show the layer's weight (right operand)",
        &["w"],
        Group::Move,
        Some((6, "weight")),
        open,
    ),
    row(
        A::Filter,
        "filter",
        "Filter the layers by name, op, class, role or bits",
        &["/"],
        Group::Move,
        Some((9, "filter")),
        open,
    ),
    row(A::Sort, "sort", "Sort by the next column", &["o"], Group::Move, Some((15, "sort")), open),
    row(A::Reverse, "reverse", "Reverse the order", &["O"], Group::Move, None, open),
    row(
        A::FewerBits,
        "fewer bits",
        "Fewer bits for the site (or for all in the group)",
        &["left", "-"],
        Group::Plan,
        None,
        editable,
    ),
    row(
        A::MoreBits,
        "more bits",
        "More bits for the site (or for all in the group)",
        &["right", "+", "="],
        Group::Plan,
        None,
        editable,
    ),
    row(
        A::PickBits,
        "pick bits",
        "Choose the bits from a list with the predicted SQNR",
        &["b"],
        Group::Plan,
        None,
        editable,
    ),
    row(
        A::Float,
        "float",
        "Keep the site in floating point, or quantize it again",
        &["f"],
        Group::Plan,
        Some((4, "float")),
        editable,
    ),
    row(
        A::Choose,
        "choose quantizer",
        "Take the quantizer of this number",
        &["1", "2", "3", "4", "5", "6", "7", "8", "9"],
        Group::Plan,
        Some((2, "quantizer")),
        choosable,
    ),
    row(
        A::ApplyToRole,
        "apply to role",
        "Give this site's quantizer and bits to all sites of its role that the filter shows",
        &["A"],
        Group::Plan,
        Some((16, "apply to role")),
        editable,
    ),
    row(
        A::Presets,
        "presets",
        "Start from a ready-made plan, e.g. everything at 8 bits",
        &["P"],
        Group::Plan,
        Some((11, "presets")),
        presets,
    ),
    row(A::Undo, "undo", "Take the last edit back", &["u"], Group::Plan, Some((8, "undo")), undoable),
    row(A::Redo, "redo", "Do the undone edit again", &["ctrl-r", "U"], Group::Plan, None, redoable),
    row(
        A::Axes,
        "axes",
        "Next of linear and logarithmic: counts, values, both",
        &["l"],
        Group::Show,
        Some((12, "log")),
        open,
    ),
    row(
        A::Channels,
        "channels",
        "Heat map of the channels, or the histogram",
        &["c"],
        Group::Show,
        Some((13, "channels")),
        open,
    ),
    row(
        A::Dequantized,
        "de-quantized",
        "De-quantized values over the full-precision ones",
        &["d"],
        Group::Show,
        Some((17, "de-quantized")),
        open,
    ),
    row(
        A::Masks,
        "masks",
        "Next mask view: all, truth, full precision, this plan, difference",
        &["m"],
        Group::Show,
        Some((14, "masks")),
        open,
    ),
    row(
        A::NextSample,
        "next sample",
        "Show the next sample",
        &["n"],
        Group::Sample,
        Some((7, "sample")),
        sampled,
    ),
    row(A::PreviousSample, "sample before", "Show the sample before", &["p"], Group::Sample, None, sampled),
    row(
        A::WorstSample,
        "worst sample",
        "Show the sample with the least IoU under the plan",
        &["N"],
        Group::Sample,
        None,
        scored,
    ),
    row(
        A::Sentence,
        "sentence",
        "Type another sentence for this sample",
        &["t"],
        Group::Sample,
        Some((10, "text")),
        sampled,
    ),
    row(
        A::OwnSentence,
        "own sentence",
        "Back to the sample's own sentence",
        &["T"],
        Group::Sample,
        None,
        retyped,
    ),
    row(A::Rerun, "re-run", "Run the sample again", &["r", "f5"], Group::Sample, None, sampled),
    row(
        A::Evaluate,
        "evaluate",
        "Evaluate all samples under the plan",
        &["v"],
        Group::Sample,
        Some((18, "evaluate")),
        evaluable,
    ),
    row(
        A::Calibrate,
        "calibrate",
        "Gather the distributions again",
        &["C"],
        Group::Sample,
        None,
        calibratable,
    ),
    row(
        A::CancelJobs,
        "cancel",
        "Stop what runs in the background; what is there is kept",
        &["x"],
        Group::Sample,
        None,
        running,
    ),
    row(
        A::Export,
        "export",
        "Write plan, quantized weights and report",
        &["e"],
        Group::Program,
        Some((19, "export")),
        writable,
    ),
    row(A::Save, "save", "Write the plan", &["s", "ctrl-s"], Group::Program, Some((20, "save")), writable),
    row(
        A::Copy,
        "copy name",
        "Copy the site's name to the clipboard (OSC 52)",
        &["y"],
        Group::Program,
        None,
        open,
    ),
    row(A::Messages, "messages", "What was reported so far", &["M"], Group::Program, None, always),
    row(
        A::Palette,
        "palette",
        "Find a command by name",
        &[":", "ctrl-p"],
        Group::Program,
        Some((21, "palette")),
        always,
    ),
    row(
        A::Help,
        "help",
        "All keys; type to search, Enter to run",
        &["?", "f1"],
        Group::Program,
        Some((0, "help")),
        always,
    ),
    row(
        A::Mouse,
        "mouse",
        "Mouse on or off (off lets the terminal select text)",
        &["f2"],
        Group::Program,
        None,
        always,
    ),
    row(
        A::Back,
        "back",
        "Close, clear the filter, or cancel the running job",
        &["esc"],
        Group::Program,
        None,
        always,
    ),
    row(A::Repaint, "repaint", "Draw everything anew", &["ctrl-l"], Group::Program, None, always),
    row(A::Suspend, "suspend", "To the shell; fg comes back", &["ctrl-z"], Group::Program, None, always),
    row(
        A::Quit,
        "quit",
        "Leave; asks if the plan is unsaved",
        &["q"],
        Group::Program,
        Some((1, "quit")),
        always,
    ),
    row(A::Leave, "leave", "Leave at once", &["ctrl-c"], Group::Program, None, always),
];

const fn row(
    action: A,
    name: &'static str,
    about: &'static str,
    keys: &'static [&'static str],
    group: Group,
    hint: Option<(u8, &'static str)>,
    enabled: fn(&App) -> Result<(), Reason>,
) -> Command {
    Command { action, name, about, keys, group, hint, enabled }
}

#[expect(clippy::unnecessary_wraps, reason = "has the shape of the other conditions")]
fn always(_: &App) -> Result<(), Reason> {
    Ok(())
}

fn open(app: &App) -> Result<(), Reason> {
    if app.model.is_some() { Ok(()) } else { Err("the model is still opening") }
}

fn alive(app: &App) -> Result<(), Reason> {
    open(app)?;
    if app.ended { Err("the engine has stopped") } else { Ok(()) }
}

fn editable(app: &App) -> Result<(), Reason> {
    alive(app)?;
    if app.targets().is_empty() { Err("no site is selected") } else { Ok(()) }
}

fn choosable(app: &App) -> Result<(), Reason> {
    editable(app)?;
    if app.choices().is_empty() { Err("the choices are still being fitted") } else { Ok(()) }
}

fn presets(app: &App) -> Result<(), Reason> {
    alive(app)?;
    let none = app.model.as_ref().is_none_or(|model| model.presets.is_empty());
    if none { Err("the model brings no ready-made plans") } else { Ok(()) }
}

fn undoable(app: &App) -> Result<(), Reason> {
    if app.plan.can_undo() { Ok(()) } else { Err("nothing to undo") }
}

fn redoable(app: &App) -> Result<(), Reason> {
    if app.plan.can_redo() { Ok(()) } else { Err("nothing to redo") }
}

fn sampled(app: &App) -> Result<(), Reason> {
    alive(app)?;
    if app.sample_count() == 0 { Err("there are no samples") } else { Ok(()) }
}

fn calibrated(app: &App) -> Result<(), Reason> {
    if app.calibration.complete {
        Ok(())
    } else {
        Err("a plan cannot be fitted before the calibration is complete")
    }
}

fn evaluable(app: &App) -> Result<(), Reason> {
    sampled(app)?;
    calibrated(app)
}

fn writable(app: &App) -> Result<(), Reason> {
    alive(app)?;
    calibrated(app)
}

fn scored(app: &App) -> Result<(), Reason> {
    sampled(app)?;
    if app.worst_sample().is_some() { Ok(()) } else { Err("the samples are not evaluated yet") }
}

fn retyped(app: &App) -> Result<(), Reason> {
    sampled(app)?;
    if app.typed_sentence().is_some() { Ok(()) } else { Err("the sentence is the sample's own") }
}

fn calibratable(app: &App) -> Result<(), Reason> {
    alive(app)?;
    if app.calibration.complete { Err("all calibration samples are gathered") } else { Ok(()) }
}

fn running(app: &App) -> Result<(), Reason> {
    if app.jobs.cancellable() { Ok(()) } else { Err("nothing runs in the background") }
}
