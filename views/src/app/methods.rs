//! Applying a published method: which, with how many bits, to what.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bitloupe_quant::method::MethodBits;
use bitloupe_quant::plan::Plan;
use bitloupe_quant::session::messages::{Generation, Request};
use bitloupe_quant::terms::{Bits, SiteId, Slot};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::graft::grafted;
use super::overlay::Overlay;
use super::overlay_keys::Outcome;
use super::{App, Effect, Level};

/// The widths that a method can be asked for.
pub const WIDTHS: std::ops::RangeInclusive<u8> = 2..=8;
/// Where the plan has no such width.
const USUAL_WIDTH: u8 = 4;

/// What a method is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scope {
    /// Every site, and the rewrites as the method wants them.
    #[default]
    Everything,
    /// The layers that the filter lets through.
    Filtered,
    /// The marked layers.
    Marked,
}

/// What the keys ← and → change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Field {
    /// Bits of weights.
    #[default]
    Weights,
    /// Bits of activations.
    Activations,
    /// Bits of the layers that read the picture.
    Patches,
    /// Bits of the last layers.
    Last,
    /// Bits of attention probabilities.
    Softmax,
    /// What it is applied to.
    Scope,
}

impl Field {
    /// From the first line to the last.
    pub const ALL: [Self; 6] =
        [Self::Weights, Self::Activations, Self::Patches, Self::Last, Self::Softmax, Self::Scope];

    fn step(self, by: isize) -> Self {
        let place = Self::ALL.iter().position(|field| *field == self).unwrap_or(0) as isize;
        let next = (place + by).rem_euclid(Self::ALL.len() as isize) as usize;
        Self::ALL.get(next).copied().unwrap_or_default()
    }
}

/// The list of methods with what is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MethodForm {
    /// The method under the cursor.
    pub cursor: usize,
    /// What the keys ← and → change.
    pub field: Field,
    /// Bits of weights.
    pub weights: u8,
    /// Bits of activations.
    pub activations: u8,
    /// Bits of the layers that read the picture; none: as the method's paper.
    pub patches: Option<Bits>,
    /// Bits of the last layers; none: as the method's paper.
    pub last: Option<Bits>,
    /// Bits of attention probabilities; none: as the method's paper.
    pub softmax: Option<Bits>,
    /// What it is applied to.
    pub scope: Scope,
}

/// What the bits of an exception can be: as the paper, a width, or none.
pub fn exception_choices() -> impl Iterator<Item = Option<Bits>> {
    let widths = WIDTHS.filter_map(|width| Bits::new(width).ok());
    std::iter::once(None).chain(widths.chain([Bits::FLOAT]).map(Some))
}

/// A width in words.
pub fn width_word(bits: Bits) -> String {
    if bits.is_float() { "float".to_owned() } else { bits.to_string() }
}

impl MethodForm {
    /// The bits as people write them: `W4A8`.
    pub fn bits(&self) -> String {
        format!("W{}A{}", self.weights, self.activations)
    }

    /// The method's name with its bits and what was asked for instead of the paper's: `repq-vit W4A8, last 8`.
    pub fn named(&self, method: &str) -> String {
        let mut name = format!("{method} {}", self.bits());
        for (word, bits) in [("patch", self.patches), ("last", self.last), ("softmax", self.softmax)] {
            if let Some(bits) = bits {
                name.push_str(&format!(", {word} {}", width_word(bits)));
            }
        }
        name
    }

    /// The bits of an exception, where the cursor is on one.
    const fn exception(&mut self) -> Option<&mut Option<Bits>> {
        match self.field {
            Field::Patches => Some(&mut self.patches),
            Field::Last => Some(&mut self.last),
            Field::Softmax => Some(&mut self.softmax),
            Field::Weights | Field::Activations | Field::Scope => None,
        }
    }

    fn set_width(&mut self, width: u8) {
        match self.field {
            Field::Weights => self.weights = width,
            Field::Activations => self.activations = width,
            _ => {
                if let Some(exception) = self.exception() {
                    *exception = Bits::new(width).ok();
                }
            }
        }
    }

    const fn width(&self) -> u8 {
        match self.field {
            Field::Weights => self.weights,
            _ => self.activations,
        }
    }
}

