//! Marks on layers: one by one, by range, by the filter, by role, by op.

use bitloupe_quant::quantizer::Scheme;
use bitloupe_quant::session::fits;
use bitloupe_quant::session::messages::{LayerView, SiteView};
use bitloupe_quant::terms::SiteId;

use super::siblings::has_channels;
use super::{App, Effect, Level, Pane};

/// Sites that a message names at most; the list of messages shows all of it.
const NAMED: usize = 12;

impl App {
    /// Marks the layer under the cursor and moves on, so that a held key marks a run of layers.
    pub(super) fn mark(&mut self) -> Vec<Effect> {
        if self.focus != Pane::Layers {
            return self.enter();
        }
        self.layers.toggle_mark();
        if self.on_group() { Vec::new() } else { self.step_layer(1) }
    }

    /// Marks everything between the last mark and the cursor, in the order of the table.
    pub(super) fn mark_range(&mut self) -> Vec<Effect> {
        let before = self.layers.marked().len();
        let found = self.layers.mark_range();
        let new = self.layers.marked().len() - before;
        let total = self.layers.marked().len();
        self.note(
            Level::Info,
            match found {
                Some(_) => format!("{new} more {} marked up to here; {total} in all", word(new)),
                None => "marked; go to the other end and press V".to_owned(),
            },
        );
        Vec::new()
    }

    /// Marks what the filter lets through.
    pub(super) fn mark_matches(&mut self) -> Vec<Effect> {
        let found = self.wanted(|_, _| true);
        self.mark_all(found, "the filter lets through")
    }

    /// Marks the layers that have a site of the shown one's role.
    pub(super) fn mark_role(&mut self) -> Vec<Effect> {
        let Some(role) = self.site().map(|site| site.role) else { return Vec::new() };
        let found = self.wanted(|app, layer| {
            let sites = app.model.as_ref().and_then(|model| model.layers.get(layer));
            sites.is_some_and(|layer| layer.sites.iter().any(|site| site.role == role))
        });
        self.mark_all(found, &format!("have a {role} site"))
    }

    /// Marks the layers of the shown one's op.
    pub(super) fn mark_op(&mut self) -> Vec<Effect> {
        let Some(op) = self.layer().map(|layer| layer.op) else { return Vec::new() };
        let found = self.wanted(|app, layer| {
            app.model.as_ref().and_then(|model| model.layers.get(layer)).is_some_and(|layer| layer.op == op)
        });
        self.mark_all(found, &format!("are {op}"))
    }

    /// Marks what is not marked and the other way round, among what the filter lets through.
    pub(super) fn invert_marks(&mut self) -> Vec<Effect> {
        let found = self.wanted(|_, _| true);
        self.layers.invert_marks(&found);
        let total = self.layers.marked().len();
        self.note(Level::Info, format!("marks inverted: {total} {}", word(total)));
        Vec::new()
    }

    /// Takes all marks away, or brings back those that were taken away last.
    pub(super) fn unmark(&mut self) -> Vec<Effect> {
        self.layers.unmark();
        let text = match self.layers.marked().len() {
            0 => "no layer is marked any more; X again brings the marks back".to_owned(),
            count => format!("{count} {} marked again", word(count)),
        };
        self.note(Level::Info, text);
        Vec::new()
    }

    /// Layers that the filter lets through and that are as wanted.
    fn wanted(&self, wanted: impl Fn(&Self, usize) -> bool) -> Vec<usize> {
        let count = self.model.as_ref().map_or(0, |model| model.layers.len());
        (0..count).filter(|layer| self.layers.wants(&self.facts, *layer) && wanted(self, *layer)).collect()
    }

    fn mark_all(&mut self, found: Vec<usize>, what: &str) -> Vec<Effect> {
        let count = found.len();
        self.layers.mark(found);
        let total = self.layers.marked().len();
        let all = if total > count { format!("; {total} in all") } else { String::new() };
        self.note(Level::Info, format!("marked {count} {} that {what}{all}", word(count)));
        Vec::new()
    }

    /// The targets that a quantizer fits, and those that it does not. Of a group only the sites of the shown one's role
    /// are meant: what was not picked one by one is not given a grid that is made for something else.
    pub(super) fn fitting_targets(&self, scheme: &Scheme) -> (Vec<SiteId>, Vec<&SiteView>) {
        let role = self.site().map(|site| site.role);
        let marked = !self.layers.marked().is_empty();
        let (mut fit, mut unfit) = (Vec::new(), Vec::new());
        for (layer, site) in self.targets_in_layers() {
            if !marked && Some(site.role) != role {
                continue;
            }
            if self.suits(scheme, layer, site) {
                fit.push(site.site.clone());
            } else {
                unfit.push(site);
            }
        }
        (fit, unfit)
    }

    /// Whether a quantizer is one for a site. What the shown site is offered fits it.
    pub(super) fn suits(&self, scheme: &Scheme, layer: &LayerView, site: &SiteView) -> bool {
        Some(&site.site) == self.site_id()
            || fits(scheme, site.site.slot, site.role, has_channels(layer, site))
    }

    /// Says that an edit went to marked layers, which need not be on the screen, and which of their sites it left alone.
    pub(super) fn say_marked(&mut self, sites: usize, unfit: &[String]) {
        if self.layers.marked().is_empty() {
            return;
        }
        let sites_word = if sites == 1 { "site" } else { "sites" };
        if unfit.is_empty() {
            let text = format!("edited {sites} {sites_word} of the marked layers; X clears the marks");
            self.note(Level::Info, text);
            return;
        }
        let named: Vec<&str> = unfit.iter().take(NAMED).map(String::as_str).collect();
        let more = unfit.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let others = if unfit.len() == 1 { "1 other".to_owned() } else { format!("{} others", unfit.len()) };
        let text =
            format!("edited {sites} {sites_word}; it does not fit {others}: {}{more}", named.join(", "));
        self.note(Level::Warning, text);
    }
}

const fn word(count: usize) -> &'static str {
    if count == 1 { "layer" } else { "layers" }
}
