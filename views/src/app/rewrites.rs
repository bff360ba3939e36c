//! Rewrites of the graph: which touch what, whether they are on, and switching them.

use bitloupe_quant::graph::RewriteKind;
use bitloupe_quant::plan::Plan;
use bitloupe_quant::session::messages::RewriteView;
use bitloupe_quant::terms::SiteId;
use crossterm::event::{KeyCode, KeyEvent};

use super::graft::{asks_for, switched};
use super::overlay_keys::{Outcome, list_key};
use super::{App, Effect};
use crate::command::Action;

/// How it stands with a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The plan does not ask for it.
    Off,
    /// The plan asks for it.
    On,
    /// The plan asks for it, and the fit found that it would change nothing here.
    LeftOut,
}

/// How it stands with a rewrite under a plan, as far as that is fitted.
pub fn standing(place: &RewriteView, plan: &Plan, fitted: Option<&Plan>) -> Standing {
    if !asks_for(plan, &place.rewrite) {
        Standing::Off
    } else if fitted.is_some_and(|fitted| !asks_for(fitted, &place.rewrite)) {
        Standing::LeftOut
    } else {
        Standing::On
    }
}

/// What a rewrite does, in one sentence.
pub fn about(rewrite: &str) -> &'static str {
    match rewrite.parse() {
        Ok(RewriteKind::NormReparameterization) => {
            "The LayerNorm evens out its channels and the layers behind undo that: one grid serves all channels."
        }
        Ok(RewriteKind::Smoothing) => {
            "A part of the channels' spread moves from the activation into the weight."
        }
        Ok(RewriteKind::SignFolding) => {
            "Negative key channels change their sign, and so do their queries: two peaks become one."
        }
        Ok(RewriteKind::BatchNormFolding) => {
            "The BatchNorm goes into the convolution before it, which is then quantized as it runs."
        }
        Err(_) => "",
    }
}

/// All places of one kind of rewrite that the line under the cursor stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The kind's word.
    pub rewrite: String,
    /// Indices into the model's rewrites.
    pub places: Vec<usize>,
}

impl App {
    /// The rewrites that touch a layer that edits go to, by kind.
    pub fn rewrites_in_reach(&self) -> Vec<Reach> {
        let Some(model) = &self.model else { return Vec::new() };
        let layers: std::collections::HashSet<&str> = self
            .edited_layers()
            .into_iter()
            .filter_map(|layer| model.layers.get(layer))
            .map(|layer| layer.name.as_str())
            .collect();
        let mut found: Vec<Reach> = Vec::new();
        for (index, place) in model.rewrites.iter().enumerate() {
            if !place.sites.iter().any(|site| layers.contains(site.layer.as_str())) {
                continue;
            }
            let word = &place.rewrite.rewrite;
            match found.iter_mut().find(|reach| reach.rewrite == *word) {
                Some(reach) => reach.places.push(index),
                None => found.push(Reach { rewrite: word.clone(), places: vec![index] }),
            }
        }
        found
    }

    /// How it stands with a rewrite now.
    pub fn standing(&self, place: &RewriteView) -> Standing {
        let fitted = self.fitted.as_ref().filter(|_| self.plan_is_fitted());
        standing(place, &self.plan.current(), fitted.map(|fitted| &*fitted.plan))
    }

    /// The rewrites that a site's values go through under the plan.
    pub fn rewrites_of(&self, site: &SiteId) -> Vec<(&RewriteView, Standing)> {
        let Some(model) = &self.model else { return Vec::new() };
        let touching = model.rewrites.iter().filter(|place| place.sites.contains(site));
        touching
            .map(|place| (place, self.standing(place)))
            .filter(|(_, standing)| *standing != Standing::Off)
            .collect()
    }

    /// Keys of the list of rewrites.
    pub(super) fn rewrites_key(
        &mut self,
        cursor: &mut usize,
        key: KeyEvent,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let found = self.rewrites_in_reach();
        let chosen = match key.code {
            KeyCode::Enter | KeyCode::Char(' ') => Some(*cursor),
            KeyCode::Char(digit @ '1'..='9') => Some(digit as usize - '1' as usize),
            KeyCode::Char('u') => {
                effects.extend(self.act(Action::Undo, None));
                None
            }
            KeyCode::Char('W') => return Outcome::Close,
            _ => None,
        };
        let Some(chosen) = chosen else { return list_key(cursor, key, found.len()) };
        if let Some(reach) = found.get(chosen) {
            *cursor = chosen;
            effects.extend(self.toggle_rewrite(reach));
        }
        Outcome::Keep
    }

    /// Switches all places of a kind: on, unless all of them are on.
    fn toggle_rewrite(&mut self, reach: &Reach) -> Vec<Effect> {
        let Some(model) = self.model.clone() else { return Vec::new() };
        let plan = self.plan.current();
        let places: Vec<&RewriteView> =
            reach.places.iter().filter_map(|place| model.rewrites.get(*place)).collect();
        let on = !places.iter().all(|place| asks_for(&plan, &place.rewrite));
        let made = switched(&plan, places.iter().map(|place| (*place, on)));
        let word = if on { "on" } else { "off" };
        let reason = match places.as_slice() {
            [place] => format!("{} {word} at {}", reach.rewrite, place.rewrite.layer),
            places => format!("{} {word} at {} places", reach.rewrite, places.len()),
        };
        if self.plan.replace(&made, reason) { self.edited() } else { Vec::new() }
    }
}
