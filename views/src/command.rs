//! The one table of everything a user can do. Key bindings, help, palette and hint line are all made from it.

mod conditions;
mod key;
mod table;

pub use key::{Key, Keymap};
pub use table::COMMANDS;

use crate::app::App;

/// Why a command cannot be used now.
pub type Reason = &'static str;

/// A line of the table.
pub struct Command {
    /// What is done.
    pub action: Action,
    /// The name in the palette.
    pub name: &'static str,
    /// One sentence for help.
    pub about: &'static str,
    /// Default keys, e.g. `ctrl-r`; the first is shown in hints.
    pub keys: &'static [&'static str],
    /// Where help lists it.
    pub group: Group,
    /// The word in the hint line, if it is shown there; lower ranks are dropped last.
    pub hint: Option<(u8, &'static str)>,
    /// Whether it can be used now.
    pub enabled: fn(&App) -> Result<(), Reason>,
}

/// Headings of help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Moving around.
    Move,
    /// Changing the plan.
    Plan,
    /// What the panes show.
    Show,
    /// Samples and evaluation.
    Sample,
    /// Files and the program.
    Program,
}

impl Group {
    /// The heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Move => "Move",
            Self::Plan => "Plan",
            Self::Show => "Show",
            Self::Sample => "Samples",
            Self::Program => "Program",
        }
    }
}

/// Everything a user can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Cursor of the focused pane up.
    Up,
    /// Cursor of the focused pane down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first line.
    Top,
    /// To the last line.
    Bottom,
    /// The layer before, from any pane.
    LayerBefore,
    /// The next layer, from any pane.
    LayerNext,
    /// Focus the next pane.
    NextPane,
    /// Focus the pane before.
    PreviousPane,
    /// Fold, unfold or take the line under the cursor.
    Enter,
    /// Fold or unfold everything.
    FoldAll,
    /// Give the focused pane all the room, or all panes theirs.
    Zoom,
    /// Show the weight (or right operand).
    Weight,
    /// Show the activation (or left operand).
    Activation,
    /// Edit the filter.
    Filter,
    /// Mark the layer under the cursor.
    Mark,
    /// Mark from the last mark to the cursor.
    MarkRange,
    /// Mark what the filter lets through.
    MarkMatches,
    /// Mark the layers with a site of the shown one's role.
    MarkRole,
    /// Mark the layers of the shown one's op.
    MarkOp,
    /// Marked and unmarked the other way round.
    InvertMarks,
    /// Take all marks away.
    Unmark,
    /// Measure what each site costs.
    Sensitivity,
    /// Search the best plans for budgets, or browse them.
    Optimise,
    /// Next sort order.
    Sort,
    /// Reverse the sort order.
    Reverse,
    /// Fewer bits.
    FewerBits,
    /// More bits.
    MoreBits,
    /// Choose the bits from a list.
    PickBits,
    /// Float or back.
    Float,
    /// The n-th quantizer of the list.
    Choose,
    /// Give the site's choice to all sites of its role.
    ApplyToRole,
    /// Start from a ready-made plan.
    Presets,
    /// Apply a published method.
    Methods,
    /// Rewrites on or off.
    Rewrites,
    /// Copy the site's choice to its siblings.
    CopyChoice,
    /// Exchange the quantizers of a product's two operands.
    Exchange,
    /// Keep the plan under a name.
    Keep,
    /// The list of snapshots.
    Snapshots,
    /// The other one of two plans, in place.
    SwitchSide,
    /// Which two plans are compared.
    Compare,
    /// How two plans differ.
    Diff,
    /// Undo.
    Undo,
    /// Redo.
    Redo,
    /// Linear or logarithmic axes.
    Axes,
    /// Channels as a heat map.
    Channels,
    /// De-quantized values over the histogram.
    Dequantized,
    /// Next mask view.
    Masks,
    /// Next sample.
    NextSample,
    /// Sample before.
    PreviousSample,
    /// The sample with the least IoU.
    WorstSample,
    /// Type a sentence.
    Sentence,
    /// Back to the sample's own sentence.
    OwnSentence,
    /// Run the sample again.
    Rerun,
    /// Evaluate the set.
    Evaluate,
    /// Gather sketches again.
    Calibrate,
    /// Stop background work.
    CancelJobs,
    /// Write the export files.
    Export,
    /// Write the plan.
    Save,
    /// Copy the site's name.
    Copy,
    /// The list of messages.
    Messages,
    /// The palette.
    Palette,
    /// Help.
    Help,
    /// Mouse on or off.
    Mouse,
    /// Close, clear or cancel the innermost thing.
    Back,
    /// Draw everything anew.
    Repaint,
    /// To the shell and back.
    Suspend,
    /// Leave, asking if the plan is unsaved.
    Quit,
    /// Leave at once.
    Leave,
}

/// The table as Markdown, for the manual.
pub fn key_table() -> String {
    let mut text = String::from("| keys | command | what it does |\n|---|---|---|\n");
    let mut group = None;
    for command in COMMANDS {
        if group != Some(command.group) {
            group = Some(command.group);
            text += &["| | **", command.group.title(), "** | |\n"].concat();
        }
        let keys: Vec<String> =
            command.keys.iter().filter_map(|key| Key::parse(key)).map(|key| format!("`{key}`")).collect();
        text += &["| ", &keys.join(" "), " | ", command.name, " | ", command.about, " |\n"].concat();
    }
    text
}

/// The line of an action.
pub fn find(action: Action) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.action == action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_actions_and_keys_are_unique() {
        let (mut names, mut actions, mut keys) = (HashSet::new(), HashSet::new(), HashSet::new());
        for command in COMMANDS {
            assert!(names.insert(command.name), "{}", command.name);
            assert!(actions.insert(command.action), "{:?}", command.action);
            assert!(!command.about.is_empty());
            for key in command.keys {
                let parsed = Key::parse(key).unwrap_or_else(|| panic!("{key}"));
                assert!(keys.insert(parsed), "{key} twice");
            }
        }
    }
}
