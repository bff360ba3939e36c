//! The layer table: which lines there are, in which order, and where the cursor is.

use std::collections::{BTreeSet, HashSet};

use bitloupe_quant::session::messages::ModelView;

use super::facts::Facts;
use super::tree::{Row, RowKind, Tree};

/// What the lines are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sort {
    /// The order in which the layers run; the only one with a tree.
    #[default]
    Order,
    /// The least predicted SQNR first.
    Decibels,
    /// The change of the figure when only the layer's worst site is quantized, the most harmful first; layers that were
    /// not measured come last.
    Effect,
    /// The diagnosis.
    Class,
    /// Weight bits, then activation bits.
    Bits,
    /// The number of weights.
    Weights,
    /// Multiply-accumulates.
    Macs,
}

impl Sort {
    /// The word in the title.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Decibels => "dB",
            Self::Effect => "effect",
            Self::Class => "class",
            Self::Bits => "bits",
            Self::Weights => "weights",
            Self::Macs => "MACs",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Order => Self::Decibels,
            Self::Decibels => Self::Effect,
            Self::Effect => Self::Class,
            Self::Class => Self::Bits,
            Self::Bits => Self::Weights,
            Self::Weights => Self::Macs,
            Self::Macs => Self::Order,
        }
    }
}

/// The table.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The order.
    pub sort: Sort,
    /// Whether the order is turned around.
    pub reversed: bool,
    /// Words that a line must have.
    pub filter: String,
    /// The line under the cursor.
    pub cursor: usize,
    /// The first line on the screen.
    pub offset: usize,
    /// Lines on the screen.
    pub page: usize,
    rows: Vec<Row>,
    tree: Tree,
    folded: HashSet<String>,
    matches: usize,
    marked: BTreeSet<usize>,
    /// The marks that were taken away last.
    cleared: BTreeSet<usize>,
    /// Where a range of marks begins.
    anchor: Option<usize>,
}

impl Layers {
    /// Takes the layers of a model.
    pub fn open(&mut self, model: &ModelView) {
        self.tree = Tree::new(model.layers.iter().map(|layer| layer.name.as_str()));
        self.folded.clear();
        (self.marked, self.cleared, self.anchor) = Default::default();
    }

    /// The marked layers, also those that the filter hides.
    pub const fn marked(&self) -> &BTreeSet<usize> {
        &self.marked
    }

    /// Marks what the line under the cursor stands for, or takes the marks away if all of it is marked.
    pub fn toggle_mark(&mut self) {
        let layers = self.selected();
        self.anchor = layers.last().copied();
        if layers.iter().all(|layer| self.marked.contains(layer)) {
            self.marked.retain(|layer| !layers.contains(layer));
        } else {
            self.marked.extend(layers);
        }
    }

    /// Takes all marks away; with none there, brings those back that were taken away last.
    pub fn unmark(&mut self) {
        self.anchor = None;
        if self.marked.is_empty() {
            self.marked = std::mem::take(&mut self.cleared);
        } else {
            self.cleared = std::mem::take(&mut self.marked);
        }
    }

    /// Whether there are marks to take away or to bring back.
    pub fn has_marks(&self) -> bool {
        !self.marked.is_empty() || !self.cleared.is_empty()
    }

    /// Marks layers.
    pub fn mark(&mut self, layers: impl IntoIterator<Item = usize>) {
        self.marked.extend(layers);
    }

    /// Marks the unmarked of some layers and the other way round.
    pub fn invert_marks(&mut self, layers: &[usize]) {
        for layer in layers {
            if !self.marked.remove(layer) {
                self.marked.insert(*layer);
            }
        }
    }

