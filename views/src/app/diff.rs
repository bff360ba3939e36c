//! How two plans differ: sites, rewrites, figures.

use bitloupe_quant::plan::{Figures, Plan, SitePlan, diff};
use crossterm::event::{KeyCode, KeyEvent};

use super::graft::asks_for;
use super::overlay::DiffWith;
use super::overlay_keys::{Outcome, list_key};
use super::plan::same_choice;
use super::{App, Effect};

/// One of two plans.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// `A`, `B`, or nothing for a snapshot that is no side.
    pub letter: &'static str,
    /// The plan's name.
    pub name: String,
    /// Whether it is the plan that is shown.
    pub shown: bool,
    /// What was measured of it.
    pub figures: Figures,
    /// The standing figure of the shown sample, with truth or else with full precision.
    pub sample: Option<f64>,
}

/// What both plans say about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The site, or the place of a rewrite.
    pub what: String,
    /// Under the left plan.
    pub left: String,
    /// Under the right plan.
    pub right: String,
    /// The layer of a site.
    pub layer: Option<usize>,
}

/// Two plans side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Differences {
    /// The left plan and the right one.
    pub columns: [Column; 2],
    /// Sites that are treated differently, in the order of the layers.
    pub sites: usize,
    /// All rows: the sites, then rewrites that only one has.
    pub rows: Vec<Row>,
}

impl App {
    /// The plan against another one; nothing if that is gone.
    pub fn differences(&self, with: &DiffWith) -> Option<Differences> {
        let now = self.plan.current();
        let shown = |letter| Column {
            letter,
            name: self.plan_name.clone(),
            shown: true,
            figures: self.figures(),
            sample: self.shown.as_deref().filter(|_| self.sample_is_current()).map(standing),
        };
        match with {
            DiffWith::Side => {
                let compare = self.compare.as_ref()?;
                let hidden = &compare.hidden;
                let sample = hidden.sample.as_deref().filter(|sample| {
                    let known = sample.generation >= hidden.plan.generation;
                    known && sample.sample == self.sample && sample.text == self.sentence()
                });
                let other = Column {
                    letter: compare.hidden_side().letter(),
                    name: hidden.name.clone(),
                    shown: false,
                    figures: hidden.figures(),
                    sample: sample.map(standing),
                };
                let other_plan = hidden.plan.current();
                let ours = shown(compare.shown.letter());
                Some(if compare.shown == super::compare::Side::A {
                    self.set_against([&now, &other_plan], [ours, other])
                } else {
                    self.set_against([&other_plan, &now], [other, ours])
                })
            }
            DiffWith::Snapshot(name) => {
                let snapshot = self.snapshots.list().iter().find(|snapshot| snapshot.name == *name)?;
                let other = Column {
                    letter: "",
                    name: name.clone(),
                    shown: false,
                    figures: snapshot.figures.clone(),
                    sample: None,
                };
                Some(self.set_against([&now, &snapshot.plan], [shown(""), other]))
            }
        }
    }

    fn set_against(&self, [left, right]: [&Plan; 2], columns: [Column; 2]) -> Differences {
        let place = |layer: &str| self.model.as_ref()?.layers.iter().position(|view| view.name == layer);
        let float = &SitePlan::Float;
        let mut rows: Vec<Row> = diff(left, right)
            .into_iter()
            .map(|found| (found.before.unwrap_or(float), found.after.unwrap_or(float), found.site))
            .filter(|(before, after, _)| !same_choice(before, after))
            .map(|(before, after, site)| Row {
                what: site.to_string(),
                left: choice(before),
                right: choice(after),
                layer: place(&site.layer),
            })
            .collect();
        rows.sort_by_key(|row| row.layer.unwrap_or(usize::MAX));
        let sites = rows.len();
        let only = |here: &Plan, there: &Plan, left: bool| -> Vec<Row> {
            here.rewrites
                .iter()
                .filter(|rewrite| !asks_for(there, rewrite))
                .map(|rewrite| {
                    let mut on = ["on".to_owned(), "off".to_owned()];
                    if !left {
                        on.reverse();
                    }
                    let [left, right] = on;
                    Row {
                        what: format!("{} at {}", rewrite.rewrite, rewrite.layer),
                        left,
                        right,
                        layer: None,
                    }
                })
                .collect()
        };
        rows.extend(only(left, right, true));
        rows.extend(only(right, left, false));
        Differences { columns, sites, rows }
    }

    /// Keys of the list of differences.
    pub(super) fn diff_key(
        &mut self,
        with: &DiffWith,
        cursor: &mut usize,
        key: KeyEvent,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let Some(found) = self.differences(with) else { return Outcome::Close };
        match key.code {
            KeyCode::Enter => {
                let Some(layer) = found.rows.get(*cursor).and_then(|row| row.layer) else {
                    return Outcome::Keep;
                };
                self.go_to_layer(layer);
                effects.extend(self.ask_site());
                // The list that it was opened from is done with as well.
                self.overlays.clear();
                return Outcome::Close;
            }
            KeyCode::Char('B') if *with == DiffWith::Side => {
                effects.extend(self.switch_side());
                return Outcome::Keep;
            }
            KeyCode::Char('D') => return Outcome::Close,
            KeyCode::PageUp => *cursor = cursor.saturating_sub(10),
            KeyCode::PageDown => *cursor = (*cursor + 10).min(found.rows.len().saturating_sub(1)),
            _ => return list_key(cursor, key, found.rows.len()),
        }
        Outcome::Keep
    }

    /// Takes the cursor to a layer, through folded groups and a filter that hides it.
    fn go_to_layer(&mut self, layer: usize) {
        if !self.layers.wants(&self.facts, layer) {
            self.layers.filter.clear();
        }
        self.layers.unfold(layer);
        self.rebuild_layers();
        self.layers.point_at(layer);
        self.set_focus(super::Pane::Layers);
    }
}

fn standing(sample: &bitloupe_quant::session::messages::SampleView) -> f64 {
    sample.quantized_score.unwrap_or(sample.agreement)
}

/// Bits and quantizer in words.
pub fn choice(plan: &SitePlan) -> String {
    match plan {
        SitePlan::Float => "float".to_owned(),
        SitePlan::Quantized { scheme, bits, .. } => format!("{bits} {scheme}"),
    }
}
