//! Copying a site's quantizer and bits to its siblings: the same place in other blocks, or the same role.

use std::collections::HashSet;

use bitloupe_quant::plan::SitePlan;
use bitloupe_quant::quantizer::Granularity;
use bitloupe_quant::session::messages::{LayerView, SiteView};
use bitloupe_quant::terms::{SiteId, Slot};
use crossterm::event::{KeyCode, KeyEvent};

use super::overlay_keys::{Outcome, list_key};
use super::{App, Effect, Level};

/// Sites that can be given what the shown one has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Siblings {
    /// In what they are alike.
    pub kind: &'static str,
    /// Which they are.
    pub label: String,
    /// The sites, without the shown one and without those that it does not fit.
    pub sites: Vec<SiteId>,
    /// How many of them have something else now.
    pub changing: usize,
}

impl App {
    /// What the shown site's choice can be copied to.
    pub fn siblings(&self) -> Vec<Siblings> {
        let (Some(model), Some(shown), Some(layer)) = (&self.model, self.site(), self.layer()) else {
            return Vec::new();
        };
        let place = place(&layer.name);
        let all = || model.layers.iter().flat_map(|layer| layer.sites.iter().map(move |site| (layer, site)));
        let same_role = |site: &SiteView| {
            site.role == shown.role && (site.site.slot == Slot::Weight) == (shown.site.slot == Slot::Weight)
        };
        let mut groups = Vec::new();
        if let Some(place) = place {
            let sites = all()
                .filter(|(other, site)| {
                    other.op == layer.op
                        && site.site.slot == shown.site.slot
                        && same_role(site)
                        && self::place(&other.name).as_ref() == Some(&place)
                })
                .collect();
            let label = format!("{place}:{}", shown.site.slot);
            groups.push(self.group("other blocks", label, shown, sites));
        }
        let reach: HashSet<SiteId> = self.role_targets().into_iter().collect();
        let sites = all().filter(|(_, site)| reach.contains(&site.site)).collect();
        let filtered = if self.layers.filter.trim().is_empty() { "" } else { " that the filter shows" };
        groups.push(self.group("same role", format!("all {}{filtered}", shown.role), shown, sites));
        groups
    }

    fn group(
        &self,
        kind: &'static str,
        label: String,
        shown: &SiteView,
        sites: Vec<(&LayerView, &SiteView)>,
    ) -> Siblings {
        let per_channel = match self.plan.current().site(&shown.site) {
            Some(SitePlan::Quantized { scheme, .. }) => scheme.granularity != Granularity::Tensor,
            _ => false,
        };
        let sites: Vec<SiteId> = sites
            .into_iter()
            .filter(|(_, site)| site.site != shown.site)
            .filter(|(layer, site)| !per_channel || has_channels(layer, site))
            .map(|(_, site)| site.site.clone())
            .collect();
        let changing = self.plan.count_unlike(&shown.site, &sites);
        Siblings { kind, label, sites, changing }
    }

    /// Keys of the list.
    pub(super) fn siblings_key(
        &mut self,
        cursor: &mut usize,
        key: KeyEvent,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let groups = self.siblings();
        let chosen = match key.code {
            KeyCode::Char(digit @ '1'..='9') => Some(digit as usize - '1' as usize),
            KeyCode::Enter => Some(*cursor),
            KeyCode::Char('Y') => return Outcome::Close,
            _ => None,
        };
        let Some(group) = chosen.and_then(|place| groups.get(place)) else {
            return list_key(cursor, key, groups.len());
        };
        effects.extend(self.copy_choice(group));
        Outcome::Close
    }

    /// Gives siblings the shown site's quantizer and bits; they are fitted on their own values.
    fn copy_choice(&mut self, group: &Siblings) -> Vec<Effect> {
        let Some(site) = self.site_id().cloned() else { return Vec::new() };
        let what = self.plan.in_words(&site);
        if !self.plan.copy(&site, &group.sites) {
            self.note(Level::Info, format!("all of them have {what} already"));
            return Vec::new();
        }
        let sites = if group.changing == 1 { "site" } else { "sites" };
        self.note(Level::Info, format!("{} {sites} now {what}; u takes it back", group.changing));
        self.edited()
    }
}

/// Whether a grid per channel can serve a site: its channels lie along the sum of a layer with weights.
pub(super) fn has_channels(layer: &LayerView, site: &SiteView) -> bool {
    layer.weights > 0 && site.channels > 1
}

/// A path with the numbers of its blocks left open: `layers.*.blocks.*.attn.qkv`. A number at the end is no block but
/// one of a row of different layers. Nothing if there is no block.
fn place(name: &str) -> Option<String> {
    let (blocks, last) = name.rsplit_once('.')?;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !blocks.split('.').any(is_number) {
        return None;
    }
    let open: Vec<&str> = blocks.split('.').map(|part| if is_number(part) { "*" } else { part }).collect();
    Some(format!("{}.{last}", open.join(".")))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn numbers_of_blocks_are_left_open() {
        for (name, found) in [
            ("layers.0.blocks.11.attn.qkv", Some("layers.*.blocks.*.attn.qkv")),
            ("bert.encoder.layer.3.output.dense", Some("bert.encoder.layer.*.output.dense")),
            ("decoder.mlp.0", None),
            ("decoder.1.mlp.0", Some("decoder.*.mlp.0")),
            ("classifier.conv1", None),
            ("conv", None),
            ("", None),
            ("..0.", Some("..*.")),
        ] {
            assert_eq!(place(name).as_deref(), found, "{name}");
        }
    }
}
