//! Changes of a plan that know their inverse.

use super::{Plan, PlanError, Rewrite, SitePlan, diff};
use crate::terms::SiteId;

/// One site before and after; `None` where the plan does not name it.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteChange {
    /// The site.
    pub site: SiteId,
    /// What the plan said.
    pub before: Option<SitePlan>,
    /// What it says then.
    pub after: Option<SitePlan>,
}

/// A change of a plan: sites, and for a preset also the method's name and the rewrites.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanEdit {
    /// What was done, as the history shows it: `blocks.0.attn.qkv 4 → 6 bits`.
    pub reason: String,
    /// Sites, each at most once.
    pub changes: Vec<SiteChange>,
    /// The method's name before and after.
    pub method: Option<(String, String)>,
    /// Rewrites before and after.
    pub rewrites: Option<(Vec<Rewrite>, Vec<Rewrite>)>,
}

impl PlanEdit {
    /// Sets sites of `plan` (`None` removes one); sites that are so already are left out.
    pub fn set(
        plan: &Plan,
        sites: impl IntoIterator<Item = (SiteId, Option<SitePlan>)>,
        reason: impl Into<String>,
    ) -> Self {
        let mut changes: Vec<SiteChange> = Vec::new();
        for (site, after) in sites {
            let before = plan.site(&site).cloned();
            if before != after {
                changes.push(SiteChange { site, before, after });
            }
        }
        // A site that was named twice: the last word counts. The sort keeps their order.
        changes.sort_by(|a, b| a.site.cmp(&b.site));
        changes.reverse();
        changes.dedup_by(|a, b| a.site == b.site);
        changes.reverse();
        Self { reason: reason.into(), changes, method: None, rewrites: None }
    }

    /// The edit that makes `after` of `before` (sites, method and rewrites).
    pub fn between(before: &Plan, after: &Plan, reason: impl Into<String>) -> Self {
        let changes = diff(before, after)
            .into_iter()
            .map(|d| SiteChange { site: d.site, before: d.before.cloned(), after: d.after.cloned() })
            .collect();
        let method = (before.method != after.method).then(|| (before.method.clone(), after.method.clone()));
        let rewrites =
            (before.rewrites != after.rewrites).then(|| (before.rewrites.clone(), after.rewrites.clone()));
        Self { reason: reason.into(), changes, method, rewrites }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.method.is_none() && self.rewrites.is_none()
    }

    /// The edit that takes this one back.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let changes = self
            .changes
            .iter()
            .map(|c| SiteChange { site: c.site.clone(), before: c.after.clone(), after: c.before.clone() })
            .collect();
        let method = self.method.clone().map(|(before, after)| (after, before));
        let rewrites = self.rewrites.clone().map(|(before, after)| (after, before));
        Self { reason: self.reason.clone(), changes, method, rewrites }
    }

    /// Changes the plan. When it is not as it was when the edit was made, that is an error and nothing
    /// changes.
    pub fn apply(&self, plan: &mut Plan) -> Result<(), PlanError> {
        let stale = |what: String| PlanError::Stale { site: what };
        if let Some(change) = self.changes.iter().find(|c| plan.site(&c.site) != c.before.as_ref()) {
            return Err(stale(change.site.to_string()));
        }
        if self.method.as_ref().is_some_and(|(before, _)| *before != plan.method) {
            return Err(stale("the method".to_owned()));
        }
        if self.rewrites.as_ref().is_some_and(|(before, _)| *before != plan.rewrites) {
            return Err(stale("the list of rewrites".to_owned()));
        }
        for change in &self.changes {
            plan.set(&change.site, change.after.clone());
        }
        if let Some((_, method)) = &self.method {
            plan.method.clone_from(method);
        }
        if let Some((_, rewrites)) = &self.rewrites {
            plan.rewrites.clone_from(rewrites);
        }
        Ok(())
    }

    /// This edit followed by `next` as one, when both change the same sites and nothing else.
    pub(super) fn merged(&self, next: &Self) -> Option<Self> {
        let sites_only = |e: &Self| e.method.is_none() && e.rewrites.is_none();
        let same = self.changes.len() == next.changes.len()
            && self.changes.iter().zip(&next.changes).all(|(a, b)| a.site == b.site && a.after == b.before);
        (sites_only(self) && sites_only(next) && same).then(|| {
            let changes = self
                .changes
                .iter()
                .zip(&next.changes)
                .map(|(a, b)| SiteChange { after: b.after.clone(), ..a.clone() })
                .collect();
            Self { reason: next.reason.clone(), changes, method: None, rewrites: None }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::{params, plan, sites};
    use super::*;

    #[test]
    fn an_edit_and_its_inverse_cancel() {
        let before = plan();
        let mut after = plan();
        after.method = "repq-vit".to_owned();
        after.rewrites.clear();
        after.set(&sites()[0], Some(SitePlan::fitted(params(0.9))));
        after.set(&sites()[3], None);
        let edit = PlanEdit::between(&before, &after, "preset");
        assert_eq!(edit.changes.len(), 2);
        let mut plan = before.clone();
        edit.apply(&mut plan).unwrap();
        assert_eq!(plan, after);
        assert!(matches!(edit.apply(&mut plan), Err(PlanError::Stale { .. })));
        assert_eq!(plan, after);
        edit.inverse().apply(&mut plan).unwrap();
        assert_eq!(plan, before);
    }

    #[test]
    fn the_last_word_on_a_site_counts() {
        let plan = plan();
        let site = sites()[0].clone();
        let twice = [
            (site.clone(), Some(SitePlan::fitted(params(1.0)))),
            (site, Some(SitePlan::fitted(params(2.0)))),
            (sites()[1].clone(), plan.site(&sites()[1]).cloned()),
        ];
        let edit = PlanEdit::set(&plan, twice, "x");
        assert_eq!(edit.changes.len(), 1);
        assert_eq!(edit.changes[0].after, Some(SitePlan::fitted(params(2.0))));
    }
}