/// A method that was asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    generation: Generation,
    /// Name and bits: `repq-vit W4A4`.
    name: String,
    /// The sites, or everything.
    scope: Option<HashSet<SiteId>>,
    /// What it is applied to, in words, if that is not everything.
    part: Option<String>,
}

impl App {
    /// Opens the list of methods as it was left, for what was marked or filtered since.
    pub(super) fn open_methods(&mut self) -> Vec<Effect> {
        let Some(model) = &self.model else { return Vec::new() };
        let plan = self.plan.current();
        let named = model.methods.iter().position(|method| method.name == plan.method).unwrap_or(0);
        let mut form = self.last_method.unwrap_or_else(|| MethodForm {
            cursor: named,
            field: Field::Weights,
            weights: usual_width(&plan, true),
            activations: usual_width(&plan, false),
            patches: None,
            last: None,
            softmax: None,
            scope: Scope::Everything,
        });
        form.field = Field::Weights;
        form.scope = self.scopes().last().copied().unwrap_or_default();
        self.overlays.push(Overlay::Methods(form));
        Vec::new()
    }

    /// The scopes there are now: one needs marks, one a filter.
    pub fn scopes(&self) -> Vec<Scope> {
        [Scope::Everything, Scope::Filtered, Scope::Marked]
            .into_iter()
            .filter(|scope| *scope == Scope::Everything || !self.layers_in(*scope).is_empty())
            .collect()
    }

    /// The layers of a scope; none for a filter or marks that are not there.
    pub fn layers_in(&self, scope: Scope) -> Vec<usize> {
        let count = self.model.as_ref().map_or(0, |model| model.layers.len());
        match scope {
            Scope::Everything => (0..count).collect(),
            Scope::Filtered if self.layers.filter.trim().is_empty() => Vec::new(),
            Scope::Filtered => (0..count).filter(|layer| self.layers.wants(&self.facts, *layer)).collect(),
            Scope::Marked => self.layers.marked().iter().copied().collect(),
        }
    }

