//! What can lie over the panes.

use std::path::PathBuf;
use std::sync::Arc;

use bitloupe_quant::plan::Plan;
use bitloupe_quant::session::messages::Request;
use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};
use tui_input::Input;

use super::MethodForm;
use super::snapshots::Naming;
use crate::command::COMMANDS;

/// One thing over the panes; it takes the keys.
#[derive(Debug, Clone)]
pub enum Overlay {
    /// All commands by group, searchable.
    Help(Finder),
    /// All commands by likeness to what is typed.
    Palette(Finder),
    /// Bits with their predicted SQNR; the cursor.
    Bits(usize),
    /// Ready-made plans; the cursor.
    Presets(usize),
    /// Published methods with their bits and what they are applied to.
    Methods(MethodForm),
    /// Snapshots of the plan; the cursor.
    Snapshots(usize),
    /// The name of a snapshot as it is typed.
    Name {
        /// The text.
        input: Input,
        /// Which snapshot.
        of: Naming,
    },
    /// Plans to compare with; the cursor.
    Compare(usize),
    /// How two plans differ.
    Diff {
        /// The other plan.
        with: DiffWith,
        /// The line under the cursor.
        cursor: usize,
    },
    /// Sites that the shown one's choice can be copied to; the cursor.
    Siblings(usize),
    /// Rewrites that touch the layer; the cursor.
    Rewrites(usize),
    /// The plans that a search found.
    Front {
        /// The point under the cursor.
        cursor: usize,
        /// The plan that Esc brings back.
        before: Arc<Plan>,
    },
    /// Average bits as they are typed.
    Budget(Input),
    /// The filter as it is typed, and the one before.
    Filter {
        /// The text.
        input: Input,
        /// What Esc brings back.
        before: String,
    },
    /// A sentence as it is typed.
    Sentence(Input),
    /// Leaving with an unsaved plan.
    ConfirmQuit,
    /// Writing over files that others have made.
    Replace {
        /// Writes them.
        request: Request,
        /// The files that are there.
        files: Vec<PathBuf>,
    },
    /// The list of messages; lines scrolled up from the newest.
    Messages(usize),
}

impl Overlay {
    /// Takes the cursor of a list to a line.
    pub fn set_cursor(&mut self, line: usize) {
        match self {
            Self::Bits(cursor)
            | Self::Presets(cursor)
            | Self::Rewrites(cursor)
            | Self::Snapshots(cursor)
            | Self::Compare(cursor)
            | Self::Siblings(cursor)
            | Self::Front { cursor, .. }
            | Self::Diff { cursor, .. } => *cursor = line,
            Self::Methods(form) => form.cursor = line,
            _ => {}
        }
    }
}

/// What the plan is set against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiffWith {
    /// The hidden side of the comparison.
    Side,
    /// The snapshot of this name.
    Snapshot(String),
}

/// A search in the command table.
#[derive(Debug, Clone, Default)]
pub struct Finder {
    /// What is typed.
    pub input: Input,
    /// Places in the table, best first.
    pub found: Vec<usize>,
    /// The place in `found` under the cursor.
    pub cursor: usize,
}

impl Finder {
    /// Everything.
    pub fn new() -> Self {
        Self { found: (0..COMMANDS.len()).collect(), ..Self::default() }
    }

    /// Searches again after the text changed.
    pub fn search(&mut self) {
        self.cursor = 0;
        let text = self.input.value().trim();
        if text.is_empty() {
            self.found = (0..COMMANDS.len()).collect();
            return;
        }
        let pattern = Pattern::parse(text, CaseMatching::Ignore, Normalization::Smart);
        let mut matcher = Matcher::new(Config::DEFAULT);
        let mut buffer = Vec::new();
        let mut scored: Vec<(u32, usize)> = COMMANDS
            .iter()
            .enumerate()
            .filter_map(|(place, command)| {
                let mut score = |text: &str| pattern.score(Utf32Str::new(text, &mut buffer), &mut matcher);
                // A hit in the name is worth more than one in the sentence.
                let name = score(command.name).map(|score| score * 2);
                Some((name.max(score(command.about))?, place))
            })
            .collect();
        scored.sort_by_key(|(score, place)| (std::cmp::Reverse(*score), *place));
        self.found = scored.into_iter().map(|(_, place)| place).collect();
    }

    /// Moves the cursor.
    pub fn step(&mut self, by: isize) {
        self.cursor = self.cursor.saturating_add_signed(by).min(self.found.len().saturating_sub(1));
    }

    /// The place in the table under the cursor.
    pub fn chosen(&self) -> Option<usize> {
        self.found.get(self.cursor).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_letters_find_a_command() {
        for (typed, name) in [("evalu", "evaluate"), ("undo", "undo"), ("heat map", "channels")] {
            let mut finder = Finder { input: Input::new(typed.to_owned()), ..Finder::default() };
            finder.search();
            let first = finder.chosen().and_then(|place| COMMANDS.get(place)).map(|command| command.name);
            assert_eq!(first, Some(name));
        }
    }
}