    /// Marks the lines from the one where the last mark was set to the one under the cursor; says how many lines. Without
    /// such a line on the table only the one under the cursor is marked, and a range begins there.
    pub fn mark_range(&mut self) -> Option<usize> {
        let has = |row: &Row, layer: usize| match &row.kind {
            RowKind::Layer(own) => *own == layer,
            RowKind::Group { layers, folded, .. } => *folded && layers.contains(&layer),
        };
        let from = self.anchor.and_then(|anchor| self.rows.iter().position(|row| has(row, anchor)));
        let (first, last) = match from {
            Some(from) => (from.min(self.cursor), from.max(self.cursor)),
            None => (self.cursor, self.cursor),
        };
        self.anchor = self.selected().last().copied();
        let mut found = BTreeSet::new();
        for (place, row) in self.rows.iter().enumerate().take(last + 1).skip(first) {
            match &row.kind {
                RowKind::Layer(layer) => {
                    found.insert(*layer);
                }
                // An open group's layers have lines of their own; all of them are meant only under the cursor.
                RowKind::Group { layers, folded, .. } => {
                    if *folded || (place == self.cursor && from.is_none()) {
                        found.extend(layers.iter().copied());
                    }
                }
            }
        }
        self.marked.extend(found);
        from.map(|_| last - first + 1)
    }

    /// The lines.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// How many layers the filter lets through.
    pub const fn matches(&self) -> usize {
        self.matches
    }

    /// The line under the cursor.
    pub fn current(&self) -> Option<&Row> {
        self.rows.get(self.cursor)
    }

    /// The layer under the cursor; of a group its first.
    pub fn layer(&self) -> Option<usize> {
        match &self.current()?.kind {
            RowKind::Layer(layer) => Some(*layer),
            RowKind::Group { layers, .. } => layers.first().copied(),
        }
    }

    /// All layers that the line under the cursor stands for.
    pub fn selected(&self) -> Vec<usize> {
        match self.current().map(|row| &row.kind) {
            Some(RowKind::Layer(layer)) => vec![*layer],
            Some(RowKind::Group { layers, .. }) => layers.clone(),
            None => Vec::new(),
        }
    }

    /// Whether the filter lets a layer through.
    pub fn wants(&self, facts: &Facts, layer: usize) -> bool {
        let filter = self.filter.to_lowercase();
        facts
            .layer(layer)
            .is_some_and(|facts| filter.split_whitespace().all(|word| facts.text.contains(word)))
    }

    /// Makes the lines anew and keeps the cursor on what it was on.
    pub fn rebuild(&mut self, model: &ModelView, facts: &Facts) {
        let before = self.current().map(|row| row.kind.clone());
        let wanted: Vec<bool> = (0..model.layers.len()).map(|layer| self.wants(facts, layer)).collect();
        let is_wanted = |layer: usize| wanted.get(layer).copied().unwrap_or(false);
        self.matches = wanted.iter().filter(|wanted| **wanted).count();
        self.rows = if self.sort == Sort::Order && !self.reversed {
            // A filter opens every group: what was searched must be seen.
            let open = HashSet::new();
            let folded = if self.filter.trim().is_empty() { &self.folded } else { &open };
            self.tree.rows(folded, &is_wanted)
        } else {
            self.sorted(model, facts, &is_wanted)
        };
        let same = |row: &Row| match (&row.kind, &before) {
            (RowKind::Layer(new), Some(RowKind::Layer(old))) => new == old,
            (RowKind::Group { path: new, .. }, Some(RowKind::Group { path: old, .. })) => new == old,
            _ => false,
        };
        let holds = |row: &Row| match (&row.kind, &before) {
            (RowKind::Group { layers, folded: true, .. }, Some(RowKind::Layer(old))) => layers.contains(old),
            (RowKind::Layer(new), Some(RowKind::Group { layers, .. })) => layers.contains(new),
            _ => false,
        };
        if let Some(found) = self.rows.iter().position(same).or_else(|| self.rows.iter().position(holds)) {
            self.cursor = found;
        }
        self.clamp();
    }

