//! Which site is meant: the layer under the cursor and one of its operands.

use bitloupe_quant::session::explain::SiteExplanation;
use bitloupe_quant::session::messages::{ChoiceView, LayerView, SiteDetail, SiteSummary, SiteView};
use bitloupe_quant::terms::{Bits, SiteId, Slot};

use super::App;
use super::tree::RowKind;

/// Which operand of a layer is shown. It stays when the cursor moves to another layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand {
    /// The n-th activation: of a product 0 is the left and 1 the right operand.
    Activation(usize),
    /// The weight; of a product the right operand.
    Weight,
}

impl App {
    /// The layer under the cursor (the first of a group).
    pub fn layer(&self) -> Option<&LayerView> {
        self.model.as_ref()?.layers.get(self.layers.layer()?)
    }

    /// The shown site of a layer.
    fn site_of<'a>(&self, layer: &'a LayerView) -> Option<&'a SiteView> {
        let activation = |wanted: usize| {
            let mut found = layer.sites.iter().filter(|site| site.site.slot != Slot::Weight);
            let first = found.next();
            if wanted == 0 { first } else { found.next().or(first) }
        };
        let weight = || layer.sites.iter().find(|site| site.site.slot == Slot::Weight);
        match self.operand {
            Operand::Activation(wanted) => activation(wanted).or_else(weight),
            Operand::Weight => weight().or_else(|| activation(1)),
        }
    }

    /// The shown site.
    pub fn site(&self) -> Option<&SiteView> {
        self.site_of(self.layer()?)
    }

    /// Its name.
    pub fn site_id(&self) -> Option<&SiteId> {
        self.site().map(|site| &site.site)
    }

    /// Its figures, once calibrated.
    pub fn summary(&self) -> Option<&SiteSummary> {
        self.summaries.get(*self.summary_of.get(self.site_id()?)?)
    }

    /// Its detail, once fitted.
    pub fn site_detail(&self) -> Option<&SiteDetail> {
        let site = self.site_id()?;
        self.detail.as_deref().filter(|detail| detail.site == *site)
    }

    /// Why it is as it is under the newest plan, once that is known.
    pub fn explanation(&self) -> Option<&SiteExplanation> {
        let site = self.site_id()?;
        let (generation, explanation) = self.explained.as_ref()?;
        (*generation >= self.plan.generation && explanation.site == *site).then_some(explanation)
    }

    /// Its choices, once fitted.
    pub fn choices(&self) -> &[ChoiceView] {
        self.site_detail().map_or(&[], |detail| detail.choices.as_slice())
    }

    /// Its bits under the plan.
    pub fn bits(&self) -> Bits {
        self.site_id().map_or(Bits::FLOAT, |site| self.plan.bits(site))
    }

    /// The bits at which choices are compared: the plan's, or those it had before it was made float.
    pub fn compared_bits(&self) -> Bits {
        let bits = self.bits();
        if bits.is_float() { self.plan.bits_before_float() } else { bits }
    }

    /// Whether the cursor is on a group.
    pub fn on_group(&self) -> bool {
        matches!(self.layers.current().map(|row| &row.kind), Some(RowKind::Group { .. }))
    }

    /// The layers an edit goes to: the marked ones, else what the line under the cursor stands for.
    pub fn edited_layers(&self) -> Vec<usize> {
        let marked = self.layers.marked();
        if marked.is_empty() { self.layers.selected() } else { marked.iter().copied().collect() }
    }

    /// Whether an edit goes to more than the shown site: to a group or to marked layers.
    pub fn edits_many(&self) -> bool {
        self.on_group() || !self.layers.marked().is_empty()
    }

    /// The sites an edit goes to: the shown one, or all of its kind (weights or activations) of many layers.
    pub fn targets(&self) -> Vec<SiteId> {
        self.target_views().into_iter().map(|site| site.site.clone()).collect()
    }

    /// The targets with their roles.
    fn target_views(&self) -> Vec<&SiteView> {
        self.targets_in_layers().into_iter().map(|(_, site)| site).collect()
    }

    /// The targets with their layers.
    pub(super) fn targets_in_layers(&self) -> Vec<(&LayerView, &SiteView)> {
        let Some(model) = &self.model else { return Vec::new() };
        let edited = self.edited_layers();
        let layers = edited.iter().filter_map(|layer| model.layers.get(*layer));
        if !self.edits_many() {
            return layers.filter_map(|layer| Some((layer, self.site_of(layer)?))).collect();
        }
        let weights = self.site_id().is_some_and(|site| site.slot == Slot::Weight);
        layers
            .flat_map(|layer| layer.sites.iter().map(move |site| (layer, site)))
            .filter(|(_, site)| (site.site.slot == Slot::Weight) == weights)
            .collect()
    }

    /// The bits that an edit starts from: the shown site's, or those of the first target if it is none of them.
    pub fn reference_bits(&self) -> Bits {
        let targets = self.target_views();
        let shown = self.site_id();
        match targets.first() {
            Some(first) if !targets.iter().any(|site| Some(&site.site) == shown) => {
                self.plan.bits(&first.site)
            }
            _ => self.bits(),
        }
    }

    /// The sites of the shown one's role that the filter lets through.
    pub fn role_targets(&self) -> Vec<SiteId> {
        let (Some(model), Some(shown)) = (&self.model, self.site()) else { return Vec::new() };
        model
            .layers
            .iter()
            .enumerate()
            .filter(|(index, _)| self.layers.wants(&self.facts, *index))
            .flat_map(|(_, layer)| &layer.sites)
            .filter(|site| {
                site.role == shown.role
                    && (site.site.slot == Slot::Weight) == (shown.site.slot == Slot::Weight)
            })
            .map(|site| site.site.clone())
            .collect()
    }

    /// The best choice at the compared bits: its place and its predicted SQNR.
    pub fn best_choice(&self) -> Option<(usize, f64)> {
        let bits = self.compared_bits();
        let scored = self
            .choices()
            .iter()
            .enumerate()
            .filter_map(|(place, choice)| Some((place, decibels(choice, bits)?)));
        scored.reduce(|best, other| if other.1 > best.1 { other } else { best })
    }

    /// The plan's choice: its place in the list.
    pub fn current_choice(&self) -> Option<usize> {
        let scheme = self.plan.scheme(self.site_id()?)?;
        self.choices().iter().position(|choice| choice.scheme == scheme)
    }
}

/// The predicted SQNR of a choice at some bits.
pub fn decibels(choice: &ChoiceView, bits: Bits) -> Option<f64> {
    choice.sqnr_db.iter().find(|(width, _)| *width == bits).map(|(_, decibels)| *decibels)
}