    /// Keys of the list of methods.
    pub(super) fn methods_key(
        &mut self,
        form: &mut MethodForm,
        key: KeyEvent,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let last = self.model.as_ref().map_or(0, |model| model.methods.len()).saturating_sub(1);
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Esc | KeyCode::Char('q' | 'R') => return Outcome::Close,
            KeyCode::Enter => {
                self.last_method = Some(*form);
                effects.extend(self.ask_method(form));
                return Outcome::Close;
            }
            KeyCode::Up | KeyCode::Char('k') => form.cursor = form.cursor.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => form.cursor = (form.cursor + 1).min(last),
            KeyCode::Home | KeyCode::Char('g') | KeyCode::PageUp => form.cursor = 0,
            KeyCode::End | KeyCode::Char('G') | KeyCode::PageDown => form.cursor = last,
            KeyCode::Tab => form.field = form.field.step(1),
            KeyCode::BackTab => form.field = form.field.step(-1),
            KeyCode::Left | KeyCode::Char('h' | '-') => self.change(form, -1),
            KeyCode::Right | KeyCode::Char('l' | '+' | '=') => self.change(form, 1),
            // `w4a8` can be typed as it is written.
            KeyCode::Char('w') if !control => form.field = Field::Weights,
            KeyCode::Char('a') if !control => form.field = Field::Activations,
            KeyCode::Char('p') if !control => form.field = Field::Patches,
            KeyCode::Char('t') if !control => form.field = Field::Last,
            KeyCode::Char('x') if !control => form.field = Field::Softmax,
            KeyCode::Char('f') if !control => {
                if let Some(exception) = form.exception() {
                    *exception = Some(Bits::FLOAT);
                }
            }
            KeyCode::Backspace | KeyCode::Delete => {
                if let Some(exception) = form.exception() {
                    *exception = None;
                }
            }
            KeyCode::Char('s') if !control => {
                form.field = Field::Scope;
                self.next_scope(form);
            }
            KeyCode::Char(digit @ '2'..='8') => {
                form.set_width(digit as u8 - b'0');
                if form.field == Field::Weights {
                    form.field = Field::Activations;
                }
            }
            _ => {}
        }
        Outcome::Keep
    }

    fn change(&self, form: &mut MethodForm, by: isize) {
        if form.field == Field::Scope {
            let scopes = self.scopes();
            let place = scopes.iter().position(|scope| *scope == form.scope).unwrap_or(0);
            let next = place.saturating_add_signed(by).min(scopes.len().saturating_sub(1));
            form.scope = scopes.get(next).copied().unwrap_or_default();
            return;
        }
        if let Some(exception) = form.exception() {
            let choices: Vec<Option<Bits>> = exception_choices().collect();
            let place = choices.iter().position(|choice| choice == exception).unwrap_or(0);
            let next = place.saturating_add_signed(by).min(choices.len().saturating_sub(1));
            *exception = choices.get(next).copied().flatten();
            return;
        }
        let width = i16::from(form.width()) + by as i16;
        let (low, high) = (i16::from(*WIDTHS.start()), i16::from(*WIDTHS.end()));
        form.set_width(width.clamp(low, high) as u8);
    }

    fn next_scope(&self, form: &mut MethodForm) {
        let scopes = self.scopes();
        let place = scopes.iter().position(|scope| *scope == form.scope).unwrap_or(0);
        form.scope = scopes.get((place + 1) % scopes.len().max(1)).copied().unwrap_or_default();
    }

    fn ask_method(&mut self, form: &MethodForm) -> Vec<Effect> {
        let Some(model) = self.model.clone() else { return Vec::new() };
        let Some(method) = model.methods.get(form.cursor) else { return Vec::new() };
        let (Ok(weights), Ok(activations)) = (Bits::new(form.weights), Bits::new(form.activations)) else {
            return Vec::new();
        };
        let layers = self.layers_in(form.scope);
        let (scope, part) = if form.scope == Scope::Everything {
            (None, None)
        } else {
            let sites = layers.iter().filter_map(|layer| model.layers.get(*layer));
            let sites = sites.flat_map(|layer| &layer.sites).map(|site| site.site.clone()).collect();
            let part = match layers.as_slice() {
                [layer] => model.layers.get(*layer).map(|layer| layer.name.clone()),
                layers => Some(format!("{} layers", layers.len())),
            };
            (Some(sites), part)
        };
        let generation = self.next_generation();
        let name = form.named(method.name);
        self.asked = Some(Asked { generation, name, scope, part });
        let (patch_embedding, last, softmax) = (form.patches, form.last, form.softmax);
        let bits = MethodBits { weights, activations, patch_embedding, last, softmax };
        vec![Effect::Send(Request::Method { generation, method: method.name.to_owned(), bits })]
    }

    /// Takes the plan of the method that was asked for last, as one edit.
    pub(super) fn take_method(&mut self, generation: Generation, plan: &Arc<Plan>) -> Vec<Effect> {
        let Some(model) = self.model.clone() else { return Vec::new() };
        let Some(asked) = self.asked.take_if(|asked| asked.generation == generation) else {
            return Vec::new();
        };
        let name = &asked.name;
        let reason = asked.part.as_ref().map_or_else(|| name.clone(), |part| format!("{name} on {part}"));
        let before = self.plan.current();
        let changed = if let Some(scope) = &asked.scope {
            self.plan.replace(&grafted(&before, plan, &model.rewrites, scope), reason.as_str())
        } else {
            self.plan.remember(name, plan);
            self.load(plan, &reason)
        };
        if !changed {
            self.note(Level::Info, format!("{reason}: the plan is that already"));
            return Vec::new();
        }
        self.note(Level::Info, format!("{reason}; u takes it back"));
        self.edited()
    }
}

/// The width that most sites of a kind have, if a method can be asked for it.
fn usual_width(plan: &Plan, weights: bool) -> u8 {
    let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
    for (site, choice) in plan.sites() {
        if (site.slot == Slot::Weight) == weights
            && let Some(width) = choice.bits().get()
        {
            *counts.entry(width).or_default() += 1;
        }
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(width, _)| width);
    most.filter(|width| WIDTHS.contains(width)).unwrap_or(USUAL_WIDTH)
}