    fn sorted(&self, model: &ModelView, facts: &Facts, wanted: &dyn Fn(usize) -> bool) -> Vec<Row> {
        let mut order: Vec<usize> = (0..model.layers.len()).filter(|layer| wanted(*layer)).collect();
        let fact = |layer: &usize| facts.layer(*layer);
        let size = |layer: &usize, of: fn(&bitloupe_quant::session::messages::LayerView) -> u64| {
            std::cmp::Reverse(model.layers.get(*layer).map_or(0, of))
        };
        match self.sort {
            Sort::Order => {}
            Sort::Decibels => order.sort_by(|a, b| {
                let value = |layer| fact(layer).and_then(|facts| facts.decibels).unwrap_or(f64::INFINITY);
                value(a).total_cmp(&value(b))
            }),
            Sort::Effect => order.sort_by(|a, b| {
                let value = |layer| fact(layer).and_then(|facts| facts.effect).unwrap_or(f64::INFINITY);
                value(a).total_cmp(&value(b))
            }),
            Sort::Class => order.sort_by_key(|layer| fact(layer).map(|facts| facts.class)),
            Sort::Bits => {
                order.sort_by_key(|layer| {
                    fact(layer).map(|facts| (facts.weight, facts.activations.first().copied()))
                });
            }
            Sort::Weights => order.sort_by_key(|layer| size(layer, |layer| layer.weights)),
            Sort::Macs => order.sort_by_key(|layer| size(layer, |layer| layer.macs)),
        }
        if self.reversed {
            order.reverse();
        }
        let name = |layer: usize| model.layers.get(layer).map(|layer| layer.name.clone()).unwrap_or_default();
        order
            .into_iter()
            .map(|layer| Row { depth: 0, label: name(layer), kind: RowKind::Layer(layer) })
            .collect()
    }

    /// Next order.
    pub fn next_sort(&mut self) {
        self.sort = self.sort.next();
    }

    /// Folds or unfolds the group under the cursor (or around it); says whether there was one.
    pub fn toggle(&mut self) -> bool {
        let Some(RowKind::Group { path, folded, .. }) = self.current().map(|row| &row.kind) else {
            return false;
        };
        let (path, folded) = (path.clone(), *folded);
        if folded {
            self.folded.remove(&path);
        } else {
            self.folded.insert(path);
        }
        true
    }

    /// Folds all groups, or unfolds all if any is folded.
    pub fn toggle_all(&mut self) {
        if self.folded.is_empty() {
            self.folded = self.tree.groups().map(str::to_owned).collect();
        } else {
            self.folded.clear();
        }
    }

    /// Opens the groups around a layer; the lines are to be made anew.
    pub fn unfold(&mut self, layer: usize) {
        let Self { tree, folded, .. } = self;
        folded.retain(|path| !tree.holds(path, layer));
    }

    /// Takes the cursor to a layer that has a line.
    pub fn point_at(&mut self, layer: usize) {
        let found = self.rows.iter().position(|row| row.kind == RowKind::Layer(layer));
        if let Some(found) = found {
            self.cursor = found;
            self.clamp();
        }
    }

    /// Moves the cursor by lines.
    pub fn step(&mut self, by: isize) {
        self.cursor = self.cursor.saturating_add_signed(by);
        self.clamp();
    }

    /// Moves to the next layer in a direction, over groups.
    pub fn step_layer(&mut self, by: isize) {
        let is_layer = |row: &Row| matches!(row.kind, RowKind::Layer(_));
        let found = if by < 0 {
            self.rows.iter().take(self.cursor).rposition(is_layer)
        } else {
            self.rows.iter().skip(self.cursor + 1).position(is_layer).map(|at| at + self.cursor + 1)
        };
        if let Some(found) = found {
            self.cursor = found;
        }
    }

    /// Keeps cursor and first line inside the table and the cursor on the screen.
    pub fn clamp(&mut self) {
        self.cursor = self.cursor.min(self.rows.len().saturating_sub(1));
        if self.page > 0 {
            let lowest = (self.cursor + 1).saturating_sub(self.page);
            self.offset = self.offset.clamp(lowest, self.cursor.max(lowest));
            self.offset = self.offset.min(self.rows.len().saturating_sub(self.page));
        } else {
            self.offset = 0;
        }
    }
}
